"""Kinds of check about what rows hold: patterns, lengths, conditions, completeness, unique shares, column types."""

# ruff: noqa: S608  composing SQL is this module's work; names go through `quoted`, values through `literal`
from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime
from fractions import Fraction
from typing import Any

from tulle.engine.engine import literal, quoted
from tulle.errors import did_you_mean
from tulle.quality.condition import read_condition
from tulle.quality.kind import (
    COLUMN,
    COLUMNS,
    Facts,
    Finding,
    Kind,
    Settings,
    beyond,
    bounds,
    count_nulls,
    filtered,
    listed,
    no_null,
    register,
    rows,
    selected,
)

SHARE = {
    "type": ["number", "string"],
    "minimum": 0,
    "maximum": 1,
    "pattern": r"^(100(\.0+)?|[0-9]{1,2}(\.[0-9]+)?)\s*%$",
    "x-expected": "a share like 0.95 or 95%",
    "description": "a share, like 0.95 or 95%",
}
_CHARACTERS = {"type": "integer", "minimum": 0, "description": "a number of characters"}


def share_of(value: float | str) -> float:
    """A share as a number from 0 to 1."""
    # Rounded once, as the share of rows it is held against: 0.9 % are met by 9 of 1,000.
    return float(Fraction(value.rstrip("% ")) / 100) if isinstance(value, str) else float(value)


def in_percent(share: float) -> str:
    """A share in words: rounded away from 100 % and 0 %, which it says of nothing else."""
    digits = 2 if 0.0001 <= share <= 0.9999 or share in {0, 1} else 4
    scale = 10 ** (digits + 2)
    rounded = math.floor(share * scale) / scale if share < 1 else 1.0
    return f"{rounded * 100:.{digits}f}".rstrip("0").rstrip(".") + " %"


# ── rows ─────────────────────────────────────────────────────────────────────────────────────────────────


def _unlike(settings: Settings) -> str:
    return f"NOT regexp_full_match({quoted(settings['column'])}, {literal(settings['pattern'])})"


register(
    Kind(
        "pattern",
        {
            "column": COLUMN,
            "pattern": {
                "type": "string",
                "minLength": 1,
                "maxLength": 1000,
                "description": "a regular expression (RE2) that the whole value must match",
            },
        },
        ("column", "pattern"),
        title=lambda s: f"{s['column']} matches {s['pattern']}",
        columns=lambda s: (s["column"],),
        fails=_unlike,
        takes=("string",),
        judge=lambda s, n, _: Finding(n, f"in {rows(n)} {s['column']} does not match {s['pattern']}"),
    )
)


def _wrong_length(settings: Settings) -> str:
    length = f"length({quoted(settings['column'])})"
    parts = [
        f"{length} {sign} {literal(settings[bound])}"
        for bound, sign in (("min", "<"), ("max", ">"))
        if bound in settings
    ]
    return " OR ".join(parts)


register(
    Kind(
        "length",
        {"column": COLUMN, "min": _CHARACTERS, "max": _CHARACTERS},
        ("column",),
        title=lambda s: f"{s['column']} has {bounds(s)} characters",
        columns=lambda s: (s["column"],),
        fails=_wrong_length,
        takes=("string",),
        judge=lambda s, n, _: Finding(n, f"in {rows(n)} the length of {s['column']} is {beyond(s)}"),
    )
)

register(
    Kind(
        "expression",
        {
            "expression": {
                "type": "string",
                "minLength": 1,
                "description": "a condition between columns that every row must meet, like total >= net",
            }
        },
        ("expression",),
        title=lambda s: " ".join(str(s["expression"]).split()),
        columns=lambda s: read_condition(s["expression"]).columns,
        fails=lambda s: f"NOT (\n{s['expression']}\n)",
        judge=lambda s, n, _: Finding(n, f"{rows(n)} {'does' if n == 1 else 'do'} not meet {_short(s)}"),
    )
)


def _short(settings: Settings) -> str:
    text = " ".join(str(settings["expression"]).split())
    return text if len(text) <= 120 else text[:120] + "…"


# ── shares ───────────────────────────────────────────────────────────────────────────────────────────────


def _some_null(settings: Settings) -> str:
    return f"NOT ({no_null(settings)})"


def _complete(settings: Settings, value: Mapping[str, int], _now: datetime) -> Finding:
    total, nulls = value["n"], value["nulls"]
    share, least = (total - nulls) / total if total else 1.0, share_of(settings["min"])
    named = listed(settings["columns"])
    return Finding(
        nulls if share < least else 0,
        f"{named} has values in {in_percent(share)} of {rows(total)}, expected at least {in_percent(least)}",
        share,
        in_percent(least),
    )


register(
    Kind(
        "completeness",
        {"columns": COLUMNS, "min": SHARE},
        ("columns", "min"),
        title=lambda s: f"{listed(s['columns'])} has values in at least {in_percent(share_of(s['min']))}",
        columns=lambda s: tuple(s["columns"]),
        measure=lambda s: f"{{'n': {filtered('count(*)', s)}, 'nulls': {count_nulls(s)}}}",
        judge=_complete,
        failing=lambda s, d: selected(s, d, _some_null(s)),
        filters=True,
    )
)


def _distinct(settings: Settings, data_set: str) -> str:
    keys = ", ".join(map(quoted, settings["columns"]))
    distinct = f"DISTINCT ({keys})" if len(settings["columns"]) > 1 else f"DISTINCT {keys}"
    some = selected(settings, data_set, no_null(settings))
    return f"SELECT {{'n': count(*), 'distinct': count({distinct})}} FROM ({some})"


def _distinct_enough(settings: Settings, value: Mapping[str, int], _now: datetime) -> Finding:
    total, share = value["n"], value["distinct"] / value["n"] if value["n"] else 1.0
    least, most = share_of(settings.get("min", 0)), share_of(settings.get("max", 1))
    wanted = _share_bounds(settings)
    named = listed(settings["columns"])
    message = f"{value['distinct']:,} different values of {named} in {rows(total)}: {in_percent(share)}"
    message += f", expected {wanted}"
    return Finding(0 if least <= share <= most else 1, message, share, wanted)


def _share_bounds(settings: Settings) -> str:
    return bounds({name: in_percent(share_of(settings[name])) for name in ("min", "max") if name in settings})


register(
    Kind(
        "unique_share",
        {"columns": COLUMNS, "min": SHARE, "max": SHARE},
        ("columns",),
        title=lambda s: f"the share of different values of {listed(s['columns'])} is {_share_bounds(s)}",
        columns=lambda s: tuple(s["columns"]),
        count=_distinct,
        judge=_distinct_enough,
        filters=True,
    )
)

# ── columns as such ──────────────────────────────────────────────────────────────────────────────────────


def _with_types(settings: Settings, facts: Facts) -> Settings:
    return {**settings, "types": dict(facts.types)}


def _as_listed(settings: Settings, _value: Any, _now: datetime) -> Finding:
    wanted, there = settings["columns"], settings["types"]
    found = []
    for name, kind in wanted.items():
        if name not in there:
            hint = did_you_mean(name, [n for n in there if n not in wanted])
            found.append(f"column '{name}' is missing" + (f" ({hint})" if hint and "mean" in hint else ""))
        elif there[name] != kind:
            found.append(f"column '{name}' is {there[name]}, expected {kind}")
    if settings.get("closed"):
        found += [f"column '{name}' is not among those allowed" for name in there if name not in wanted]
    message = "; ".join(found) or f"all {len(wanted)} columns are there with their types"
    return Finding(len(found), message)


register(
    Kind(
        "schema",
        {
            "columns": {
                "type": "object",
                "additionalProperties": {"type": "string"},
                "minProperties": 1,
                "description": "names of columns and the types they must have",
            },
            "closed": {"type": "boolean", "description": "whether further columns are refused"},
        },
        ("columns",),
        title=lambda s: (
            f"{listed(tuple(s['columns']))} {'has its type' if len(s['columns']) == 1 else 'have their types'}"
        ),
        prepare=_with_types,
        measure=lambda _: "count(*)",
        judge=_as_listed,
    )
)

__all__ = ["SHARE", "in_percent", "share_of"]
