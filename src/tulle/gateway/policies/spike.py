"""`spike-control`: what comes too fast waits a moment, some of it, and is refused only then.

It protects the service, so it counts all callers together. A window is a bucket that fills evenly.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tulle.errors import Invalid
from tulle.gateway.envoy_values import SPIKES, Json, typed
from tulle.gateway.policies.kind import Kind, Parts, Registry, Settings, Spike, Spot, Unfit
from tulle.spec.rate_limit import RATE_SCHEMA, RateLimit

_SHORTEST_MS: Final = 50

_PROPERTIES: Final[Json] = {
    "limit": {**RATE_SCHEMA, "description": "requests/period that the service takes, such as 100/1s"},
    "queue": {
        "type": "integer",
        "minimum": 0,
        "maximum": 10_000,
        "description": "how many of those above it may wait, in the time that one waits (0)",
    },
    "delay_ms": {
        "type": "integer",
        "minimum": _SHORTEST_MS,
        "maximum": 30_000,
        "multipleOf": _SHORTEST_MS,
        "x-expected": "a multiple of 50",
        "description": "milliseconds that one waits before it is tried again, once (1000)",
    },
}


@dataclass(frozen=True, slots=True)
class SpikeControl:
    """So many requests in a time; some of the others wait so long and are tried again."""

    limit: RateLimit
    queue: int = 0
    delay_ms: int = 1000


def _read(settings: Settings) -> SpikeControl:
    try:
        limit = RateLimit.parse(settings["limit"])
    except Invalid as exc:
        raise Unfit(exc.message, "limit", hint=exc.hint) from None
    return SpikeControl(limit, settings.get("queue", 0), settings.get("delay_ms", 1000))


def _demand_meant(settings: Settings) -> None:
    if "delay_ms" in settings and not settings.get("queue"):
        raise Unfit("nobody waits, as 'queue' is 0", "delay_ms", hint="say `queue`, or leave `delay_ms` out")


def _render(control: SpikeControl, spot: Spot) -> Parts:
    name = f"{spot.service}#{spot.position}"
    about = {"spike": name, "spike_delay": str(control.delay_ms)}
    return Parts(
        settings={SPIKES: typed("envoy.config.route.v3.FilterConfig", config={})},
        route={"metadata": {"filter_metadata": {"tulle": about}}},
        spikes=[Spike(name, control.limit, control.queue, control.delay_ms)],
    )


def register(registry: Registry) -> None:
    """Make the kind known."""
    registry.add(
        Kind(
            "spike-control",
            "Requests that come too fast wait a moment, some of them; others are answered 429.",
            _PROPERTIES,
            "limits",
            _read,
            anew=_demand_meant,
            render=_render,
            required=("limit",),
            once=True,
            example="policy: spike-control\nlimit: 50/1s\nqueue: 20\ndelay_ms: 500",
        )
    )
