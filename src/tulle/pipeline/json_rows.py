"""Reading JSON files: one object a line, or one array of objects; every row knows its line.

Knows nothing of ports or data sets.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa

from tulle.errors import Invalid, Place, Problem
from tulle.pipeline.convert import expected, parse_json, schema_of
from tulle.pipeline.delimited import DAMAGED, SHOWN, drift_problems, opened
from tulle.pipeline.sources.fitting import Rejects
from tulle.spec.source import REFUSE, Source

_NOT_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_BATCH_ROWS = 100_000
_MAX_JSON_BYTES = 512 << 20  # a JSON array is read as a whole
_CHUNK_BYTES = 1 << 20
_WHOLE = 1 << 53  # up to it every whole number is a double


def read_json(
    file: Path, label: str, source: Source, rejects: Rejects | None = None
) -> Iterator[pa.RecordBatch]:
    """The rows of one file in blocks, with the declared columns (or, without, those the file has).

    Raises Invalid with up to 20 problems and the count of all; `label` is what they call the file. Rows that do
    not fit are put aside instead where `rejects` keeps them.
    """
    reader = _Rows(file, label, source, rejects if rejects is not None and rejects.keeps else None)
    yield from reader.declared() if source.columns else reader.inferred()


class _Rows:
    """The objects of a file of JSON lines or of one JSON array, with their lines."""

    def __init__(self, file: Path, label: str, source: Source, rejects: Rejects | None) -> None:
        self.file, self.label, self.source, self.rejects = file, label, source, rejects
        self.problems: list[Problem] = []
        self.count = 0
        self.new: dict[str, int] = {}

    def add(self, message: str, line: int) -> None:
        self.count += 1
        if len(self.problems) < SHOWN:
            self.problems.append(Problem(message, Place(self.label, line)))

    def declared(self) -> Iterator[pa.RecordBatch]:
        """Rows in the declared types; every row is looked at before a problem is raised."""
        columns = self.source.columns
        names = {column.name for column in columns}
        values: list[list[Any]] = [[] for _ in columns]
        present: set[str] = set()
        schema = schema_of(columns)
        rows = 0
        for line, row in self.rows():
            rows += 1
            present.update(row.keys() & names)
            for name in row.keys() - names:
                self.new.setdefault(name, line)
            fitted, reasons = [], []
            for column in columns:
                try:
                    fitted.append(parse_json(row.get(column.name), column))
                except ValueError:
                    value = row[column.name]
                    text = (
                        str(value)
                        if isinstance(value, Decimal)
                        else json.dumps(value, ensure_ascii=False, default=str)
                    )
                    shown = text[:60]
                    reasons.append(f"column '{column.name}' is {shown}, expected {expected(column)}")
            if reasons and self.rejects is not None:
                self.rejects.add(reasons, Place(self.label, line), row)
                continue
            for reason in reasons:
                self.add(reason, line)
            for cells, value in zip(values, fitted, strict=not reasons):
                cells.append(value)
            if not self.count and len(values[0]) >= _BATCH_ROWS:
                yield _batch(values, schema)
                values = [[] for _ in columns]
        if rows:
            self._drift(present)
        self._raise_any(rows)
        if values[0]:
            yield _batch(values, schema)

    def inferred(self) -> Iterator[pa.RecordBatch]:
        """Rows with the columns and types the file has; what is no plain value is kept as JSON text."""
        found = list(self.rows())
        self._raise_any(len(found))
        names = list(dict.fromkeys(name for _, row in found for name in row))
        columns = [_inferred([row.get(name) for _, row in found]) for name in names]
        yield from pa.table(columns, names=names).to_batches()

    def rows(self) -> Iterator[tuple[int, dict[str, Any]]]:
        try:
            with opened(self.file) as stream:
                head = stream.read(_CHUNK_BYTES).removeprefix(b"\xef\xbb\xbf").lstrip()
            yield from self._array() if head[:1] == b"[" else self._lines()
        except DAMAGED as exc:
            self.add(f"the compressed file is damaged: {exc}", 0)

    def _lines(self) -> Iterator[tuple[int, dict[str, Any]]]:
        exact = any(column.type.startswith("decimal(") for column in self.source.columns)
        decode = msgspec.json.Decoder(float_hook=Decimal).decode if exact else msgspec.json.Decoder().decode
        with opened(self.file) as stream:
            for number, line in enumerate(stream, 1):
                text = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
                if not text.strip():
                    continue
                try:
                    row = decode(text)
                except _NOT_JSON as exc:
                    reason = str(exc).removeprefix("JSON is malformed: ")
                    self.add(f"not JSON: {reason}", number)
                    continue
                if isinstance(row, dict):
                    yield number, row
                else:
                    self.add("not a JSON object {…}", number)

    def _array(self) -> Iterator[tuple[int, dict[str, Any]]]:
        with opened(self.file) as stream:
            data = stream.read(_MAX_JSON_BYTES + 1)
        if len(data) > _MAX_JSON_BYTES:
            raise Invalid(
                f"{self.label} is a JSON array of more than {_MAX_JSON_BYTES >> 20} MB",
                hint="write one JSON object a line, which is read line by line",
            )
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError as exc:
            self.add(f"byte 0x{data[exc.start]:02x} is not UTF-8", data.count(b"\n", 0, exc.start) + 1)
            return
        # Element by element, so that each row has its line.
        decoder, position, line, counted = json.JSONDecoder(), text.index("[") + 1, 1, 0
        while True:
            position = _skip(text, position, " \t\r\n")
            line += text.count("\n", counted, position)
            counted = position
            if text[position : position + 1] == "]":
                return
            try:
                row, position = decoder.raw_decode(text, position)
            except (json.JSONDecodeError, RecursionError) as exc:
                where = exc.lineno if isinstance(exc, json.JSONDecodeError) else line
                self.add(f"not JSON: {getattr(exc, 'msg', exc)}", where)
                return
            if isinstance(row, dict):
                yield line, row
            else:
                self.add("not a JSON object {…}", line)
            position = _skip(text, position, " \t\r\n")
            if text[position : position + 1] == ",":
                position += 1
            elif text[position : position + 1] != "]":
                self.add("not JSON: expected ',' or ']' after an element", text.count("\n", 0, position) + 1)
                return

    def _drift(self, present: set[str]) -> None:
        declared = [column.name for column in self.source.columns]
        new = self.new if self.source.on_drift == REFUSE else {}
        found = drift_problems([*sorted(present), *new], declared, Place(self.label), lines=new)
        self.problems = [*found, *self.problems][:SHOWN]
        self.count += len(found)

    def _raise_any(self, rows: int) -> None:
        if self.count:
            problems = "1 problem" if self.count == 1 else f"{self.count:,} problems"
            more = f"; the first {SHOWN} are shown" if self.count > len(self.problems) else ""
            hint = "correct the lines in the file, or the source's columns; nothing was published"
            raise Invalid(f"{self.label} does not parse: {problems}{more}", hint=hint, problems=self.problems)
        if not rows:
            problem = Problem("the file holds no JSON object", Place(self.label, 1))
            raise Invalid(
                f"{self.label} has no rows", hint="was the file written to its end?", problems=[problem]
            )


def _batch(values: list[list[Any]], schema: pa.Schema) -> pa.RecordBatch:
    arrays = [pa.array(cells, field.type) for cells, field in zip(values, schema, strict=True)]
    return pa.record_batch(arrays, schema=schema)


def _skip(text: str, position: int, blanks: str) -> int:
    while position < len(text) and text[position] in blanks:
        position += 1
    return position


def _inferred(values: list[Any]) -> pa.Array:
    kinds = {type(value) for value in values if value is not None}
    if kinds == {bool}:
        return pa.array(values, pa.bool_())
    if kinds == {int} and all(value is None or -(2**63) <= value < 2**63 for value in values):
        return pa.array(values, pa.int64())
    # A whole number that is no double would become another one: then all are kept as they are written.
    if kinds and kinds <= {int, float} and all(not isinstance(v, int) or abs(v) <= _WHOLE for v in values):
        return pa.array([None if value is None else float(value) for value in values], pa.float64())
    texts = [v if v is None or isinstance(v, str) else json.dumps(v, ensure_ascii=False) for v in values]
    return pa.array(texts, pa.string())
