"""Which graphs may take as much memory as a row says, and which only look so."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from tulle.pipeline.model_sizes import operator_sized_by_values

SHAPE = numpy_helper.from_array(np.array([4, 3], dtype=np.int64), "fixed")


def model(*nodes: Any, functions: Any = ()) -> Any:
    graph = helper.make_graph(
        list(nodes),
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N"])],
        [SHAPE],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], functions=list(functions))


def node(operator: str, inputs: str, outputs: str, **more: Any) -> Any:
    return helper.make_node(operator, inputs.split(), outputs.split(), **more)


COUNT = node("Cast", "x", "n", to=TensorProto.INT64)


def branch(name: str, *nodes: Any) -> Any:
    return helper.make_graph(
        list(nodes), name, [], [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)]
    )


@pytest.mark.parametrize(
    ("nodes", "operator"),
    [
        ((COUNT, node("Range", "zero n one", "y")), "Range"),
        ((COUNT, node("ConstantOfShape", "n", "y")), "ConstantOfShape"),
        ((COUNT, node("Expand", "x n", "y")), "Expand"),
        ((COUNT, node("Tile", "x n", "y")), "Tile"),
        ((COUNT, node("Pad", "x n", "y")), "Pad"),
        ((COUNT, node("OneHot", "x n fixed", "y")), "OneHot"),
        ((node("Resize", "fixed fixed x", "y"),), "Resize"),
        ((node("RandomUniform", "", "r", shape=[2]), node("Expand", "x r", "y")), "Expand"),
        ((node("Expand", "x m", "y"), node("Add", "n fixed", "m"), COUNT), "Expand"),  # in no order
        (
            (
                COUNT,
                node("ReduceMax", "x", "c", keepdims=0),
                helper.make_node(
                    "If",
                    ["c"],
                    ["y"],
                    then_branch=branch("t", node("Tile", "x n", "out")),
                    else_branch=branch("e", node("Neg", "x", "out")),
                ),
            ),
            "Tile",
        ),
        ((node("Expand", "x fixed", "y"),), ""),
        ((node("Shape", "x", "s"), node("ConstantOfShape", "s", "y")), ""),
        ((node("Shape", "x", "s"), node("Gather", "s zero", "m"), node("Expand", "x m", "y")), ""),
        ((COUNT, node("Expand", "n fixed", "y")), ""),
        ((node("RandomUniformLike", "x", "y"),), ""),
        ((node("MatMul", "x fixed", "y"),), ""),
    ],
)
def test_the_operator_is_found_where_a_value_says_how_large_its_result_is(nodes: Any, operator: str) -> None:
    assert operator_sized_by_values(model(*nodes)) == operator


def test_a_function_in_the_model_is_looked_into() -> None:
    opsets = [helper.make_opsetid("", 18)]
    many = helper.make_function("own", "Many", ["a", "b"], ["c"], [node("Tile", "a b", "c")], opsets)
    assert operator_sized_by_values(model(COUNT, node("Add", "x x", "y"), functions=[many])) == "Tile"
