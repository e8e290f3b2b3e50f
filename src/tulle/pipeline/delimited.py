"""Reading csv and whitespace files: quickly when all is well, patiently when a line has to be named.

The quick way hands blocks of text to Arrow. When anything does not fit, the patient way reads the file again,
record by record, and tells every problem with its line. Knows nothing of ports or data sets.
"""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, cast

import pyarrow as pa
import pyarrow.csv as pa_csv

from tulle.errors import Invalid, Place, Problem, did_you_mean
from tulle.pipeline.convert import Misfit, convert, expected, parse, schema_of
from tulle.pipeline.sources.fitting import Rejects
from tulle.spec.source import Source, SourceColumn

SHOWN = 20
_SEPARATOR = "\x1f"  # stands in for delimiters that Arrow does not know; made to separate units, never text
_BLOCK_BYTES = 4 << 20
_MAX_FIELD_CHARACTERS = 10_000_000
_MAX_EXPLAINED_RECORDS = 2_000_000
_FITTING_ROWS = 50_000
DAMAGED = (EOFError, zlib.error, gzip.BadGzipFile)  # what a compressed file that is cut or spoilt raises
# How files begin that are no UTF-8, and what to do with them.
_MARKS = {
    b"\x1f\x8b": "the file is compressed: let its name end in .gz",
    b"PK\x03\x04": "the file is a ZIP archive, as spreadsheets are: save it as CSV",
    b"PAR1": "the file is Parquet: set format: parquet",
    b"\xff\xfe": "the file is in UTF-16: set encoding: utf-16",
    b"\xfe\xff": "the file is in UTF-16: set encoding: utf-16",
}
_GUESSES = {",": "','", ";": "';'", "\t": 'a tab ("\\t")', "|": "'|'"}


def read_delimited(
    file: Path, label: str, source: Source, rejects: Rejects | None = None
) -> Iterator[pa.RecordBatch]:
    """The rows of one file in blocks, with the declared columns (or, without, the header's, as text).

    Raises Invalid with up to 20 problems and the count of all; `label` is what they call the file. Rows that do
    not fit are put aside instead where `rejects` keeps them.
    """
    reader = _File(file, label, source)
    columns = reader.columns()
    if not columns:
        return
    if rejects is not None and rejects.keeps and not reader.fits(columns):
        yield from reader.fitting(columns, rejects)
        return
    schema = schema_of(columns)
    rows = 0
    try:
        for batch in reader.batches(columns):
            arrays = [convert(batch.column(column.name), column) for column in columns]
            rows += batch.num_rows
            yield pa.record_batch(arrays, schema=schema)
    except (Misfit, pa.ArrowInvalid, UnicodeError, *DAMAGED) as exc:
        reader.explain(columns, exc)
    if not rows:
        raise _empty(label, "has a header, but no rows" if reader.has_header else "has no rows")


def _empty(label: str, what: str) -> Invalid:
    problem = Problem("the file is empty" if what == "is empty" else f"the file {what}", Place(label, 1))
    return Invalid(f"{label} {what}", hint="was the file written to its end?", problems=[problem])


@contextlib.contextmanager
def opened(file: Path) -> Iterator[BinaryIO]:
    """The bytes of a file, unpacked when its name ends in .gz."""
    if file.suffix == ".gz":
        with gzip.open(file) as stream:
            yield cast("BinaryIO", stream)
    else:
        with file.open("rb") as raw:
            yield raw


def _meant(beginning: bytes) -> str:
    """What a file that is not UTF-8 most likely is, by its first bytes, and what to do."""
    for mark, told in _MARKS.items():
        if beginning.startswith(mark):
            return told
    return "if the file is in Latin-1, set encoding: latin-1"


@dataclass(slots=True)
class _Findings:
    """Problems of one file; the first ones are kept, all are counted."""

    shown: list[Problem] = field(default_factory=list)
    count: int = 0

    def add(self, message: str, place: Place, line: str | None = None, hint: str | None = None) -> None:
        self.count += 1
        if len(self.shown) < SHOWN:
            self.shown.append(Problem(message, place, hint, line))


class _File:
    """One delimited file and how its source says it is written."""

    def __init__(self, file: Path, label: str, source: Source) -> None:
        self.file, self.label, self.source = file, label, source
        self.header: list[str] = []
        self.header_lines = 0
        self.whitespace = source.format == "whitespace"

    @property
    def has_header(self) -> bool:
        return self.source.header

    # ── the first line ───────────────────────────────────────────────────────────────────────────────────

    def columns(self) -> tuple[SourceColumn, ...]:
        """The columns to read, once the first line was compared with what is declared."""
        first, text = self._first()
        declared = self.source.columns
        if not self.source.header:
            if not declared:
                raise Invalid(
                    f"{self.label} has no header and its columns are not declared",
                    hint="list them under 'columns' of the input port's source",
                )
            self._expect_split(len(declared), first, text, "first line")
            self.header = [column.name for column in declared]
            return declared
        self.header = first
        if repeated := sorted({name for name in first if first.count(name) > 1}):
            problem = Problem(f"the header names '{repeated[0]}' twice", Place(self.label, 1), None, text)
            raise Invalid(f"{self.label}: two columns have the same name", problems=[problem])
        if not declared:
            return tuple(SourceColumn(name) for name in first)
        self._expect_split(len(declared), first, text, "header")
        if problems := drift_problems(
            first, [column.name for column in declared], Place(self.label, 1), text
        ):
            raise Invalid(
                f"{self.label}: the header is not as declared",
                hint="change 'columns' of the input port's source, or the file; "
                "a file without a header needs 'header: false'",
                problems=problems,
            )
        return declared

    def _first(self) -> tuple[list[str], str]:
        """The first record and its text."""
        findings = _Findings()
        for line, record, text in self._records(findings, limit=1):
            self.header_lines = line + text.count("\n") if self.source.header else 0
            return [name.strip() for name in record], text
        if findings.count:
            raise self._failure(findings)
        raise _empty(self.label, "is empty")

    def _expect_split(self, wanted: int, first: list[str], text: str, what: str) -> None:
        if len(first) == wanted or (what == "header" and len(first) > 1):
            return  # a header of other columns is drift, which names them
        by = "runs of blanks" if self.whitespace else f"'{self.source.delimiter}'"
        values = "1 value" if len(first) == 1 else f"{len(first)} values"
        columns = "1 column is" if wanted == 1 else f"{wanted} columns are"
        message = f"the {what} splits into {values} at {by}, but {columns} declared"
        hint = self._guess(wanted, text)
        problem = Problem(message, Place(self.label, 1), hint, text[:200])
        raise Invalid(f"{self.label}: {message}", hint=hint, problems=[problem])

    def _guess(self, wanted: int, text: str) -> str:
        """Which delimiter would split the line into as many values."""
        for delimiter, shown in _GUESSES.items():
            if text.count(delimiter) == wanted - 1 and (
                self.whitespace or delimiter != self.source.delimiter
            ):
                return f"it would with {'format: csv and ' if self.whitespace else ''}delimiter: {shown}"
        if not self.whitespace and len(text.split()) == wanted:
            return "it would with format: whitespace"
        return "check 'delimiter', 'header' and 'columns' of the input port's source"

    # ── the quick way ────────────────────────────────────────────────────────────────────────────────────

    def batches(self, columns: tuple[SourceColumn, ...]) -> Iterator[pa.RecordBatch]:
        """Arrow's reading: every declared column as text."""
        simple = len(self.source.delimiter) == 1 and not self.whitespace
        quoted = simple and self.source.quote
        with opened(self.file) as raw:
            counted = _Counted(raw, self.source.quote.encode())
            text = None if simple else self._text(raw)
            stream: Any = _Separated(text, self) if text else counted
            reader = pa_csv.open_csv(
                pa.PythonFile(stream, mode="r"),
                read_options=pa_csv.ReadOptions(
                    block_size=_BLOCK_BYTES,
                    use_threads=False,
                    encoding=self.source.encoding if simple else "utf-8",
                    column_names=self.header,
                    skip_rows=self.header_lines,
                ),
                parse_options=pa_csv.ParseOptions(
                    delimiter=self.source.delimiter if simple else _SEPARATOR,
                    quote_char=self.source.quote if quoted else False,
                    newlines_in_values=bool(quoted),
                ),
                convert_options=pa_csv.ConvertOptions(
                    column_types={name: pa.string() for name in self.header},
                    include_columns=[column.name for column in columns],
                    null_values=[""],
                    strings_can_be_null=True,
                    quoted_strings_can_be_null=False,
                ),
            )
            yield from reader
            if text:
                text.close()
            if quoted and counted.quotes % 2:
                # Perhaps an inch sign, perhaps a quote that is never closed and has swallowed all that follows.
                self._check_quotes()

    def _check_quotes(self) -> None:
        findings = _Findings()
        for _ in self._records(findings, strict=True):
            pass
        if findings.count:
            raise self._failure(findings)

    def _text(self, stream: BinaryIO) -> io.TextIOWrapper:
        encoding = "utf-8-sig" if self.source.encoding == "utf-8" else self.source.encoding
        return io.TextIOWrapper(stream, encoding=encoding, newline="" if self._csv else None)

    @property
    def _csv(self) -> bool:
        return not self.whitespace and len(self.source.delimiter) == 1

    def separated(self, text: str) -> str:
        """Whole lines, their values separated by one character that Arrow knows."""
        if self.whitespace:
            return re.sub("[ \t]+", _SEPARATOR, re.sub("(?m)^[ \t]+|[ \t]+$", "", text))
        return text.replace(self.source.delimiter, _SEPARATOR)

    def fits(self, columns: tuple[SourceColumn, ...]) -> bool:
        """Whether every row fits."""
        try:
            for batch in self.batches(columns):
                for column in columns:
                    convert(batch.column(column.name), column)
        except (Misfit, pa.ArrowInvalid, UnicodeError, *DAMAGED):
            return False
        return True

    # ── the patient way ──────────────────────────────────────────────────────────────────────────────────

    def fitting(self, columns: tuple[SourceColumn, ...], rejects: Rejects) -> Iterator[pa.RecordBatch]:
        """The rows that fit, record by record; the others are put aside. Invalid for a file that cannot be split."""
        findings = _Findings()
        positions = [(self.header.index(column.name), column) for column in columns]
        schema = schema_of(columns)
        kept: list[list[Any]] = [[] for _ in columns]
        records = self._records(findings)
        if self.source.header:
            next(records, None)
        for line, record, written in records:
            place, reasons, values = Place(self.label, line), [], []
            empty = self._empty_texts(record, written)
            if len(record) != len(self.header):
                told = "1 value" if len(record) == 1 else f"{len(record)} values"
                reasons.append(f"{told}, expected {len(self.header)}")
            for position, column in positions if not reasons else ():
                text = record[position]
                try:
                    values.append(parse(text, column) if text or position in empty else None)
                except ValueError:
                    reasons.append(f"column '{column.name}' is '{text[:60]}', expected {expected(column)}")
            if reasons:
                named = dict(zip(self.header, record, strict=False))
                rejects.add(
                    reasons, place, named | ({"…": record} if len(record) != len(self.header) else {})
                )
                continue
            for cells, value in zip(kept, values, strict=True):
                cells.append(value)
            if len(kept[0]) >= _FITTING_ROWS:
                yield pa.record_batch(
                    [pa.array(c, f.type) for c, f in zip(kept, schema, strict=True)], schema=schema
                )
                kept = [[] for _ in columns]
        if findings.count:
            raise self._failure(findings)
        yield pa.record_batch([pa.array(c, f.type) for c, f in zip(kept, schema, strict=True)], schema=schema)

    def _empty_texts(self, record: list[str], text: str) -> set[int]:
        """Which values of a record are texts of no characters: a pair of quotes, where nothing would be no value."""
        pair = self.source.quote * 2
        if not (self._csv and pair and pair in text and "" in record):
            return set()
        written = _as_written(text, self.source.delimiter, self.source.quote)
        return {i for i, value in enumerate(written) if value == pair}

    def explain(self, columns: tuple[SourceColumn, ...], cause: Exception) -> None:
        """Read record by record and raise Invalid with what is wrong and on which lines."""
        findings = _Findings()
        positions = [(self.header.index(column.name), column) for column in columns]
        records = self._records(findings)
        if self.source.header:
            next(records, None)
        seen = 0
        for line, record, text in records:
            seen += 1
            if seen > _MAX_EXPLAINED_RECORDS:
                break
            if len(record) != len(self.header):
                values = "1 value" if len(record) == 1 else f"{len(record)} values"
                findings.add(f"{values}, expected {len(self.header)}", Place(self.label, line), text)
                continue
            for position, column in positions:
                try:
                    parse(record[position], column)
                except ValueError:
                    value = record[position][:60]
                    message = f"column '{column.name}' is '{value}', expected {expected(column)}"
                    findings.add(message, Place(self.label, line), text)
        if not findings.count:
            findings.add(f"the file cannot be read: {str(cause).splitlines()[0]}", Place(self.label))
        raise self._failure(findings) from cause

    def _failure(self, findings: _Findings) -> Invalid:
        n = findings.count
        problems = "1 problem" if n == 1 else f"{n:,} problems"
        more = f"; the first {SHOWN} are shown" if n > SHOWN else ""
        hint = "correct the lines in the file, or the types in the input port's source; nothing was published"
        return Invalid(f"{self.label} does not parse: {problems}{more}", hint=hint, problems=findings.shown)

    def _records(
        self, findings: _Findings, *, limit: int = 0, strict: bool = False
    ) -> Iterator[tuple[int, list[str], str]]:
        """Line, values and text of every record; what stops the reading goes to `findings`."""
        line = 0
        try:
            with opened(self.file) as raw, self._text(raw) as lines:
                for line, record, text in self._split(lines, strict=strict):
                    yield line, record, text
                    limit -= 1
                    if limit == 0:
                        return
        except UnicodeError:
            findings.add(*self._undecodable(line))
        except csv.Error as exc:
            hint = "a quote that is never closed swallows what follows"
            if "unexpected end" in str(exc):
                findings.add("a quote is opened and never closed", Place(self.label, line + 1), hint=hint)
            elif not strict:
                findings.add(f"cannot be split into values: {exc}", Place(self.label, line + 1), hint=hint)
        except DAMAGED as exc:
            findings.add(f"the compressed file is damaged: {exc}", Place(self.label, line + 1))

    def _split(self, text: io.TextIOWrapper, *, strict: bool) -> Iterator[tuple[int, list[str], str]]:
        if not self._csv:
            for number, line in enumerate(text, 1):
                if values := self.separated(line.rstrip("\n")):
                    yield number, values.split(_SEPARATOR), line.rstrip("\n")
            return
        csv.field_size_limit(_MAX_FIELD_CHARACTERS)
        lines = _Remembered(text)
        reader = csv.reader(
            lines,
            delimiter=self.source.delimiter,
            quotechar=self.source.quote or None,
            quoting=csv.QUOTE_MINIMAL if self.source.quote else csv.QUOTE_NONE,
            strict=strict,
        )
        before = 0
        for record in reader:
            start, before = before + 1, reader.line_num
            if record:
                yield start, record, lines.take()
            else:
                lines.take()

    def _undecodable(self, after: int) -> tuple[str, Place]:
        """The first line that is not in the stated encoding."""
        if self.source.encoding == "utf-8":
            with opened(self.file) as raw:
                for number, line in enumerate(raw, 1):
                    try:
                        line.decode()
                    except UnicodeDecodeError as exc:
                        byte = f"byte 0x{line[exc.start]:02x} at position {exc.start + 1}"
                        message = f"{byte} is not UTF-8; {_meant(line if number == 1 else b'')}"
                        return message, Place(self.label, number, exc.start + 1)
        return f"the text is not {self.source.encoding}; see 'encoding' of the source", Place(
            self.label, after + 1
        )


def _as_written(text: str, delimiter: str, quote: str) -> list[str]:
    """The values of one record with their quotes."""
    found, start, position, is_inside = [], 0, 0, False
    while position < len(text):
        sign = text[position]
        if is_inside and sign == quote and text[position + 1 : position + 2] == quote:
            position += 1
        elif sign == quote and (is_inside or position == start):
            is_inside = not is_inside
        elif sign == delimiter and not is_inside:
            found.append(text[start:position])
            start = position + 1
        position += 1
    return [*found, text[start:]]


class _Counted(io.RawIOBase):
    """A stream that counts the quotes that pass."""

    def __init__(self, raw: BinaryIO, quote: bytes) -> None:
        self.raw, self.quote, self.quotes = raw, quote, 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        data = self.raw.read(size)
        if self.quote:
            self.quotes += data.count(self.quote)
        return data


class _Remembered:
    """Lines of a text, the ones not taken yet remembered, so that a record can be shown as it was written."""

    def __init__(self, text: io.TextIOWrapper) -> None:
        self.text = text
        self.lines: list[str] = []

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = next(self.text)
        self.lines.append(line)
        return line

    def take(self) -> str:
        taken = "".join(self.lines).rstrip("\r\n")
        self.lines.clear()
        return taken


class _Separated(io.RawIOBase):
    """A text with its own delimiter as a stream of UTF-8 with ours, block by block of whole lines."""

    def __init__(self, text: io.TextIOWrapper, file: _File) -> None:
        self.lines, self.file, self.left = text, file, b""

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        while len(self.left) < size or size < 0:
            block = self.lines.readlines(_BLOCK_BYTES)
            if not block:
                break
            self.left += self.file.separated("".join(block)).encode()
        size = len(self.left) if size < 0 else size
        taken, self.left = self.left[:size], self.left[size:]
        return taken


def drift_problems(
    found: Sequence[str],
    declared: Sequence[str],
    place: Place,
    text: str | None = None,
    *,
    lines: Mapping[str, int] | None = None,
) -> list[Problem]:
    """What the columns of a file have too little and too much, against the declared ones.

    `lines` says on which line a new column was seen first, where `place` is the file as a whole.
    """
    new = [name for name in found if name not in declared]
    problems = []
    for name in declared:
        if name not in found:
            near = did_you_mean(name, new)
            hint = near if near and "mean" in near else None
            problems.append(Problem(f"column '{name}' is missing", place, hint, text))
    for name in new:
        where = Place(place.file, (lines or {}).get(name, place.line), place.column)
        problems.append(Problem(f"column '{name}' is new: it is not declared", where, None, text))
    return problems
