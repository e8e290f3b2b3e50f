"""Where an issuer's public keys are fetched, in Envoy's words, and how much of them is taken.

An issuer that is hostile or broken fills no memory, and makes no token costly to check: one that names no key is held
against each. Envoy itself stops reading what it fetches at `LARGEST_FETCHED`, and a script at so many keys; either way
it is as if nothing could be fetched, and keys that were fetched before stay. Pure.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

from tulle.gateway.envoy_values import Json, host_address, trusted, typed
from tulle.serving.access import MOST_KEYS, Tokens

LARGEST_FETCHED: Final = 1_000_000  # bytes of an answer that Envoy asks for by itself, and takes whole
RUNTIME: Final[Json] = {"http.async_response_buffer_limit": LARGEST_FETCHED}
# Each key is an object, and the set is one. Escapes can hide a member's name, but no brace. What is too much becomes
# something that is no JSON: a script cannot end an answer.
_SCRIPT: Final = f"""
function envoy_on_response(handle)
  local objects = 0
  for chunk in handle:bodyChunks() do
    local _, more = chunk:getBytes(0, chunk:length()):gsub("{{", "{{")
    objects = objects + more
    if objects > {MOST_KEYS + 1} then chunk:setBytes("!") end
  end
end
"""


def keys_cluster_name(service: str) -> str:
    """The name of the cluster of an issuer's keys; no service can have it."""
    return f"keys.of.{service}"


def keys_cluster(service: str, tokens: Tokens) -> Json:
    """Where the keys of this issuer are fetched; what is too much of them is broken on its way in, and so refused."""
    parts = urlsplit(tokens.jwks_uri)
    host = parts.hostname or ""
    port = parts.port or (443 if parts.scheme == "https" else 80)
    name = keys_cluster_name(service)
    endpoint = {"endpoint": {"address": {"socket_address": {"address": host, "port_value": port}}}}
    cluster: Json = {
        "name": name,
        "type": "STATIC" if host_address(host) else "STRICT_DNS",
        "connect_timeout": f"{tokens.timeout:.3f}s",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]},
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": typed(
                "envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                explicit_http_config={"http_protocol_options": {}},
                http_filters=_bounded(),
            )
        },
    }
    if not host_address(host):
        # A name that nobody knows must not keep the other services' changes waiting.
        cluster |= {"dns_lookup_family": "ALL", "wait_for_warm_on_init": False}
    if parts.scheme == "https":
        check = {
            "trusted_ca": {"filename": trusted()},
            "match_typed_subject_alt_names": [
                {"san_type": "IP_ADDRESS" if host_address(host) else "DNS", "matcher": {"exact": host}}
            ],
        }
        cluster["transport_socket"] = {
            "name": "tls",
            "typed_config": typed(
                "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
                common_tls_context={"validation_context": check},
                **({} if host_address(host) else {"sni": host}),
            ),
        }
    return cluster


def _bounded() -> list[Json]:
    script = typed("envoy.extensions.filters.http.lua.v3.Lua", default_source_code={"inline_string": _SCRIPT})
    codec = typed("envoy.extensions.filters.http.upstream_codec.v3.UpstreamCodec")
    return [{"name": "most_keys", "typed_config": script}, {"name": "codec", "typed_config": codec}]
