"""Renders a GatewayPolicy to the files the real Envoy reads.

Pure: a policy and a Door in, plain JSON values out. The way of a request through the filters is in
`envoy_listener`; how credentials travel is told in docs/decisions/gateway-credentials.md. Knows nothing of the
file system, of processes and of the database.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from email.utils import formatdate
from typing import Any, Final

import msgspec

from tulle.gateway.envoy_access import (
    BY_NOTHING,
    KNOWN_WAYS,
    MOST_CALLERS,
    Way,
    buckets,
    counted_by,
    enabled,
    keys_clusters,
    off,
    token_checks,
    ways,
)
from tulle.gateway.envoy_apis import external_cluster, external_routes, match_of, ordered, rewritten
from tulle.gateway.envoy_index import indexed
from tulle.gateway.envoy_inner import (
    BEHIND,
    chain_of,
    chains_of,
    inner_listener,
    inner_routes,
    leading_apart,
    processor_clusters,
    to_processor,
)
from tulle.gateway.envoy_listener import listeners
from tulle.gateway.envoy_policies import (
    ServicePart,
    counted_as,
    further_clusters,
    in_cluster,
    merged,
    parts_of,
    policy_buckets,
    policy_counted_by,
)
from tulle.gateway.envoy_spikes import spikes
from tulle.gateway.envoy_tracing import collector
from tulle.gateway.envoy_values import (
    ADMIN_SOCKET,
    AUTH,
    BODY,
    CLIENT_HEADER,
    CONTRACT,
    DISPATCH,
    DISPATCH_BODY,
    FORCED_HEADER,
    GUARD,
    JWT,
    KEY_HEADER,
    LIMITS,
    NORMALISE,
    ONE_NAME,
    REMEMBER,
    ROUTES,
    SECOND_NAME,
    SPIKES,
    Door,
    Json,
    typed,
    watched,
)
from tulle.gateway.policy import (
    Contract,
    GatewayPolicy,
    ManagedService,
    Notice,
    host_and_port,
    is_socket_path,
)
from tulle.gateway.processing.plan import FILE as PLAN
from tulle.gateway.processing.plan import resources
from tulle.gateway.trust.services_door import holders
from tulle.gateway.trust.sidecar import Sidecar, sidecar_of
from tulle.gateway.trust.transport import GATEWAY_FILE, calling
from tulle.serving.traffic import Traffic

# Files in the order they must be published in: a client gets a limit before it gets a contract, a service gets
# its workers and its steps before it gets a route. What takes something away opens no hole in this order either.
FILES: Final = ("limits", "spikes", "auth", "clusters", "jwt", PLAN, "inner", "routes", "listeners")

UPSTREAM_IDLE_SECONDS: Final = 4  # below the 5 s after which a plain uvicorn closes an idle connection
# A connection to a sidecar costs a handshake; after an hour it is made anew, with the certificates of then.
SIDECAR_CONNECTION: Final[Json] = {"idle_timeout": "60s", "max_connection_duration": "3600s"}
WORKER_RETRIES: Final = 4
SIDECAR_RETRIES: Final = 40  # over about 4.5 s, in which sidecars that were killed are back

_MOST_CONNECTIONS: Final = 512  # to the workers of a generation; each has one request at a time

# what tells who the caller is ends here; workers read x-tulle-client
_SECRET_HEADERS: Final = ("authorization", "proxy-authorization", "client_id", "client_secret")


def render(policy: GatewayPolicy, door: Door) -> Mapping[str, Json]:
    """The watched files by name (see FILES); each carries the digest of its own content as version."""
    resources_of: Mapping[str, Sequence[Json]] = {
        "limits": [_extension(LIMITS, limits(policy))],
        "spikes": [_extension(SPIKES, spikes(policy.services))],
        "auth": [_extension(AUTH, credentials(policy))],
        "clusters": [typed("envoy.config.cluster.v3.Cluster", **c) for c in _clusters(policy, door)],
        "jwt": [_extension(JWT, token_checks(policy.services))],
        PLAN: resources(chains_of(policy)),
        "inner": [typed("envoy.config.route.v3.RouteConfiguration", **behind(policy))],
        "routes": [typed("envoy.config.route.v3.RouteConfiguration", **routes(policy, door.processors))],
        "listeners": [
            typed("envoy.config.listener.v3.Listener", **one) for one in (*listeners(door), inner_listener())
        ],
    }
    return {name: versioned(content) for name, content in resources_of.items()}


def bootstrap(door: Door) -> Json:
    """The file Envoy starts with: its admin socket, and where the watched files are."""
    made: Json = {
        "node": {"id": "gateway", "cluster": "gateway"},
        "admin": {"address": {"pipe": {"path": ADMIN_SOCKET, "mode": 0o600}}},
        "dynamic_resources": {"lds_config": watched("listeners"), "cds_config": watched("clusters")},
        # paths of operations as an expression are longer than Envoy allows without a word; they stay linear in time
        "layered_runtime": {
            "layers": [{"name": "static", "static_layer": {"re2.max_program_size.error_level": 65_536}}]
        },
        "overload_manager": most_connections(door.most_connections),
    }
    if clusters := collector(door.traces):
        made["static_resources"] = {"clusters": clusters}
    return made


def most_connections(most: int) -> Json:
    """What refuses further callers when so many are connected."""
    return {
        "resource_monitors": [
            {
                "name": "envoy.resource_monitors.global_downstream_max_connections",
                "typed_config": typed(
                    "envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig",
                    max_active_downstream_connections=most,
                ),
            }
        ]
    }


def static_twin(policy: GatewayPolicy, door: Door) -> Json:
    """One file with everything in place, for `--mode validate`, which does not read watched files."""
    twin = bootstrap(door)
    del twin["dynamic_resources"]
    twin["static_resources"] = {
        "listeners": [
            *listeners(
                door,
                {
                    AUTH: credentials(policy),
                    JWT: token_checks(policy.services),
                    LIMITS: limits(policy),
                    SPIKES: spikes(policy.services),
                    ROUTES: routes(policy, door.processors),
                },
            ),
            inner_listener(behind(policy)),
        ],
        "clusters": [*_clusters(policy, door), *collector(door.traces)],
    }
    return twin


# ── the watched files ────────────────────────────────────────────────────────────────────────────────────


def credentials(policy: GatewayPolicy) -> Json:
    """Who may sign in: an htpasswd with a line `client_id:{SHA}hash` a secret; secrets are never in it."""
    # Envoy refuses an empty list. This line admits nobody: its hash is no SHA-1, and a space cannot be in an id.
    lines = [
        f"{name}:{{SHA}}{hashed}"
        for c in policy.clients
        for name, hashed in ((c.client_id, c.secret_hash), (c.client_id + SECOND_NAME, c.second_hash))
        if hashed
    ] or [" nobody:{SHA}" + "=" * 28]
    return typed(
        "envoy.extensions.filters.http.basic_auth.v3.BasicAuth",
        users={"inline_string": "\n".join(lines) + "\n"},
        forward_username_header=CLIENT_HEADER,
    )


def limits(policy: GatewayPolicy) -> Json:
    """The token buckets, of contracts and other callers; in a file of its own as reloading it fills all of them."""
    return typed(
        "envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit",
        stat_prefix="contract",
        # Only for a request without a bucket of its own, which contracts rule out; small, so that nobody gains.
        token_bucket={"max_tokens": 1, "tokens_per_fill": 1, "fill_interval": "0.05s"},
        always_consume_default_token_bucket=False,
        filter_enabled=_always("limits.enabled"),
        filter_enforced=_always("limits.enforced"),
        enable_x_ratelimit_headers="DRAFT_VERSION_03",
        rate_limits=[
            {"actions": actions}
            for actions in (
                *counted_by(policy.services, policy.contracts),
                *policy_counted_by(policy.services),
            )
        ],
        max_dynamic_descriptors=MOST_CALLERS,
        descriptors=[
            *buckets(policy.services, policy.contracts),
            *policy_buckets(policy.services, KNOWN_WAYS),
        ],
    )


def _clusters(policy: GatewayPolicy, door: Door) -> list[Json]:
    made = [cluster for service in policy.services for cluster in clusters(service)]
    further = [cluster for service in policy.services for cluster in further_clusters(service)]
    known = [*keys_clusters(policy.services), *processor_clusters(door.processors)]
    return [*made, *further, *known]


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
    name = _cluster_name(service, generation)
    sidecar = sidecar_of(service, generation)
    return worker_cluster(service, name, upstreams) if sidecar is None else _sidecar_cluster(service, sidecar)


def _cluster_name(service: ManagedService, generation: str) -> str:
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


def routes(policy: GatewayPolicy, processors: int = 1) -> Json:
    """The routes of every service, and one for all else: 404, after the caller has shown who it is."""
    held: dict[str, list[Contract]] = defaultdict(list)
    for contract in policy.contracts:
        held[contract.service].append(contract)
    everywhere = holders(policy.holders)
    if policy.is_guarded:  # which wants to know, of each request, whether its secret was right
        everywhere = {**everywhere, GUARD: enabled(), REMEMBER: enabled()}
    if any(client.second_hash for client in policy.clients):  # while a secret takes another one's place
        everywhere = {**everywhere, ONE_NAME: enabled()}
    nowhere = {
        "match": {"prefix": "/"},
        "direct_response": {"status": 404},
        "typed_per_filter_config": {name: off() for name in (CONTRACT, LIMITS, BODY)},
    }
    found: dict[str, list[Json]] = {}
    for service in ordered(policy.services):
        of_address = found.setdefault(service.address, [])
        for part in parts_of(service):
            for way in ways(service, part, held[service.name]):
                of_address += _routes(service, part, way, processors)
    return {
        "name": ROUTES,
        "virtual_hosts": [
            {
                "name": "all",
                "domains": ["*"],
                **({"typed_per_filter_config": everywhere} if everywhere else {}),
                **indexed(found, [_alive(policy.is_alive), nowhere]),
            }
        ],
        "request_headers_to_remove": list(_SECRET_HEADERS),
        "validate_clusters": False,
    }


def _alive(is_alive: bool) -> Json:
    """What anybody may ask, and is answered here."""
    reason = {} if is_alive else {"metadata": {"filter_metadata": {"tulle": {"reason": "resting"}}}}
    return {
        "match": {
            "path": "/isAlive/",
            "headers": [{"name": ":method", "string_match": {"exact": "GET"}}],
        },
        "direct_response": {"status": 200 if is_alive else 503},
        "typed_per_filter_config": {name: off() for name in (NORMALISE, AUTH, CONTRACT, LIMITS, BODY)},
        **reason,
    }


def behind(policy: GatewayPolicy) -> Json:
    """The routes of the inner listener: to what answers for every service, whether it has steps now or not.

    So a service that gets steps, or has none any more, changes the front's routes alone, and no request is lost.
    """
    found: dict[str, list[Json]] = {}
    for service in ordered(policy.services):
        of_address = found.setdefault(service.address, [])
        for part in leading_apart(parts_of(service)):
            of_address += _routes(service, part, BEHIND)
    return inner_routes(found, _SECRET_HEADERS)


def _routes(service: ManagedService, part: ServicePart, way: Way, processors: int = 1) -> Iterator[Json]:
    """Those of one way into a part of a service, the first that fits a request is taken."""
    by_body = {} if service.traffic is None else _dispatch_by_body(service.traffic)
    counted: Mapping[str, str] = {}
    if way is not BEHIND:
        counted = counted_as(service, part, way.name, is_known=way.name != BY_NOTHING)
    asked = part.match(service.address.rstrip("/"))
    of_part = "" if part.operation.is_any else f" {part.operation}"

    def route(name: str, *headers: Json, reason: str = "", status: int = 0, **action: Any) -> Json:
        about = {"service": service.name, "environment": service.environment, "reason": reason}
        about |= {"access": way.name, **way.counted_as, **counted}
        headers = (*asked, *way.headers, *headers)
        made: Json = {
            "name": name + of_part,
            "match": match_of(service, headers),
            "metadata": {"filter_metadata": {"tulle": {k: v for k, v in about.items() if v}}},
            "typed_per_filter_config": {
                **way.filters,
                BODY: _body(part.max_request_bytes),
                **by_body,
                **part.settings,
            },
        }
        if service.notice is not None:
            made["response_headers_to_add"] = _notice_headers(service.notice)
        made = merged(made, part.route)
        if status:
            return {**made, "direct_response": {"status": status}}
        return {**made, "route": merged({**_to_workers(service), **action}, part.action)}

    if way is not BEHIND and (chain := chain_of(service, part)) is not None:
        yield to_processor(route(service.path), service, part, chain, processors)
        return
    if service.stopped is not None:
        reason = service.stopped if service.front is None else f"api_{service.stopped}"
        yield route(service.path, reason=reason, status=410 if service.stopped == "retired" else 503)
        return
    if service.front is not None and service.front.is_unbound:
        yield route(service.path, reason="unbound", status=503)
        return
    if service.front is not None and service.front.external is not None:
        yield from external_routes(service, route(service.path), part.action)
        return
    if service.traffic is None:
        yield route(service.path, cluster=service.answered_by)
        return
    for name in sorted(service.traffic.mounted):  # others that are known still are on their way out
        forced = {"name": FORCED_HEADER, "string_match": {"exact": name}}
        yield route(f"{service.path} forced {name}", forced, cluster=_cluster_name(service, name))
    some = {"name": FORCED_HEADER, "present_match": True}
    yield route(f"{service.path} forced", some, reason="generation", status=404)
    keyed = {"name": KEY_HEADER, "present_match": True}
    if service.traffic.mode == "sticky":
        yield route(service.path, keyed, **_split(service, service.traffic))
        yield route(f"{service.path} without key", reason="dispatch_key", status=400)
    else:
        yield route(service.path, **_split(service, service.traffic))


def _split(service: ManagedService, traffic: Traffic) -> Json:
    """Where a request goes that names no generation."""
    action: Json = {}
    if traffic.mode == "single":
        action["cluster"] = _cluster_name(service, traffic.main)
    else:
        weights = [
            {"name": _cluster_name(service, share.generation), "weight": share.parts}
            for share in traffic.shares
        ]
        action["weighted_clusters"] = {"clusters": weights}
    if traffic.mode == "sticky":
        action["weighted_clusters"]["use_hash_policy"] = True
        action["hash_policy"] = [{"header": {"header_name": KEY_HEADER}}]
    if traffic.shadow is not None:
        part = {"numerator": traffic.shadow.parts, "denominator": "TEN_THOUSAND"}
        action["request_mirror_policies"] = [
            {
                "cluster": _cluster_name(service, traffic.shadow.generation),
                "runtime_fraction": {"default_value": part},
            }
        ]
    return action


def _dispatch_by_body(traffic: Traffic) -> Json:
    """Bodies are looked into only where it matters: where there is more than one generation."""
    if len(traffic.mounted) == 1:
        return {}
    return {name: enabled() for name in (DISPATCH_BODY, DISPATCH)}


def _to_workers(service: ManagedService) -> Json:
    seconds = f"{service.timeout_seconds:.3f}s"
    by_sidecar = service.identity and service.traffic is not None
    return {
        **rewritten(service),
        "timeout": seconds,
        "idle_timeout": seconds,  # while a worker is at a request, nothing is sent
        **again(service, SIDECAR_RETRIES if by_sidecar else WORKER_RETRIES),
    }


def again(service: ManagedService, times: int = WORKER_RETRIES) -> Json:
    """Of a route to a service's workers: what is asked again, of another one if there is."""
    unsent = "connect-failure,refused-stream,reset-before-request"
    return {
        # Most requests have no side effects: what a worker's end interrupts is asked of another one.
        "retry_policy": {
            "retry_on": f"{unsent},reset" if service.may_repeat else unsent,
            "num_retries": times,
            "retry_host_predicate": [
                {
                    "name": "previous",
                    "typed_config": typed(
                        "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"
                    ),
                }
            ],
            # The one that has just died has the fewest requests, and is chosen first until it is set aside.
            "host_selection_retry_max_attempts": 10,
            "retry_back_off": {"base_interval": "0.025s", "max_interval": "0.25s"},
        },
    }


def _body(max_bytes: int) -> Json:
    return typed(
        "envoy.extensions.filters.http.buffer.v3.BufferPerRoute", buffer={"max_request_bytes": max_bytes}
    )


def _notice_headers(notice: Notice) -> list[Json]:
    """That a service ends, as callers' programs read it: RFC 9745, RFC 8594 and RFC 5829."""
    said = {"deprecation": f"@{int(notice.deprecated_at)}"}
    if notice.sunset_at is not None:
        said["sunset"] = formatdate(notice.sunset_at, usegmt=True)
    if notice.successor:
        said["link"] = f'<{notice.successor}>; rel="successor-version"'
    return [
        {"header": {"key": key, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
        for key, value in said.items()
    ]


# ── small parts ──────────────────────────────────────────────────────────────────────────────────────────


def _extension(name: str, content: Json) -> Json:
    return typed("envoy.config.core.v3.TypedExtensionConfig", name=name, typed_config=content)


def _always(runtime_key: str) -> Json:
    return {"default_value": {"numerator": 100, "denominator": "HUNDRED"}, "runtime_key": runtime_key}


def _address(upstream: str) -> Json:
    if is_socket_path(upstream):
        return {"pipe": {"path": upstream}}
    host, port = host_and_port(upstream)
    return {"socket_address": {"address": host, "port_value": port}}


def versioned(content: Sequence[Json]) -> Json:
    """A watched file: the resources, and the digest of them as its version."""
    version = hashlib.sha256(msgspec.json.encode(content)).hexdigest()[:16]
    return {"version_info": version, "resources": list(content)}


def digest_of(*parts: str) -> str:
    """A short name for the contents of all `parts` together."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()
