"""The kinds of check: what each is called, what it may say, and the SQL that measures it.

One registry, which our own kinds use like anybody's would. A kind gives an aggregate over its data set
(`measure`), so that all checks of a data set are counted in one pass, or a query of its own (`count`). Further
kinds are in `row_kinds`, `history_kinds` and `program_kinds`. Knows neither files nor engines: settings in, SQL out.
"""

# ruff: noqa: S608  composing SQL is this module's work; every name goes through `quoted`, every value `literal`
from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from tulle.engine.engine import literal, quoted
from tulle.engine.statement import bare
from tulle.errors import Broken, NotFound, did_you_mean

Settings = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Finding:
    """What a measurement means: how many rows (or, for a data set as a whole, 1) fail, and why.

    `value` is the number that history keeps (by default how many fail), `threshold` what it was held against,
    `detail` what later runs are compared with.
    """

    failing: int
    message: str
    value: float | None = None
    threshold: str = ""
    detail: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Past:
    """What an earlier run found by the same check."""

    value: float | None
    detail: Mapping[str, Any] | None
    at: float


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a data set before it is measured: its columns' types, and the bounds of a column.

    `large`: it is worth a statement more to look at fewer rows. Bounds cost a statement, and nothing else where the
    files' feet tell them.
    """

    data_set: str
    types: Mapping[str, str]
    bounds: Callable[[str], tuple[Any, Any]]
    large: bool = True


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of check. All functions are pure.

    `fails(settings)` is the condition of a failing row: what has it needs no `failing`, and no `measure` either.
    `judge(settings, value, now)` reads the measured value; `against` does so with what earlier runs found.
    `failing(settings, data_set)` is a SELECT of the failing rows, or None where no single row is to blame.
    `prepare` adds to the settings what depends on the data set. `numbers` is a SELECT of one number a row, equal where
    rows are; the numbers that repeat are then in the settings as `among`. Settings hold `where` when `filters` is true
    and the owner gave one. `counts_rows`: what fails is a number of rows, so that some may be allowed.
    """

    name: str
    properties: Mapping[str, Any]  # JSON Schema of the kind's own settings
    required: tuple[str, ...]
    title: Callable[[Settings], str]
    judge: Callable[[Settings, Any, datetime], Finding]
    columns: Callable[[Settings], tuple[str, ...]] = lambda _: ()
    others: Callable[[Settings], Mapping[str, tuple[str, ...]]] = lambda _: {}  # further data sets → columns
    measure: Callable[[Settings], str | None] | None = None
    count: Callable[[Settings, str], str] | None = None
    failing: Callable[[Settings, str], str | None] = lambda _settings, _data_set: None
    fails: Callable[[Settings], str] | None = None
    recount: Callable[[Settings, str], str] | None = None  # asked when the first count is not 0
    against: Callable[[Settings, Any, datetime, Sequence[Past]], Finding] | None = None
    prepare: Callable[[Settings, Facts], Settings] | None = None
    numbers: Callable[[Settings, str], str] | None = None
    takes: tuple[str, ...] = ()  # the types that its `column` may have; none: any
    filters: bool = False
    counts_rows: bool = False
    is_program: bool = False  # carried out by whoever runs, not by the engine
    is_file: bool = False  # written as a file of its own, never in YAML


KINDS: dict[str, Kind] = {}


def register(kind: Kind) -> Kind:
    """Make a kind known under its name."""
    if kind.name in KINDS:
        raise Broken(f"the check kind '{kind.name}' is registered twice")
    if (fails := kind.fails) is not None:
        kind = replace(
            kind,
            measure=kind.measure or (lambda s: counted(s, fails(s))),
            failing=lambda s, d: selected(s, d, fails(s)),
            filters=True,
            counts_rows=True,
        )
    if kind.measure is None and kind.count is None and not kind.is_program:
        raise Broken(f"the check kind '{kind.name}' has no measurement")
    KINDS[kind.name] = kind
    return kind


def kind_named(name: str) -> Kind:
    """The kind of that name. Raises NotFound with the nearest name."""
    if name not in KINDS:
        raise NotFound(f"there is no check type '{name}'", hint=did_you_mean(name, KINDS))
    return KINDS[name]


# ── schemas shared by several kinds ──────────────────────────────────────────────────────────────────────

COLUMN = {"type": "string", "minLength": 1, "description": "the name of a column"}
COLUMNS = {
    "type": "array",
    "items": COLUMN,
    "minItems": 1,
    "uniqueItems": True,
    "description": "names of columns",
}
BOUND = {
    "type": ["number", "string"],
    "x-expected": "a number, or a date like 1998-06-30",
    "description": "a number or a date",
}
ROWS = {"type": "integer", "minimum": 0, "description": "a number of rows"}
_AGE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([smhdw])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def rows(n: int) -> str:
    """A number of rows in words."""
    return "1 row" if n == 1 else f"{n:,} rows"


def listed(names: Sequence[str]) -> str:
    """Names, one after the other."""
    return ", ".join(names)


def all_of(*conditions: str) -> str:
    """All conditions at once; each on lines of its own, since it may end in a comment."""
    return " AND ".join(f"(\n{condition}\n)" for condition in conditions if condition) or "true"


def filtered(aggregate: str, settings: Settings) -> str:
    """An aggregate over the rows that the check is about."""
    where = settings.get("where")
    return f"{aggregate} FILTER (WHERE {all_of(where)})" if where else aggregate


def counted(settings: Settings, condition: str) -> str:
    """How many of the rows that the check is about have a condition."""
    return f"count(*) FILTER (WHERE {all_of(settings.get('where', ''), condition)})"


def selected(settings: Settings, data_set: str, condition: str = "") -> str:
    """The rows with a condition, of those that the check is about."""
    return f"SELECT * FROM {quoted(data_set)} WHERE {all_of(settings.get('where', ''), condition)}"


# ── kinds about columns ──────────────────────────────────────────────────────────────────────────────────


def _any_null(settings: Settings) -> str:
    return " OR ".join(f"{quoted(c)} IS NULL" for c in settings["columns"])


def count_nulls(settings: Settings) -> str:
    """In how many rows one of the columns is null. Of one column the file itself mostly knows."""
    columns = settings["columns"]
    if len(columns) > 1:
        return counted(settings, _any_null(settings))
    return f"{filtered('count(*)', settings)} - {filtered(f'count({quoted(columns[0])})', settings)}"


register(
    Kind(
        "not_null",
        {"columns": COLUMNS},
        ("columns",),
        title=lambda s: f"{listed(s['columns'])} is never null",
        columns=lambda s: tuple(s["columns"]),
        fails=_any_null,
        measure=count_nulls,
        judge=lambda s, n, _: Finding(n, f"in {rows(n)} {' or '.join(s['columns'])} is null"),
    )
)


def no_null(settings: Settings) -> str:
    """None of the columns is null."""
    return " AND ".join(f"{quoted(c)} IS NOT NULL" for c in settings["columns"])


def _keys(settings: Settings) -> str:
    return ", ".join(map(quoted, settings["columns"]))


def _hash(settings: Settings) -> str:
    """A number that is equal where keys are: a hash of the key, or a whole number itself."""
    return _keys(settings) if settings.get("whole") else f"hash({_keys(settings)})"


def _with_key(settings: Settings, data_set: str) -> str:
    """The rows that have a key; only those that may repeat one, where that is known."""
    some = no_null(settings)
    if "among" in settings:
        kind = "BIGINT" if settings.get("whole") else "UBIGINT"
        numbers = ", ".join(map(literal, settings["among"]))
        some = all_of(some, f"{_hash(settings)} IN (SELECT unnest([{numbers}]::{kind}[]))")
    return selected(settings, data_set, some)


def _hashes(settings: Settings, data_set: str) -> str:
    return f"SELECT {_hash(settings)} AS h FROM ({selected(settings, data_set, no_null(settings))})"


def _exact_repeats(settings: Settings, data_set: str) -> str:
    groups = f"SELECT count(*) AS n FROM ({_with_key(settings, data_set)}) GROUP BY {_keys(settings)}"
    return f"SELECT coalesce(sum(n - 1), 0)::BIGINT FROM ({groups} HAVING count(*) > 1)"


def _hashed_repeats(settings: Settings, data_set: str) -> str:
    """Never less than the exact number: equal keys have equal hashes, and a number takes the least memory."""
    return f"SELECT count(*) - count(DISTINCT {_hash(settings)}) FROM ({_with_key(settings, data_set)})"


# One bit a value, where values are whole numbers that lie near each other: a fraction of a hash table's time.
_MOST_BITS = 1 << 28  # 32 MB


def _in_the_pass(settings: Settings) -> str | None:
    """How many repeat, as an aggregate: of few rows, or of whole numbers near each other."""
    if settings.get("few"):
        keys = _keys(settings)
        some = all_of(settings.get("where", ""), no_null(settings))
        key = f"DISTINCT ({keys})" if len(settings["columns"]) > 1 else f"DISTINCT {keys}"
        return f"count(*) FILTER (WHERE {some}) - count({key}) FILTER (WHERE {some})"
    if "low" not in settings:
        return None
    column, low, high = quoted(settings["columns"][0]), settings["low"], settings["high"]
    seen = filtered(f"bitstring_agg({column}, {low}, {high})", settings)
    return f"{filtered(f'count({column})', settings)} - coalesce(bit_count({seen}), 0)"


def _way_to_tell(settings: Settings, facts: Facts) -> Settings:
    if not facts.large:
        return {**settings, "few": True}
    columns = settings["columns"]
    if len(columns) > 1 or facts.types.get(columns[0]) != "integer":
        return settings
    low, high = facts.bounds(columns[0])
    if not isinstance(low, int) or not -_MOST_WHOLE <= low <= high < _MOST_WHOLE:
        return settings
    near = {"low": low, "high": high} if high - low < _MOST_BITS else {}
    return {**settings, **near, "whole": True}


_MOST_WHOLE = 1 << 63


def _repeated_rows(settings: Settings, data_set: str) -> str:
    keys, some = _keys(settings), _with_key(settings, data_set)
    repeated = f"SELECT {keys} FROM ({some}) GROUP BY {keys} HAVING count(*) > 1"
    return f"SELECT * FROM ({some}) SEMI JOIN ({repeated}) AS repeated USING ({keys}) ORDER BY {keys}"


register(
    Kind(
        "unique",
        {"columns": COLUMNS},
        ("columns",),
        title=lambda s: f"{listed(s['columns'])} is unique",
        columns=lambda s: tuple(s["columns"]),
        prepare=_way_to_tell,
        measure=_in_the_pass,
        numbers=_hashes,
        # A statement of its own: beside other aggregates DISTINCT takes several times as long.
        count=_hashed_repeats,
        recount=_exact_repeats,
        judge=lambda s, n, _: Finding(
            n, f"{rows(n)} {'repeats' if n == 1 else 'repeat'} a value of {listed(s['columns'])} seen before"
        ),
        failing=_repeated_rows,
        filters=True,
        counts_rows=True,
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
        fails=_not_accepted,
        judge=lambda s, n, _: Finding(
            n, f"in {rows(n)} {s['column']} is none of the {len(s['values'])} accepted values"
        ),
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


def bounds(settings: Settings) -> str:
    """`min` and `max` in words."""
    parts = [f"at least {settings['min']}"] if "min" in settings else []
    if "max" in settings:
        parts.append(f"at most {settings['max']}")
    return " and ".join(parts)


def beyond(settings: Settings) -> str:
    """What is outside of `min` and `max`, in words."""
    parts = [
        f"{word} {settings[key]}" for key, word in (("min", "below"), ("max", "above")) if key in settings
    ]
    return " or ".join(parts)


def _known_to_be_within(settings: Settings, facts: Facts) -> Settings:
    """Where the bounds of a column are within those allowed, no row needs to be looked at.

    Doubles are looked at all the same: not every writer counts NaN into the bounds that a file's foot tells.
    """
    wanted = [settings[bound] for bound in ("min", "max") if bound in settings]
    comparable = {"integer": _is_whole, "date": _is_day}.get(facts.types.get(settings["column"], ""))
    if not facts.large or comparable is None or not all(map(comparable, wanted)):
        return settings
    low, high = facts.bounds(settings["column"])
    if low is None:
        return settings
    if comparable is _is_day:
        low, high = str(low), str(high)
    within = settings.get("min", low) <= low and high <= settings.get("max", high)
    return {**settings, "within": True} if within else settings


def _is_whole(bound: object) -> bool:
    return isinstance(bound, int) and not isinstance(bound, bool)


def _is_day(bound: object) -> bool:
    """A day whose text sorts as it does."""
    return isinstance(bound, str) and re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", bound) is not None


register(
    Kind(
        "range",
        {"column": COLUMN, "min": BOUND, "max": BOUND},
        ("column",),
        title=lambda s: f"{s['column']} is {bounds(s)}",
        columns=lambda s: (s["column"],),
        fails=_outside,
        prepare=_known_to_be_within,
        measure=lambda s: "0" if s.get("within") else counted(s, _outside(s)),
        judge=lambda s, n, _: Finding(n, f"in {rows(n)} {s['column']} is {beyond(s)}"),
    )
)


def other_product(product: str, data_set: str) -> str:
    """The name by which SQL knows a data set of another product; no data set of one's own has a dot in its name."""
    return f"{product}.{data_set}"


def _known_in(settings: Settings) -> str:
    to = settings["to"]
    return other_product(to["product"], to["data_set"]) if "product" in to else str(to["data_set"])


def _orphans(settings: Settings, data_set: str) -> str:
    here, there = quoted(settings["column"]), quoted(settings["to"]["column"])
    known = f"SELECT {there} FROM {quoted(_known_in(settings))} WHERE {there} IS NOT NULL"
    return selected(settings, data_set, f"{here} IS NOT NULL AND {here} NOT IN ({known})")


register(
    Kind(
        "references",
        {
            "column": COLUMN,
            "to": {
                "type": "object",
                "properties": {
                    "product": {
                        "type": "string",
                        "description": "another product, whose published data is read",
                    },
                    "data_set": {"type": "string"},
                    "column": COLUMN,
                },
                "required": ["data_set", "column"],
                "additionalProperties": False,
                "description": "the data set and column that must hold the value, {data_set: …, column: …}",
            },
        },
        ("column", "to"),
        title=lambda s: f"{s['column']} is known in {_known_in(s)}.{s['to']['column']}",
        columns=lambda s: (s["column"],),
        others=lambda s: {_known_in(s): (s["to"]["column"],)},
        count=lambda s, d: f"SELECT count(*) FROM ({_orphans(s, d)})",
        judge=lambda s, n, _: Finding(
            n, f"in {rows(n)} {s['column']} is not found in {_known_in(s)}.{s['to']['column']}"
        ),
        failing=_orphans,
        filters=True,
        counts_rows=True,
    )
)

# ── kinds about the data set as a whole ──────────────────────────────────────────────────────────────────


def _volume(settings: Settings, value: int, _now: datetime) -> Finding:
    fits = settings.get("min", 0) <= value <= settings.get("max", value)
    return Finding(0 if fits else 1, f"{rows(value)}, expected {bounds(settings)}", value, bounds(settings))


register(
    Kind(
        "row_count",
        {"min": ROWS, "max": ROWS},
        (),
        title=lambda s: f"the number of rows is {bounds(s)}",
        measure=lambda s: filtered("count(*)", s),
        judge=_volume,
        filters=True,
    )
)


def age_of(text: str) -> timedelta:
    """An age like 20d. OverflowError for more than a million years."""
    match = _AGE.fullmatch(text)
    assert match is not None  # the schema has the same pattern
    return timedelta(seconds=float(match[1]) * _SECONDS[match[2]])


def _freshness(settings: Settings, value: Any, now: datetime) -> Finding:
    if value is None:
        return Finding(1, f"{settings['column']} has no value at all, so nothing is known of its age")
    if isinstance(value, str):  # a moment that Python has no word for
        return Finding(1, f"the newest {settings['column']} is {value}, so nothing is known of its age")
    newest = (
        value if isinstance(value, datetime) else datetime(value.year, value.month, value.day, tzinfo=UTC)
    )
    newest = newest if newest.tzinfo else newest.replace(tzinfo=UTC)
    if "as_of" in settings:
        now = datetime.fromisoformat(settings["as_of"])
        now = now if now.tzinfo else now.replace(tzinfo=UTC)
    late = now - newest > age_of(settings["max_age"])
    age = _in_words(now - newest)
    return Finding(
        int(late),
        f"the newest {settings['column']} is {value}, {age} old; allowed: {settings['max_age']}",
        (now - newest).total_seconds(),
        settings["max_age"],
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
        takes=("date", "timestamp"),
        measure=lambda s: filtered(f"max({quoted(s['column'])})", s),
        judge=_freshness,
        filters=True,
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
        judge=lambda _s, n, _now: Finding(n, f"the check's query gives {rows(n)}, expected none"),
        failing=lambda s, _: f"SELECT * FROM (\n{bare(s['sql'])}\n)",
        counts_rows=True,
    )
)
