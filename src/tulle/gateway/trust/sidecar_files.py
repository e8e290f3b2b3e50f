"""Renders the sidecars of one machine to the files of the Envoy that is all of them.

A sidecar stands before the workers of one generation: it takes mutual TLS only, under the identity of its service, and
passes on what the gateway sends; everybody else of the mesh is refused in words, whoever is not of the mesh before the
first of them. It asks the workers for their health, spreads requests over them and repeats what may be repeated. Pure.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Final

from tulle.errors import Broken
from tulle.gateway.envoy_clusters import worker_cluster
from tulle.gateway.envoy_errors import plain_replies
from tulle.gateway.envoy_files import versioned
from tulle.gateway.envoy_overload import most_connections
from tulle.gateway.envoy_routes import again
from tulle.gateway.envoy_values import Json, typed
from tulle.gateway.trust.certificate import Pair
from tulle.gateway.trust.identity import Identity
from tulle.gateway.trust.sidecar import Sidecar
from tulle.gateway.trust.transport import accepting, written_certificate

FOLDER: Final = "run/sidecars"  # relative to .tulle/
ADMIN_SOCKET: Final = f"{FOLDER}/admin.sock"
ACCESS_LOG: Final = "log/sidecars-access.jsonl"
FILES: Final = ("clusters", "listeners")
MOST_CONNECTIONS: Final = 20_000  # of the gateway to all sidecars
_LEAST_BUFFER: Final = 1 << 20


def render(
    sidecars: Collection[Sidecar], callers: Sequence[Identity], certificates: Mapping[str, Pair]
) -> Mapping[str, Json]:
    """The watched files by name (see FILES); `callers` are who is let through, `certificates` are by `file_name`.

    A watched file for each certificate would be better, and Envoy opens a watcher for each: a user has 128 of them on
    many machines. So they stand in the file of the sidecars, which is readable by its owner alone as theirs are.
    """
    clusters = [worker_cluster(one.service, one.name, one.workers) for one in sidecars]
    made = [typed("envoy.config.listener.v3.Listener", **_listener(one, callers)) for one in sidecars]
    return {
        "clusters": versioned([typed("envoy.config.cluster.v3.Cluster", **one) for one in clusters]),
        "listeners": with_certificates(made, certificates),
    }


def with_certificates(listeners: Sequence[Json], certificates: Mapping[str, Pair]) -> Json:
    """The file of the listeners, each with the certificate of its service, or the one it has. Broken: it has none."""
    for one in listeners:
        for chain in one["filter_chains"]:
            if (own := certificates.get(chain["name"])) is not None:
                chain["transport_socket"] = accepting(**written_certificate(own.certificate, own.key))
            elif "transport_socket" not in chain:
                raise Broken(f"the sidecar of {one['name']} has no certificate", hint="`tulle trust show`")
    return versioned(listeners)


def bootstrap() -> Json:
    """The file that Envoy starts with."""

    def watched(name: str) -> Json:
        source = {"path": f"{FOLDER}/{name}.json"}
        return {"path_config_source": source, "resource_api_version": "V3"}

    return {
        "node": {"id": "sidecars", "cluster": "sidecars"},
        "admin": {"address": {"pipe": {"path": ADMIN_SOCKET, "mode": 0o600}}},
        "dynamic_resources": {"lds_config": watched("listeners"), "cds_config": watched("clusters")},
        "overload_manager": most_connections(MOST_CONNECTIONS),
    }


def _listener(one: Sidecar, callers: Sequence[Identity]) -> Json:
    return {
        "name": one.name,
        "address": {"pipe": {"path": one.socket, "mode": 0o600}},
        # A request may be asked of another worker as long as all of it is at hand.
        "per_connection_buffer_limit_bytes": max(_LEAST_BUFFER, one.service.max_request_bytes),
        "filter_chains": [
            {
                "name": one.identity.file_name,
                "transport_socket_connect_timeout": "5s",  # who connects and says nothing
                "filters": [{"name": "http", "typed_config": _connection_manager(one, callers)}],
            }
        ],
    }


def _connection_manager(one: Sidecar, callers: Sequence[Identity]) -> Json:
    route = {
        "name": one.name,
        "match": {"prefix": "/"},
        # How long an answer may take is the gateway's matter: when it waits no longer, the request ends here, too.
        "route": {"cluster": one.name, "timeout": "0s", "idle_timeout": "0s", **again(one.service)},
    }
    return typed(
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix="sidecar",
        codec_type="HTTP1",
        server_name="tulle",
        route_config={
            "name": one.name,
            "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}],
        },
        http_filters=[
            {"name": "callers", "typed_config": _only(callers)},
            {
                "name": "router",
                "typed_config": typed(
                    "envoy.extensions.filters.http.router.v3.Router", suppress_envoy_headers=True
                ),
            },
        ],
        local_reply_config=_replies(),
        access_log=[_access_log(one)],
        use_remote_address=False,
        skip_xff_append=True,
        forward_client_cert_details="SANITIZE",
        # A request keeps the id that the gateway gave it.
        generate_request_id=False,
        preserve_external_request_id=True,
        common_http_protocol_options={
            "idle_timeout": "300s",  # longer than the gateway keeps a connection that it does not use
            "max_headers_count": 120,  # the gateway lets 100 in, and adds some
            "headers_with_underscores_action": "ALLOW",
        },
        max_request_headers_kb=48,
        request_headers_timeout="10s",
        stream_idle_timeout="0s",
    )


def _only(callers: Sequence[Identity]) -> Json:
    """Whoever's certificate does not name one of them is refused, whoever signed it."""
    principals = [{"authenticated": {"principal_name": {"exact": one.uri}}} for one in callers]
    policies = {"callers": {"permissions": [{"any": True}], "principals": principals}} if principals else {}
    return typed(
        "envoy.extensions.filters.http.rbac.v3.RBAC", rules={"action": "ALLOW", "policies": policies}
    )


def _replies() -> Json:
    """What a sidecar answers itself, in the shape that all errors have."""
    replies = plain_replies()
    message = "This caller may not call the service's workers"
    refused = {
        "filter": {
            "status_code_filter": {
                "comparison": {"op": "EQ", "value": {"default_value": 403, "runtime_key": "error.caller"}}
            }
        },
        "body_format_override": {
            "json_format": {
                "errorType": "CallerNotAllowed",
                "message": message,
                "detailedMessage": f"{message}. Services call one another through the gateway, under a contract",
                "requestId": "%REQ(x-request-id)%",
            },
            "content_type": "application/json",
        },
    }
    return {**replies, "mappers": [refused, *replies["mappers"]]}


def _access_log(one: Sidecar) -> Json:
    """One line a request that a sidecar answers itself, with both identities; the rest is in the gateway's log."""
    line = {
        "time": "%START_TIME(%Y-%m-%dT%H:%M:%S.%3fZ)%",
        "method": "%REQ(:METHOD)%",
        "path": "%PATH(NQ)%",
        "code": "%RESPONSE_CODE%",
        "caller": "%DOWNSTREAM_PEER_URI_SAN%",
        "identity": "%DOWNSTREAM_LOCAL_URI_SAN%",
        "generation": one.generation,
        "certificate": "%DOWNSTREAM_PEER_SERIAL%",
        "client": "%REQ(x-tulle-client)%",
        "duration_ms": "%DURATION%",
        "request_id": "%REQ(x-request-id)%",
        "flags": "%RESPONSE_FLAGS%",
        "details": "%RESPONSE_CODE_DETAILS%",
    }
    own = typed(
        "envoy.extensions.access_loggers.filters.cel.v3.ExpressionFilter",
        expression="response.code_details != 'via_upstream'",
    )
    return {
        "name": "file",
        "filter": {"extension_filter": {"name": "cel", "typed_config": own}},
        "typed_config": typed(
            "envoy.extensions.access_loggers.file.v3.FileAccessLog",
            path=ACCESS_LOG,
            log_format={"json_format": line},
        ),
    }
