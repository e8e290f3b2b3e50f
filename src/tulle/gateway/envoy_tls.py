"""The gateway's doors by TLS in Envoy's words, the one beside them without it, and the bounds of HTTP/2.

Pure. The certificate is a watched file (`gateway.door_certificate`). Who comes without TLS where TLS is spoken is
told so in HTTP; what may have had a secret in it is refused, as it would be sent that way again and again: anything
with a query, and with a header in which secrets usually are. It knows no policies, so a header of another name that
one of them takes a key from is not seen here.
"""

from __future__ import annotations

import copy
from typing import Final

from tulle.gateway.envoy_errors import plain_replies
from tulle.gateway.envoy_values import CERTIFICATE, Json, typed, watched

PLAIN: Final = "plain"  # the door without TLS
# What one connection may ask for at once, and have on its way. Who begins requests and takes them back again and again
# is cut off by Envoy itself: `RUNTIME`.
HTTP2: Final[Json] = {
    "max_concurrent_streams": 100,
    "initial_stream_window_size": 65_536,
    "initial_connection_window_size": 1_048_576,
    "max_outbound_frames": 2000,
    "max_outbound_control_frames": 500,
}
RUNTIME: Final[Json] = {
    "overload.premature_reset_total_stream_count": 200,
    "overload.premature_reset_min_stream_lifetime_seconds": 1,
    "http.max_requests_per_io_cycle": 10,  # of one connection, before others have their turn
}
_TLS: Final = "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext"
_CREDENTIALS: Final = (
    *("authorization", "proxy-authorization", "client_id", "client_secret", "cookie"),
    *("api-key", "api_key", "apikey", "x-api-key", "x-apikey", "x-auth-token", "x-access-token"),
)


# A host as it is led back to: nothing that a browser reads as a user's name before another one (RFC 3986, 3.2.1).
_HOST: Final = r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?"


def by_tls(plain: Json, safe: Json) -> Json:
    """The `plain` listener with TLS before its connection manager `safe`; what comes without is told where to go."""
    made = copy.copy(plain)
    inspector = typed("envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector")
    made["listener_filters"] = [{"name": "kind", "typed_config": inspector}]
    made["listener_filters_timeout"] = "10s"
    made["filter_chains"] = [
        {
            "name": "tls",
            "filter_chain_match": {"transport_protocol": "tls"},
            "filters": [safe],
            "transport_socket": _accepting(),
            "transport_socket_connect_timeout": "10s",
        },
        {
            "name": PLAIN,
            "filter_chain_match": {"transport_protocol": "raw_buffer"},
            "filters": [_way_to_tls(None)],
        },
    ]
    return made


def plain_listener(plain: Json, port: int, tls_port: int, *, serves: bool) -> Json:
    """The listener at the port without TLS: it serves as the other one does, or leads there."""
    made = copy.deepcopy(plain)
    made["name"] = PLAIN
    made["address"]["socket_address"]["port_value"] = port
    if not serves:
        made["filter_chains"] = [{"filters": [_way_to_tls(tls_port)]}]
    return made


def hsts(seconds: int) -> list[Json]:
    """The filter that tells browsers to come back by TLS alone; none where they are not to be told."""
    if not seconds:
        return []
    header = {"key": "strict-transport-security", "value": f"max-age={seconds}"}
    mutation = {"append": {"header": header, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}}
    kind = "envoy.extensions.filters.http.header_mutation.v3.HeaderMutation"
    return [{"name": "hsts", "typed_config": typed(kind, mutations={"response_mutations": [mutation]})}]


def _accepting() -> Json:
    source = watched(CERTIFICATE)
    return {
        "name": "tls",
        "typed_config": typed(
            _TLS,
            common_tls_context={
                "tls_params": {
                    "tls_minimum_protocol_version": "TLSv1_2",
                    "tls_maximum_protocol_version": "TLSv1_3",
                },
                "alpn_protocols": ["h2", "http/1.1"],
                "tls_certificate_sds_secret_configs": [{"name": CERTIFICATE, "sds_config": source}],
            },
        ),
    }


def _way_to_tls(tls_port: int | None) -> Json:
    """What answers without TLS: reads without query and credentials are led on, all else is refused with the reason."""
    leads: Json = {"https_redirect": True, "response_code": "PERMANENT_REDIRECT"}
    if tls_port is not None:
        leads["port_redirect"] = tls_port
    bare = [{"name": name, "present_match": True, "invert_match": True} for name in _CREDENTIALS]
    reads = [
        {"name": ":method", "string_match": {"safe_regex": {"regex": "GET|HEAD"}}},
        {"name": ":path", "string_match": {"contains": "?"}, "invert_match": True},
        {"name": ":authority", "string_match": {"safe_regex": {"regex": _HOST}}},
    ]
    routes = [
        {"match": {"prefix": "/", "headers": [*reads, *bare]}, "redirect": leads},
        {"match": {"prefix": "/"}, "direct_response": {"status": 426}},
    ]
    config = typed(
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix=PLAIN,
        codec_type="HTTP1",
        server_name="tulle",
        route_config={
            "name": PLAIN,
            "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}],
        },
        http_filters=[
            {"name": "router", "typed_config": typed("envoy.extensions.filters.http.router.v3.Router")}
        ],
        local_reply_config=plain_replies(tls_needed=True),
        always_set_request_id_in_response=True,
        use_remote_address=True,
        normalize_path=True,
        merge_slashes=True,
        path_with_escaped_slashes_action="REJECT_REQUEST",
        common_http_protocol_options={"idle_timeout": "30s", "max_headers_count": 100},
        max_request_headers_kb=32,
        request_headers_timeout="10s",
        request_timeout="10s",
        stream_idle_timeout="10s",
    )
    return {"name": "http", "typed_config": config}
