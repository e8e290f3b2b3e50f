"""Models of other libraries behind an endpoint: what a request is answered is what the library itself says.

`scripts/test-models` runs those of MLflow and PyTorch, which are too large for every developer's environment.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightgbm as lgb
import numpy as np
import pyarrow as pa
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from tests.serving.conftest import FEATURES, customers, make_mesh
from tests.serving.test_predict_kinds import matrix

from tulle.pipeline.model_file import save_model
from tulle.pipeline.model_mlflow import fetch
from tulle.serving.endpoint import Headed
from tulle.serving.loaded import Loaded, load

SERVICE = """
service: libraries
endpoints:
- {name: it, type: predict, model: high_value, pool: {floor: 1, ceil: 1}}
"""
TABLE = customers()
X = matrix(TABLE)
TWO = (X[:, 1] > 14).astype(int)
ROWS = TABLE.select(FEATURES).slice(0, 20).to_pylist()
theirs = pytest.mark.filterwarnings("default")  # their warnings are not ours to mend


def needs(library: str) -> Any:
    missing = importlib.util.find_spec(library) is None
    return pytest.mark.skipif(missing, reason="scripts/test-models runs it")


@contextmanager
def served(place: Path, model: Any, form: str, **more: Any) -> Iterator[Loaded]:
    """The endpoint of a packaged model, which answers in this form."""
    saved = save_model(place / "m", "high_value", model, features=FEATURES, sample=TABLE, metrics={}, **more)
    assert saved.signature.conversion.form == form, saved.signature.conversion.reason
    mesh = make_mesh(place / "mesh", saved)
    try:
        yield load(mesh.unpacked(mesh.build(SERVICE)))
    finally:
        mesh.database.close()


def answers(loaded: Loaded) -> Sequence[Mapping[str, Any]]:
    """What requests for the first rows are answered."""
    action = loaded.endpoints["it"].actions["predict"]

    async def work() -> list[Any]:
        found = []
        try:
            for row in ROWS:
                body = json.dumps({"features": {name: float(value) for name, value in row.items()}}).encode()
                given = await action.call(body, "r", ()) if isinstance(action, Headed) else action(body, "r")
                content = given if isinstance(given, bytes) else given.body
                found.append(json.loads(content)["result"])
        finally:
            loaded.close()
        return found

    return asyncio.run(work())


def test_lightgbm(tmp_path: Path) -> None:
    model = lgb.LGBMClassifier(n_estimators=5, verbose=-1, n_jobs=1).fit(X, TWO)
    with served(tmp_path, model, "onnx") as loaded:
        found = answers(loaded)
    expected = model.predict_proba(X[: len(ROWS)])[:, 1]
    assert [one["probas"]["1"] for one in found] == pytest.approx(expected.tolist(), abs=1e-5)
    assert [one["prediction"] for one in found] == model.predict(X[: len(ROWS)]).tolist()


def test_lightgbm_as_it_was_saved(tmp_path: Path) -> None:
    booster = lgb.LGBMRegressor(n_estimators=5, verbose=-1, n_jobs=1)
    model = make_pipeline(FunctionTransformer(np.negative), booster).fit(X, X[:, 1] * 10)
    with served(tmp_path, model, "native") as loaded:
        found = answers(loaded)
    assert [one["prediction"] for one in found] == pytest.approx(model.predict(X[: len(ROWS)]).tolist())


@needs("mlflow")
@theirs
@pytest.mark.parametrize("native", [False, True], ids=["of scikit-learn", "of one's own"])
def test_mlflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, native: bool) -> None:
    import mlflow

    class Doubled(mlflow.pyfunc.PythonModel):
        def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:
            return model_input["frequency"] * 2

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    estimator = LogisticRegression(max_iter=500).fit(X, TWO)
    if native:
        mlflow.pyfunc.save_model(str(tmp_path / "kept"), python_model=Doubled())
    else:
        mlflow.sklearn.save_model(estimator, str(tmp_path / "kept"), serialization_format="cloudpickle")
    found = fetch(str(tmp_path / "kept"), folder=tmp_path / "f")
    itself = mlflow.pyfunc.load_model(str(tmp_path / "kept"))
    frame = pa.table({name: X[: len(ROWS), i] for i, name in enumerate(FEATURES)}).to_pandas()
    with served(tmp_path, found.model, "native" if native else "onnx", files=found.files) as loaded:
        said = answers(loaded)
    given = itself.predict(frame if native else X[: len(ROWS)])
    assert [one["prediction"] for one in said] == pytest.approx(np.asarray(given).tolist())
    if not native:
        expected = estimator.predict_proba(X[: len(ROWS)])[:, 1]
        assert [one["probas"]["1"] for one in said] == pytest.approx(expected.tolist(), abs=1e-5)


@needs("torch")
@theirs
def test_pytorch(tmp_path: Path) -> None:
    import torch

    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
    with served(tmp_path, network, "onnx", classes=["a", "b", "c"], activation="softmax") as loaded:
        found = answers(loaded)
    with torch.no_grad():
        expected = torch.softmax(network.eval()(torch.tensor(X[: len(ROWS)], dtype=torch.float32)), 1).numpy()
    for one, row in zip(found, expected, strict=True):
        assert [one["probas"][name] for name in "abc"] == pytest.approx(row.tolist(), abs=1e-4)
        assert one["prediction"] == "abc"[int(row.argmax())]
