"""Signing in at an external service with a token of one's own (OAuth2, client credentials), in Envoy's words.

A script on the last step of the way up asks for the token and keeps it (`sign_in.lua`), in the memory of Envoy's
threads and nowhere else. Where tokens are given is a cluster by itself, its own name checked by TLS. Pure. Knows
nothing of connections; what signs in is in the file of clusters alone.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from dataclasses import dataclass, field
from importlib import resources
from typing import Final, Literal
from urllib.parse import quote, urlencode, urlsplit

from tulle.gateway.envoy_apis import tls_to
from tulle.gateway.envoy_pause import PAUSE, PAUSE_HEADER
from tulle.gateway.envoy_values import Json, host_address, typed

PATIENCE_MS: Final = 5000  # for one answer of who gives tokens; the requests wait
YOUNG_MS: Final = (
    10_000  # of age, before a token that the service refused is given up: others may be refused, too
)
MARK: Final = (
    "x-tulle-ask-for-token"  # of the gateway's own request, which asks; a caller has no ticket for it
)
_SCRIPT: Final = "sign_in.lua"
_PROTOCOL: Final = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


@dataclass(frozen=True, slots=True)
class ClientCredentials:
    """Where tokens are asked for, and as whom; its text never has the secret.

    `shown` is where the id and the secret go: a Basic header, or the body. `ca` are certificates (PEM) that the place's
    own is checked with; empty: those of this machine.
    """

    url: str
    client_id: str
    secret: str = field(repr=False)
    scope: str = ""
    audience: str = ""
    shown: Literal["header", "body"] = "header"
    ca: str = ""


def token_filter(path: str, client: ClientCredentials) -> Json:
    """What signs in each request of the service at `path`."""
    parts = urlsplit(client.url)
    head = {
        ":method": "POST",
        ":path": (parts.path or "/") + (f"?{parts.query}" if parts.query else ""),
        ":authority": parts.netloc,
        "content-type": "application/x-www-form-urlencoded",
        "accept": "application/json",
    }
    asked = {"grant_type": "client_credentials", "scope": client.scope, "audience": client.audience}
    if client.shown == "header":
        # Both encoded as in a form before they are joined (RFC 6749, 2.3.1): a colon in one of them stays what it is.
        both = ":".join(quote(one, safe="") for one in (client.client_id, client.secret))
        head["authorization"] = f"Basic {base64.b64encode(both.encode()).decode()}"
    else:
        asked |= {"client_id": client.client_id, "client_secret": client.secret}
    body = urlencode({name: value for name, value in asked.items() if value}, quote_via=quote)
    table = ", ".join(f"[{_text(name)}] = {_text(value)}" for name, value in head.items())
    # Always the same for the same client: another text would be another cluster, and its tokens gone.
    ticket = hmac.digest(client.secret.encode(), f"ticket {path} {client.url}".encode(), hashlib.sha256).hex()
    # The first line is what Envoy calls a script by in its log.
    script = (
        "-- sign in\n"
        f"local ISSUER, PATIENCE, YOUNG = {_text(cluster_name(path))}, {PATIENCE_MS}, {YOUNG_MS}\n"
        f"local OWN, MARK, TICKET = {_text(path)}, {_text(MARK)}, {_text(ticket)}\n"
        f"local WAIT, DELAY = {_text(PAUSE)}, {_text(PAUSE_HEADER)}\n"
        f"local HEAD, BODY = {{{table}}}, {_text(body)}\n"
        f"{resources.files('tulle.gateway').joinpath(_SCRIPT).read_text()}"
    )
    return {
        "name": "token",
        "typed_config": typed(
            "envoy.extensions.filters.http.lua.v3.Lua", default_source_code={"inline_string": script}
        ),
    }


def token_cluster(path: str, client: ClientCredentials) -> Json:
    """Who gives the tokens for the service at `path`."""
    parts = urlsplit(client.url)
    host = parts.hostname or ""
    port = parts.port or (443 if parts.scheme == "https" else 80)
    name = cluster_name(path)
    address = {"socket_address": {"address": host, "port_value": port}}
    ours = [{"remove_on_match": {"key_matcher": {"prefix": one}}} for one in ("x-envoy-", "x-forwarded-")]
    own = typed(
        "envoy.extensions.filters.http.header_mutation.v3.HeaderMutation",
        mutations={"request_mutations": ours},
    )
    codec = typed("envoy.extensions.filters.http.upstream_codec.v3.UpstreamCodec")
    cluster: Json = {
        "name": name,
        "type": "STATIC" if host_address(host) else "STRICT_DNS",
        "connect_timeout": "2s",
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
        },
        "typed_extension_protocol_options": {
            _PROTOCOL: typed(
                _PROTOCOL,
                explicit_http_config={"http_protocol_options": {}},
                common_http_protocol_options={"idle_timeout": "10s"},
                http_filters=[
                    {"name": "not_ours", "typed_config": own},
                    {"name": "codec", "typed_config": codec},
                ],
            )
        },
    }
    if not host_address(host):
        # A name that nobody knows must not keep other changes waiting.
        cluster |= {"dns_lookup_family": "ALL", "wait_for_warm_on_init": False}
    if parts.scheme == "https":
        cluster["transport_socket"] = tls_to(host, client.ca)
    return cluster


def cluster_name(path: str) -> str:
    """Of who gives the tokens; no service can have it."""
    return f"token.of.{path}"


def _text(value: str) -> str:
    """A text as Lua reads it, whatever is in it."""
    plain = (
        chr(one) if one < 128 and (chr(one).isalnum() or chr(one) in " -_.:/=&+@?%") else f"\\{one:03d}"
        for one in value.encode()
    )
    return f'"{"".join(plain)}"'
