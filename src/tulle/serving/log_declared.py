"""What of its queries a service keeps, as its file declares it under `log:`, for all endpoints or for one. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from tulle.spec.period import days_of
from tulle.spec.schemas import duration

_UNITS = {"MB": 1 << 20, "GB": 1 << 30}

_OF_AN_ENDPOINT: Mapping[str, Any] = {
    "sample": {
        "type": "number",
        "minimum": 0,
        "maximum": 1,
        "description": "the share of requests that are kept (default 1, all of them)",
    },
    "features": {
        "type": "boolean",
        "description": "whether what was sent and looked up is kept (default true)",
    },
    "answers": {"type": "boolean", "description": "whether what was answered is kept (default true)"},
    "leave_out": {
        "type": "array",
        "items": {"type": "string", "minLength": 1, "maxLength": 200},
        "uniqueItems": True,
        "description": "names of features, keys and columns whose values are not kept",
    },
}
ENDPOINT_LOG_SCHEMA: Mapping[str, Any] = {
    "type": ["boolean", "object"],
    "additionalProperties": False,
    "description": "what of this endpoint's queries is kept; false: none",
    "properties": _OF_AN_ENDPOINT,
}
LOG_SCHEMA: Mapping[str, Any] = {
    "type": ["boolean", "object"],
    "additionalProperties": False,
    "description": "what of the service's queries is kept; false: none",
    "properties": {
        **_OF_AN_ENDPOINT,
        "keep": duration("how long queries are kept (default 30 days)"),
        "most": {
            "type": "string",
            "pattern": "^[1-9][0-9]{0,5} ?[MG]B$",
            "x-expected": "a size such as 512MB or 10GB",
            "description": "how much is kept; then the oldest days go (default 10GB)",
        },
    },
}


@dataclass(frozen=True, slots=True)
class EndpointLog:
    """What of an endpoint's queries is kept; `sample` 0 is none."""

    sample: float = 1.0
    features: bool = True
    answers: bool = True
    leave_out: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ServiceLog:
    """What of a service's queries is kept, by endpoint where it is not the usual; for so many days and bytes."""

    usual: EndpointLog = EndpointLog()
    endpoints: Mapping[str, EndpointLog] | None = None
    keep_days: int = 30
    most_bytes: int = 10 << 30

    @property
    def most_sample(self) -> float:
        """The largest share of requests that is kept of any endpoint."""
        return max(one.sample for one in (self.usual, *(self.endpoints or {}).values()))

    def of(self, endpoint: str) -> EndpointLog:
        """What is kept of an endpoint."""
        return (self.endpoints or {}).get(endpoint, self.usual)


def parse_log(raw: Mapping[str, Any]) -> ServiceLog:
    """What a checked services file declares."""
    said = raw.get("log")
    usual = _endpoint_log(said, EndpointLog())
    endpoints = {one["name"]: _endpoint_log(one["log"], usual) for one in raw["endpoints"] if "log" in one}
    whole = ServiceLog(usual, endpoints or None)
    if isinstance(said, Mapping):
        if "keep" in said:
            whole = replace(whole, keep_days=max(1, days_of(said["keep"])))
        if "most" in said:
            size = said["most"].replace(" ", "")
            whole = replace(whole, most_bytes=int(size[:-2]) * _UNITS[size[-2:]])
    return whole


def _endpoint_log(said: Any, usual: EndpointLog) -> EndpointLog:
    """A declaration over what holds without it."""
    if said is None:
        return usual
    if said is False:
        return replace(usual, sample=0.0)
    if said is True:
        return replace(usual, sample=usual.sample or 1.0)
    named = {name: said[name] for name in ("features", "answers") if name in said}
    if "sample" in said:
        named["sample"] = float(said["sample"])
    left_out = (*usual.leave_out, *said.get("leave_out", ()))
    return replace(usual, **named, leave_out=tuple(dict.fromkeys(left_out)))
