"""Models that MLflow keeps: a registry's versions, runs and folders; taken out of their wrapping, or served by MLflow.

`scripts/test-models` makes an environment with MLflow, which brings too much for every developer's.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from sklearn.linear_model import LogisticRegression

from tulle.errors import NotFound
from tulle.pipeline.model_file import save_model
from tulle.pipeline.model_mlflow import MlflowPredictor, fetch
from tulle.pipeline.model_signature import load_scorer

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("mlflow") is None, reason="scripts/test-models runs it"),
    pytest.mark.filterwarnings("default"),  # theirs are not ours to mend
]
X = np.random.default_rng(5).normal(size=(80, 2)).round(3)
TABLE = pa.table({"a": X[:, 0], "b": X[:, 1]})


@pytest.fixture(params=["sqlite", "files"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Where MLflow keeps what it knows."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    return f"sqlite:///{tmp_path}/mlflow.db" if request.param == "sqlite" else f"file://{tmp_path}/mlruns"


def test_a_version_of_a_registry_is_saved_as_what_it_is(store: str, tmp_path: Path) -> None:
    import mlflow

    mlflow.set_tracking_uri(store)
    estimator = LogisticRegression().fit(X, X[:, 0] > 0)
    with mlflow.start_run():
        mlflow.sklearn.log_model(
            estimator, name="model", registered_model_name="churn", serialization_format="cloudpickle"
        )
    found = fetch("models:/churn/1", folder=tmp_path / "f", tracking=store)
    assert isinstance(found.model, LogisticRegression)
    saved = save_model(tmp_path / "m", "churn", found.model, features=["a", "b"], sample=TABLE, metrics={})
    assert saved.signature.conversion.form == "onnx"
    scorer = load_scorer(tmp_path / "m", saved.signature)
    assert np.allclose(scorer.probabilities(X), estimator.predict_proba(X), atol=1e-6)
    with pytest.raises(NotFound, match="models:/churn/7"):
        fetch("models:/churn/7", folder=tmp_path / "g", tracking=store)


def test_a_model_of_its_own_is_served_by_mlflow(tmp_path: Path) -> None:
    import mlflow

    class Doubled(mlflow.pyfunc.PythonModel):
        def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:
            return model_input["a"] * 2

    mlflow.pyfunc.save_model(str(tmp_path / "doubled"), python_model=Doubled())
    found = fetch(str(tmp_path / "doubled"), folder=tmp_path / "f")
    assert found.model is MlflowPredictor
    saved = save_model(
        tmp_path / "m",
        "doubled",
        found.model,
        files=found.files,
        features=["a", "b"],
        sample=TABLE,
        metrics={},
    )
    assert (saved.signature.task, saved.signature.conversion.form) == ("regression", "native")
    assert "files/MLmodel" in saved.files
    assert load_scorer(tmp_path / "m", saved.signature).labels([[1.5, 0]]).tolist() == [3.0]


def test_what_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no model"):
        fetch(str(tmp_path / "nothing"), folder=tmp_path / "f")
