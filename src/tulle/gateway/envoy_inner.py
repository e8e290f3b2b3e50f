"""The way through the processor in Envoy's words: to it from the front listener, and on from it to the inner one.

Only routes whose API has steps go this way. What the front has checked stays checked: the inner listener is a unix
socket of mode 0600, and has routes to workers and nothing else. When the processor is down requests end with 503.
Pure. Knows nothing of steps.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Sequence
from typing import Final

import msgspec
from msgspec import structs

from tulle.gateway.envoy_access import Way
from tulle.gateway.envoy_errors import local_replies
from tulle.gateway.envoy_policies import ServicePart, chain_of_filters, merged, parts_of
from tulle.gateway.envoy_values import (
    ADDRESS_HEADER,
    INNER_LISTENER,
    INNER_ROUTES,
    INNER_SOCKET,
    POLICIES,
    PROCESS_HEADER,
    QUOTA_PREFIX,
    WAY_HEADER,
    Json,
    processor_socket,
    typed,
    watched,
)
from tulle.gateway.policies.kind import known_kinds
from tulle.gateway.policy import GatewayPolicy, ManagedService
from tulle.gateway.processing.plan import DIGEST_LETTERS, SHORTEST_OF_CONTRACT_MS, ChainPlan, StepPlan

_MORE_SECONDS: Final = 5  # than the service has: what is slow is told by who knows that it is the service
_MOST_REQUESTS: Final = 2048


def chain_of(service: ManagedService, part: ServicePart) -> ChainPlan | None:
    """What the processor does in a part of a service; None where it is not asked, as of one that answers nobody."""
    answers_nobody = service.stopped is not None or (service.front is not None and service.front.is_unbound)
    if not part.steps or answers_nobody:
        return None
    return ChainPlan(
        service.path, tuple(part.steps), (service.address,), answered_by=_answered_by(service, part)
    )


def _answered_by(service: ManagedService, part: ServicePart) -> str:
    """What tells by whom a service is answered now; only where answers are kept, which are those of a generation."""
    if all(step.kind != "caching" for step in part.steps):
        return ""
    about = [service.answered_by, service.traffic, service.front]
    return hashlib.sha256(msgspec.json.encode(about)).hexdigest()[:DIGEST_LETTERS]


def check_chain(service: ManagedService, step: StepPlan) -> ChainPlan:
    """What the processor does to say who calls."""
    return ChainPlan(service.path, (step,))


def chains_of(policy: GatewayPolicy) -> list[ChainPlan]:
    """All chains of the services, those that ask for tiers or windows of contracts with those of each client."""
    found: dict[str, ChainPlan] = {}
    for service in policy.services:
        for part in parts_of(service):
            chain = chain_of(service, part)
            if chain is not None:
                found[chain.key] = structs.replace(
                    chain, tiers=_tiers(policy, service, chain), windows=_windows(policy, service, chain)
                )
            for _, step in part.checks:
                check = check_chain(service, step)
                found[check.key] = check
    return list(found.values())


def _tiers(policy: GatewayPolicy, service: ManagedService, chain: ChainPlan) -> dict[str, str]:
    is_custom = any(step.kind == "custom" for step in chain.steps)
    if not is_custom and b"tier" not in msgspec.json.encode(chain.steps):  # nobody asks
        return {}
    return {
        contract.client_id: contract.tier
        for contract in policy.contracts
        if contract.tier and contract.opens(service)
    }


def _windows(policy: GatewayPolicy, service: ManagedService, chain: ChainPlan) -> dict[str, tuple[str, ...]]:
    if not any(step.kind == "quota" and step.settings.get("contract") for step in chain.steps):
        return {}
    return {
        contract.client_id: tuple(
            str(one) for one in contract.windows if one.period_ms >= SHORTEST_OF_CONTRACT_MS
        )
        for contract in policy.contracts
        if contract.service == service.name and contract.holds_in(service.environment)
    }


def patience_of(service: ManagedService, part: ServicePart) -> float:
    """The seconds that a request of this part may take."""
    external = service.front.external if service.front is not None else None
    usual = service.timeout_seconds if external is None else external.timeout_seconds
    said = part.action.get("timeout")
    return usual if said is None else float(said.removesuffix("s"))


def to_processor(
    route: Json, service: ManagedService, part: ServicePart, chain: ChainPlan, processors: int
) -> Json:
    """A front route that leads to the processor instead: with its chain's key, and where and how the caller came in."""
    again = "connect-failure,refused-stream,reset-before-request"
    if any(step.kind == "quota" for step in chain.steps):
        told = {POLICIES[1]: chain_of_filters([_tell_quota()])}
        route = merged(route, {"typed_per_filter_config": told})
    seconds = f"{patience_of(service, part) + _MORE_SECONDS:.3f}s"
    return {
        **route,
        "route": {
            "cluster": processor_of(service.path, processors),
            "timeout": seconds,
            "idle_timeout": seconds,
            # While it is started again what it never got waits here, for up to some three seconds.
            "retry_policy": {
                "retry_on": f"{again},reset" if service.may_repeat else again,
                "num_retries": 30,
                "retry_back_off": {"base_interval": "0.025s", "max_interval": "0.25s"},
            },
        },
        "request_headers_to_add": [
            set_header(PROCESS_HEADER, chain.key),
            set_header(ADDRESS_HEADER, "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%"),
            set_header(WAY_HEADER, route["metadata"]["filter_metadata"]["tulle"]["access"]),
        ],
    }


def _tell_quota() -> Json:
    """Answers tell of the quota instead of the contract's limit, which Envoy tells of by itself, where there is one."""
    names = ("x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset", "retry-after")
    changes: list[Json] = []
    for name in names:
        value = f"%RESP({QUOTA_PREFIX}{name}?{name})%"
        changes.append(
            {"append": {"header": {"key": name, "value": value}, "append_action": "OVERWRITE_IF_EXISTS"}}
        )
    changes += [{"remove": QUOTA_PREFIX + name} for name in names]
    kind = "envoy.extensions.filters.http.header_mutation.v3.HeaderMutation"
    return {"name": "tell_quota", "typed_config": typed(kind, mutations={"response_mutations": changes})}


def processor_of(path: str, processors: int) -> str:
    """The cluster of the processor of a service: always the same one, which counts and keeps for it alone."""
    return _cluster_name(zlib.crc32(path.encode()) % processors)


def processor_clusters(processors: int) -> list[Json]:
    """Where the processors are."""
    return [_cluster(number) for number in range(processors)]


def _cluster_name(number: int) -> str:
    return f"processor.{number}"  # no service can have this name


def _cluster(number: int) -> Json:
    name = _cluster_name(number)
    endpoint = {"endpoint": {"address": {"pipe": {"path": processor_socket(number)}}}}
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]},
        "circuit_breakers": {
            "thresholds": [
                {
                    "max_connections": _MOST_REQUESTS,
                    "max_pending_requests": _MOST_REQUESTS,
                    "max_requests": _MOST_REQUESTS,
                    "max_retries": _MOST_REQUESTS,  # all that wait while it is started again
                }
            ]
        },
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": typed(
                "envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                explicit_http_config={"http_protocol_options": {}},
                common_http_protocol_options={"idle_timeout": "60s"},
            )
        },
    }


def inner_listener(routes: Json | None = None, *, traced: bool = False) -> Json:
    """The listener that the processor sends to; its routes are watched, or in place where they are given.

    `traced`: the front notes the ids of traces.
    """
    if routes is None:
        where: Json = {"rds": {"route_config_name": INNER_ROUTES, "config_source": watched("inner")}}
    else:
        where = {"route_config": routes}
    router = typed("envoy.extensions.filters.http.router.v3.Router", suppress_envoy_headers=True)
    config = typed(
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix="inner",
        codec_type="HTTP1",
        server_name="tulle",
        http_filters=[{"name": "router", "typed_config": router}],
        local_reply_config=local_replies(known_kinds().refusals(), traced=traced),
        # what the front listener has said of a request stands
        use_remote_address=False,
        skip_xff_append=True,
        generate_request_id=False,
        preserve_external_request_id=True,
        common_http_protocol_options={
            "idle_timeout": "300s",
            "max_headers_count": 120,
            "headers_with_underscores_action": "ALLOW",
        },
        http_protocol_options={"ignore_http_11_upgrade": [{"safe_regex": {"regex": ".*"}}]},
        max_request_headers_kb=64,
        stream_idle_timeout="0s",  # each route has its own
        **where,
    )
    return {
        "name": INNER_LISTENER,
        "address": {"pipe": {"path": INNER_SOCKET, "mode": 0o600}},
        "per_connection_buffer_limit_bytes": 65_536,
        "filter_chains": [{"filters": [{"name": "http", "typed_config": config}]}],
    }


# No way in of anybody: what is behind the processor is asked nothing again.
BEHIND: Final = Way("", (), {}, {})


def leading_apart(parts: Sequence[ServicePart]) -> Sequence[ServicePart]:
    """Those parts of a service that lead elsewhere behind the processor: by timeouts and retries of their own."""
    return parts if any(part.action != parts[-1].action for part in parts) else parts[-1:]


INNER_HOST: Final[Json] = {"name": "all", "domains": ["*"]}
INNER_OF_NOBODY: Final[Sequence[Json]] = ({"match": {"prefix": "/"}, "direct_response": {"status": 404}},)


def inner(removed: Sequence[str]) -> Json:
    """What the inner listener's routes are in, without any; `removed` are headers that nobody there sees."""
    return {
        "name": INNER_ROUTES,
        "request_headers_to_remove": list(removed),
        "validate_clusters": False,
    }


def set_header(key: str, value: str) -> Json:
    """A header as a route sends it on, whatever was there before."""
    return {"header": {"key": key, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
