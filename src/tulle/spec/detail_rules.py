"""Rules of what components say of themselves: days there are, columns there are, bounds that fit their types.

Each rule looks at one component with the others beside it; rules between components in general are in `rules`. Pure.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jsonschema_rs

from tulle.errors import Problem, did_you_mean
from tulle.spec.columns import parse_type
from tulle.spec.document import Document, shown
from tulle.spec.part import Part, data_set_name

_DAYS = ("sunset", "starts", "expires", "since", "until")
_LENGTHS = ("min_length", "max_length")


def detail_problems(document: Document, part: Part, parts: Sequence[Part]) -> Iterator[Problem]:
    """What is wrong with the further properties of one component."""
    rules = _Rules(document, part, parts)
    yield from rules.days()
    if part.base == "data-set":
        yield from rules.data_set()
    elif part.base == "output-port":
        yield from rules.output_port()
    elif part.base == "service-level-indicator":
        yield from rules.indicator()


@dataclass(frozen=True, slots=True)
class _Rules:
    document: Document
    part: Part
    parts: Sequence[Part]

    def _at(self, message: str, *steps: str | int, hint: str | None = None, key: bool = False) -> Problem:
        return self.document.problem(message, (*self.part.path, "properties", *steps), hint=hint, key=key)

    def days(self) -> Iterator[Problem]:
        """Days that do not exist, and spans that end before they begin."""
        where: list[tuple[tuple[str | int, ...], dict[str, Any]]] = [((), self.part.properties)]
        where += [(("contacts", at), contact) for at, contact in self.part.entries("contacts")]
        for steps, says in where:
            known: dict[str, dt.date] = {}
            for name in _DAYS:
                written = says.get(name)
                if isinstance(written, str) and len(written) == 10 and name != "expires":
                    try:
                        known[name] = dt.date.fromisoformat(written)
                    except ValueError:
                        yield self._at(f"there is no day '{written}'", *steps, name, hint="write 2027-12-31")
            first, last = known.get("since"), known.get("until")
            if first and last and last < first:
                yield self._at(f"'until' ({last}) is before 'since' ({first})", *steps, "until")
        starts, ends = self.part.text("starts"), self.part.text("expires")
        if len(starts) == len(ends) == 10 and ends < starts:
            yield self._at(f"'expires' ({ends}) is before 'starts' ({starts})", "expires")

    def _columns(self, data_set: str = "") -> dict[str, dict[str, Any]] | None:
        """The columns of a data set of this product by name; None where there is no such or it has none."""
        for other in self.parts:
            if other.base == "data-set" and data_set_name(other) == (data_set or data_set_name(self.part)):
                return {str(column.get("name")): column for _, column in other.entries("columns")} or None
        return None

    def _data_sets(self) -> list[str]:
        return [data_set_name(other) for other in self.parts if other.base == "data-set"]

    def data_set(self) -> Iterator[Problem]:
        """Lists that name columns, and what columns say."""
        columns = self._columns()
        if columns is not None:
            for name in ("partitioning", "sort_order"):
                written = self.part.properties.get(name)
                for at, said in enumerate(written if isinstance(written, list) else ()):
                    if isinstance(said, str) and said.split(" ")[0] not in columns:
                        yield self._no_column(said.split(" ")[0], columns, name, at)
            for at, entry in self.part.entries("business_keys"):
                listed = entry.get("columns")
                for inner, said in enumerate(listed if isinstance(listed, list) else ()):
                    if isinstance(said, str) and said not in columns:
                        yield self._no_column(said, columns, "business_keys", at, "columns", inner)
        for at, column in self.part.entries("columns"):
            yield from self._column(column, at, columns or {})

    def _no_column(self, name: str, columns: dict[str, Any], *steps: str | int) -> Problem:
        message = f"data-set '{self.part.name}' has no column '{shown(name)}'"
        return self._at(message, *steps, hint=did_you_mean(name, columns))

    def _column(self, column: dict[str, Any], at: int, columns: dict[str, Any]) -> Iterator[Problem]:
        steps = ("columns", at)
        kind = parse_type(str(column.get("type")))
        name = shown(str(column.get("name")))
        if (other := column.get("replaced_by")) and isinstance(other, str) and other not in columns:
            yield self._no_column(other, columns, *steps, "replaced_by")
        if isinstance(column.get("foreign_key"), dict):
            yield from self._foreign_key(column["foreign_key"], *steps, "foreign_key")
        if isinstance(pattern := column.get("pattern"), str):
            try:
                jsonschema_rs.Draft202012Validator(
                    {"pattern": pattern}, pattern_options=jsonschema_rs.RegexOptions()
                )
            except ValueError:
                hint = "look-around and back references are not taken: patterns must end in linear time"
                yield self._at(f"'{shown(pattern)}' is no regular expression", *steps, "pattern", hint=hint)
        if kind is None:
            return
        for prop in (*_LENGTHS, "pattern"):
            if prop in column and kind.name not in {"string", "binary"}:
                message = f"'{prop}' has no meaning for the column '{name}' of type {kind}"
                yield self._at(message, *steps, prop, key=True, hint="remove it")
        yield from self._values(column, kind.name, steps)
        for low, high in (("min", "max"), _LENGTHS):
            least, most = column.get(low), column.get(high)
            if _ordered(least, most) is False:
                yield self._at(f"'{high}' ({most}) is less than '{low}' ({least})", *steps, high)

    def _values(self, column: dict[str, Any], kind: str, steps: tuple[str | int, ...]) -> Iterator[Problem]:
        """Bounds, accepted values and the default are of the column's type."""
        written: list[tuple[tuple[str | int, ...], Any]] = [
            ((prop,), column[prop]) for prop in ("min", "max", "default") if prop in column
        ]
        listed = column.get("enum")
        for at, entry in enumerate(listed if isinstance(listed, list) else ()):
            if isinstance(entry, dict):
                written.append((("enum", at, "value"), entry.get("value")))
            else:
                written.append((("enum", at), entry))
        for inner, value in written:
            if not _FITS.get(kind, _anything)(value):
                where = f"'{inner[0]}' of column '{shown(str(column.get('name', '')))}'"
                message = f"{where}: '{shown(str(value))}' is no {kind}"
                hint = "put it in quotes" if kind in {"string", "date", "timestamp"} else None
                yield self._at(message, *steps, *inner, hint=hint)

    def _foreign_key(self, key: dict[str, Any], *steps: str | int) -> Iterator[Problem]:
        data_set, column = key.get("data_set"), key.get("column")
        if key.get("product") or not isinstance(data_set, str) or not isinstance(column, str):
            return  # another product's columns are known when the mesh is put together
        if data_set not in self._data_sets():
            hint = did_you_mean(data_set, self._data_sets())
            yield self._at(f"the product has no data set '{shown(data_set)}'", *steps, "data_set", hint=hint)
        elif (known := self._columns(data_set)) is not None and column not in known:
            message = f"the data set '{data_set}' has no column '{shown(column)}'"
            yield self._at(message, *steps, "column", hint=did_you_mean(column, known))

    def output_port(self) -> Iterator[Problem]:
        """The further data sets it offers are there."""
        listed, known = self.part.properties.get("data_sets"), self._data_sets()
        for at, name in enumerate(listed if isinstance(listed, list) else ()):
            if isinstance(name, str) and name not in known:
                message = (
                    f"output-port '{self.part.name}' offers '{shown(name)}', "
                    "which is no data set of this product"
                )
                yield self._at(message, "data_sets", at, hint=did_you_mean(name, known))

    def indicator(self) -> Iterator[Problem]:
        """What is measured is there."""
        data_set, column = self.part.text("data_set"), self.part.text("column")
        if data_set and data_set not in self._data_sets():
            message = f"indicator '{self.part.name}' measures '{shown(data_set)}', which is no data set here"
            yield self._at(message, "data_set", hint=did_you_mean(data_set, self._data_sets()))
        elif column and not data_set:
            yield self._at("'column' is given without its data set", "column", hint="add data_set: …")
        elif column and (known := self._columns(data_set)) is not None and column not in known:
            message = f"the data set '{data_set}' has no column '{shown(column)}'"
            yield self._at(message, "column", hint=did_you_mean(column, known))


def _anything(value: Any) -> bool:  # noqa: ARG001  one of several judges
    return True


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_day(value: Any) -> bool:
    return isinstance(value, str) and _parses(dt.date.fromisoformat, value)


def _is_time(value: Any) -> bool:
    return isinstance(value, str) and _parses(dt.datetime.fromisoformat, value)


def _parses(read: Callable[[str], Any], value: str) -> bool:
    try:
        read(value)
    except ValueError:
        return False
    return True


_FITS: dict[str, Callable[[Any], bool]] = {
    "string": _is_text,
    "integer": _is_whole,
    "double": _is_number,
    "decimal": _is_number,
    "boolean": lambda value: isinstance(value, bool),
    "date": _is_day,
    "timestamp": _is_time,
    "binary": _is_text,
}


def _ordered(least: Any, most: Any) -> bool | None:
    """Whether two bounds are in order; None where they cannot be compared."""
    if _is_number(least) and _is_number(most):
        return bool(least <= most)
    if isinstance(least, str) and isinstance(most, str) and len(least) == len(most):
        return least <= most  # ISO dates and times
    return None
