"""What of the environment a package needs, read without running or loading anything of a user's."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pyarrow as pa
import pytest
import xgboost
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from tulle.pipeline.model_file import save_model
from tulle.pipeline.model_own import write_code
from tulle.serving.software import distributions, environment

X = np.random.default_rng(5).normal(size=(60, 2)).round(3)
SAMPLE = pa.table({"a": X[:, 0], "b": X[:, 1]})
TWO = (X[:, 0] > 0).astype(int)


def needs_of(
    folder: Path, model: Any, code: Mapping[str, str] | None = None, **more: Any
) -> dict[str, dict[str, str]]:
    """What a package with this model says it needs; `for` is the model alone. `code`: of the product, beside it."""
    home = folder / "models/m"
    saved = save_model(home, "m", model, features=["a", "b"], sample=SAMPLE, metrics={}, **more)
    write_code(home, code or {})
    if saved.signature.conversion.form == "onnx":
        (home / "model.joblib").unlink()  # as it is packaged
    found = environment(folder, {"m": saved.signature})
    return {name: about for name, about in found.items() if about.get("for") == "model:m"}


def test_what_needs_no_model_has_no_library_of_models() -> None:
    assert "scikit-learn" not in distributions()
    assert "scikit-learn" in distributions(["ml"])
    assert {"lmdb", "msgspec", "tulle"} <= set(distributions())


def test_versions_are_exact_and_what_is_installed_can_be_told_apart() -> None:
    found = distributions(["ml"])
    assert found["scikit-learn"]["version"] == metadata.version("scikit-learn")
    assert found["scikit-learn"]["expression"] == "BSD-3-Clause"
    assert {"numpy", "scipy", "joblib"} <= set(found["scikit-learn"]["needs"].split())
    assert "record" in found["numpy"]
    assert found["numpy"]["record"] != found["msgspec"]["record"]
    assert all(need in found for about in found.values() for need in about.get("needs", "").split())


@pytest.mark.parametrize(
    ("model", "wanted"),
    [
        (make_pipeline(StandardScaler(), LogisticRegression()).fit(X, TWO), {"onnxruntime"}),
        (
            make_pipeline(FunctionTransformer(np.negative), LogisticRegression()).fit(X, TWO),
            {"scikit-learn", "numpy", "joblib"},
        ),
        (
            make_pipeline(
                FunctionTransformer(np.negative), xgboost.XGBClassifier(n_estimators=2, n_jobs=1)
            ).fit(X, TWO),
            {"xgboost-cpu", "scikit-learn", "numpy", "joblib"},
        ),
        (
            make_pipeline(
                FunctionTransformer(np.negative),
                lightgbm.LGBMClassifier(n_estimators=2, verbose=-1, n_jobs=1),
            ).fit(X, TWO),
            {"lightgbm", "scikit-learn", "numpy", "joblib"},
        ),
    ],
    ids=["onnx", "scikit-learn", "xgboost", "lightgbm"],
)
def test_a_model_tells_the_libraries_it_answers_with(tmp_path: Path, model: Any, wanted: set[str]) -> None:
    found = needs_of(tmp_path, model)
    assert wanted <= set(found)
    assert set(found) - wanted <= {"numpy", "scipy"}
    for name in wanted:
        assert found[name]["version"] == metadata.version(name)


def test_a_predictor_of_ones_own_tells_what_its_code_and_its_requirements_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = tmp_path / "code"
    code.mkdir()
    text = (
        "import yaml\nimport numpy as np\n\n\nclass Mine:\n    takes = 'frame'\n\n    def __init__(self, folder):\n"
        "        self.folder = folder\n\n    def predict(self, rows):\n        return np.zeros(len(rows))\n"
    )
    (code / "my_predictor.py").write_text(text)
    given = tmp_path / "given"
    given.mkdir()
    (given / "requirements.txt").write_text(
        "lightgbm==1.0\nnot-here>=2 ; python_version > '3'\n--no-binary x\n"
    )
    monkeypatch.syspath_prepend(str(code))
    mine = importlib.import_module("my_predictor").Mine
    found = needs_of(tmp_path, mine, {"my_predictor.py": text}, files=given)
    assert {"pyyaml", "numpy", "lightgbm", "not-here"} <= set(found)
    assert found["lightgbm"]["version"] == metadata.version(
        "lightgbm"
    )  # that it runs with, whatever it wishes
    assert found["not-here"]["version"] == ""
    assert not {"x", "my-predictor"} & set(found)
