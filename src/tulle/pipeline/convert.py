"""Text into typed columns, and any Arrow table into the mesh's own types.

Two readings of one rule: `convert` works on whole Arrow columns and only says that something does not fit;
`parse` works on one value and says what. Both accept exactly the same texts. Knows nothing of files.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal, localcontext
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tulle.engine.engine import ColumnType
from tulle.errors import Invalid, Place, Problem
from tulle.spec.columns import parse_type
from tulle.spec.source import SourceColumn

_ARROW = {
    "string": pa.string(),
    "integer": pa.int64(),
    "double": pa.float64(),
    "boolean": pa.bool_(),
    "date": pa.date32(),
    "timestamp": pa.timestamp("us"),
    "binary": pa.binary(),
}
_TRUE, _FALSE = ("true", "t", "yes", "y", "1"), ("false", "f", "no", "n", "0")
_BLANKS = " \t\r\n\v\f"
_INTEGER = re.compile(r"[+-]?[0-9]{1,30}")
_NUMBER = re.compile(
    r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?|[+-]?(nan|inf|infinity)", re.IGNORECASE
)
_FORMATS_ARROW_READS = re.compile(r"(%[YmdHMS]|[^%])*")


def arrow_type(word: str) -> pa.DataType:
    """The Arrow type of one of the mesh's own type words."""
    kind = parse_type(word)
    if kind is not None and kind.name == "decimal":
        return pa.decimal128(kind.precision, kind.scale)
    return _ARROW[word]


class Misfit(Exception):
    """Some value of a column does not fit its type; never leaves the package."""


def convert(texts: pa.Array, column: SourceColumn) -> pa.Array:
    """A column of text (null where there was none) in the column's type. Raises Misfit.

    Blanks around a value do not count, except in a string; a value of blanks alone is null.
    """
    if column.type == "string":
        return texts
    texts = pc.ascii_trim(texts, characters=_BLANKS)
    texts = pc.if_else(pc.equal(texts, ""), None, texts)
    try:
        if column.type in {"date", "timestamp"}:
            return _times(texts, column)
        if column.type == "boolean":
            return _booleans(texts)
        if column.type != "binary":
            pattern = _INTEGER if column.type == "integer" else _NUMBER
            _all_match(texts, f"^({pattern.pattern})$")
            texts = pc.replace_substring_regex(texts, r"^\+", "")
        if column.type.startswith("decimal(") and (pc.max(pc.utf8_length(texts)).as_py() or 0) > 36:
            # Arrow 26 reads a number of 40 digits as another number, without an error.
            return _by_value(texts, column, arrow_type(column.type))
        return pc.cast(texts, arrow_type(column.type))
    except pa.ArrowInvalid as exc:
        raise Misfit(str(exc)) from exc


def _all_match(texts: pa.Array, pattern: str) -> None:
    if not pc.all(pc.match_substring_regex(texts, pattern, ignore_case=True), min_count=0).as_py():
        raise Misfit


def _booleans(texts: pa.Array) -> pa.Array:
    lower = pc.utf8_lower(texts)
    true, false = (pc.is_in(lower, value_set=pa.array(words)) for words in (_TRUE, _FALSE))
    if not pc.all(pc.or_(pc.or_(true, false), pc.is_null(lower)), min_count=0).as_py():
        raise Misfit
    return pc.if_else(pc.is_null(lower), None, true)


def _times(texts: pa.Array, column: SourceColumn) -> pa.Array:
    kind = arrow_type(column.type)
    if column.format and _FORMATS_ARROW_READS.fullmatch(column.format):
        found = pc.strptime(texts, format=column.format, unit="us", error_is_null=True)
        # strptime makes 3 March of 31 February: only what is written back the same way was a day.
        written = pc.strftime(pc.cast(found, pa.timestamp("s")), format=column.format)
        if pc.all(pc.or_(pc.is_null(texts), pc.equal(written, texts)), min_count=0).as_py() and (
            found.null_count == texts.null_count
        ):
            return _checked_years(pc.cast(found, kind))
    elif not column.format:
        # Forms of ISO 8601 that Arrow does not read, such as a zone, are left to the slow way.
        with contextlib.suppress(pa.ArrowInvalid):
            return _checked_years(pc.cast(texts, kind))
    return _by_value(texts, column, kind)


def _checked_years(times: pa.Array) -> pa.Array:
    """Only the years that Python and SQL know as well."""
    if not pc.all(
        pc.and_(pc.greater(pc.year(times), 0), pc.less(pc.year(times), 10_000)), min_count=0
    ).as_py():
        raise Misfit
    return times


def _by_value(texts: pa.Array, column: SourceColumn, kind: pa.DataType) -> pa.Array:
    """The slow way, value by value, but only once for each different text."""
    encoded = texts.dictionary_encode()
    try:
        values = [None if text is None else parse(text, column) for text in encoded.dictionary.to_pylist()]
    except ValueError as exc:
        raise Misfit(str(exc)) from exc
    return pa.array(values, kind).take(encoded.indices)


def parse(text: str, column: SourceColumn) -> Any:
    """One text as a value of the column's type, None when it is empty. Raises ValueError."""
    if column.type == "string":
        return text
    text = text.strip(_BLANKS)
    return _PARSERS.get(column.type, _decimal)(text, column) if text else None


def _matching(text: str, pattern: re.Pattern[str]) -> str:
    if not pattern.fullmatch(text):
        raise ValueError(text)
    return text


def _integer(text: str, _column: SourceColumn) -> int:
    value = int(_matching(text, _INTEGER))
    if not -(2**63) <= value < 2**63:
        raise ValueError(text)
    return value


def _double(text: str, _column: SourceColumn) -> float:
    return float(_matching(text, _NUMBER))


def _boolean(text: str, _column: SourceColumn) -> bool:
    if text.lower() not in (*_TRUE, *_FALSE):
        raise ValueError(text)
    return text.lower() in _TRUE


def _date(text: str, column: SourceColumn) -> date:
    if not column.format:
        return date.fromisoformat(text)
    return datetime.strptime(text, column.format).date()  # noqa: DTZ007  a day has no zone


def _timestamp(text: str, column: SourceColumn) -> datetime:
    # Without a zone it is UTC.
    found = datetime.strptime(text, column.format) if column.format else datetime.fromisoformat(text)  # noqa: DTZ007
    return found.astimezone(UTC).replace(tzinfo=None) if found.tzinfo else found


def _decimal(text: str, column: SourceColumn) -> Decimal:
    kind = parse_type(column.type)
    assert kind is not None
    value = Decimal(_matching(text, _NUMBER))
    if not value.is_finite() or not -100 < value.adjusted() < 100:
        raise ValueError(text)
    with localcontext(prec=300):
        rounded = round(value, kind.scale)
    if rounded != value or (value and value.adjusted() + 1 > kind.precision - kind.scale):
        raise ValueError(text)
    return rounded or rounded.copy_abs()  # Arrow has no negative zero either


_PARSERS: dict[str, Callable[[str, SourceColumn], Any]] = {
    "integer": _integer,
    "double": _double,
    "boolean": _boolean,
    "date": _date,
    "timestamp": _timestamp,
    "binary": lambda text, _column: text.encode(),
}


def parse_json(value: Any, column: SourceColumn) -> Any:
    """One JSON value as a value of the column's type. Raises ValueError."""
    match value:
        case None:
            return None
        case str():
            return parse(value, column)
        case bool():
            return (
                parse("true" if value else "false", column)
                if column.type in {"boolean", "string"}
                else _no(value)
            )
        case int() | float():
            if column.type == "boolean":
                _no(value)
            if column.type == "integer" and isinstance(value, float) and value.is_integer():
                value = int(value)
            return parse(str(value), column)
        case Decimal():
            if column.type == "boolean":
                _no(value)
            if column.type == "integer" and value.is_finite() and value == value.to_integral_value():
                value = int(value)
            return parse(str(float(value)) if column.type in {"string", "double"} else str(value), column)
    raise ValueError(value)


def _no(value: Any) -> Any:
    raise ValueError(value)


def expected(column: SourceColumn) -> str:
    """What a value of the column looks like, in words."""
    if column.type in {"date", "timestamp"}:
        example = datetime(1998, 6, 30, 12, 30, 59, tzinfo=UTC)
        if column.format:
            return f"a {column.type} written as {column.format}, like {example.strftime(column.format)}"
        return f"a {column.type} like " + ("1998-06-30" if column.type == "date" else "1998-06-30 12:30:59")
    words = {"integer": "a whole number of at most 64 bits", "double": "a number", "boolean": "true or false"}
    kind = parse_type(column.type)
    if kind is not None and kind.name == "decimal":
        digits = f"{kind.precision - kind.scale} digits before and {kind.scale} after the point"
        return f"a number with at most {digits}"
    return words.get(column.type, column.type)


# ── Arrow tables of any making ───────────────────────────────────────────────────────────────────────────


def mesh_type(kind: pa.DataType) -> str | None:  # noqa: PLR0911  one line a type
    """The mesh's own word for an Arrow type, None for what a data set cannot hold."""
    if pa.types.is_dictionary(kind):
        return mesh_type(kind.value_type)
    if pa.types.is_integer(kind):
        return "integer"
    if pa.types.is_floating(kind):
        return "double"
    if pa.types.is_decimal(kind):
        return f"decimal({kind.precision},{kind.scale})" if kind.precision <= 38 and kind.scale >= 0 else None
    if pa.types.is_boolean(kind):
        return "boolean"
    if pa.types.is_date(kind):
        return "date"
    if pa.types.is_timestamp(kind):
        return "timestamp"
    if pa.types.is_null(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return "string"
    if pa.types.is_string_view(kind):
        return "string"
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind):
        return "binary"
    return None


def in_mesh_types(table: pa.Table, file: str, types: dict[str, str] | None = None) -> pa.Table:
    """The table in the mesh's own types, decimals in the wanted precision of `types` where nothing is lost.

    Raises Invalid, naming every column that a data set cannot hold.
    """
    problems: list[Problem] = []
    fields, seen = [], set()
    for name, kind in zip(table.schema.names, table.schema.types, strict=True):
        word = mesh_type(kind)
        if word is None:
            hint = "make it text or a number, or spread it over several columns"
            problems.append(
                Problem(f"column '{name}' has type {kind}, which a data set cannot hold", Place(file), hint)
            )
        if name.lower() in seen:
            problems.append(Problem(f"two columns are named '{name}'", Place(file)))
        seen.add(name.lower())
        wanted = (types or {}).get(name, "")
        if word and word.startswith("decimal(") and wanted.startswith("decimal("):
            word = wanted
        fields.append(pa.field(name, arrow_type(word or "string")))
    if problems:
        raise Invalid(f"{file} gives columns that cannot be kept", problems=problems)
    columns = []
    for field, column in zip(fields, table.columns, strict=True):
        try:
            columns.append(_cast(column, field.type))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as exc:
            problems.append(Problem(f"column '{field.name}' does not fit {field.type}: {exc}", Place(file)))
    if problems:
        raise Invalid(f"{file} gives values that cannot be kept", problems=problems)
    return pa.table(columns, schema=pa.schema(fields))


def _cast(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    if pa.types.is_timestamp(column.type):
        # To microseconds in UTC; what is finer is cut, as every engine here would.
        return column.cast(pa.timestamp("us", column.type.tz), safe=False).cast(kind, safe=False)
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    return column.cast(kind)


def columns_of(schema: pa.Schema) -> tuple[ColumnType, ...]:
    """The columns of a schema that is in the mesh's own types."""
    return tuple(ColumnType(f.name, mesh_type(f.type) or "string") for f in schema)


def schema_of(columns: Sequence[SourceColumn]) -> pa.Schema:
    """The Arrow schema of declared source columns."""
    return pa.schema([pa.field(c.name, arrow_type(c.type)) for c in columns])
