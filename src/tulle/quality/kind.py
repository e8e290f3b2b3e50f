"""The kinds of check: what each is called, what it may say, and the SQL that measures it.

One registry, which our own kinds use like anybody's would. A kind either gives an aggregate over its data set
(`measure`), so that all checks of a data set are counted in one pass, or a query of its own (`count`).
Knows neither files nor engines: settings in, SQL out.
"""

# ruff: noqa: S608  composing SQL is this module's work; every name goes through `quoted`, every value `literal`
from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from tulle.engine.engine import literal, quoted
from tulle.engine.statement import bare
from tulle.errors import Broken, NotFound, did_you_mean

Settings = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Finding:
    """What a measurement means: how many rows (or, for a data set as a whole, 1) fail, and why."""

    failing: int
    message: str


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of check. All functions are pure.

    `judge(settings, value, now)` reads the measured value; `failing(settings, data_set)` is a SELECT of the
    failing rows, or None where no single row is to blame.
    """

    name: str
    properties: Mapping[str, Any]  # JSON Schema of the kind's own settings
    required: tuple[str, ...]
    title: Callable[[Settings], str]
    judge: Callable[[Settings, Any, datetime], Finding]
    columns: Callable[[Settings], tuple[str, ...]] = lambda _: ()
    others: Callable[[Settings], Mapping[str, tuple[str, ...]]] = lambda _: {}  # further data sets → columns
    measure: Callable[[Settings], str] | None = None
    count: Callable[[Settings, str], str] | None = None
    failing: Callable[[Settings, str], str | None] = lambda _settings, _data_set: None


KINDS: dict[str, Kind] = {}


def register(kind: Kind) -> Kind:
    """Make a kind known under its name."""
    if kind.name in KINDS or (kind.measure is None) == (kind.count is None):
        raise Broken(f"the check kind '{kind.name}' is registered twice, or has not exactly one measurement")
    KINDS[kind.name] = kind
    return kind


def kind_named(name: str) -> Kind:
    """The kind of that name. Raises NotFound with the nearest name."""
    if name not in KINDS:
        raise NotFound(f"there is no check type '{name}'", hint=did_you_mean(name, KINDS))
    return KINDS[name]


# ── schemas shared by several kinds ──────────────────────────────────────────────────────────────────────

COLUMN = {"type": "string", "minLength": 1, "description": "the name of a column"}
_COLUMNS = {"type": "array", "items": COLUMN, "minItems": 1, "description": "names of columns"}
_BOUND = {
    "type": ["number", "string"],
    "x-expected": "a number, or a date like 1998-06-30",
    "description": "a number or a date",
}
_ROWS = {"type": "integer", "minimum": 0, "description": "a number of rows"}
_AGE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([smhdw])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def _rows(n: int) -> str:
    return "1 row" if n == 1 else f"{n:,} rows"


def _list(names: Sequence[str]) -> str:
    return ", ".join(names)


def _select(data_set: str, where: str) -> str:
    return f"SELECT * FROM {quoted(data_set)} WHERE {where}"


# ── kinds about columns ──────────────────────────────────────────────────────────────────────────────────


def _any_null(settings: Settings) -> str:
    return " OR ".join(f"{quoted(c)} IS NULL" for c in settings["columns"])


register(
    Kind(
        "not_null",
        {"columns": _COLUMNS},
        ("columns",),
        title=lambda s: f"{_list(s['columns'])} is never null",
        columns=lambda s: tuple(s["columns"]),
        measure=lambda s: f"count(*) FILTER (WHERE {_any_null(s)})",
        judge=lambda s, n, _: Finding(n, f"in {_rows(n)} {' or '.join(s['columns'])} is null"),
        failing=lambda s, d: _select(d, _any_null(s)),
    )
)


def _no_null(settings: Settings) -> str:
    return " AND ".join(f"{quoted(c)} IS NOT NULL" for c in settings["columns"])


def _repeats(settings: Settings) -> str:
    keys = ", ".join(map(quoted, settings["columns"]))
    distinct = f"DISTINCT ({keys})" if len(settings["columns"]) > 1 else f"DISTINCT {keys}"
    some = f"FILTER (WHERE {_no_null(settings)})"
    return f"count(*) {some} - count({distinct}) {some}"


def _repeated_rows(settings: Settings, data_set: str) -> str:
    keys = ", ".join(map(quoted, settings["columns"]))
    repeated = f"SELECT {keys} FROM {quoted(data_set)} WHERE {_no_null(settings)} GROUP BY {keys}"
    # A few keys are enough for the rows that are shown; the join then stays small.
    return (
        f"SELECT * FROM {quoted(data_set)} SEMI JOIN ({repeated} HAVING count(*) > 1 ORDER BY {keys} LIMIT 20)"
        f" AS repeated USING ({keys}) ORDER BY {keys}"
    )


register(
    Kind(
        "unique",
        {"columns": _COLUMNS},
        ("columns",),
        title=lambda s: f"{_list(s['columns'])} is unique",
        columns=lambda s: tuple(s["columns"]),
        measure=_repeats,
        judge=lambda s, n, _: Finding(
            n, f"{_rows(n)} {'repeats' if n == 1 else 'repeat'} a value of {_list(s['columns'])} seen before"
        ),
        failing=_repeated_rows,
    )
)


def _not_accepted(settings: Settings) -> str:
    column, values = quoted(settings["column"]), ", ".join(map(literal, settings["values"]))
    return f"{column} IS NOT NULL AND {column} NOT IN ({values})"


register(
    Kind(
        "accepted_values",
        {
            "column": COLUMN,
            "values": {
                "type": "array",
                "items": {"type": ["string", "number", "boolean"]},
                "minItems": 1,
                "description": "the values that may occur",
            },
        },
        ("column", "values"),
        title=lambda s: f"{s['column']} has only accepted values",
        columns=lambda s: (s["column"],),
        measure=lambda s: f"count(*) FILTER (WHERE {_not_accepted(s)})",
        judge=lambda s, n, _: Finding(
            n, f"in {_rows(n)} {s['column']} is none of the {len(s['values'])} accepted values"
        ),
        failing=lambda s, d: _select(d, _not_accepted(s)),
    )
)


def _outside(settings: Settings) -> str:
    column = quoted(settings["column"])
    parts = [
        f"{column} {sign} {literal(settings[bound])}"
        for bound, sign in (("min", "<"), ("max", ">"))
        if bound in settings
    ]
    return " OR ".join(parts)


def _bounds(settings: Settings) -> str:
    parts = [f"at least {settings['min']}"] if "min" in settings else []
    if "max" in settings:
        parts.append(f"at most {settings['max']}")
    return " and ".join(parts)


def _beyond(settings: Settings) -> str:
    parts = [
        f"{word} {settings[key]}" for key, word in (("min", "below"), ("max", "above")) if key in settings
    ]
    return " or ".join(parts)


register(
    Kind(
        "range",
        {"column": COLUMN, "min": _BOUND, "max": _BOUND},
        ("column",),
        title=lambda s: f"{s['column']} is {_bounds(s)}",
        columns=lambda s: (s["column"],),
        measure=lambda s: f"count(*) FILTER (WHERE {_outside(s)})",
        judge=lambda s, n, _: Finding(n, f"in {_rows(n)} {s['column']} is {_beyond(s)}"),
        failing=lambda s, d: _select(d, _outside(s)),
    )
)


def _orphans(settings: Settings, data_set: str) -> str:
    here, there = quoted(settings["column"]), quoted(settings["to"]["column"])
    known = f"SELECT {there} FROM {quoted(settings['to']['data_set'])} WHERE {there} IS NOT NULL"
    return _select(data_set, f"{here} IS NOT NULL AND {here} NOT IN ({known})")


register(
    Kind(
        "references",
        {
            "column": COLUMN,
            "to": {
                "type": "object",
                "properties": {"data_set": {"type": "string"}, "column": COLUMN},
                "required": ["data_set", "column"],
                "additionalProperties": False,
                "description": "the data set and column that must hold the value, {data_set: …, column: …}",
            },
        },
        ("column", "to"),
        title=lambda s: f"{s['column']} is known in {s['to']['data_set']}.{s['to']['column']}",
        columns=lambda s: (s["column"],),
        others=lambda s: {s["to"]["data_set"]: (s["to"]["column"],)},
        count=lambda s, d: f"SELECT count(*) FROM ({_orphans(s, d)})",
        judge=lambda s, n, _: Finding(
            n, f"in {_rows(n)} {s['column']} is not found in {s['to']['data_set']}.{s['to']['column']}"
        ),
        failing=_orphans,
    )
)

# ── kinds about the data set as a whole ──────────────────────────────────────────────────────────────────


def _volume(settings: Settings, value: int, _now: datetime) -> Finding:
    fits = settings.get("min", 0) <= value <= settings.get("max", value)
    return Finding(0 if fits else 1, f"{_rows(value)}, expected {_bounds(settings)}")


register(
    Kind(
        "row_count",
        {"min": _ROWS, "max": _ROWS},
        (),
        title=lambda s: f"the number of rows is {_bounds(s)}",
        measure=lambda _: "count(*)",
        judge=_volume,
    )
)


def _age(text: str) -> timedelta:
    match = _AGE.fullmatch(text)
    assert match is not None  # the schema has the same pattern
    return timedelta(seconds=float(match[1]) * _SECONDS[match[2]])


def _freshness(settings: Settings, value: Any, now: datetime) -> Finding:
    if value is None:
        return Finding(1, f"{settings['column']} has no value at all, so nothing is known of its age")
    newest = (
        value if isinstance(value, datetime) else datetime(value.year, value.month, value.day, tzinfo=UTC)
    )
    newest = newest if newest.tzinfo else newest.replace(tzinfo=UTC)
    if "as_of" in settings:
        now = datetime.fromisoformat(settings["as_of"])
        now = now if now.tzinfo else now.replace(tzinfo=UTC)
    late = now - newest > _age(settings["max_age"])
    age = _in_words(now - newest)
    return Finding(
        int(late), f"the newest {settings['column']} is {value}, {age} old; allowed: {settings['max_age']}"
    )


def _in_words(age: timedelta) -> str:
    hours = age.total_seconds() / 3600
    return f"{hours:,.1f} hours" if hours < 48 else f"{hours / 24:,.0f} days"


register(
    Kind(
        "freshness",
        {
            "column": COLUMN,
            "max_age": {
                "type": "string",
                "pattern": f"^{_AGE.pattern}$",
                "x-expected": "an age like 20d, 36h or 90m",
                "description": "how old the newest row may be, like 20d",
            },
            "as_of": {
                "type": "string",
                "pattern": r"^\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2})?(Z|[+-]\d{2}:\d{2})?)?$",
                "x-expected": "a date like 1998-06-30",
                "description": "count the age from this day instead of from now",
            },
        },
        ("column", "max_age"),
        title=lambda s: f"{s['column']} is at most {s['max_age']} old",
        columns=lambda s: (s["column"],),
        measure=lambda s: f"max({quoted(s['column'])})",
        judge=_freshness,
    )
)

# ── whatever else can be said in SQL ─────────────────────────────────────────────────────────────────────

register(
    Kind(
        "sql",
        {"sql": {"type": "string", "minLength": 1, "description": "one SELECT that gives the failing rows"}},
        ("sql",),
        title=lambda _: "a query of failing rows",
        count=lambda s, _: f"SELECT count(*) FROM (\n{bare(s['sql'])}\n)",
        judge=lambda _s, n, _now: Finding(n, f"the check's query gives {_rows(n)}, expected none"),
        failing=lambda s, _: f"SELECT * FROM (\n{bare(s['sql'])}\n)",
    )
)
