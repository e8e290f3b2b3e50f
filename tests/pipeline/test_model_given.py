"""Models that come as ONNX: what their inputs and outputs may be, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pyarrow as pa
import pytest
from onnx import TensorProto, helper, numpy_helper
from skl2onnx import to_onnx
from sklearn.linear_model import LogisticRegression

from tulle.errors import Invalid
from tulle.pipeline.model_file import ModelFile, save_model
from tulle.pipeline.model_signature import load_scorer

X = np.random.default_rng(5).normal(size=(200, 3)).round(3)
NAMES = ["a", "b", "c"]
TABLE = pa.table({name: X[:, i] for i, name in enumerate(NAMES)})
WEIGHTS = np.array([[1.0, -1.0], [0.5, 0.0], [0.0, 2.0]], dtype=np.float32)


def save(folder: Path, model: Any, **more: Any) -> ModelFile:
    return save_model(folder, "m", model, features=NAMES, sample=TABLE, metrics={}, **more)


def network(columns: int, *, rows: int | str = "N", kind: int = TensorProto.FLOAT) -> Any:
    """A matrix times weights: numbers, and no probabilities."""
    weights = numpy_helper.from_array(WEIGHTS[:, :columns], "w")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", kind, [rows, 3])],
        [helper.make_tensor_value_info("y", kind, [rows, columns])],
        [weights],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def test_a_file_with_labels_and_a_map_of_probabilities_answers_as_the_estimator(tmp_path: Path) -> None:
    estimator = LogisticRegression().fit(X, np.where(X[:, 0] > 0, "goes", "stays"))
    file = tmp_path / "given.onnx"
    file.write_bytes(to_onnx(estimator, X[:1].astype(np.float32)).SerializeToString())  # with its ZipMap
    saved = save(tmp_path / "m", file)
    signature = saved.signature
    assert (signature.classes, signature.conversion.form) == (("goes", "stays"), "onnx")
    found = load_scorer(tmp_path / "m", signature).probabilities(X)
    assert np.allclose(found, estimator.predict_proba(X), atol=1e-5)
    assert len(signature.percentiles) == 99


def test_one_number_a_row_is_a_regression_also_when_it_was_exported_for_one_row(tmp_path: Path) -> None:
    signature = save(tmp_path, network(1, rows=1).SerializeToString()).signature
    assert (signature.task, signature.conversion.form) == ("regression", "onnx")
    scorer = load_scorer(tmp_path, signature)
    assert np.allclose(scorer.labels(X), X @ WEIGHTS[:, 0], atol=1e-4)
    assert np.allclose(scorer.single(X[0].tolist()), X[0] @ WEIGHTS[:, 0], atol=1e-4)


@pytest.mark.parametrize(("columns", "activation"), [(2, "softmax"), (1, "sigmoid")])
def test_an_activation_makes_probabilities_of_numbers(columns: int, activation: Any, tmp_path: Path) -> None:
    signature = save(tmp_path, network(columns), classes=["no", "yes"], activation=activation).signature
    found = load_scorer(tmp_path, signature).probabilities(X)
    numbers = X @ WEIGHTS[:, :columns]
    second = numbers[:, 1] - numbers[:, 0] if columns == 2 else numbers[:, 0]
    assert np.allclose(found[:, 1], 1 / (1 + np.exp(-second)), atol=1e-5)
    assert np.allclose(found.sum(axis=1), 1, atol=1e-6)
    with pytest.raises(Invalid, match="no probabilities"):
        save(tmp_path / "n", network(columns), classes=["no", "yes"])


def test_one_input_a_feature_is_one_matrix_when_all_are_numbers(tmp_path: Path) -> None:
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["b"], ["bf"], to=TensorProto.FLOAT),
            helper.make_node("Sum", ["a", "bf", "c"], ["y"]),
        ],
        "g",
        [
            helper.make_tensor_value_info("a", TensorProto.FLOAT, [None, 1]),
            helper.make_tensor_value_info("b", TensorProto.INT64, [None, 1]),
            helper.make_tensor_value_info("c", TensorProto.FLOAT, [None, 1]),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 1])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    table = TABLE.set_column(1, "b", pa.array(range(200), pa.int64()))
    saved = save_model(tmp_path, "m", model, features=["c", "b", "a"], sample=table, metrics={})
    assert saved.signature.feature_names == ("a", "b", "c")  # as it names them
    assert saved.signature.conversion.form == "onnx"
    found = load_scorer(tmp_path, saved.signature).labels([[1.5, 2, 3.25]])
    assert found.tolist() == [6.75]


def test_text_runs_as_it_came(tmp_path: Path) -> None:
    graph = helper.make_graph(
        [
            helper.make_node(
                "LabelEncoder",
                ["kind"],
                ["k"],
                domain="ai.onnx.ml",
                keys_strings=["a", "b"],
                values_floats=[1.0, 2.0],
                default_float=0.0,
            ),
            helper.make_node("Add", ["k", "x"], ["y"]),
        ],
        "g",
        [
            helper.make_tensor_value_info("kind", TensorProto.STRING, [None, 1]),
            helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 1]),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 1])],
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", 3)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
    table = pa.table({"kind": ["a", "b"] * 5, "x": [0.5] * 10})
    saved = save_model(tmp_path, "m", model, features=["kind", "x"], sample=table, metrics={})
    assert saved.signature.conversion.form == "native"
    found = load_scorer(tmp_path, saved.signature).labels([("b", 0.5), ("z", 0.25)])
    assert found.tolist() == [2.5, 0.25]


def test_what_cannot_be_one_is_refused_and_says_why(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="no ONNX model"):
        save(tmp_path, b"\x08\x01 no model")
    with pytest.raises(Invalid, match=r"gone\.onnx"):
        save(tmp_path, tmp_path / "gone.onnx")
    with pytest.raises(Invalid, match="no classes"):
        save(tmp_path, network(1), activation="sigmoid")
    with pytest.raises(Invalid, match="says nothing of 3 classes"):
        save(tmp_path, network(1), classes=["a", "b", "c"])
    strange = network(1)
    strange.opset_import.append(helper.make_opsetid("evil.ops", 1))
    with pytest.raises(Invalid, match=r"evil\.ops"):
        save(tmp_path, strange)
    apart = network(1)
    apart.graph.initializer[0].data_location = onnx.TensorProto.EXTERNAL
    with pytest.raises(Invalid, match="file of their own"):
        save(tmp_path, apart)
