"""How requests are sent on to the service: `timeout`, `retry`, `circuit-breaker`, `concurrency-limit` and
`outlier-ejection`.

The last three are of where a service's requests lead to, so they are for all of them. With several generations each
has its own workers and its own bounds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from tulle.gateway.envoy_values import Json
from tulle.gateway.policies.kind import Kind, Parts, Registry, Settings, Spot, Unfit

# in what case a request is sent again, in Envoy's words
_CASES: Final = {
    "connection": "connect-failure,refused-stream,reset-before-request",
    "reset": "reset",
    "unavailable": "gateway-error",
    "error": "5xx",
    "limited": "retriable-status-codes",
}


@dataclass(frozen=True, slots=True)
class Timeout:
    """Seconds after which a caller is told that the service did not answer."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Retry:
    """So many times more, in these cases, each within so many seconds."""

    times: int = 2
    cases: tuple[str, ...] = ("connection", "unavailable")
    seconds_each: float | None = None


@dataclass(frozen=True, slots=True)
class Bounds:
    """What may be under way at once; None: as it is without."""

    connections: int | None = None
    waiting: int | None = None
    requests: int | None = None
    retries: int | None = None


@dataclass(frozen=True, slots=True)
class Concurrency:
    """Requests at once, and how many more may wait for one of them to end."""

    requests: int
    queue: int = 0


@dataclass(frozen=True, slots=True)
class Ejection:
    """A worker that fails so often in a row gets nothing for so long; of all no more than this part at once."""

    errors: int = 5
    seconds: float = 10.0
    most_percent: int = 50


def _number(description: str, least: float, most: float, kind: str = "integer") -> Json:
    return {"type": kind, "minimum": least, "maximum": most, "description": description}


_TIMEOUT: Final[Json] = {"seconds": _number("seconds that the service has to answer", 0.05, 3600, "number")}
_RETRY: Final[Json] = {
    "times": _number("how often more (2)", 1, 10),
    "cases": {
        "type": "array",
        "minItems": 1,
        "uniqueItems": True,
        "items": {"enum": list(_CASES)},
        "description": "connection (it never reached a worker), reset (one ended at it), unavailable (502, 503, 504), "
        "error (any 5xx), limited (429) ([connection, unavailable])",
    },
    "seconds_each": _number("seconds that each try has", 0.05, 3600, "number"),
}
_BOUNDS: Final[Json] = {
    "connections": _number("connections to workers", 1, 100_000),
    "waiting": _number("requests that wait for a connection", 1, 100_000),
    "requests": _number("requests under way", 1, 100_000),
    "retries": _number("requests that are sent again", 1, 100_000),
}
_CONCURRENCY: Final[Json] = {
    "requests": _number("requests at once", 1, 100_000),
    "queue": _number("further ones that wait for one of them to end (0)", 0, 100_000),
}
_EJECTION: Final[Json] = {
    "errors": _number("answers 5xx in a row (5)", 1, 1000),
    "seconds": _number("seconds without requests, more each time (10)", 0.5, 3600, "number"),
    "most_percent": _number("of all workers no more than this part (50)", 1, 100),
}


def _read_retry(settings: Settings) -> Retry:
    cases = tuple(settings.get("cases", ("connection", "unavailable")))
    return Retry(settings.get("times", 2), cases, settings.get("seconds_each"))


def _read_ejection(settings: Settings) -> Ejection:
    return Ejection(**settings)


def _timeout(timeout: Timeout, _: Spot) -> Parts:
    seconds = f"{timeout.seconds:.3f}s"
    return Parts(action={"timeout": seconds, "idle_timeout": seconds})


def _retry(retry: Retry, _: Spot) -> Parts:
    policy: Json = {
        "retry_on": ",".join(_CASES[case] for case in retry.cases),
        "num_retries": retry.times,
    }
    if "limited" in retry.cases:
        policy["retriable_status_codes"] = [429]
    if retry.seconds_each is not None:
        policy["per_try_timeout"] = f"{retry.seconds_each:.3f}s"
    return Parts(action={"retry_policy": policy})


def _bounds(bounds: Bounds, _: Spot) -> Parts:
    said = {
        "max_connections": bounds.connections,
        "max_pending_requests": bounds.waiting,
        "max_requests": bounds.requests,
        "max_retries": bounds.retries,
    }
    return Parts(bounds={key: value for key, value in said.items() if value is not None})


def _concurrency(limit: Concurrency, _: Spot) -> Parts:
    if not limit.queue:
        return Parts(bounds={"max_requests": limit.requests})
    return Parts(
        bounds={
            "max_connections": limit.requests,
            "max_pending_requests": limit.queue,
            "max_requests": limit.requests + limit.queue,
        }
    )


def _ejection(ejection: Ejection, _: Spot) -> Parts:
    detection = {
        "consecutive_5xx": ejection.errors,
        "enforcing_consecutive_5xx": 100,
        "base_ejection_time": f"{ejection.seconds:.3f}s",
        "max_ejection_time": f"{max(ejection.seconds * 10, 5):.3f}s",
        "max_ejection_percent": ejection.most_percent,
    }
    return Parts(cluster={"outlier_detection": detection})


def _read_bounds(settings: Settings) -> Bounds:
    if not settings:
        raise Unfit("it bounds nothing", hint=f"say one of {', '.join(_BOUNDS)}")
    return Bounds(**settings)


def register(registry: Registry) -> None:
    """Make the kinds known."""
    whole: dict[str, Any] = {"phase": "route", "whole": True, "once": True, "of_workers": True}
    registry.add(
        Kind(
            "timeout",
            "A service that takes longer is not waited for; the caller is answered 504.",
            _TIMEOUT,
            "route",
            lambda settings: Timeout(**settings),
            render=_timeout,
            required=("seconds",),
            once=True,
            example="policy: timeout\nseconds: 2.5",
        )
    )
    registry.add(
        Kind(
            "retry",
            "Requests that fail are sent again; only for what may be done twice.",
            _RETRY,
            "route",
            _read_retry,
            render=_retry,
            once=True,
            example="policy: retry\ntimes: 2\ncases: [connection, unavailable]\nseconds_each: 1",
        )
    )
    registry.add(
        Kind(
            "circuit-breaker",
            "What is more than this at once is answered 503 instead of being sent on.",
            _BOUNDS,
            read=_read_bounds,
            render=_bounds,
            example="policy: circuit-breaker\nconnections: 64\nwaiting: 32",
            **whole,
        )
    )
    registry.add(
        Kind(
            "concurrency-limit",
            "So many requests at once; some more may wait, all others are answered 503.",
            _CONCURRENCY,
            read=lambda settings: Concurrency(**settings),
            render=_concurrency,
            required=("requests",),
            example="policy: concurrency-limit\nrequests: 20\nqueue: 10",
            **whole,
        )
    )
    registry.add(
        Kind(
            "outlier-ejection",
            "Workers that keep failing get no requests for a while.",
            _EJECTION,
            read=_read_ejection,
            render=_ejection,
            example="policy: outlier-ejection\nerrors: 3\nseconds: 5",
            **whole,
        )
    )
