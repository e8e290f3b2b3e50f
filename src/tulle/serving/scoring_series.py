"""The batch form of an endpoint that forecasts: the series of a data set in, how each goes on out.

Series go through the endpoint's own action, some in one call. One that it refuses has a row that says why. Knows
nothing of the lake, and nothing of HTTP.
"""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

import msgspec
import pyarrow as pa

from tulle.engine.engine import ColumnType, quoted
from tulle.errors import Invalid, Unavailable, did_you_mean
from tulle.pipeline.convert import arrow_type
from tulle.serving.forecast import Forecast
from tulle.serving.index import Column
from tulle.serving.loaded import Loaded
from tulle.serving.query import in_utc
from tulle.serving.request import RequestError
from tulle.serving.scoring import ERROR, PASSING, Told

ROWS_AT_ONCE = 5_000  # of the past of several series, in one call
_encoder = msgspec.json.Encoder(decimal_format="number")
Series = tuple[tuple[Any, ...], list[dict[str, Any]]]  # what tells it apart, its rows as they are sent


class SeriesScoring:
    """An endpoint that says how the series of one data set go on; `columns` are those of what comes out."""

    def __init__(
        self, service: Loaded, endpoint: str, known: Sequence[ColumnType], renamed: Mapping[str, str]
    ) -> None:
        """`known` are the columns of the rows, `renamed` says which is sent by another name."""
        found = service.endpoints[endpoint]
        assert isinstance(found, Forecast)
        assert found.signature.series is not None
        self._service, self._name, self._endpoint = service, endpoint, found
        self._series = found.signature.series
        names, taken = [column.name for column in known], [field.name for field in found.record.fields]
        for name, column in renamed.items():
            if name not in taken:
                raise Invalid(f"endpoint '{endpoint}' takes no '{name}'", hint=did_you_mean(name, taken))
            if column not in names:
                raise Invalid(f"the rows have no column '{column}'", hint=did_you_mean(column, names))
        self._sent = {name: renamed.get(name, name) for name in taken}
        if missing := [name for name, column in self._sent.items() if column not in names]:
            raise Invalid(
                f"the rows have no column '{missing[0]}', which endpoint '{endpoint}' needs",
                hint=did_you_mean(missing[0], names) or f"--map {missing[0]}=COLUMN names the one that it is",
            )
        types = {feature.name: feature.type for feature in found.signature.features}
        self.columns = [Column(name, types[name]) for name in (*self._series.identifiers, self._series.time)]
        self._is_day = types[self._series.time] == "date"
        self._quantiles = [f"quantile_{quantile:g}" for quantile in self._series.quantiles]
        numbers = [Column(name, "double") for name in ("forecast", *self._quantiles)]
        self.columns += [*numbers, Column(ERROR, "string")]
        twice = [c.name for n, c in enumerate(self.columns) if c.name in {o.name for o in self.columns[:n]}]
        if twice:
            raise Invalid(f"the series have a column '{twice[0]}' already", hint="name it otherwise")
        self.told = Told()

    @property
    def order(self) -> str:
        """How the rows are to come, in SQL: those of a series together."""
        ordered = [quoted(self._sent[name]) for name in self._series.identifiers]
        return f" ORDER BY {', '.join(ordered)}" if ordered else ""

    @property
    def kept(self) -> list[str]:
        """No column stays as it is: what comes out are other rows."""
        return []

    @property
    def sent(self) -> list[str]:
        """The columns of the rows that the endpoint is sent."""
        return list(dict.fromkeys(self._sent.values()))

    @property
    def schema(self) -> pa.Schema:
        """The columns of what comes out."""
        return pa.schema([(column.name, arrow_type(column.type)) for column in self.columns])

    def scored(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """How the series go on, in the order in which they came."""
        with asyncio.Runner() as runner:
            try:
                runner.run(self._endpoint.ready())
                for together in _together(self._series_of(batches)):
                    rows = runner.run(self._answers(together))
                    self.told.rows += len(rows)
                    yield pa.RecordBatch.from_pylist(rows, self.schema)
            except RequestError as error:
                why = f"endpoint '{self._name}' does not answer: {error.message}"
                raise Unavailable(why, hint=error.advice or None) from error
            finally:
                self._service.close()

    def _series_of(self, batches: Iterable[pa.RecordBatch]) -> Iterator[Series]:
        def rows() -> Iterator[dict[str, Any]]:
            for batch in batches:
                table = pa.Table.from_batches([batch]).select(list(self._sent.values()))
                yield from in_utc(table).rename_columns(list(self._sent)).to_pylist()

        for key, one in groupby(rows(), lambda row: tuple(row[name] for name in self._series.identifiers)):
            yield key, list(one)

    async def _answers(self, together: Sequence[Series]) -> list[dict[str, Any]]:
        body = _encoder.encode({"items": [row for _, rows in together for row in rows]})
        try:
            answer = await self._endpoint.forecast(body, "batch", ())
        except RequestError as error:
            if error.error_type in PASSING:
                raise
            if len(together) > 1:  # it may be the fault of one of them
                return [row for one in together for row in await self._answers([one])]
            return [self._refused(together[0][0], f"{error.error_type}: {error.message}")]
        place = {key: number for number, (key, _) in enumerate(together)}
        found = [self._row(result) for result in msgspec.json.decode(answer.body)["results"]]
        found.sort(key=lambda row: place[tuple(row[name] for name in self._series.identifiers)])
        return found

    def _row(self, result: Mapping[str, Any]) -> dict[str, Any]:
        key = self._key(result["timeseriesIdentifier"])
        if result["ignored"]:
            error = result["error"]
            return self._refused(key, f"{error['errorType']}: {error['message']}")
        moment: Any = dt.datetime.fromisoformat(result["time"]).replace(tzinfo=None)
        row = dict(zip(self._series.identifiers, key, strict=True))
        row |= {self._series.time: moment.date() if self._is_day else moment, "forecast": result["forecast"]}
        return row | dict(zip(self._quantiles, result.get("quantilesValues", ()), strict=True))

    def _key(self, named: Mapping[str, Any]) -> tuple[Any, ...]:
        """What tells a series apart, with the types of its columns."""
        kinds = {"date": dt.date, "timestamp": dt.datetime}
        types = {column.name: column.type.partition("(")[0] for column in self.columns}
        return tuple(
            msgspec.convert(named[name], kinds[types[name]] | None) if types[name] in kinds else named[name]
            for name in self._series.identifiers
        )

    def _refused(self, key: Sequence[Any], why: str) -> dict[str, Any]:
        word = why.partition(":")[0]
        self.told.failed += 1
        self.told.errors[word] = self.told.errors.get(word, 0) + 1
        return {**dict(zip(self._series.identifiers, key, strict=True)), ERROR: why}


def _together(series: Iterable[Series]) -> Iterator[list[Series]]:
    """Series with no more rows together than are sent in one call; a long one alone."""
    waiting: list[Series] = []
    count = 0
    for one in series:
        if waiting and count + len(one[1]) > ROWS_AT_ONCE:
            yield waiting
            waiting, count = [], 0
        waiting.append(one)
        count += len(one[1])
    if waiting:
        yield waiting
