"""`rate-limit`: how many requests pass in a time, of everybody, of each client, address or value of a header.

Several windows may hold together (`[100/1s, 10000/1d]`); each has to have room. The limits of contracts and keys hold
beside it. A window is a bucket that fills evenly, in the gateway's memory: it allows a burst of its whole size.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from tulle.errors import Invalid
from tulle.gateway.envoy_values import Json
from tulle.gateway.policies.kind import Count, Kind, Need, Parts, Registry, Settings, Spot, Unfit
from tulle.spec.rate_limit import RATE_SCHEMA, RateLimit

MOST_WINDOWS: Final = 4
BY: Final = re.compile(
    r"client|address|all|header:[a-z0-9][a-z0-9_-]{0,99}|claim:[A-Za-z0-9_:-]{1,100}(\.[A-Za-z0-9_:-]{1,100}){0,4}"
)


@dataclass(frozen=True, slots=True)
class Limits:
    """Windows that hold together, for each `by`."""

    windows: tuple[RateLimit, ...]
    by: str = "client"


_PROPERTIES: Final[Json] = {
    "limits": {
        "type": ["string", "array"],
        "minItems": 1,
        "maxItems": MOST_WINDOWS,
        "items": RATE_SCHEMA,
        "x-expected": "requests/period, or a list of such",
        "x-example": "[100/1s, 10000/1d]",
        "description": "requests/period, such as 100/1s; several hold together",
    },
    "by": {
        "type": "string",
        "x-example": "client",
        "x-expected": "client, address, all, header:<name> or claim:<name>",
        "description": "of whom: client (the usual; an address, where callers show nothing), address, all together, "
        "header:<name> or claim:<name> of a token",
    },
}


def read_windows(said: str | list[str]) -> tuple[RateLimit, ...]:
    """The windows of a setting `limits`. Unfit when one is not understood or two have the same period."""
    found: list[RateLimit] = []
    for number, text in enumerate([said] if isinstance(said, str) else said):
        path = ("limits",) if isinstance(said, str) else ("limits", number)
        try:
            window = RateLimit.parse(text)
        except Invalid as exc:
            raise Unfit(exc.message, *path, hint=exc.hint) from None
        if any(window.period_ms == one.period_ms for one in found):
            raise Unfit(f"'{text}' is a second limit for the same period", *path, hint="keep the smaller one")
        found.append(window)
    return tuple(found)


def demand_each_holds(said: str | list[str], *path: str | int, at_once: int = 1) -> None:
    """Refuse windows of which one never refuses anybody, as another lets no more pass in a longer time. Unfit.

    `at_once`: how many times what a longer one lets pass may come within a shorter one.
    """
    texts = [said] if isinstance(said, str) else said
    windows = [RateLimit.parse(text) for text in texts]
    for number, (text, one) in enumerate(zip(texts, windows, strict=True)):
        for other_text, other in zip(
            texts[:number] + texts[number + 1 :], _others(windows, number), strict=True
        ):
            times = at_once if one.period_ms < other.period_ms else 1
            if one.period_ms <= other.period_ms and one.requests >= times * other.requests:
                raise Unfit(
                    f"'{text}' never refuses anybody, as '{other_text}' lets no more pass in a longer time"
                    if one.period_ms < other.period_ms
                    else f"'{text}' and '{other_text}' are limits for the same period",
                    *path,
                    *(() if isinstance(said, str) else (number,)),
                    hint=f"leave '{text}' out, or make it smaller",
                )


def _others(windows: list[RateLimit], number: int) -> list[RateLimit]:
    return windows[:number] + windows[number + 1 :]


def _read(settings: Settings) -> Limits:
    by = settings.get("by", "client")
    if BY.fullmatch(by) is None:
        hint = "client, address, all, header:<name in lower case> or claim:<name>"
        raise Unfit(f"requests are not counted by '{by}'", "by", hint=hint)
    return Limits(read_windows(settings["limits"]), by)


def _render(limits: Limits, _: Spot) -> Parts:
    return Parts(counts=[Count(window, limits.by) for window in limits.windows])


def _needs(settings: Settings) -> Iterator[Need]:
    by = settings.get("by", "client")
    if by.startswith("claim:"):
        yield Need("token", by, ("by",))


def register(registry: Registry) -> None:
    """Make the kind known."""
    registry.add(
        Kind(
            "rate-limit",
            "So many requests pass in a time; others are answered 429.",
            _PROPERTIES,
            "limits",
            _read,
            anew=lambda settings: demand_each_holds(settings["limits"], "limits"),
            render=_render,
            needs=_needs,
            required=("limits",),
            example="policy: rate-limit\nlimits: [100/1s, 10000/1d]\nby: client",
        )
    )
