"""Whether a row may say how much memory a model in ONNX takes.

Some operators make something as large as one of their inputs says. Where that input is fixed, or is made of the shapes
of other tensors, the model is as large for one row as for any other. Where it follows the values of a row, a caller
chooses. Knows nothing of how models are run.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

# By operator: the inputs that say how large its result is.
_SIZES = {
    "AffineGrid": (1,),
    "BlackmanWindow": (0,),
    "CenterCropPad": (1,),
    "Col2Im": (1, 2),
    "ConstantOfShape": (0,),
    "CropAndResize": (3,),
    "DFT": (1,),
    "Expand": (1,),
    "HammingWindow": (0,),
    "HannWindow": (0,),
    "MaxUnpool": (2,),
    "MelWeightMatrix": (0, 1),
    "OneHot": (1,),
    "Pad": (1,),
    "Range": (0, 1, 2),
    "Resize": (1, 2, 3),
    "STFT": (1, 3),
    "Tile": (1, 2),
    "Upsample": (1,),
}
_SHAPES = {"Shape", "Size"}  # what they say of a tensor does not follow its values
_CHANCE = {
    "RandomNormal",
    "RandomNormalLike",
    "RandomUniform",
    "RandomUniformLike",
    "Multinomial",
    "Bernoulli",
}


def operator_sized_by_values(model: Any) -> str:
    """The first operator of an ONNX model whose result may be as large as a value of a row says; empty for none."""
    fixed = {one.name for one in model.graph.initializer}
    inputs = {one.name for one in model.graph.input} - fixed
    found = _sized(model.graph.node, inputs)
    for function in model.functions:  # whatever it is called with
        found = found or _sized(function.node, set(function.input))
    return found


def _sized(nodes: Iterable[Any], following: set[str]) -> str:
    """The same of the nodes of a graph; `following`: names of tensors that follow the values of a row."""
    nodes, known = list(nodes), -1
    while known != len(following):  # again, until nothing is new: nodes need not be in their order
        known = len(following)
        for node in nodes:
            if node.op_type in _SHAPES:
                continue
            if node.op_type in _CHANCE or _graphs(node) or not following.isdisjoint(node.input):
                following.update(name for name in node.output if name)
    for node in nodes:
        sizes = [node.input[i] for i in _SIZES.get(node.op_type, ()) if i < len(node.input)]
        if not following.isdisjoint(sizes):
            return str(node.op_type)
        for graph in _graphs(node):  # it sees the tensors around it, and is given some
            inner = _sized(graph.node, following | {one.name for one in graph.input})
            if inner:
                return inner
    return ""


def _graphs(node: Any) -> list[Any]:
    return [one for part in node.attribute for one in ((part.g,) if part.HasField("g") else part.graphs)]
