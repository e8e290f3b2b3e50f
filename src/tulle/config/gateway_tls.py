"""TLS of the gateway's callers, as mesh.yaml says it.

Knows neither files nor certificates.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tulle.config.reading import expect, known_items, setting, texts
from tulle.errors import Invalid, did_you_mean

_NAME = re.compile(
    r"(?:\*\.)?[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?){0,30}"
)
PLAIN_DOORS = ("redirect", "serve")


@dataclass(frozen=True, slots=True)
class GatewayTls:
    """How callers meet the gateway by TLS: with a certificate of one's own, or one that the mesh makes."""

    self_signed: bool = setting(
        False, "whether the mesh makes the certificate itself, for this machine and `names`"
    )
    certificate: str = setting("", "the file of the certificate, followed by those that signed it, PEM")
    key: str = setting("", "the file of its private key, PEM, without a passphrase")
    names: tuple[str, ...] = setting((), "further names and addresses in a certificate that the mesh makes")
    host: str = setting("", "the name of the gateway in addresses that are shown; default: that of `host`")
    hsts_seconds: int = setting(
        0, "for how long browsers come back by TLS alone (HSTS); 0: they are not told"
    )
    plain_port: int = setting(0, "a port beside it that is without TLS; 0: none")
    plain: str = setting(
        "redirect",
        "what that port does: redirect (to TLS what can have no secret, and refuse the rest), or serve",
    )


def gateway_tls(name: str, value: Any) -> GatewayTls | None:
    """How mesh.yaml says it; None where there is none. Invalid."""
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise Invalid(
            f"mesh.yaml: '{name}' must be a mapping", hint="{self_signed: true}, or certificate and key"
        )
    given: dict[str, Any] = {}
    for key, item, default in known_items(name, value, GatewayTls):
        if key == "names":
            given[key] = tuple(_host(f"{name}.{key}", one) for one in texts(f"{name}.{key}", item))
            continue
        expect(f"{name}.{key}", item, type(default))
        given[key] = _host(f"{name}.{key}", item) if key == "host" and item else item
    return _checked(name, GatewayTls(**given))


def _checked(name: str, tls: GatewayTls) -> GatewayTls:
    is_given = bool(tls.certificate) and bool(tls.key)
    if bool(tls.certificate) != bool(tls.key) or is_given == tls.self_signed:
        raise Invalid(
            f"mesh.yaml: '{name}' needs either both certificate and key, or self_signed: true",
            hint="{self_signed: true} is right for one machine",
        )
    if tls.names and not tls.self_signed:
        raise Invalid(
            f"mesh.yaml: '{name}.names' are of a certificate that the mesh makes; yours has its own"
        )
    if tls.plain not in PLAIN_DOORS:
        raise Invalid(
            f"mesh.yaml: '{name}.plain' is '{tls.plain[:80]}', expected {' or '.join(PLAIN_DOORS)}",
            hint=did_you_mean(tls.plain, PLAIN_DOORS),
        )
    if not 0 <= tls.plain_port <= 65535:
        raise Invalid(f"mesh.yaml: '{name}.plain_port' is {tls.plain_port}, expected a port, or 0 for none")
    if not 0 <= tls.hsts_seconds <= 63_072_000:
        raise Invalid(f"mesh.yaml: '{name}.hsts_seconds' is {tls.hsts_seconds}, expected 0 to 63,072,000")
    if tls.hsts_seconds and (tls.self_signed or tls.plain == "serve"):
        raise Invalid(
            f"mesh.yaml: '{name}.hsts_seconds' makes browsers refuse this host without TLS, at every port",
            hint="only with a certificate that browsers know, and without `plain: serve`",
        )
    return tls


def _host(name: str, value: str) -> str:
    try:
        return str(ipaddress.ip_address(value))
    except ValueError:
        if len(value) <= 253 and _NAME.fullmatch(value):
            return value
    raise Invalid(
        f"mesh.yaml: '{name}' has '{value[:100]}', which is no host",
        hint="a lower-case name such as mesh.example.com, or an address; without a port",
    )
