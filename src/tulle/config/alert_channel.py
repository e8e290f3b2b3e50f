"""Channels of alerts: of what each is told, and how mesh.yaml says them.

Knows nothing of what is sent, and of secret addresses no more than the variable that holds one.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tulle.config.reading import demand_name, expect, known_items, setting, texts
from tulle.errors import Invalid, did_you_mean

ALERT_TYPES = ("webhook", "slack", "apprise")
ALERT_EVENTS = ("failed", "checks", "late", "drift", "calls", "recovered", "access")


@dataclass(frozen=True, slots=True)
class AlertChannel:
    """Where alerts go. Its URL is written here only when it holds no secret."""

    type: str = setting("webhook", "webhook (JSON), slack, or apprise (mail, Teams and others by their URLs)")
    url: str = setting("", "where to, for a webhook whose address is no secret")
    url_variable: str = setting("", "the environment variable that holds the URL")
    on: tuple[str, ...] = setting(
        ALERT_EVENTS, "of what: failed, checks, late, drift, calls, recovered, access"
    )
    domains: tuple[str, ...] | None = setting(None, "of the products of these domains; default: of all")
    products: tuple[str, ...] | None = setting(None, "of these products; default: of all")
    environments: tuple[str, ...] = setting(("main",), "of these environments, by their branches")


def alert_channels(name: str, value: Any) -> dict[str, AlertChannel]:
    """Those that mesh.yaml names. Invalid."""
    if not isinstance(value, Mapping):
        raise Invalid(f"mesh.yaml: '{name}' must map names to channels")
    return {str(key): _alert_channel(f"{name}.{key}", key, item) for key, item in value.items()}


def _alert_channel(path: str, name: Any, value: Any) -> AlertChannel:
    demand_name(path, name, "a channel")
    if value is not None and not isinstance(value, Mapping):
        raise Invalid(f"mesh.yaml: '{path}' must be a mapping with type, url or url_variable")
    given: dict[str, Any] = {}
    for key, item, _ in known_items(path, value or {}, AlertChannel):
        if key in {"type", "url", "url_variable"}:
            expect(f"{path}.{key}", item, str)
            given[key] = item
        else:
            given[key] = texts(f"{path}.{key}", item)
    channel = AlertChannel(**given)
    if channel.type not in ALERT_TYPES:
        raise Invalid(
            f"mesh.yaml: '{path}.type' is '{channel.type}', expected {', '.join(ALERT_TYPES)}",
            hint=did_you_mean(channel.type, ALERT_TYPES),
        )
    if wrong := [event for event in channel.on if event not in ALERT_EVENTS]:
        raise Invalid(
            f"mesh.yaml: '{path}.on' has '{wrong[0]}', expected {', '.join(ALERT_EVENTS)}",
            hint=did_you_mean(wrong[0], ALERT_EVENTS),
        )
    if channel.url and channel.url_variable:
        raise Invalid(f"mesh.yaml: '{path}' has both url and url_variable; give one")
    if channel.url and (channel.type != "webhook" or "@" in channel.url or "?" in channel.url):
        raise Invalid(
            f"mesh.yaml: '{path}.url' may hold a secret, which does not belong into a document",
            hint=f"name an environment variable under url_variable, or leave it out and `tulle alerts set {name}`",
        )
    if channel.url and not channel.url.startswith(("https://", "http://")):
        raise Invalid(f"mesh.yaml: '{path}.url' is no web address", hint="write https://…")
    return channel


def secret_in_environment(name: str) -> str | None:
    """The value of an environment variable that a setting names, None when it is not set."""
    return os.environ.get(name) or None
