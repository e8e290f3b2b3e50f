"""Forecasts: the past of some series in, how each goes on out, by the wire of API nodes.

The items of a request are rows: time, target, what tells series apart, and externals. Rows without a target are the
future, which a model with externals needs for all of its steps. The model runs in processes of its own; a series it
cannot forecast fails no other.
"""

from __future__ import annotations

import datetime as dt
import re
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from time import perf_counter_ns
from typing import Any, Literal

import msgspec
from msgspec import UNSET

from tulle.errors import Broken, Invalid
from tulle.pipeline.model_ahead import forecast, times_ahead
from tulle.pipeline.model_signature import SIGNATURE, Series, Signature, load_model, read_signature
from tulle.serving.bounds import Bounds
from tulle.serving.declared import TestQuery
from tulle.serving.endpoint import (
    Answer,
    Dispatch,
    Headed,
    Header,
    Query,
    Trace,
    check_generation,
    envelope,
    items_of,
)
from tulle.serving.manifest import WHOLE_AGAIN
from tulle.serving.pool import pool_of
from tulle.serving.request import Field, Record, RequestError, parse_json, shown

_MIDNIGHT = re.compile(r"T00:00(:00([.]0*)?)?(Z|[+]00:00)?$")
MOST_ROWS = 100_000  # of one request
MOST_SERIES = 1000
_ENVELOPE = msgspec.defstruct("ForecastEnvelope", [("dispatch", Dispatch | None, None)])


@dataclass(frozen=True, slots=True)
class ForecastEntry:
    """What a package's manifest says of an endpoint that forecasts."""

    name: str
    model: str  # the folder in the package
    commits: Mapping[str, str]
    bounds: Bounds = Bounds()
    description: str = ""
    type: Literal["forecast"] = "forecast"
    test_queries: tuple[TestQuery, ...] = ()
    probe: Mapping[str, Any] = field(default_factory=dict)  # a body that is answered, to see whether it is


class _Asked(msgspec.Struct, array_like=True):
    """One series: its past and its future, in the order of time."""

    past: list[dict[str, Any]]
    future: list[dict[str, Any]]


class _Said(msgspec.Struct, array_like=True):
    """How one series goes on; or why that is not known."""

    numbers: list[float] = []
    quantiles: list[list[float]] = []
    problem: str = ""
    error_type: str = "EvaluationFailed"


class Forecast:
    """An endpoint that forecasts."""

    kind = main = "forecast"

    def __init__(self, entry: ForecastEntry, signature: Signature, folder: Path, trace: Trace) -> None:
        assert signature.series is not None
        self.name = entry.name
        self.commits = entry.commits
        self.signature = signature
        self._series: Series = signature.series
        self.record = record_of_series(signature)
        self.pool = pool_of(folder, entry.name, entry.bounds)
        self._generation = trace.generation
        self._context = trace.context(entry.name, entry.commits, model=f"{signature.name}@native")

    @property
    def actions(self) -> Mapping[str, Headed]:
        """forecast"""
        return {"forecast": Headed(self.forecast)}

    @property
    def queries(self) -> Mapping[str, Query]:
        """A series does not fit into an address."""
        return {}

    async def ready(self) -> None:
        """Load the model in a process. RequestError when it cannot be."""
        await self.pool.ready()

    def close(self) -> None:
        """End its processes."""
        self.pool.close()

    async def forecast(self, body: bytes, request_id: str, _headers: Sequence[Header]) -> Answer:
        """How the series in {"items": [row, …]} go on."""
        start = perf_counter_ns()
        raw = parse_json(body)
        items = items_of(raw)
        check_generation(envelope(raw, ("dispatch",), _ENVELOPE).dispatch, self._generation)
        grouped = self._grouped(items)
        found: dict[tuple[Any, ...], _Asked | RequestError] = {}
        for key, rows in grouped.items():
            try:
                found[key] = self._one(rows)
            except RequestError as error:
                if len(grouped) == 1:
                    raise
                found[key] = error
        asked = {key: one for key, one in found.items() if isinstance(one, _Asked)}
        read = perf_counter_ns()
        said = dict(zip(asked, await self._asked(list(asked.values())), strict=True)) if asked else {}
        if len(grouped) == 1 and (only := next(iter(said.values()))).problem:
            raise RequestError(500, only.error_type, only.problem, "The service's log says where")
        results = self._results(found, said)
        spent = perf_counter_ns() - read
        timing = f'"timing":{{"preProcessing":{(read - start) // 1000},"prediction":{spent // 1000}}}'
        text = msgspec.json.encode(results).decode()
        return Answer(f'{{"results":{text},{timing},{self._context}{request_id}"}}}}'.encode())

    # ── reading ──────────────────────────────────────────────────────────────────────────────────────────

    def _grouped(self, items: Sequence[Any]) -> dict[tuple[Any, ...], list[dict[str, Any]]]:
        """The rows of each series, by what tells them apart; RequestError for rows that are none."""
        if not items:
            raise RequestError(400, "InvalidRequest", "there is no row", "Send the past of a series")
        if len(items) > MOST_ROWS:
            message = f"{len(items):,} rows are too many, at most {MOST_ROWS:,} are read"
            raise RequestError(400, "TooManyRows", message)
        names = [one.name for one in self.record.fields]
        series = self._series
        grouped: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
        for number, item in enumerate(items):
            try:
                if not isinstance(item, dict):
                    raise RequestError(400, "InvalidRequest", f"it is {shown(item)}, expected an object")
                values = dict(zip(names, self.record.convert(self._with_time(item)), strict=True))
                needed = (series.time, *series.identifiers)
                missing = [name for name in needed if values[name] is UNSET or values[name] is None]
                if missing:
                    raise RequestError(400, "InvalidFeatures", f"'{missing[0]}' is missing")
            except RequestError as error:
                raise RequestError(
                    error.status, error.error_type, f"row {number}: {error.message}", error.advice
                ) from None
            row = {name: None if value is UNSET else value for name, value in values.items()}
            grouped.setdefault(tuple(row[name] for name in series.identifiers), []).append(row)
        if len(grouped) > MOST_SERIES:
            message = f"{len(grouped):,} series are too many, at most {MOST_SERIES:,} are forecast at once"
            raise RequestError(400, "TooManySeries", message)
        return grouped

    def _with_time(self, item: dict[str, Any]) -> dict[str, Any]:
        """The item with its time as the model has it: stock clients send midnight for a day."""
        name, value = self._series.time, item.get(self._series.time)
        if not isinstance(value, str):
            return item
        if self.signature.features[0].type == "date":
            return {**item, name: _MIDNIGHT.sub("", value)}
        return {**item, name: f"{value}T00:00:00"} if len(value) == len("2000-01-01") else item

    def _one(self, rows: Sequence[dict[str, Any]]) -> _Asked:
        """The past and the future of a series. RequestError where it cannot be forecast."""
        series = self._series
        try:
            ordered = sorted(rows, key=lambda row: row[series.time])
        except TypeError:
            message = f"some times of '{series.time}' have a time zone and some have none"
            raise RequestError(400, "InvalidFeatures", message) from None
        for row, after in pairwise(ordered):
            if row[series.time] == after[series.time]:
                message = f"two rows are of {row[series.time].isoformat()}"
                raise RequestError(400, "InvalidFeatures", message, "Send each time once")
        past = [row for row in ordered if row[series.target] is not None]
        future = ordered[len(past) :]
        if any(row[series.target] is not None for row in future):
            message = f"rows without '{series.target}' lie between others"
            raise RequestError(400, "InvalidFeatures", message, "Only the future has none: leave gaps out")
        if len(past) < series.least:
            message = f"{len(past)} rows are of the past, and the model needs {series.least}"
            raise RequestError(422, "NotEnoughPast", message, "Send more of the past")
        if not series.externals:
            try:
                return _Asked(past, times_ahead(past, series))
            except Invalid as exc:
                raise RequestError(400, "InvalidFeatures", exc.message) from None
        if len(future) < series.horizon:
            message = f"{len(future)} rows tell the externals ahead, and the model needs {series.horizon}"
            advice = (
                f"Send rows without '{series.target}' for the next {series.horizon} steps of {series.step}"
            )
            raise RequestError(422, "MissingExternals", message, advice)
        return _Asked(past, future[: series.horizon])

    async def _asked(self, series: Sequence[_Asked]) -> list[_Said]:
        reply = await self.pool.ask(msgspec.msgpack.encode(series), again=True)
        try:
            said = msgspec.msgpack.decode(reply, type=list[_Said])
        except msgspec.MsgspecError as exc:
            message = f"what the model gave is not understood: {exc}"
            raise RequestError(500, "EvaluationFailed", message) from exc
        return said

    # ── the answer ───────────────────────────────────────────────────────────────────────────────────────

    def _results(
        self,
        found: Mapping[tuple[Any, ...], _Asked | RequestError],
        said: Mapping[tuple[Any, ...], _Said],
    ) -> list[dict[str, Any]]:
        """An item for each step of each series, in the order of time; one for each that has no answer."""
        series, results, failed = self._series, [], []
        for key, one in found.items():
            named = {"timeseriesIdentifier": dict(zip(series.identifiers, key, strict=True))}
            if isinstance(one, RequestError):
                failed.append(_ignored(one) | named)
                continue
            answer = said[key]
            if answer.problem:
                failed.append(_ignored(RequestError(500, answer.error_type, answer.problem)) | named)
                continue
            for step, (row, number) in enumerate(zip(one.future, answer.numbers, strict=True)):
                item = {"time": _moment(row[series.time]), "forecast": number, "ignored": False, **named}
                if series.quantiles:
                    item |= {"quantiles": list(series.quantiles), "quantilesValues": answer.quantiles[step]}
                results.append(item)
        results.sort(key=lambda item: str(item["time"]))
        return results + failed


def _ignored(error: RequestError) -> dict[str, Any]:
    return {
        "ignored": True,
        "ignoreReason": error.error_type,
        "error": {
            "status": error.status,
            "errorType": error.error_type,
            "message": error.message,
            "detailedMessage": error.detail,
        },
    }


def _moment(value: Any) -> str:
    """A time as API nodes write it: UTC, to the microsecond."""
    if not isinstance(value, dt.datetime):
        value = dt.datetime(value.year, value.month, value.day)  # noqa: DTZ001
    if value.tzinfo is not None:
        value = value.astimezone(dt.UTC).replace(tzinfo=None)
    return f"{value.isoformat(timespec='microseconds')}Z"


def record_of_series(signature: Signature) -> Record:
    """What a row of a request may have."""
    series = signature.series
    assert series is not None
    always = {series.time, *series.identifiers}
    return Record(
        "feature", [Field(f.name, f.type, nullable=f.name not in always) for f in signature.features]
    )


def load_forecast(entry: ForecastEntry, folder: Path, trace: Trace) -> Forecast:
    """The endpoint with its processes, none of which is started yet."""
    try:
        signature = read_signature((folder / entry.model / SIGNATURE).read_bytes())
    except OSError as exc:
        raise Broken(f"the package lacks '{entry.model}/{SIGNATURE}'", hint=WHOLE_AGAIN) from exc
    return Forecast(entry, signature, folder, trace)


def forecast_apart(entry: ForecastEntry, folder: Path) -> Callable[[bytes], bytes]:
    """The model, loaded, as a handler of series."""
    home = folder / entry.model
    signature = read_signature((home / SIGNATURE).read_bytes())
    series = signature.series
    assert series is not None
    model = load_model(home, signature)
    is_day = signature.features[0].type == "date"

    def handle(request: bytes) -> bytes:
        return msgspec.msgpack.encode(
            [
                _said(model, series, one, is_day=is_day)
                for one in msgspec.msgpack.decode(request, type=list[_Asked])
            ]
        )

    return handle


def _said(model: Any, series: Series, asked: _Asked, *, is_day: bool) -> _Said:
    kind: Any = dt.date if is_day else dt.datetime
    for row in (*asked.past, *asked.future):  # times are text on the way here
        row[series.time] = msgspec.convert(row[series.time], kind)
    try:
        return _Said(*forecast(model, series, asked.past, asked.future))
    except Invalid as exc:  # of the series, as it was sent
        return _Said(problem=exc.message)
    except MemoryError:
        message = "the model needs more memory than its endpoint may have"
        return _Said(problem=message, error_type="TooMuchMemory")
    except Exception as exc:  # noqa: BLE001  whatever a model raises
        traceback.print_exc()
        return _Said(problem=f"the model raised {type(exc).__name__}")
