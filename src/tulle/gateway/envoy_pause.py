"""A pause in Envoy's words: a call to it is answered after some milliseconds, which the call says.

Scripts of Envoy have no clock to wait by; they call here. The listener is a unix socket of mode 0600 and leads nowhere.
Pure. Knows nothing of what is waited for.
"""

from __future__ import annotations

from typing import Final

from tulle.gateway.envoy_values import FOLDER, Json, typed

PAUSE: Final = "pause"  # the listener and the cluster; no service can have this name, which has no version
PAUSE_HEADER: Final = "x-envoy-fault-delay-request"  # milliseconds; what Envoy's filter listens to
_SOCKET: Final = f"{FOLDER}/pause.sock"
_MOST: Final = 4096  # that wait at once; one more is answered at once
_PROTOCOL: Final = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


def pause_listener() -> Json:
    """Who answers after a while."""
    delay = {"header_delay": {}, "percentage": {"numerator": 100}}
    filters = [
        ("fault", typed("envoy.extensions.filters.http.fault.v3.HTTPFault", delay=delay)),
        ("router", typed("envoy.extensions.filters.http.router.v3.Router")),
    ]
    answer = {"match": {"prefix": "/"}, "direct_response": {"status": 204}}
    config = typed(
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix="pause",
        codec_type="HTTP2",
        http_filters=[{"name": name, "typed_config": config} for name, config in filters],
        route_config={"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [answer]}]},
        generate_request_id=False,
        http2_protocol_options={"max_concurrent_streams": _MOST},
    )
    return {
        "name": PAUSE,
        "address": {"pipe": {"path": _SOCKET, "mode": 0o600}},
        "filter_chains": [{"filters": [{"name": "http", "typed_config": config}]}],
    }


def pause_cluster() -> Json:
    """The way there: many pauses go by one connection."""
    endpoint = {"endpoint": {"address": {"pipe": {"path": _SOCKET}}}}
    most = dict.fromkeys(("max_pending_requests", "max_requests"), _MOST)
    http2 = {"http2_protocol_options": {"max_concurrent_streams": _MOST}}
    return {
        "name": PAUSE,
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {"cluster_name": PAUSE, "endpoints": [{"lb_endpoints": [endpoint]}]},
        "circuit_breakers": {"thresholds": [most]},
        "typed_extension_protocol_options": {_PROTOCOL: typed(_PROTOCOL, explicit_http_config=http2)},
    }
