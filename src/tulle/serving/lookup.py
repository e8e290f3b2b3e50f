"""Lookups: a key in, the row (or rows) of a data set out, with their types as they are.

Rows were rendered when the package was built, so answering copies bytes. Knows nothing of how that is done.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter_ns
from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from tulle.serving.declared import TestQuery
from tulle.serving.endpoint import (
    MOST_ITEMS,
    Action,
    Answer,
    Direct,
    Dispatch,
    Query,
    Trace,
    check_generation,
    envelope,
    error_item,
    items_of,
)
from tulle.serving.finder import PRESENT, Finder, FinderEntry, Found, Ignored
from tulle.serving.keyed_rows import ALL, CONNECTION, FORBIDDEN
from tulle.serving.request import DECODE_ERRORS, Field, Record, RequestError, parse_json, require, shown

_PART = 1000  # keys that are looked up without letting others in


@dataclass(frozen=True, slots=True)
class LookupEntry:
    """What a package's manifest says of a lookup endpoint."""

    name: str
    rows: FinderEntry
    commits: Mapping[str, str]
    joined: tuple[FinderEntry, ...] = ()  # further ones, whose columns stand beside those of `rows`
    description: str = ""
    type: Literal["lookup"] = "lookup"
    test_queries: tuple[TestQuery, ...] = ()
    probe: Mapping[str, Any] | None = field(
        default_factory=dict
    )  # a body that is answered, to see whether it is

    @property
    def look_ups(self) -> tuple[FinderEntry, ...]:
        """All that is asked, in the order of an answer's columns."""
        return (self.rows, *self.joined)


class Lookup:
    """A lookup endpoint."""

    kind = main = "lookup"

    def __init__(self, entry: LookupEntry, folder: Path, trace: Trace) -> None:
        self.name = entry.name
        self.entry = entry
        self._generation = trace.generation
        self.finders = tuple(Finder(one, folder, "object") for one in entry.look_ups)
        self._finder = self.finders[0]
        # Rows of a database are there for one step of the loop (`elsewhere`).
        self._is_one_step = any(finder.entry.source == CONNECTION for finder in self.finders)
        self._trace = trace
        self.record = key_record(entry.look_ups)
        self._names = [one.name for one in self.record.fields]
        self.renew(entry.commits)
        body = msgspec.defstruct(
            "LookupBody",
            [("data", self.record.struct | UnsetType, UNSET), ("dispatch", Dispatch | None, None)],
        )
        self._envelope = msgspec.defstruct("LookupEnvelope", [("dispatch", Dispatch | None, None)])
        self._decode = msgspec.json.Decoder(body).decode

    def renew(self, commits: Mapping[str, str]) -> None:
        """Answer from other commits, and say so, from the next request on."""
        self.commits = commits
        self._context = self._trace.context(self.name, commits)

    @property
    def actions(self) -> Mapping[str, Action]:
        """lookup, lookup-multi."""
        return {"lookup": self.lookup, "lookup-multi": self.lookup_multi}

    async def ready(self) -> None:
        """It is, as soon as it is loaded."""

    def close(self) -> None:
        """Nothing is to be ended."""

    @property
    def queries(self) -> Mapping[str, Query]:
        """Lookups are asked for by POST only: keys may be personal data, which has no place in an address."""
        return {}

    def lookup(self, body: bytes, request_id: str) -> bytes:
        """The row of one key, {"data": {…}}, as a list of one result."""
        start = perf_counter_ns()
        request: Any
        try:
            request = self._decode(body)
            values = msgspec.structs.astuple(request.data)
        except (*DECODE_ERRORS, TypeError):  # TypeError: the key was left out
            request, values = self._explained(body)
        if request.dispatch is not None:
            check_generation(request.dispatch, self._generation)
        return b'{"results":[' + self._result(values) + self._end(start, request_id)

    @property
    def direct(self) -> Direct | None:
        """What gives the row of one key alone, for who asks in this process; only where there is no more to tell."""
        return self._alone if self._finder.is_plain else None

    def _alone(self, body: bytes) -> bytes | None:
        request: Any
        try:
            request = self._decode(body)
            values = msgspec.structs.astuple(request.data)
        except (*DECODE_ERRORS, TypeError):
            return None
        return None if UNSET in values or request.dispatch is not None else self._finder.get(values)

    def lookup_multi(self, body: bytes, request_id: str) -> bytes | Awaitable[Answer]:
        """The rows of many keys, {"items": [{"data": {…}}]}; an item that fails does not fail the others."""
        start = perf_counter_ns()
        raw = parse_json(body)
        items = items_of(raw, MOST_ITEMS)
        check_generation(envelope(raw, ("dispatch",), self._envelope).dispatch, self._generation)
        if len(items) > _PART and not self._is_one_step:
            return self._in_parts(items, start, request_id)
        return self._joined([self._item(item) for item in items], start, request_id)

    async def _in_parts(self, items: Sequence[Any], start: int, request_id: str) -> Answer:
        """The same while others are answered; what is published meanwhile begins it anew: all are of one commit."""
        results: list[bytes] = []
        context, commits = self._context, None
        while len(results) < len(items):
            if context is not self._context:
                results, context, commits = [], self._context, self.commits
            done = len(results)
            results += [self._item(item) for item in items[done : done + _PART]]
            if len(results) < len(items):
                await asyncio.sleep(0)
        return Answer(self._joined(results, start, request_id), commits=commits)

    def _joined(self, results: Sequence[bytes], start: int, request_id: str) -> bytes:
        return b'{"results":[' + b",".join(results) + self._end(start, request_id)

    def _end(self, start: int, request_id: str) -> bytes:
        spent = (perf_counter_ns() - start) // 1000
        return f'],"timing":{{"lookup":{spent}}},{self._context}{request_id}"}}}}'.encode()

    def _item(self, item: Any) -> bytes:
        try:
            if not isinstance(item, dict):
                raise RequestError(400, "InvalidRequest", f"the item is {shown(item)}, expected an object")
            return self._result(self.record.convert(require(item, "data", self._example())))
        except RequestError as error:
            return error_item(error)

    def keys_of(self, values: Sequence[Any]) -> list[tuple[int, Sequence[Any]]]:
        """The keys that are looked up, with the numbers of the look-ups."""
        return [] if UNSET in values else [(0, values)]

    def _result(self, values: Sequence[Any]) -> bytes:
        """What is answered for one key."""
        if UNSET not in values and self._finder.is_plain and (row := self._finder.get(values)) is not None:
            return b'{"data":' + row + b"}"
        try:
            missing = self._unsent(values)
            found = self._finder.unsent(missing) if missing else self._finder.find(values)
        except Ignored as ignored:
            return ignored_result(ignored)
        if self.entry.rows.several == FORBIDDEN and not self.entry.rows.timed and found.status == PRESENT:
            return b'{"data":' + found.rows[0] + b"}"
        return b'{"data":' + found.rows[0] + b"," + told_of(self.entry.rows, found) + b"}"

    def _unsent(self, values: Sequence[Any]) -> list[str]:
        """The names of the keys that were not sent."""
        return [name for name, value in zip(self._names, values, strict=True) if value is UNSET]

    def _explained(self, body: bytes) -> tuple[Any, tuple[Any, ...]]:
        raw = parse_json(body)
        if not isinstance(raw, dict):
            raise RequestError(400, "InvalidRequest", f"the body is {shown(raw)}, expected an object")
        return envelope(raw, ("dispatch",), self._envelope), self.record.convert(
            require(raw, "data", self._example())
        )

    def _example(self) -> str:
        return '{"data": {' + ", ".join(f'"{name}": …' for name in self._names) + "}}"


class JoinedLookup(Lookup):
    """A lookup endpoint that asks several data sets: the columns of a row of each stand in one answer."""

    def __init__(self, entry: LookupEntry, folder: Path, trace: Trace) -> None:
        super().__init__(entry, folder, trace)
        self._asked = [
            (finder, tuple(self._names.index(column.name) for column in finder.entry.key))
            for finder in self.finders
        ]
        self._tells = any(one.tells for one in entry.look_ups)

    @property
    def direct(self) -> None:
        """Nothing: its row is put together first."""

    def keys_of(self, values: Sequence[Any]) -> list[tuple[int, Sequence[Any]]]:
        """The keys that are looked up, with the numbers of the look-ups."""
        keys = [[values[place] for place in places] for _, places in self._asked]
        return [(number, key) for number, key in enumerate(keys) if UNSET not in key]

    def _result(self, values: Sequence[Any]) -> bytes:
        parts, told = [], []
        try:
            for finder, places in self._asked:
                key = [values[place] for place in places]
                if UNSET in key:
                    names = [self._names[place] for place in places if values[place] is UNSET]
                    found = finder.unsent(names)
                elif finder.is_plain and (row := finder.get(key)) is not None:
                    found = Found(PRESENT, (row,))
                else:
                    found = finder.find(key)
                parts.append(found.rows[0][1:-1])
                if self._tells:
                    name = msgspec.json.encode(finder.entry.data_set)
                    told.append(b'{"dataSet":' + name + b"," + told_of(finder.entry, found) + b"}")
        except Ignored as ignored:
            return ignored_result(ignored)
        tail = b',"lookups":[' + b",".join(told) + b"]" if told else b""
        return b'{"data":{' + b",".join(parts) + b"}" + tail + b"}"


def key_record(look_ups: Sequence[FinderEntry]) -> Record:
    """What a caller sends to have rows found: the columns of all keys, each name once."""
    fields = {c.name: Field(c.name, c.type, exact=True) for one in look_ups for c in one.key}
    return Record("key", list(fields.values()), advice=f"Rows are found by {', '.join(fields)}")


def told_of(entry: FinderEntry, found: Found) -> bytes:
    """How a row was found, as members of an object; with all rows of a key also these."""
    told = b'"status":"' + found.status.encode() + b'"'
    if found.event_time is not None:
        told += b',"eventTime":"' + found.event_time.encode() + b'"'
    if entry.several == ALL:
        rows = found.rows if found.number else ()
        told += b',"found":%d,"rows":[' % found.number + b",".join(rows) + b"]"
    return told


def ignored_result(ignored: Ignored) -> bytes:
    """The result of a key that a policy leaves out."""
    return msgspec.json.encode({"data": {}, "ignored": True, "ignoreReason": ignored.reason})


def load_lookup(entry: LookupEntry, folder: Path, trace: Trace) -> Lookup:
    """The endpoint with its indexes opened from an unpacked package."""
    return (JoinedLookup if entry.joined else Lookup)(entry, folder, trace)
