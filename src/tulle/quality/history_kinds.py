"""Kinds of check that hold a run against the runs before it: how many rows there are, how values are spread."""

# ruff: noqa: S608  composing SQL is this module's work; names go through `quoted`
from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from statistics import fmean, median, pstdev
from typing import Any

from tulle.engine.engine import quoted
from tulle.quality.kind import (
    COLUMN,
    Facts,
    Finding,
    Kind,
    Past,
    Settings,
    all_of,
    counted,
    filtered,
    register,
    rows,
    selected,
)
from tulle.quality.profile import OTHER, QUANTILES, ks, pooled, psi
from tulle.quality.row_kinds import in_percent, share_of

_OVER, _AFTER = 10, 3
_HISTORY: dict[str, Any] = {
    "over": {
        "type": "integer",
        "minimum": 1,
        "maximum": 30,
        "description": f"how many earlier runs are looked at; {_OVER} when nothing is said",
    },
    "after": {
        "type": "integer",
        "minimum": 1,
        "maximum": 30,
        "description": f"how many earlier runs there must be before the check says no; {_AFTER} when nothing is said",
    },
}
_CHANGE = {
    "type": ["number", "string"],
    "minimum": 0,
    "pattern": r"^[0-9]+(\.[0-9]+)?\s*%$",
    "x-expected": "a share like 0.2 or 20%",
    "description": "how far it may move, as a share of what it was",
}
_CATEGORIES = 100  # the rest is counted together


def _looked_at(settings: Settings, past: Sequence[Past]) -> list[Past]:
    return list(past[: settings.get("over", _OVER)])


def _too_few(settings: Settings, past: Sequence[Past]) -> str:
    """Why history does not say anything yet; empty when it does."""
    after = min(settings.get("after", _AFTER), settings.get("over", _OVER))
    if len(past) >= after:
        return ""
    there = "1 earlier run" if len(past) == 1 else f"{len(past)} earlier runs"
    return f"there are {there} to compare with, {after} are needed: not judged yet"


# ── how many rows ────────────────────────────────────────────────────────────────────────────────────────


def _volume(settings: Settings, value: int, _now: datetime, past: Sequence[Past]) -> Finding:
    before = [one.value for one in _looked_at(settings, past) if one.value is not None]
    wanted = _volume_bound(settings)
    if why := _too_few(settings, _looked_at(settings, past)):
        return Finding(0, f"{rows(value)}; {why}", value, wanted)
    if "max_z" in settings:
        middle, spread = fmean(before), pstdev(before)
        z = abs(value - middle) / spread if spread else (math.inf if value != middle else 0.0)
        z_text = f"{z:,.1f}" if math.isfinite(z) else "infinitely many"
        message = (
            f"{rows(value)}, {z_text} standard deviations from the {middle:,.0f} of the last {len(before)} runs; "
            f"allowed: {settings['max_z']:g}"
        )
        return Finding(int(z > settings["max_z"]), message, value, wanted)
    usual = median(before)
    change = (value - usual) / usual if usual else (0.0 if not value else math.inf)
    most = share_of(settings["max_change"])
    changed = f"{change:+.1%}" if math.isfinite(change) else "from none"
    message = (
        f"{rows(value)}, {changed} against the {usual:,.0f} that are usual in the last {len(before)} runs"
    )
    return Finding(int(abs(change) > most), f"{message}; allowed: {wanted}", value, wanted)


def _volume_bound(settings: Settings) -> str:
    if "max_z" in settings:
        return f"{settings['max_z']:g} standard deviations"
    return f"{share_of(settings['max_change']) * 100:g} % of change"


register(
    Kind(
        "volume",
        {
            "max_change": _CHANGE,
            "max_z": {
                "type": "number",
                "minimum": 0,
                "description": "how many standard deviations it may move",
            },
            **_HISTORY,
        },
        (),
        title=lambda s: f"the number of rows is as usual, within {_volume_bound(s)}",
        measure=lambda s: filtered("count(*)", s),
        judge=lambda s, n, now: _volume(s, n, now, ()),
        against=_volume,
        filters=True,
    )
)

# ── how values are spread ────────────────────────────────────────────────────────────────────────────────

_MOST = {"psi": 0.2, "ks": 0.1, "mean": 0.2, "stddev": 0.2, "median": 0.2, "null_share": 0.05}
_NUMBERS_ONLY = {"mean", "stddev", "median"}
_WORDS = {
    "psi": "population stability index",
    "ks": "Kolmogorov-Smirnov distance",
    "mean": "mean",
    "stddev": "standard deviation",
    "median": "median",
    "null_share": "share of nulls",
}


def _with_number(settings: Settings, facts: Facts) -> Settings:
    kind = facts.types.get(settings["column"], "")
    name = quoted(settings["column"])
    if kind in {"date", "timestamp"}:
        number = f"epoch({name})"
    elif kind in {"integer", "double"} or kind.startswith("decimal"):
        number = f"CAST({name} AS DOUBLE)"
    else:
        number = ""
    return {**settings, "number": number, "data_set": facts.data_set}


def _profile(settings: Settings) -> str:
    name, number = quoted(settings["column"]), settings.get("number", "")
    whole = f"'n': {filtered('count(*)', settings)}, 'nulls': {counted(settings, f'{name} IS NULL')}"
    if not number:
        some = selected(settings, settings["data_set"], f"{name} IS NOT NULL")
        groups = f"SELECT CAST({name} AS VARCHAR) AS v, count(*) AS n FROM ({some}) GROUP BY ALL"
        top = f"SELECT list({{'v': v, 'n': n}}) FROM ({groups} ORDER BY n DESC, v LIMIT {_CATEGORIES})"
        return f"{{{whole}, 'top': ({top})}}"
    finite = f"FILTER (WHERE {all_of(settings.get('where', ''), f'isfinite({number})')})"
    points = ", ".join(map(str, QUANTILES))
    return (
        f"{{{whole}, 'mean': avg({number}) {finite}, 'stddev': stddev_pop({number}) {finite}, "
        f"'quantiles': approx_quantile({number}, [{points}]) {finite}}}"
    )


def _plain(value: Mapping[str, Any]) -> dict[str, Any]:
    """What was measured, as later runs are compared with it."""
    total, nulls = value["n"], value["nulls"]
    profile: dict[str, Any] = {"count": total - nulls, "null_share": nulls / total if total else 0.0}
    if "top" in value:
        there = total - nulls
        shares = {item["v"]: item["n"] / there for item in value["top"] or ()}
        rest = 1 - sum(shares.values())
        return {**profile, "shares": {**shares, **({OTHER: rest} if there and rest > 1e-9 else {})}}
    if value["quantiles"] is None or value["mean"] is None or not math.isfinite(value["mean"]):
        return {**profile, "count": 0}
    spread = {name: value[name] for name in ("mean", "stddev", "quantiles")}
    return {**profile, **spread}


def _distribution(
    settings: Settings, value: Mapping[str, Any], _now: datetime, past: Sequence[Past]
) -> Finding:
    method = settings.get("measure", "psi")
    most = share_of(settings.get("max", _MOST[method]))
    profile = _plain(value)
    wanted = f"at most {most:g}"
    if method in _NUMBERS_ONLY and "shares" in profile:
        message = (
            f"{settings['column']} has no numbers, so it has no {_WORDS[method]}; use psi, ks or null_share"
        )
        return Finding(1, message, None, wanted)
    # A column that changed between numbers and words is a matter of its type, not of its spread.
    alike = [
        one
        for one in _looked_at(settings, past)
        if one.detail and (not profile["count"] or ("shares" in one.detail) == ("shares" in profile))
    ]
    before = pooled([one.detail for one in alike if one.detail])
    if (why := _too_few(settings, alike)) or before is None:
        return Finding(0, why or "earlier runs had no values: not judged yet", None, wanted, profile)
    if not profile["count"] and method != "null_share":
        return Finding(1, f"{settings['column']} has no value any more", None, wanted, profile)
    distance = _distance(method, before, profile)
    message = (
        f"the {_WORDS[method]} of {settings['column']} against the last {len(alike)} runs is {distance:.3f}; "
        f"allowed: {most:g}"
        if method in {"psi", "ks"}
        else f"the {_WORDS[method]} of {settings['column']} moved by {in_percent(min(distance, 1e9))}"
        f" from {_shown(method, before)} to {_shown(method, profile)}; allowed: {most * 100:g} %"
    )
    return Finding(int(distance > most), message, distance, wanted, profile)


def _distance(method: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> float:
    if method == "psi":
        return psi(before, now)
    if method == "ks":
        return ks(before, now)
    old, new = _figure(method, before), _figure(method, now)
    if method == "null_share":
        return abs(new - old)
    return abs(new - old) / abs(old) if old else (0.0 if not new else 1e9)


def _figure(method: str, profile: Mapping[str, Any]) -> float:
    return float(profile["quantiles"][50] if method == "median" else profile[method])


def _shown(method: str, profile: Mapping[str, Any]) -> str:
    figure = _figure(method, profile)
    return in_percent(figure) if method == "null_share" else f"{figure:,.6g}"


register(
    Kind(
        "distribution",
        {
            "column": COLUMN,
            "measure": {"enum": list(_MOST), "description": "what is compared; psi when nothing is said"},
            "max": {**_CHANGE, "description": "how far it may be from what it was"},
            **_HISTORY,
        },
        ("column",),
        title=lambda s: f"{s['column']} is spread as usual, by {s.get('measure', 'psi')}",
        columns=lambda s: (s["column"],),
        prepare=_with_number,
        measure=_profile,
        judge=lambda s, value, now: _distribution(s, value, now, ()),
        against=_distribution,
        filters=True,
    )
)
