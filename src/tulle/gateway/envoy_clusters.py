"""Where the gateway sends requests, in Envoy's words: the workers of each generation, or what stands before them.

Pure. Which requests are sent there is `envoy_routes`'s matter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final

from tulle.gateway.envoy_access import (
    keys_clusters,
)
from tulle.gateway.envoy_apis import external_cluster
from tulle.gateway.envoy_inner import (
    processor_clusters,
)
from tulle.gateway.envoy_pause import pause_cluster
from tulle.gateway.envoy_policies import (
    further_clusters,
    in_cluster,
)
from tulle.gateway.envoy_sign_in import token_cluster
from tulle.gateway.envoy_values import (
    Door,
    Json,
    trusted,
    typed,
)
from tulle.gateway.kept import Kept
from tulle.gateway.policies.kind import known_kinds
from tulle.gateway.policy import (
    GatewayPolicy,
    ManagedService,
    host_and_port,
    is_socket_path,
)
from tulle.gateway.signing import Signing, signed
from tulle.gateway.trust.sidecar import Sidecar, sidecar_of
from tulle.gateway.trust.transport import GATEWAY_FILE, calling

UPSTREAM_IDLE_SECONDS: Final = 4  # below the 5 s after which a plain uvicorn closes an idle connection
# A connection to a sidecar costs a handshake; after an hour it is made anew, with the certificates of then.
SIDECAR_CONNECTION: Final[Json] = {"idle_timeout": "60s", "max_connection_duration": "3600s"}
_MOST_CONNECTIONS: Final = 512  # to the workers of a generation; each has one request at a time


def all_clusters(policy: GatewayPolicy, door: Door, signings: Mapping[str, Signing]) -> list[Json]:
    """Those of every service, and what policies, keys of issuers and the processor need.

    `signings` are what external services are signed in to with, by the path of what they answer for.
    """
    known = (known_kinds(), trusted())  # which may be others by now
    made: list[Json] = []
    for service in policy.services:
        own = _CLUSTERS.of(service.path, (service, *known), partial(clusters, service))
        external = service.front.external if service.front is not None else None
        if external is not None and external.connection:
            signing = signings.get(service.path)
            own = [signed(cluster, signing) for cluster in own]
            if signing is not None and signing.tokens is not None:
                own.append(token_cluster(service.path, signing.tokens))
        made += own
    further = [cluster for service in policy.services for cluster in further_clusters(service)]
    shared = [*keys_clusters(policy.services), *processor_clusters(door.processors)]
    if any(signing.tokens is not None for signing in signings.values()):
        shared.append(pause_cluster())
    return [*made, *further, *shared]


_CLUSTERS: Final[Kept[list[Json]]] = Kept()


def clusters(service: ManagedService) -> list[Json]:
    """The workers of a service, those of each generation apart; of an API what is external behind it."""
    if service.front is not None:
        made = [external_cluster(service)] if service.front.external is not None else []
        return [in_cluster(service, cluster) for cluster in made] if service.policies else made
    if service.traffic is None:
        return [worker_cluster(service, service.path, service.upstreams)]
    return [_generation(service, b.generation, b.upstreams) for b in service.backends]


def _generation(service: ManagedService, generation: str, upstreams: Sequence[str]) -> Json:
    """The workers of a generation: behind their sidecar, where the service has an identity."""
    name = cluster_name(service, generation)
    sidecar = sidecar_of(service, generation)
    return worker_cluster(service, name, upstreams) if sidecar is None else _sidecar_cluster(service, sidecar)


def cluster_name(service: ManagedService, generation: str) -> str:
    """The cluster of a generation's workers."""
    return f"{service.answered_by}/{generation}"


def _sidecar_cluster(service: ManagedService, sidecar: Sidecar) -> Json:
    """The sidecar of a generation, by mutual TLS. Which workers live is its own matter; it is there, or comes back."""
    # What waits for sidecars that come back are all requests that there are.
    cluster = _cluster(
        service, sidecar.name, [sidecar.socket], SIDECAR_CONNECTION, retries=service.most_requests
    )
    bounded = in_cluster(service, cluster) if service.policies else cluster
    bounded.pop("outlier_detection", None)  # there is one sidecar; which worker fails it sees itself
    return {**bounded, "transport_socket": calling(GATEWAY_FILE, sidecar.identity)}


def worker_cluster(service: ManagedService, name: str, upstreams: Sequence[str]) -> Json:
    """Workers: asked every second whether they live, set aside when they fail, bounded."""
    made: Json = {
        **_cluster(service, name, upstreams, {"idle_timeout": f"{UPSTREAM_IDLE_SECONDS}s"}),
        "lb_policy": "LEAST_REQUEST",
        # When no worker is known to live all are tried: a restarted one answers before the next health check.
        "common_lb_config": {"healthy_panic_threshold": {"value": 1}},
        "health_checks": [
            {
                "timeout": "1s",
                "interval": "1s",
                "no_traffic_interval": "1s",
                "unhealthy_interval": "0.25s",
                "no_traffic_healthy_interval": "2s",
                "unhealthy_threshold": 2,
                "healthy_threshold": 1,
                "http_health_check": {"path": service.health_path, "host": "gateway"},
            }
        ],
        "outlier_detection": {
            "split_external_local_origin_errors": True,
            "consecutive_local_origin_failure": 2,
            "enforcing_consecutive_local_origin_failure": 100,
            "enforcing_local_origin_success_rate": 0,
            "enforcing_consecutive_5xx": 0,  # a worker's own 500 says nothing about the worker
            "enforcing_consecutive_gateway_failure": 0,
            "enforcing_success_rate": 0,
            "interval": "0.5s",
            "base_ejection_time": "1s",
            "max_ejection_time": "5s",
            "max_ejection_percent": 100,
        },
    }
    return in_cluster(service, made) if service.policies else made


def _cluster(
    service: ManagedService, name: str, upstreams: Sequence[str], connection: Json, *, retries: int = 256
) -> Json:
    """Where requests are sent, bounded; `connection` says how long one is kept."""
    endpoints = [{"endpoint": {"address": _address(upstream)}} for upstream in upstreams]
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]},
        "circuit_breakers": {
            "thresholds": [
                {
                    "max_connections": _MOST_CONNECTIONS,
                    # Those without a connection wait; at a burst's begin that is all of it.
                    "max_pending_requests": max(1024, service.most_requests - _MOST_CONNECTIONS),
                    "max_requests": service.most_requests,
                    "max_retries": retries,
                }
            ]
        },
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": typed(
                "envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                explicit_http_config={"http_protocol_options": {}},
                common_http_protocol_options=connection,
            )
        },
    }


def _address(upstream: str) -> Json:
    if is_socket_path(upstream):
        return {"pipe": {"path": upstream}}
    host, port = host_and_port(upstream)
    return {"socket_address": {"address": host, "port_value": port}}
