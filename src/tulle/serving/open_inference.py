"""The Open Inference Protocol, version 2, over JSON: predictions for clients that know tensors and not our requests.

    GET  /v2, /v2/health/live, /v2/health/ready, /v2/models/{endpoint}[/versions/{v}], …/ready
    POST /v2/models/{endpoint}[/versions/{v}]/infer

A model is a prediction endpoint, its version the generation. Inputs are one tensor a feature (or key), or one of all
features in their order; outputs are `predict` and, where there are any, `predict_proba`. A row that cannot be answered
refuses the request, as the protocol has no place for it. Its errors have the member `error` beside ours. Source: the
REST part of KServe's "Predict Protocol, Version 2".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from tulle.errors import did_you_mean
from tulle.serving.elsewhere import Elsewhere
from tulle.serving.endpoint import Answer, Headed, Header, error_body
from tulle.serving.finder import Ignored
from tulle.serving.loaded import Loaded
from tulle.serving.predict import Predict
from tulle.serving.request import NO_PREDICTION, RequestError, parse_json, shown

_DATATYPES = {"string": "BYTES", "integer": "INT64", "boolean": "BOOL", "date": "BYTES", "timestamp": "BYTES"}
_INTEGERS = {f"INT{bits}": range(-(2 ** (bits - 1)), 2 ** (bits - 1)) for bits in (8, 16, 32, 64)}
_INTEGERS |= {f"UINT{bits}": range(2**bits) for bits in (8, 16, 32, 64)}
_FLOATS = {"FP16", "FP32", "FP64", "BF16"}
_KNOWN = {"BOOL", "BYTES", *_INTEGERS, *_FLOATS}
MOST_ROWS = 10_000

Route = tuple[str, Headed]  # method, what it does


class Tensor(msgspec.Struct):
    """An input as it is sent."""

    name: str
    shape: list[int]
    datatype: str
    data: list[Any]
    parameters: dict[str, Any] = {}


class Wanted(msgspec.Struct):
    """An output that is asked for."""

    name: str
    parameters: dict[str, Any] = {}


class Infer(msgspec.Struct):
    """The body of a request."""

    inputs: list[Tensor]
    id: str | None = None
    parameters: dict[str, Any] = {}
    outputs: list[Wanted] | None = None


def routes(service: Loaded) -> Mapping[str, Route]:
    """Paths below the service's own, and what is done there; nothing where the service predicts nothing."""
    models = dict(_models(service))
    if not models:
        return {}
    version = service.trace.generation
    about = {"name": service.manifest.service, "version": version, "extensions": []}
    found: dict[str, Route] = {
        "/v2": ("GET", _fixed(about)),
        "/v2/health/live": ("GET", _fixed({"live": True})),
        "/v2/health/ready": ("GET", Headed(_Ready(service, {}).answer)),
    }
    for name, (model, elsewhere) in models.items():
        one = OpenModel(name, version, model, elsewhere)
        for home in (f"/v2/models/{name}", f"/v2/models/{name}/versions/{version}"):
            found[home] = ("GET", _fixed(one.metadata()))
            found[f"{home}/ready"] = ("GET", Headed(_Ready(service, {"name": name}).answer))
            found[f"{home}/infer"] = ("POST", Headed(one.infer))
    return found


def _models(service: Loaded) -> Iterator[tuple[str, tuple[Predict, Elsewhere | None]]]:
    """The endpoints that predict, by name, and what fetches their rows where these lie in databases."""
    for name, endpoint in service.endpoints.items():
        if isinstance(endpoint, Predict):
            yield name, (endpoint, None)
        elif isinstance(endpoint, Elsewhere) and isinstance(endpoint.inner, Predict):
            yield name, (endpoint.inner, endpoint)


def told(error: RequestError, request_id: str, trace: str = "") -> bytes:
    """An error as the protocol has it: our shape, and its own member `error`."""
    return msgspec.json.encode(
        {"error": error.detail, **msgspec.json.decode(error_body(error, request_id, trace))}
    )


def _fixed(value: Any) -> Headed:
    body = msgspec.json.encode(value)

    async def answer(_content: Any, _request_id: str, _headers: Sequence[Header]) -> Answer:
        return Answer(body)

    return Headed(answer)


class _Ready:
    """Whether the endpoints answer."""

    def __init__(self, service: Loaded, said: Mapping[str, Any]) -> None:
        self._service, self._said = service, said

    async def answer(self, _content: Any, _request_id: str, _headers: Sequence[Header]) -> Answer:
        failed = await self._service.health()
        status = 503 if failed else 200
        return Answer(msgspec.json.encode({**self._said, "ready": not failed}), status)


class OpenModel:
    """One prediction endpoint as the protocol knows it."""

    def __init__(self, name: str, version: str, model: Predict, elsewhere: Elsewhere | None = None) -> None:
        """`elsewhere` fetches the rows of the model's look-ups that are in databases."""
        self.name, self.version, self.model = name, version, model
        self._elsewhere = elsewhere
        self._decode = msgspec.json.Decoder(Infer).decode
        signature = model.signature
        self._outputs = {"predict": _datatype(signature.class_type or "double")}
        if signature.has_probabilities:
            self._outputs["predict_proba"] = "FP64"

    def metadata(self) -> Mapping[str, Any]:
        """Inputs and outputs; -1 stands for any number of rows."""
        signature = self.model.signature
        widths = {"predict": [-1], "predict_proba": [-1, len(signature.classes)]}
        return {
            "name": self.name,
            "versions": [self.version],
            "platform": signature.conversion.form,
            "inputs": [
                {"name": field.name, "datatype": _datatype(field.type), "shape": [-1]}
                for field in self.model.record.fields
            ],
            "outputs": [
                {"name": name, "datatype": datatype, "shape": widths[name]}
                for name, datatype in self._outputs.items()
            ],
        }

    async def infer(self, body: bytes, request_id: str, _headers: Sequence[Header]) -> Answer:
        """Predict for every row of the inputs. RequestError."""
        asked = self._read(body)
        wanted = self._wanted(asked)
        rows = await self._rows(self._sent(asked))
        answers = await self.model.scores(rows)
        labels = [self.model.label_of(answer, row) for answer, row in zip(answers, rows, strict=True)]
        columns = {
            "predict": ([len(rows)], labels),
            "predict_proba": (
                [len(rows), len(self.model.signature.classes)],
                [share for numbers, _ in answers for share in numbers],
            ),
        }
        outputs = [
            {"name": n, "datatype": self._outputs[n], "shape": columns[n][0], "data": columns[n][1]}
            for n in wanted
        ]
        answer = {
            "model_name": self.name,
            "model_version": self.version,
            "id": request_id if asked.id is None else asked.id,
            "outputs": outputs,
        }
        return Answer(msgspec.json.encode(answer), rows=(list(range(len(rows))), rows))

    # ── reading ──────────────────────────────────────────────────────────────────────────────────────────

    def _read(self, body: bytes) -> Infer:
        try:
            return self._decode(body)
        except msgspec.ValidationError as exc:
            raise RequestError(400, "InvalidRequest", f"the body is not understood: {exc}") from None
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            parse_json(body)  # says where it is no JSON
            raise RequestError(400, "InvalidRequest", "the body is not understood") from None

    def _wanted(self, asked: Infer) -> list[str]:
        wanted = [output.name for output in asked.outputs or ()] or list(self._outputs)
        for name in wanted:
            if name not in self._outputs:
                raise RequestError(
                    400,
                    "UnknownOutput",
                    f"there is no output '{name[:60]}'",
                    did_you_mean(name, self._outputs) or f"Outputs: {', '.join(self._outputs)}",
                )
        return wanted

    def _sent(self, asked: Infer) -> list[dict[str, Any]]:
        """What is sent of every row, by name."""
        names = [field.name for field in self.model.record.fields]
        columns: dict[str, list[Any]] = {}
        count = -1
        if not asked.inputs:
            raise RequestError(400, "InvalidRequest", "there are no inputs", f"It takes: {', '.join(names)}")
        for tensor in asked.inputs:
            height, values = _values(tensor)
            if count not in {-1, height}:
                raise _wrong(tensor, f"has {height:,} rows, those before have {count:,}")
            count = height
            width = len(self.model.signature.features)
            if len(tensor.shape) == 2 and tensor.shape[1] == width and len(asked.inputs) == 1:
                features = self.model.signature.feature_names
                columns = {name: values[i::width] for i, name in enumerate(features)}
            elif len(values) != height:
                raise _wrong(tensor, f"has the shape {tensor.shape}, expected [{height}] or [{height}, 1]")
            elif tensor.name not in names:
                raise _wrong(tensor, "is no feature", did_you_mean(tensor.name, names))
            elif tensor.name in columns:
                raise _wrong(tensor, "is given twice")
            else:
                columns[tensor.name] = values
        return [{name: values[number] for name, values in columns.items()} for number in range(max(count, 0))]

    async def _rows(self, sent: Sequence[Mapping[str, Any]]) -> list[list[Any]]:
        """The features of every row, looked up where they are not sent."""
        if self._elsewhere is None:
            return self._completed(sent)
        return await self._elsewhere.among(sent, lambda: self._completed(sent))

    def _completed(self, sent: Sequence[Mapping[str, Any]]) -> list[list[Any]]:
        rows = []
        for number, one in enumerate(sent):
            try:
                rows.append(self.model.completed(one))
            except RequestError as error:
                where = f"row {number}: " if len(sent) > 1 else ""
                raise RequestError(error.status, error.error_type, where + error.detail) from None
            except Ignored as ignored:
                message = f"row {number} has no prediction: {ignored.reason}"
                raise RequestError(422, NO_PREDICTION, message) from None
        return rows


def _values(tensor: Tensor) -> tuple[int, list[Any]]:
    """How many rows a tensor has, and its values, flat. RequestError where shape, type and values disagree."""
    if tensor.datatype not in _KNOWN:
        hint = did_you_mean(tensor.datatype, _KNOWN)
        raise _wrong(tensor, f"is of the unknown datatype '{tensor.datatype[:20]}'", hint)
    if not 1 <= len(tensor.shape) <= 2 or any(size < 0 for size in tensor.shape):
        raise _wrong(tensor, f"has the shape {tensor.shape[:5]}, expected one or two sizes")
    height = tensor.shape[0]
    if height > MOST_ROWS:
        raise _wrong(tensor, f"has {height:,} rows, at most {MOST_ROWS:,} are answered at once")
    width = tensor.shape[1] if len(tensor.shape) == 2 else 1
    values = tensor.data
    if values and isinstance(values[0], list):  # nested, as some clients send it
        if any(not isinstance(row, list) or len(row) != width for row in values):
            raise _wrong(tensor, f"has rows of other lengths than its shape {tensor.shape}")
        values = [value for row in values for value in row]
    if len(values) != height * width:
        raise _wrong(tensor, f"has {len(values):,} values, its shape {tensor.shape} has {height * width:,}")
    for value in values:
        if not _fits(value, tensor.datatype):
            raise _wrong(tensor, f"holds {shown(value)}, which is no {tensor.datatype}")
    return height, values


def _fits(value: Any, datatype: str) -> bool:
    match value:
        case None:
            return True  # a null; whether it may be one is the feature's to say
        case bool():
            return datatype == "BOOL"
        case int():
            return value in _INTEGERS.get(datatype, ()) or datatype in _FLOATS
        case float():
            return datatype in _FLOATS or (value.is_integer() and int(value) in _INTEGERS.get(datatype, ()))
        case str():
            return datatype == "BYTES"
    return False


def _wrong(tensor: Tensor, what: str, hint: str | None = None) -> RequestError:
    return RequestError(400, "InvalidInput", f"input '{tensor.name[:60]}' {what}", hint or "")


def _datatype(mesh_type: str) -> str:
    return _DATATYPES.get(mesh_type.partition("(")[0], "FP64")
