"""`mirror`: some requests are sent a second time, elsewhere; nobody waits for what is answered there.

What goes there are requests as the service has them, without the gateway's own headers and without those that may hold
credentials by their names: whoever reads those there could act for the caller, or as the service. A place that is slow
or gone costs the service nothing: what it cannot take is dropped.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from tulle.gateway.envoy_values import Json, host_address, trusted, typed
from tulle.gateway.policies.kind import Kind, Parts, Registry, Settings, Spot, Unfit
from tulle.gateway.processing.secret_names import SECRETS

# who calls, by which way, and from where; also what Envoy tells of itself
_PRIVATE: Final = ("x-tulle-", "x-envoy-", "x-forwarded-")
# Beside what no log tells: by these names, too, services are shown who calls.
MORE_SECRETS: Final = r"access-?_?key|subscription-?_?key|functions-?_?key|assertion|bearer|ticket|dpop|otp$"
# Not `:authority`, without which nothing is a request.
_SECRET: Final = rf"(?i)([^:].*)?({SECRETS}|{MORE_SECRETS}).*"
_PROTOCOL: Final = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


@dataclass(frozen=True, slots=True)
class Mirror:
    """Where to, and which part of the requests in percent."""

    host: str
    port: int
    is_secure: bool
    percent: float = 100


_PROPERTIES: Final[Json] = {
    "to": {
        "type": "string",
        "x-example": "https://shadow.example.com",
        "maxLength": 300,
        "description": "where to: https://… or http://…, a host and maybe a port; the path stays",
    },
    "percent": {
        "type": "number",
        "exclusiveMinimum": 0,
        "maximum": 100,
        "description": "the part of the requests, in percent (100)",
    },
}


def _read(settings: Settings) -> Mirror:
    text = settings["to"]
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        parts, host, port = urlsplit(""), "", None
    plain = text.isascii() and text.isprintable() and not any(one in text for one in " @?#%\\")
    if (
        not plain
        or parts.scheme not in {"http", "https"}
        or not host
        or parts.path not in {"", "/"}
        or port == 0
    ):
        raise Unfit(f"'{text}' is no place to mirror to", "to", hint="https://host or http://host:port")
    is_secure = parts.scheme == "https"
    return Mirror(host, port or (443 if is_secure else 80), is_secure, settings.get("percent", 100))


def _render(mirror: Mirror, spot: Spot) -> Parts:
    name = f"mirror.of.{spot.service}.{spot.position}"  # no service can have it
    shown = f"[{mirror.host}]" if ":" in mirror.host else mirror.host
    usual = mirror.port == (443 if mirror.is_secure else 80)
    part = {"numerator": round(mirror.percent * 10_000), "denominator": "MILLION"}
    policy: Json = {
        "cluster": name,
        "runtime_fraction": {"default_value": part},
        "host_rewrite_literal": shown if usual else f"{shown}:{mirror.port}",
        "disable_shadow_host_suffix_append": True,
    }
    return Parts(action={"request_mirror_policies": [policy]}, clusters=[_cluster(name, mirror)])


def _reaches(mirror: Mirror) -> tuple[str, ...]:
    shown = f"[{mirror.host}]" if ":" in mirror.host else mirror.host
    return (f"{'https' if mirror.is_secure else 'http'}://{shown}:{mirror.port}",)


def _cluster(name: str, mirror: Mirror) -> Json:
    address = {"socket_address": {"address": mirror.host, "port_value": mirror.port}}
    cluster: Json = {
        "name": name,
        "type": "STATIC" if host_address(mirror.host) else "STRICT_DNS",
        "connect_timeout": "1s",
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
        },
        # few at once, and hardly any that wait: what is too much is dropped
        "circuit_breakers": {
            "thresholds": [
                {"max_connections": 64, "max_pending_requests": 64, "max_requests": 128, "max_retries": 0}
            ]
        },
        "typed_extension_protocol_options": {_PROTOCOL: _told_little()},
    }
    if not host_address(mirror.host):
        # A name that nobody knows must not keep other changes waiting.
        cluster |= {"dns_lookup_family": "ALL", "wait_for_warm_on_init": False}
    if mirror.is_secure:
        named = not host_address(mirror.host)
        check = {
            "trusted_ca": {"filename": trusted()},
            "match_typed_subject_alt_names": [
                {"san_type": "DNS" if named else "IP_ADDRESS", "matcher": {"exact": mirror.host}}
            ],
        }
        cluster["transport_socket"] = {
            "name": "tls",
            "typed_config": typed(
                "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
                common_tls_context={"validation_context": check},
                **({"sni": mirror.host} if named else {}),
            ),
        }
    return cluster


def _told_little() -> Json:
    """How the place is spoken to. Headers go here, on the last step: Envoy adds some of its own to what it mirrors."""
    gone: list[Json] = [{"prefix": one} for one in _PRIVATE]
    gone.append({"safe_regex": {"regex": _SECRET}})
    removed = typed(
        "envoy.extensions.filters.http.header_mutation.v3.HeaderMutation",
        mutations={"request_mutations": [{"remove_on_match": {"key_matcher": one}} for one in gone]},
    )
    codec = typed("envoy.extensions.filters.http.upstream_codec.v3.UpstreamCodec")
    return typed(
        _PROTOCOL,
        explicit_http_config={"http_protocol_options": {}},
        http_filters=[
            {"name": "kept_here", "typed_config": removed},
            {"name": "codec", "typed_config": codec},
        ],
    )


def register(registry: Registry) -> None:
    """Make the kind known."""
    registry.add(
        Kind(
            "mirror",
            "Requests are also sent elsewhere; nobody waits for what is answered there.",
            _PROPERTIES,
            "route",
            _read,
            render=_render,
            reaches=_reaches,
            required=("to",),
            example="policy: mirror\nto: https://shadow.example.com\npercent: 10",
        )
    )
