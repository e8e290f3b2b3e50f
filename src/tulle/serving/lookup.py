"""Lookups: a key in, the row of a data set out, with its types as they are.

Rows were rendered when the package was built, so answering copies bytes. Knows nothing of how that is done.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter_ns
from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from tulle.serving.declared import TestQuery
from tulle.serving.endpoint import (
    Action,
    Dispatch,
    Query,
    Trace,
    check_generation,
    envelope,
    error_item,
    items_of,
)
from tulle.serving.index import Column, key_of, needs_normalising, normal_key, open_index
from tulle.serving.request import DECODE_ERRORS, Field, Record, RequestError, parse_json, require, shown


@dataclass(frozen=True, slots=True)
class LookupEntry:
    """What a package's manifest says of a lookup endpoint."""

    name: str
    index: str
    product: str
    data_set: str
    key: tuple[Column, ...]
    columns: tuple[Column, ...]
    commits: Mapping[str, str]
    rows: int = 0
    description: str = ""
    type: Literal["lookup"] = "lookup"
    test_queries: tuple[TestQuery, ...] = ()
    probe: Mapping[str, Any] = field(default_factory=dict)  # a body that is answered, to see whether it is


class Lookup:
    """A lookup endpoint."""

    kind = "lookup"

    def __init__(self, entry: LookupEntry, folder: Path, trace: Trace) -> None:
        self.name = entry.name
        self.commits = entry.commits
        self.entry = entry
        self._generation = trace.generation
        self._index = open_index(folder / entry.index)
        self._types = [column.type for column in entry.key]
        self._normalise = needs_normalising(self._types)
        names = ", ".join(column.name for column in entry.key)
        self.record = Record(
            "key", [Field(c.name, c.type) for c in entry.key], advice=f"Rows are found by {names}"
        )
        self._context = trace.context(entry.name, entry.commits)
        body = msgspec.defstruct(
            "LookupBody",
            [("data", self.record.struct | UnsetType, UNSET), ("dispatch", Dispatch | None, None)],
        )
        self._envelope = msgspec.defstruct("LookupEnvelope", [("dispatch", Dispatch | None, None)])
        self._decode = msgspec.json.Decoder(body).decode

    @property
    def actions(self) -> Mapping[str, Action]:
        """lookup, lookup-multi."""
        return {"lookup": self.lookup, "lookup-multi": self.lookup_multi}

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
        row = self._row(values)
        if row is None:
            raise self._no_match(values)
        return b'{"results":[{"data":' + row + b"}" + self._end(start, request_id)

    def lookup_multi(self, body: bytes, request_id: str) -> bytes:
        """The rows of many keys, {"items": [{"data": {…}}]}; an item that fails does not fail the others."""
        start = perf_counter_ns()
        raw = parse_json(body)
        items = items_of(raw)
        check_generation(envelope(raw, ("dispatch",), self._envelope).dispatch, self._generation)
        results = b",".join([self._item(item) for item in items])
        return b'{"results":[' + results + self._end(start, request_id)

    def _end(self, start: int, request_id: str) -> bytes:
        spent = (perf_counter_ns() - start) // 1000
        return f'],"timing":{{"lookup":{spent}}},{self._context}{request_id}"}}}}'.encode()

    def _item(self, item: Any) -> bytes:
        try:
            if not isinstance(item, dict):
                raise RequestError(400, "InvalidRequest", f"the item is {shown(item)}, expected an object")
            values = self.record.convert(require(item, "data", self._example()))
            row = self._row(values)
            if row is None:
                raise self._no_match(values)
        except RequestError as error:
            return error_item(error)
        return b'{"data":' + row + b"}"

    def _row(self, values: Sequence[Any]) -> bytes | None:
        if UNSET in values:
            missing = [column.name for column, v in zip(self.entry.key, values, strict=True) if v is UNSET]
            raise RequestError(
                400, "MissingKey", f"the key is missing: {', '.join(missing)}", f"Send {self._example()}"
            )
        found: bytes | None = self._index.get(
            key_of(normal_key(values, self._types) if self._normalise else values)
        )
        return found

    def _explained(self, body: bytes) -> tuple[Any, tuple[Any, ...]]:
        raw = parse_json(body)
        if not isinstance(raw, dict):
            raise RequestError(400, "InvalidRequest", f"the body is {shown(raw)}, expected an object")
        return envelope(raw, ("dispatch",), self._envelope), self.record.convert(
            require(raw, "data", self._example())
        )

    def _example(self) -> str:
        return '{"data": {' + ", ".join(f'"{column.name}": …' for column in self.entry.key) + "}}"

    def _no_match(self, values: Sequence[Any]) -> RequestError:
        named = ", ".join(f"{c.name} {shown(value)}" for c, value in zip(self.entry.key, values, strict=True))
        return RequestError(
            404, "NoMatch", f"nothing is known of {named}", f"There is no such row in '{self.entry.data_set}'"
        )


def load_lookup(entry: LookupEntry, folder: Path, trace: Trace) -> Lookup:
    """The endpoint with its index opened from an unpacked package."""
    return Lookup(entry, folder, trace)
