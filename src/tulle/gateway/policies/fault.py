"""`fault-injection`: some requests are answered late, or with an error, to see what callers make of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tulle.gateway.envoy_values import Json, typed
from tulle.gateway.policies.kind import Kind, Parts, Refusal, Registry, Settings, Spot, Unfit


@dataclass(frozen=True, slots=True)
class Fault:
    """Delays and statuses, each for a part of the requests in percent."""

    delay_ms: int = 0
    delay_percent: float = 0
    status: int = 0
    status_percent: float = 0


def _percent(description: str) -> Json:
    return {"type": "number", "exclusiveMinimum": 0, "maximum": 100, "description": description}


_PROPERTIES: Final[Json] = {
    "delay_ms": {
        "type": "integer",
        "minimum": 1,
        "maximum": 60_000,
        "description": "milliseconds of a delay",
    },
    "delay_percent": _percent("the part of the requests that is delayed, in percent"),
    "status": {
        "type": "integer",
        "minimum": 400,
        "maximum": 599,
        "description": "the status that requests are answered with",
    },
    "status_percent": _percent("the part of the requests that is answered so, in percent"),
}


def _read(settings: Settings) -> Fault:
    if not settings:
        raise Unfit("it injects nothing", hint="say delay_ms and delay_percent, or status and status_percent")
    return Fault(**settings)


def _render(fault: Fault, spot: Spot) -> Parts:
    config: Json = {}
    if fault.delay_ms:
        config["delay"] = {
            "fixed_delay": f"{fault.delay_ms / 1000:.3f}s",
            "percentage": _fraction(fault.delay_percent),
        }
    if fault.status:
        config["abort"] = {"http_status": fault.status, "percentage": _fraction(fault.status_percent)}
    made = typed("envoy.extensions.filters.http.fault.v3.HTTPFault", **config)
    return Parts(filters=[{"name": spot.name_of("fault-injection"), "typed_config": made}])


def _fraction(percent: float) -> Json:
    return {"numerator": round(percent * 10_000), "denominator": "MILLION"}


def register(registry: Registry) -> None:
    """Make the kind known."""
    registry.add(
        Kind(
            "fault-injection",
            "Some requests are answered late, or with an error.",
            _PROPERTIES,
            "known",
            _read,
            render=_render,
            rules={
                "dependentRequired": {
                    "delay_ms": ["delay_percent"],
                    "delay_percent": ["delay_ms"],
                    "status": ["status_percent"],
                    "status_percent": ["status"],
                }
            },
            once=True,
            example="policy: fault-injection\ndelay_ms: 300\ndelay_percent: 10\nstatus: 503\nstatus_percent: 1",
            refusals=(
                Refusal(
                    "response.code_details == 'fault_filter_abort'",
                    0,
                    "InjectedFault",
                    "This error was made on purpose",
                    "The service has a policy that lets some requests fail",
                ),
            ),
        )
    )
