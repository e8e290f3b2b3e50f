"""Reading the values of a request: fast with a typed decoder, and explained in full when they are wrong.

A `Record` is a set of named, typed values (the features of a model, the key of a lookup). Its struct type is
for the fast path; when decoding fails, `convert` says everything that is wrong at once. Knows nothing of HTTP
beyond the number of a status, and nothing of what the values are for.
"""

from __future__ import annotations

import datetime as dt
import decimal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, UnsetType

from tulle.errors import did_you_mean, nearest

INT64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
MOST_SINGLE = 3.4e38
FLOAT32 = Annotated[float, msgspec.Meta(ge=-MOST_SINGLE, le=MOST_SINGLE)]
# What a typed decoder raises for bytes that are not what it expects; MsgspecError covers syntax and types.
DECODE_ERRORS = (msgspec.MsgspecError, RecursionError, UnicodeDecodeError)
# What writing plain values as JSON raises: halves of characters, names that are none, objects that are too deep.
UNWRITABLE = (ValueError, OverflowError, TypeError, RecursionError)

_TYPES: dict[str, Any] = {
    "string": str,
    "integer": INT64,
    "double": float,
    "decimal": float,
    "boolean": bool,
    "date": dt.date,
    "timestamp": dt.datetime,
    "binary": str,  # base64
    "list": list[Any],
    "object": dict[str, Any],
}
_EXPECTED = {
    "string": "text",
    "integer": "a whole number",
    "double": "a number",
    "decimal": "a number",
    "boolean": "true or false",
    "date": 'a date such as "1998-06-30"',
    "timestamp": 'a time such as "1998-06-30T12:00:00Z"',
    "binary": "text in base64",
    "list": "a list",
    "object": "an object",
}
SHOWN = 60  # characters of a value that a message repeats
MOST_TOLD = 20  # things that are wrong with one request; how many more there are is told
_MOST_SEEN = 100  # members of a body among which one that is missing is looked for

NO_PREDICTION = "NoPrediction"  # the kind of error of values that a model cannot evaluate


class RequestError(Exception):
    """A request that cannot be answered: status, a word for programs, a sentence, and what to do about it."""

    def __init__(self, status: int, error_type: str, message: str, detail: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.error_type = error_type
        self.message = message
        self.advice = detail
        self.detail = f"{message}. {detail}" if detail else message


@dataclass(frozen=True, slots=True)
class Field:
    """One named value: its mesh column type, and whether null is a value of it."""

    name: str
    type: str
    nullable: bool = False
    single: bool = False  # a number must fit into 32 bits, the precision the model calculates with
    exact: bool = False  # a decimal keeps all its digits, and may be text: rows are found by it

    @property
    def kind(self) -> str:
        """The type without its parameters."""
        return self.type.partition("(")[0]


class Record:
    """Named, typed values; every one of them may be left out (UNSET), none may be unknown."""

    def __init__(self, word: str, fields: Sequence[Field], *, advice: str = "") -> None:
        """`word` is what messages call a value ("feature"); errors end with `advice`."""
        self.word = word
        self.fields = tuple(fields)
        self.advice = advice
        self._types = {field.name: _python_type(field) for field in self.fields}
        # Names of columns need not be names of attributes, so the struct numbers its fields.
        self.struct: type[msgspec.Struct] = msgspec.defstruct(
            "Values",
            [(f"f{i}", self._types[field.name] | UnsetType, UNSET) for i, field in enumerate(self.fields)],
            rename={f"f{i}": field.name for i, field in enumerate(self.fields)},
            forbid_unknown_fields=True,
            gc=False,
        )

    def whole(self) -> type[msgspec.Struct]:
        """The struct of a body that leaves nothing out."""
        return msgspec.defstruct(
            "Whole",
            [(f"f{i}", self._types[field.name]) for i, field in enumerate(self.fields)],
            rename={f"f{i}": field.name for i, field in enumerate(self.fields)},
            forbid_unknown_fields=True,
            gc=False,
        )

    def convert(self, values: Any) -> tuple[Any, ...]:
        """The values in the order of the fields, UNSET where left out; RequestError naming all that is wrong.

        `values` is what a JSON reader gave. A whole number may be written 3.0.
        """
        if not isinstance(values, dict):
            raise RequestError(
                400, "InvalidRequest", f"the {self.word}s are {shown(values)}, expected an object"
            )
        known = {field.name for field in self.fields}
        problems: list[str] = []
        for name in values:
            if name not in known:
                hint = did_you_mean(name, known) if len(problems) < MOST_TOLD else None
                problems.append(f"unknown {self.word} '{name[:SHOWN]}'" + (f" ({hint})" if hint else ""))
        found = []
        for field in self.fields:
            value = values.get(field.name, UNSET)
            if value is not UNSET:
                value, problem = self._value(field, value)
                if problem:
                    problems.append(problem)
            found.append(value)
        if problems:
            raise self.invalid(problems)
        return tuple(found)

    def from_text(self, pairs: Sequence[tuple[str, str]]) -> tuple[Any, ...]:
        """The values of a query string; an empty text is null where that is a value."""
        fields = {field.name: field for field in self.fields}
        values: dict[str, Any] = {}
        for name, text in pairs:
            if name in values:
                raise RequestError(400, "InvalidRequest", f"{self.word} '{name[:SHOWN]}' is given twice")
            field = fields.get(name)
            values[name] = text if field is None else _from_text(field, text)
        return self.convert(values)

    def invalid(self, problems: Sequence[str]) -> RequestError:
        """The error that tells all `problems`."""
        word = {"feature": "InvalidFeatures", "parameter": "InvalidParameters"}.get(self.word, "InvalidKey")
        return RequestError(400, word, all_told(problems), self.advice)

    def _value(self, field: Field, value: Any) -> tuple[Any, str]:
        if field.kind == "integer" and isinstance(value, float) and value.is_integer():
            value = int(value)
        try:
            found = msgspec.convert(value, self._types[field.name])
            if not isinstance(found, decimal.Decimal) or found.is_finite():
                return found, ""
        except msgspec.ValidationError:
            pass
        expected = _EXPECTED[field.kind]
        if value is None:
            return None, f"{self.word} '{field.name}' is null, expected {expected}"
        if field.kind == "integer" and isinstance(value, int) and not isinstance(value, bool):
            expected = "a whole number of 64 bits"
        if expected == "a number" and field.single and isinstance(value, float):
            expected = f"a number between -{MOST_SINGLE} and {MOST_SINGLE}"
        return None, f"{self.word} '{field.name}' is {shown(value)}, expected {expected}"


def all_told(problems: Sequence[str]) -> str:
    """All that is wrong, in a message that has an end."""
    more = len(problems) - MOST_TOLD
    return "; ".join(problems[:MOST_TOLD]) + (f"; and {more:,} more" if more > 0 else "")


def parse_json(body: bytes) -> Any:
    """The plain values in a body (empty means {}); RequestError telling the place when it is not JSON."""
    if not body.strip():
        return {}
    try:
        return msgspec.json.decode(body)
    except RecursionError:
        raise RequestError(400, "MalformedJson", "the body is nested too deeply") from None
    except (msgspec.MsgspecError, UnicodeDecodeError) as exc:
        raise RequestError(
            400, "MalformedJson", f"the body is not JSON: {str(exc).removeprefix('JSON is malformed: ')}"
        ) from None


def shown(value: Any) -> str:
    """A value in a few words, for a message."""
    match value:
        case None | decimal.Decimal():
            return "null" if value is None else str(value)[:SHOWN]
        case bool():
            return "true" if value else "false"
        case str():
            return f'"{value[:SHOWN]}…"' if len(value) > SHOWN else f'"{value}"'
        case int() | float():
            return repr(value) if isinstance(value, float) or abs(value) < 10**SHOWN else "a huge number"
        case list() | tuple():
            return f"a list of {len(value)}"
        case _:
            return "an object"


def _python_type(field: Field) -> Any:
    kind = FLOAT32 if field.single and field.kind in {"double", "decimal"} else _TYPES[field.kind]
    if field.exact and field.kind == "decimal":
        kind = decimal.Decimal
    return kind | None if field.nullable else kind


def _from_text(field: Field, text: str) -> Any:
    """The JSON value that a text in a query string stands for; the text itself when it stands for none."""
    if not text and field.nullable:
        return None
    if field.kind in {"string", "date", "timestamp"}:
        return text
    try:
        return msgspec.json.decode(text.encode())
    except DECODE_ERRORS:
        return text


def require(values: Mapping[str, Any], name: str, example: str) -> Any:
    """The value `name` of a body; RequestError when it is missing."""
    if name in values:
        return values[name]
    raise RequestError(400, "InvalidRequest", f"'{name}' is missing{meant(name, values)}", f"Send {example}")


def meant(name: str, values: Mapping[str, Any]) -> str:
    """A remark on the member that was probably meant to be `name`, or nothing."""
    near = nearest(name, islice(values, _MOST_SEEN))
    return f" (is '{near}' meant to be it?)" if near else ""
