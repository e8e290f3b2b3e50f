"""Batch forms of endpoints: the answers to many rows of a data set, by the code that answers requests.

Rows go through the endpoint's own actions, thousands in one call where it takes many, so an answer here is the answer
there. Every row has one: what a caller would be refused with is in the row's `error`. Knows nothing of the lake, and
nothing of HTTP.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import msgspec
import pyarrow as pa

from tulle.engine.engine import ColumnType
from tulle.errors import Broken, Invalid, Unavailable, did_you_mean
from tulle.pipeline.convert import arrow_type
from tulle.serving.compose import Compose
from tulle.serving.endpoint import Endpoint, Headed
from tulle.serving.function import Function
from tulle.serving.index import Column
from tulle.serving.keyed_rows import ALL, DEFAULT, IGNORE
from tulle.serving.loaded import Loaded
from tulle.serving.lookup import Lookup
from tulle.serving.predict import Predict
from tulle.serving.predict_features import row_type
from tulle.serving.predict_result import class_text
from tulle.serving.query import SqlQuery, in_utc
from tulle.serving.request import RequestError
from tulle.serving.shown_features import ASKED_FOR

CHUNK = 5_000
AT_ONCE = 8  # calls of an endpoint that answers one row at a time
ERROR = "error"
DETAILS = (
    "details"  # what else an answer says of a prediction: percentile, distances, keys of one's own, override
)
_IN_COLUMNS = frozenset({"prediction", "effect", "probas", "ignored", "ignoreReason", "error"})
# What is no fault of a row: nobody wants a data set of it.
PASSING = frozenset({"QueueFull", "NoProcessFree", "NotStarted", "StoreUnavailable", "Unreachable"})
_encoder = msgspec.json.Encoder(decimal_format="number")


@dataclass(slots=True)
class Told:
    """What came of the rows so far."""

    rows: int = 0
    failed: int = 0
    errors: dict[str, int] = field(default_factory=dict)  # by the first word of each


@dataclass(frozen=True, slots=True)
class Way:
    """How an endpoint answers rows: what it may be sent, the columns it gives, and the answers to a chunk of rows."""

    sent: Sequence[str] | None  # None: whatever there is
    needed: Sequence[str]
    columns: Sequence[Column]
    answers: Callable[[Sequence[Mapping[str, Any]]], Awaitable[list[Mapping[str, Any]]]]


class Scoring:
    """An endpoint that answers the rows of one data set; `columns` are those of what comes out."""

    def __init__(
        self,
        service: Loaded,
        endpoint: str,
        known: Sequence[ColumnType],
        renamed: Mapping[str, str] | None = None,
        keep: Sequence[str] | None = None,
    ) -> None:
        """`known` are the columns of the rows, `renamed` says which is sent by another name, `keep` which stay."""
        self._service, self._endpoint = service, endpoint
        self._way = _way_of(service.endpoints[endpoint], endpoint)
        names = [column.name for column in known]
        for sent, source in (renamed or {}).items():
            _demand_known(source, names)
            if self._way.sent is not None and sent not in self._way.sent:
                raise Invalid(
                    f"endpoint '{endpoint}' takes no '{sent}'", hint=did_you_mean(sent, self._way.sent)
                )
        for name in keep or ():
            _demand_known(name, names)
        others = [name for name in names if name not in (renamed or {}).values()]
        self._sent = {n: n for n in others if self._way.sent is None or n in self._way.sent}
        self._sent |= dict(renamed or {})
        if missing := [name for name in self._way.needed if name not in self._sent]:
            raise Invalid(
                f"the rows have no column '{missing[0]}', which endpoint '{endpoint}' needs",
                hint=did_you_mean(missing[0], names) or f"--map {missing[0]}=COLUMN names the one that it is",
            )
        if not self._sent and self._way.sent:
            raise Invalid(
                f"the rows have no column that endpoint '{endpoint}' takes",
                hint="it takes " + ", ".join(self._way.sent),
            )
        self._kept = [column for column in known if keep is None or column.name in keep]
        self.columns = [Column(c.name, c.type) for c in self._kept]
        taken = {column.name for column in self.columns}
        self._named = {}
        for column in (*self._way.columns, Column(ERROR, "string")):
            name = column.name if column.name not in taken else f"{column.name}_{endpoint.replace('-', '_')}"
            if name in taken:
                raise Invalid(f"the rows have a column '{name}' already", hint="--keep names those that stay")
            taken.add(name)
            self._named[column.name] = name
            self.columns.append(Column(name, column.type))
        self.told = Told()

    @property
    def kept(self) -> list[str]:
        """The columns of the rows that stay beside the answers."""
        return [column.name for column in self._kept]

    @property
    def sent(self) -> list[str]:
        """The columns of the rows that the endpoint is sent."""
        return list(dict.fromkeys(self._sent.values()))

    @property
    def schema(self) -> pa.Schema:
        """The columns of what comes out."""
        return pa.schema([(column.name, arrow_type(column.type)) for column in self.columns])

    def scored(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """The rows with their answers, in their order."""
        with asyncio.Runner() as runner:
            try:
                runner.run(self._ready())
                for batch in batches:
                    yield self._with_answers(batch, runner)
            finally:
                self._service.close()

    async def _ready(self) -> None:
        """Start what answering needs: the endpoint's own, or of a composition, which may call any of them, all."""
        chosen = self._service.endpoints[self._endpoint]
        if isinstance(chosen, Compose):
            failed = await self._service.ready()
        else:
            try:
                await chosen.ready()
                return
            except RequestError as error:
                failed = {self._endpoint: error.message}
        for name, why in failed.items():
            raise Unavailable(f"endpoint '{name}' does not answer: {why}")

    def _with_answers(self, batch: pa.RecordBatch, runner: asyncio.Runner) -> pa.RecordBatch:
        table = pa.Table.from_batches([batch])
        plain = in_utc(table.select(list(self._sent.values()))).rename_columns(list(self._sent))
        try:
            answers = runner.run(_awaited(self._way.answers(plain.to_pylist())))
        except RequestError as error:
            raise Unavailable(f"the endpoint answers nothing: {error.message}", hint=error.advice) from error
        self._count(answers)
        kept = [table.column(c.name).cast(arrow_type(c.type)) for c in self._kept]
        made = []
        for column in (*self._way.columns, Column(ERROR, "string")):
            values = [answer.get(column.name) for answer in answers]
            try:
                made.append(pa.chunked_array([pa.array(values, arrow_type(column.type))]))
            except (pa.ArrowInvalid, pa.ArrowTypeError) as exc:
                raise Broken(f"answers have a '{column.name}' that is no {column.type}: {exc}") from exc
        (whole,) = pa.table([*kept, *made], self.schema).combine_chunks().to_batches()
        return whole

    def _count(self, answers: Sequence[Mapping[str, Any]]) -> None:
        self.told.rows += len(answers)
        for answer in answers:
            if error := answer.get(ERROR):
                word = str(error).partition(":")[0]
                if word in PASSING:
                    raise Unavailable(f"the endpoint does not answer: {error}", hint="try again later")
                self.told.failed += 1
                self.told.errors[word] = self.told.errors.get(word, 0) + 1


async def _awaited(work: Awaitable[Any]) -> Any:
    return await work


def _demand_known(column: str, names: Sequence[str]) -> None:
    if column not in names:
        raise Invalid(f"the rows have no column '{column}'", hint=did_you_mean(column, names))


def _way_of(endpoint: Endpoint, name: str) -> Way:
    match getattr(endpoint, "inner", endpoint):  # of one whose rows are in a database
        case Predict() as inner:
            return _predictions(inner, endpoint)
        case Lookup() as inner:
            return _found_rows(inner, endpoint)
    match endpoint:
        case SqlQuery():
            sent = [p.name for p in endpoint.entry.parameters]
            needed = [p.name for p in endpoint.entry.parameters if p.required]
            return Way(sent, needed, [Column("rows", "string")], _each(endpoint, "rows", _rows_as_text))
        case Function():
            parameters = endpoint.entry.parameters
            names = None if endpoint.entry.is_open else [p.name for p in parameters]
            needed = [p.name for p in parameters if p.required]
            return Way(names, needed, [Column("response", "string")], _each(endpoint, "run", _response))
        case Compose():
            sent = [p.name for p in endpoint.entry.input]
            needed = [p.name for p in endpoint.entry.input if p.required]
            return Way(sent, needed, [Column("response", "string")], _each(endpoint, "run", _response))
    raise Invalid(f"endpoint '{name}' is of a kind that answers no rows")


async def _asked(endpoint: Endpoint, action: str, body: bytes) -> bytes:
    """The body of an answer; RequestError."""
    chosen = endpoint.actions[action]
    if isinstance(chosen, Headed):
        return _good(await chosen.call(body, "batch", ()))
    given = chosen(body, "batch")
    return given if isinstance(given, bytes) else _good(await given)


def _good(answer: Any) -> bytes:
    """What a function answers by itself may be an error, too."""
    if answer.status >= 400:
        text = answer.body[:200].decode(errors="replace")
        raise RequestError(answer.status, f"Status{answer.status}", text)
    body: bytes = answer.body
    return body


# ── many in one call ─────────────────────────────────────────────────────────────────────────────────────


def _predictions(inner: Predict, endpoint: Endpoint) -> Way:
    signature = inner.signature
    shares = {class_text(value): f"proba_{class_text(value)}" for value in signature.classes}
    columns = [Column("prediction", _class_type(signature.classes or signature.clusters))]
    if signature.has_probabilities:
        columns += [Column(name, "double") for name in shares.values()]
    columns.append(Column(DETAILS, "string"))

    async def answers(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        items = [{"features": row} for row in rows]
        # The rows have their features already, and what is looked up is not copied into another data set.
        told = {"explanations": {"enabled": False}, ASKED_FOR: False}
        body = _encoder.encode({"items": items, **told})
        read = msgspec.json.decode(await _asked(endpoint, "predict-multi", body))
        found: list[Mapping[str, Any]] = []
        for result in read["results"]:
            row = {"prediction": result.get("prediction"), ERROR: _error_of(result)}
            row |= {shares[name]: value for name, value in result.get("probas", {}).items()}
            if more := {name: value for name, value in result.items() if name not in _IN_COLUMNS}:
                row[DETAILS] = _encoder.encode(more).decode()
            found.append(row)
        return found

    return Way([one.name for one in inner.record.fields], (), columns, answers)


def _class_type(classes: Sequence[Any]) -> str:
    kinds = {type(value) for value in classes}
    if not kinds:
        return "double"
    return (
        {bool: "boolean", int: "integer", str: "string"}.get(kinds.pop(), "double")
        if len(kinds) == 1
        else "string"
    )


def _found_rows(inner: Lookup, endpoint: Endpoint) -> Way:
    entry, look_ups = inner.entry.rows, inner.entry.look_ups
    found_columns = [column for one in look_ups for column in one.columns]
    has_one = len(look_ups) == 1
    columns = [Column(c.name, c.type) for c in found_columns]
    columns.append(Column("status" if has_one else "lookups", "string"))
    # Decimals keep all their digits.
    fields = [
        (
            f"c{n}",
            (Decimal if c.type.startswith("decimal") else bytes if c.type == "binary" else row_type(c.type))
            | None,
            None,
        )
        for n, c in enumerate(found_columns)
    ]
    data = msgspec.defstruct("Data", fields, rename={f"c{n}": c.name for n, c in enumerate(found_columns)})
    result = msgspec.defstruct(
        "Result",
        [
            ("data", data | None, None),
            ("status", str, "PRESENT"),
            ("ignored", bool, False),
            ("ignoreReason", str, ""),
            ("error", Any, None),
            ("found", int | None, None),
            ("rows", msgspec.Raw, msgspec.Raw(b"")),
            ("lookups", msgspec.Raw, msgspec.Raw(b"")),
        ],
    )
    decoder = msgspec.json.Decoder(msgspec.defstruct("Results", [("results", list[result])]))  # type: ignore[valid-type]
    if has_one and entry.several == ALL:
        columns += [Column("found", "integer"), Column("rows", "string")]

    async def answers(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        body = _encoder.encode({"items": [{"data": row} for row in rows]})
        read: Any = decoder.decode(await _asked(endpoint, "lookup-multi", body))
        found: list[Mapping[str, Any]] = []
        for one in read.results:
            if one.ignored or one.data is None:
                found.append(
                    {
                        ERROR: _error_of(
                            {"ignored": True, "ignoreReason": one.ignoreReason, "error": one.error}
                        )
                    }
                )
                continue
            row = {c.name: getattr(one.data, f"c{n}") for n, c in enumerate(found_columns)}
            if not has_one:
                told = bytes(one.lookups).decode() or None
                found.append({**row, "lookups": told})
                continue
            more = {"found": one.found, "rows": bytes(one.rows).decode()} if entry.several == ALL else {}
            found.append({**row, "status": one.status, **more})
        return found

    needed = dict.fromkeys(
        c.name for one in look_ups if one.missing_key not in {DEFAULT, IGNORE} for c in one.key
    )
    return Way([field.name for field in inner.record.fields], tuple(needed), columns, answers)


def _error_of(result: Mapping[str, Any]) -> str | None:
    """Why a row has no answer, in one line."""
    if not result.get("ignored"):
        return None
    error = result.get("error")
    return f"{error['errorType']}: {error['message']}" if error else str(result.get("ignoreReason"))


# ── one at a time ────────────────────────────────────────────────────────────────────────────────────────


def _each(
    endpoint: Endpoint, action: str, read: Callable[[bytes], Mapping[str, Any]]
) -> Callable[[Sequence[Mapping[str, Any]]], Awaitable[list[Mapping[str, Any]]]]:
    bounds = getattr(getattr(endpoint, "entry", None), "bounds", None)
    together = AT_ONCE if bounds is None else max(1, min(AT_ONCE, bounds.ceil))

    async def answers(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        turn = asyncio.Semaphore(together)

        async def one(row: Mapping[str, Any]) -> Mapping[str, Any]:
            async with turn:
                try:
                    return read(await _asked(endpoint, action, _encoder.encode(row)))
                except RequestError as error:
                    return {ERROR: f"{error.error_type}: {error.message}"}

        return list(await asyncio.gather(*map(one, rows)))

    return answers


class _Response(msgspec.Struct):
    response: msgspec.Raw = msgspec.Raw(b"null")


class _Rows(msgspec.Struct):
    columns: list[dict[str, str]]
    rows: list[list[msgspec.Raw]]


def _response(answer: bytes) -> Mapping[str, Any]:
    """What a function or a composition returned, as JSON; what is no JSON of ours, as text."""
    try:
        return {"response": bytes(msgspec.json.decode(answer, type=_Response).response).decode()}
    except msgspec.MsgspecError:
        return {"response": answer.decode(errors="replace")}


def _rows_as_text(answer: bytes) -> Mapping[str, Any]:
    """The rows of a query, as a JSON list of objects."""
    read = msgspec.json.decode(answer, type=_Rows)
    names = [column["name"] for column in read.columns]
    rows = [dict(zip(names, row, strict=True)) for row in read.rows]
    return {"rows": msgspec.json.encode(rows).decode()}
