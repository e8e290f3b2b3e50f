"""Models that come as ONNX: a file, its bytes, an ONNX object, or a PyTorch module, which is exported to it.

Whatever its inputs and outputs look like, it is brought into the one form that answers requests: a matrix of numbers
in, a number or the probabilities of the classes out. Where that cannot be (features that are text), it runs as it
came, in a process of its own. Knows nothing of files beside the model's own.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from tulle.errors import Invalid
from tulle.pipeline.model_score import Matrix, optional
from tulle.pipeline.model_signature import Class

Activation = Literal["softmax", "sigmoid"]
_NUMPY = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(bool)": np.bool_,
    "tensor(string)": np.object_,
}
_NO_MEMORY = ("Failed to allocate memory", "bad allocation", "bad_alloc")
_LABELS = ("classlabels_strings", "classlabels_int64s", "classlabels_ints")
_DOMAINS = {"", "ai.onnx", "ai.onnx.ml", "com.microsoft"}


def is_given(model: Any) -> bool:
    """Whether it is a model in ONNX, or one that is exported to it."""
    if isinstance(model, str | Path | bytes):
        return True
    roots = {one.__module__.partition(".")[0] for one in type(model).__mro__}
    return bool(roots & {"onnx", "torch"}) and not hasattr(model, "predict")


class OnnxRegressor:
    """A model in ONNX that gives numbers."""

    def __init__(self, model: Any, inputs: Sequence[tuple[str, str]], outputs: Mapping[str, str]) -> None:
        """`inputs`: names and types, in the order of the features; `outputs`: the names by what they are."""
        self._bytes = bytes(model.SerializeToString())
        self._inputs = list(inputs)
        self._outputs = dict(outputs)
        self._session: Any = None
        if len(inputs) > 1:
            self.feature_names_in_ = [name for name, _ in inputs]

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_session": None}

    def predict(self, rows: Any) -> Matrix:
        """The number of each row."""
        return np.asarray(self._run("answer", rows)).reshape(-1)

    def _run(self, output: str, rows: Any) -> Any:
        if self._session is None:
            onnxruntime = optional("onnxruntime")
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = options.inter_op_num_threads = 1
            options.log_severity_level = 4
            self._session = onnxruntime.InferenceSession(
                self._bytes, options, providers=["CPUExecutionProvider"]
            )
        try:
            return self._session.run([self._outputs[output]], self._fed(rows))[0]
        except Exception as exc:
            if any(words in str(exc) for words in _NO_MEMORY):  # it has no kind of its own for that
                raise MemoryError(str(exc)) from exc
            raise

    def _fed(self, rows: Any) -> dict[str, Any]:
        if len(self._inputs) == 1:
            ((name, kind),) = self._inputs
            return {name: np.asarray(rows).astype(_NUMPY[kind])}
        columns = rows.to_numpy().T if hasattr(rows, "to_numpy") else np.asarray(rows).T
        return {
            name: column.reshape(-1, 1).astype(_NUMPY[kind])
            for (name, kind), column in zip(self._inputs, columns, strict=True)
        }

    def own_onnx(self, width: int, *, double: bool) -> bytes:
        """The same model with one matrix of numbers as its input, and its outputs in the usual order."""
        onnx = optional("onnx")
        model = onnx.load_from_string(self._bytes)
        graph, helper = model.graph, onnx.helper
        if any(kind == "tensor(string)" for _, kind in self._inputs):
            raise ValueError("it takes text")
        number = onnx.TensorProto.DOUBLE if double else onnx.TensorProto.FLOAT
        parts = ["tulle_features"]
        before = []
        if len(self._inputs) > 1:
            parts = [f"tulle_part_{i}" for i in range(len(self._inputs))]
            sizes = helper.make_tensor("tulle_sizes", onnx.TensorProto.INT64, [len(parts)], [1] * len(parts))
            graph.initializer.append(sizes)
            before.append(helper.make_node("Split", ["tulle_features", "tulle_sizes"], parts, axis=1))
        for part, (name, kind) in zip(parts, self._inputs, strict=True):
            wanted = helper.np_dtype_to_tensor_dtype(np.dtype(_NUMPY[kind]))
            before.append(helper.make_node("Cast", [part], [name], to=wanted))
        nodes = [*before, *graph.node]
        del graph.node[:], graph.input[:]
        graph.node.extend(nodes)
        graph.input.append(helper.make_tensor_value_info("tulle_features", number, [None, width]))
        answer = self._outputs["answer"]
        wanted_outputs = [answer]
        if hasattr(self, "classes_"):
            graph.node.append(helper.make_node("ArgMax", [answer], ["tulle_label"], axis=1, keepdims=0))
            wanted_outputs = ["tulle_label", answer]
        del graph.output[:]
        graph.output.extend(helper.make_empty_tensor_value_info(name) for name in wanted_outputs)
        return bytes(model.SerializeToString())


class OnnxClassifier(OnnxRegressor):
    """A model in ONNX that gives probabilities of classes."""

    def __init__(
        self,
        model: Any,
        inputs: Sequence[tuple[str, str]],
        outputs: Mapping[str, str],
        classes: Sequence[Class],
    ) -> None:
        super().__init__(model, inputs, outputs)
        self.classes_ = np.asarray(list(classes))

    def predict_proba(self, rows: Any) -> Matrix:
        """The probabilities, shape (rows, classes)."""
        return np.asarray(self._run("answer", rows))

    def predict(self, rows: Any) -> Matrix:
        """The class that the model says, else the most probable one."""
        shares = self.predict_proba(rows)
        if "label" in self._outputs:
            labels = np.asarray(self._run("label", rows)).reshape(-1)
            if set(labels.tolist()) <= set(self.classes_.tolist()):
                return np.asarray(labels)
        return np.asarray(self.classes_[shares.argmax(axis=1)])


def given_model(
    name: str,
    given: Any,
    *,
    features: int,
    classes: Sequence[Class] | None,
    activation: Activation | None,
) -> OnnxRegressor:
    """The model in its usual form; Invalid for what cannot be one."""
    model = _loaded(name, given, features)
    initial = {one.name for one in model.graph.initializer}
    inputs = [one for one in model.graph.input if one.name not in initial]
    kinds = [_kind(name, one) for one in inputs]
    if len(inputs) not in {1, features}:
        raise Invalid(
            f"the ONNX model '{name}' has {len(inputs)} inputs for {features} features",
            hint="it takes one matrix of all features, or one input a feature, in the order of `features`",
        )
    _free_rows(inputs)
    known = tuple(classes or _classes_of(model))
    outputs = _outputs_of(name, model, known, activation)
    pairs = list(zip((one.name for one in inputs), kinds, strict=True))
    if not known:
        return OnnxRegressor(model, pairs, outputs)
    return OnnxClassifier(model, pairs, outputs, known)


def _loaded(name: str, given: Any, features: int) -> Any:
    onnx = optional("onnx")
    if hasattr(given, "SerializeToString"):
        model = onnx.load_from_string(given.SerializeToString())
    elif isinstance(given, str | Path | bytes):
        try:
            model = onnx.load_from_string(given if isinstance(given, bytes) else Path(given).read_bytes())
            onnx.checker.check_model(model)
        except OSError as exc:
            raise Invalid(f"the file of model '{name}' cannot be read: {exc}") from exc
        except Exception as exc:  # protobuf's and the checker's own
            what = str(exc).strip().partition("\n")[0][:200]
            raise Invalid(f"what is given as model '{name}' is no ONNX model: {what}") from exc
    else:
        model = onnx.load_from_string(_exported(name, given, features))
    if any(one.data_location == onnx.TensorProto.EXTERNAL for one in model.graph.initializer):
        raise Invalid(
            f"the ONNX model '{name}' keeps its numbers in a file of their own",
            hint="save it as one file: onnx.save(model, path, save_as_external_data=False)",
        )
    strange = sorted({one.domain for one in model.opset_import} - _DOMAINS)
    if strange:
        raise Invalid(
            f"the ONNX model '{name}' uses operators of '{strange[0]}', which are not part of ONNX Runtime"
        )
    return model


def _exported(name: str, module: Any, features: int) -> bytes:
    """A PyTorch module as ONNX: it takes a float matrix of all features."""
    torch = optional("torch")
    out = io.BytesIO()
    module.eval()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                module,
                (torch.zeros(2, features),),
                out,
                input_names=["features"],
                output_names=["answer"],
                dynamic_axes={"features": {0: "rows"}, "answer": {0: "rows"}},
                dynamo=False,  # the newer exporter needs further packages, and this one is enough for a matrix
            )
    except Exception as exc:
        what = str(exc).strip().partition("\n")[0][:200]
        raise Invalid(
            f"the PyTorch module of model '{name}' cannot be exported to ONNX: {what}",
            hint="it must take one float matrix, a row a record, and give one matrix",
        ) from exc
    return out.getvalue()


def _kind(name: str, one: Any) -> str:
    onnx = optional("onnx")
    word = onnx.TensorProto.DataType.Name(one.type.tensor_type.elem_type).lower()
    kind = f"tensor({word})"
    if kind not in _NUMPY:
        raise Invalid(
            f"the input '{one.name}' of the ONNX model '{name}' is {word}, which no request can carry"
        )
    return kind


def _free_rows(inputs: Sequence[Any]) -> None:
    """Models exported for one row are asked for many."""
    for one in inputs:
        dimensions = one.type.tensor_type.shape.dim
        if dimensions and dimensions[0].dim_value:
            dimensions[0].ClearField("dim_value")
            dimensions[0].dim_param = "rows"


def _classes_of(model: Any) -> tuple[Class, ...]:
    """The classes a classifier's operators name; none where there are none."""
    helper = optional("onnx").helper
    for node in reversed(model.graph.node):
        for attribute in node.attribute:
            if attribute.name in _LABELS:
                found = helper.get_attribute_value(attribute)
                if found:
                    return tuple(one.decode() if isinstance(one, bytes) else int(one) for one in found)
    return ()


def _outputs_of(
    name: str, model: Any, classes: Sequence[Class], activation: Activation | None
) -> dict[str, str]:
    """Which output is what, with nodes added where probabilities are still to be made."""
    onnx = optional("onnx")
    graph, helper = model.graph, onnx.helper
    zipped = {node.output[0]: node for node in graph.node if node.op_type == "ZipMap"}
    numbers, label = [], None
    for one in graph.output:
        if one.name in zipped:
            numbers.append((zipped[one.name].input[0], len(classes)))
            continue
        kind = one.type.tensor_type.elem_type
        if kind in {onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE}:
            dimensions = one.type.tensor_type.shape.dim
            numbers.append((one.name, dimensions[1].dim_value if len(dimensions) > 1 else 1))
        elif classes and label is None:
            label = one.name
    if len(numbers) != 1:
        raise Invalid(
            f"the ONNX model '{name}' has {len(numbers)} outputs of numbers, expected one",
            hint="it gives a number, or the probabilities of its classes as one matrix",
        )
    for node in zipped.values():
        graph.node.remove(node)
    answer, width = numbers[0]
    del graph.output[:]
    if label is not None:
        graph.output.append(helper.make_empty_tensor_value_info(label))
    if classes:
        answer = _probabilities(name, graph, helper, answer, width, classes, activation)
    elif activation is not None:
        raise Invalid(f"model '{name}' has no classes, so there is no activation of them")
    graph.output.append(helper.make_empty_tensor_value_info(answer))
    return {"answer": answer} | ({} if label is None else {"label": label})


def _probabilities(
    name: str,
    graph: Any,
    helper: Any,
    answer: str,
    width: int,
    classes: Sequence[Class],
    activation: Activation | None,
) -> str:
    if activation is not None:
        operator, options = ("Softmax", {"axis": 1}) if activation == "softmax" else ("Sigmoid", {})
        graph.node.append(helper.make_node(operator, [answer], ["tulle_shares"], **options))
        answer = "tulle_shares"
    if width == 1:
        if len(classes) != 2:
            raise Invalid(
                f"model '{name}' gives one number a row, which says nothing of {len(classes)} classes"
            )
        onnx = optional("onnx")
        shape = helper.make_tensor("tulle_column", onnx.TensorProto.INT64, [2], [-1, 1])
        graph.initializer.append(shape)
        graph.node.extend(
            [
                helper.make_node("Reshape", [answer, "tulle_column"], ["tulle_second"]),
                helper.make_node("Neg", ["tulle_second"], ["tulle_minus"]),
                helper.make_node("Sub", ["tulle_second", "tulle_second"], ["tulle_zero"]),
                helper.make_node("Exp", ["tulle_zero"], ["tulle_one"]),  # of the same type, whichever it is
                helper.make_node("Add", ["tulle_one", "tulle_minus"], ["tulle_first"]),
                helper.make_node("Concat", ["tulle_first", "tulle_second"], ["tulle_both"], axis=1),
            ]
        )
        answer = "tulle_both"
    return answer


def check_shares(name: str, shares: Matrix, classes: Sequence[Class]) -> None:
    """Refuse numbers that are no probabilities: who reads them would believe them."""
    fits = shares.ndim == 2 and shares.shape[1] == len(classes)
    if not fits:
        raise Invalid(
            f"model '{name}' gives answers of the shape {shares.shape} for {len(classes)} classes",
            hint="expected a column for each class",
        )
    if np.any(shares < -1e-6) or not np.allclose(shares.sum(axis=1), 1, atol=1e-3):
        raise Invalid(
            f"the numbers that model '{name}' gives for its classes are no probabilities",
            hint="end the network with softmax or sigmoid, or say activation='softmax' (or 'sigmoid')",
        )
