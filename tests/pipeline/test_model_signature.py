"""Signatures and models read back; damage and missing packages are told."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tulle.errors import Broken, Unavailable
from tulle.pipeline.model_score import is_numeric, optional
from tulle.pipeline.model_signature import Conversion, Signature, load_scorer, read_signature

SIGNATURE = Signature(
    name="m",
    task="binary",
    estimator="E",
    features=(),
    classes=(0, 1),
    class_type="integer",
    has_probabilities=True,
    argmax=True,
    percentiles=(),
    frame=False,
    conversion=Conversion("native"),
    sample_rows=1,
    metrics={},
    libraries={"scikit-learn": "9.9"},
)


@pytest.mark.parametrize("data", [b"", b"{}", b'{"name": 3}', b"\xff"])
def test_a_damaged_signature_is_told(data: bytes) -> None:
    with pytest.raises(Broken, match=r"the model's signature\.json cannot be read"):
        read_signature(data)


@pytest.mark.parametrize("form", ["native", "onnx"])
def test_a_damaged_model_is_told_with_what_it_was_saved_with(tmp_path: Path, form: str) -> None:
    (tmp_path / "model.joblib").write_bytes(b"no model")
    (tmp_path / "model.onnx").write_bytes(b"no model")
    conversion = Conversion("onnx" if form == "onnx" else "native", input="double")
    with pytest.raises(Broken, match="model 'm' cannot be loaded") as caught:
        load_scorer(tmp_path, replace(SIGNATURE, conversion=conversion))
    assert "scikit-learn 9.9" in (caught.value.hint or "")


def test_a_missing_package_is_named_with_the_way_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(Unavailable, match="the package 'onnxruntime' is needed") as caught:
        optional("onnxruntime")
    assert caught.value.hint == "pip install 'tulle[ml]'"


def test_numbers_are_what_a_matrix_can_hold() -> None:
    assert [
        t for t in ("integer", "double", "decimal(10,2)", "boolean", "string", "date") if is_numeric(t)
    ] == [
        "integer",
        "double",
        "decimal(10,2)",
        "boolean",
    ]
