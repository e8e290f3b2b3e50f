"""Watches: what is told of what services are asked, and how mesh.yaml or a person says it.

Knows nothing of how it is measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from tulle.config.reading import is_name, setting
from tulle.errors import Invalid, did_you_mean

WATCH_MEASURES = ("rate", "errors", "wrong", "violations", "p50", "p95", "p99")
WATCH_SEVERITIES = ("info", "warning", "critical")
_MOST = 1_000_000  # requests


@dataclass(frozen=True, slots=True)
class Watch:
    """A statement about what services are asked, and when it is told that it does not hold."""

    measure: str = setting(
        "errors",
        "rate (requests a second), errors (share of 5xx), wrong (share of 4xx), violations (refused requests), or p50, "
        "p95, p99 (milliseconds)",
    )
    above: float | None = setting(None, "more than this is told")
    below: float | None = setting(None, "less than this is told")
    service: str = setting("", "of this service or API; default: of each")
    version: str = setting("", "of this version of the API `service` only, such as `v2`")
    generation: str = setting("", "as answered by this generation only, of those that `service` has deployed")
    operation: str = setting("", "of this operation only, such as `POST /next-offer/predict`")
    environment: str = setting("", "as deployed in this environment; default: that of consumers")
    minutes: int = setting(5, "minutes of a period")
    periods: int = setting(3, "consecutive periods it has to last until it is told")
    least: int = setting(1, "requests in a period below which a share or a latency says nothing")
    severity: str = setting("warning", "info, warning or critical")


def watches(name: str, value: Any) -> dict[str, Watch]:
    """Those that mesh.yaml names. Invalid."""
    if not isinstance(value, Mapping):
        raise Invalid(f"mesh.yaml: '{name}' must map names to watches")
    return {str(key): watch_from(f"mesh.yaml: '{name}.{key}", key, item) for key, item in value.items()}


def watch_from(path: str, name: Any, value: Any) -> Watch:
    """A watch of plain values; `path` is how a message names it, its quote still open. Invalid."""
    if not is_name(name):
        raise Invalid(f"{path[:300]}' is no name of a watch", hint="lower-case letters, digits, hyphens")
    known = {f.name: f for f in fields(Watch)}
    if not isinstance(value, Mapping):
        raise Invalid(f"{path}' must be a mapping with measure, above or below")
    for key, item in value.items():
        if key not in known:
            raise Invalid(f"{path}': unknown setting '{key}'", hint=did_you_mean(str(key), known))
        _check_of_watch(f"{path}.{key}'", key, item)
    watch = Watch(**value)
    for key, allowed in (("measure", WATCH_MEASURES), ("severity", WATCH_SEVERITIES)):
        if (said := getattr(watch, key)) not in allowed:
            hint = did_you_mean(said, allowed)
            raise Invalid(f"{path}.{key}' is '{said[:80]}', expected {', '.join(allowed)}", hint=hint)
    if (watch.above is None) == (watch.below is None):
        raise Invalid(f"{path}' needs either above or below")
    if watch.measure in {"errors", "wrong"} and (watch.above or watch.below or 0) > 1:
        raise Invalid(f"{path}': {watch.measure} is a share, 0 to 1", hint="0.05 is five of a hundred")
    for key in ("version", "generation"):
        if getattr(watch, key) and not watch.service:
            raise Invalid(
                f"{path}.{key}' is of no service", hint="say in `service` which API or service has it"
            )
    return watch


def _check_of_watch(path: str, key: str, item: Any) -> None:
    is_number = isinstance(item, int | float) and not isinstance(item, bool)
    if key in {"above", "below"}:
        if item is not None and not (is_number and 0 <= item < 1e12):
            raise Invalid(f"{path} is {item!r}, expected a number, 0 or more")
    elif key in {"minutes", "periods", "least"}:
        most = {"minutes": 1440, "periods": 100, "least": _MOST}[key]
        if not isinstance(item, int) or not is_number or not 1 <= item <= most:
            raise Invalid(f"{path} is {item!r}, expected 1 to {most:,}")
    elif not isinstance(item, str) or len(item) > 300:
        raise Invalid(f"{path} is {str(item)[:80]!r}, expected text")
