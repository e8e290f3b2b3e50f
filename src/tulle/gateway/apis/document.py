"""The OpenAPI document of an API as its callers meet it: at the gateway's address, by its ways in. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tulle.config import Settings
from tulle.gateway.apis.instance import Instance
from tulle.gateway.policies.opening import WaysIn
from tulle.serving.openapi_access import with_ways
from tulle.spec.openapi_document import METHODS


def address_of(settings: Settings, path: str, hosts: tuple[str, ...] = ()) -> str:
    """Where an instance is called, by the first of its hosts."""
    return f"http://{hosts[0] if hosts else settings.host}:{settings.gateway_port}{path}"


def as_met(
    settings: Settings, document: Mapping[str, Any], instance: Instance, ways: WaysIn
) -> dict[str, Any]:
    """The document of who answers, without the servers and credentials of theirs; `ways` are in force there."""
    found = dict(document)
    found["servers"] = [{"url": address_of(settings, instance.path, instance.hosts)}]
    found["paths"] = {
        path: {key: _without_ways(key, value) for key, value in item.items() if key != "servers"}
        if isinstance(item, dict)
        else item
        for path, item in document.get("paths", {}).items()
    }
    return with_ways(found, ways.usual, lambda method, path: ways.at(method, path, instance.path))


def _without_ways(key: str, value: Any) -> Any:
    if key not in METHODS or not isinstance(value, dict):
        return value
    return {name: one for name, one in value.items() if name not in {"servers", "security"}}
