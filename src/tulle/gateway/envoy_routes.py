"""Which requests go where, in Envoy's words: the routes of every way into every service, and what is asked of them.

Pure. Where a route leads is described by `envoy_clusters`; which ways there are, by `envoy_access`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from email.utils import formatdate
from typing import Any, Final

from tulle.gateway.envoy_access import (
    BY_NOTHING,
    Way,
    enabled,
    off,
    ways,
)
from tulle.gateway.envoy_apis import external_routes, match_of, ordered, rewritten
from tulle.gateway.envoy_checks import asking
from tulle.gateway.envoy_clusters import cluster_name
from tulle.gateway.envoy_cross_origin import asked_before, readable
from tulle.gateway.envoy_index import indexed
from tulle.gateway.envoy_inner import (
    BEHIND,
    INNER_HOST,
    INNER_OF_NOBODY,
    chain_of,
    inner,
    leading_apart,
    set_header,
    to_processor,
)
from tulle.gateway.envoy_mocks import few, largest_answer, mock_routes
from tulle.gateway.envoy_paths import ways_up, with_likenesses
from tulle.gateway.envoy_policies import (
    ServicePart,
    counted_as,
    merged,
    parts_of,
)
from tulle.gateway.envoy_values import (
    AUTH,
    BODY,
    CONTRACT,
    DISPATCH,
    DISPATCH_BODY,
    FORCED_HEADER,
    GUARD,
    KEY_HEADER,
    LIMITS,
    NORMALISE,
    ONE_NAME,
    READER_SET,
    REMEMBER,
    ROUTES,
    WAY_HEADER,
    Json,
    typed,
)
from tulle.gateway.front import Front
from tulle.gateway.policy import (
    Contract,
    GatewayPolicy,
    ManagedService,
    Notice,
)
from tulle.gateway.trust.services_door import holders
from tulle.serving.traffic import Traffic

_ALIVE: Final = "/isAlive/"
WORKER_RETRIES: Final = 4
SIDECAR_RETRIES: Final = 40  # over about 4.5 s, in which sidecars that were killed are back

# what tells who the caller is ends here; workers read x-tulle-client and x-tulle-way
SECRET_HEADERS: Final = ("authorization", "proxy-authorization", "client_id", "client_secret")


def routes(policy: GatewayPolicy, processors: int = 1) -> Json:
    """The routes of every service, and one for all else: 404, after the caller has shown who it is."""
    contracts = contracts_of(policy)
    found: dict[str, list[Json]] = {}
    for service in ordered(policy.services):
        of_service = front_routes(service, contracts.get(service.name, ()), processors)
        found.setdefault(service.address, []).extend(of_service)
    for address, of_gateway in gateways_own(policy).items():
        found.setdefault(address, []).extend(of_gateway)
    host = {**front_host(policy), **indexed(found, OF_NOBODY)}
    return {**front(policy), "virtual_hosts": [host]}


def contracts_of(policy: GatewayPolicy) -> Mapping[str, tuple[Contract, ...]]:
    """The contracts by the name of what they are for."""
    held: dict[str, list[Contract]] = defaultdict(list)
    for contract in policy.contracts:
        held[contract.service].append(contract)
    return {name: tuple(several) for name, several in held.items()}


def front(policy: GatewayPolicy) -> Json:
    """What the front's routes are in, without any."""
    return {
        "name": ROUTES,
        "request_headers_to_remove": list(SECRET_HEADERS),
        "validate_clusters": False,
        **largest_answer(policy.services),
    }


def front_host(policy: GatewayPolicy) -> Json:
    """What holds for all of the front's routes, without any."""
    everywhere = holders(policy.holders)
    if policy.is_guarded:  # which wants to know, of each request, whether its secret was right
        everywhere = {**everywhere, GUARD: enabled(), REMEMBER: enabled()}
    if any(client.second_hash for client in policy.clients):  # while a secret takes another one's place
        everywhere = {**everywhere, ONE_NAME: enabled()}
    said = {"typed_per_filter_config": everywhere} if everywhere else {}
    return {"name": "all", "domains": ["*"], **said}


# Repeated behind every address, so it says as little of filters as it can.
OF_NOBODY: Final[Sequence[Json]] = (
    {
        "match": {"prefix": "/"},
        "direct_response": {"status": 404},
        "typed_per_filter_config": {name: off() for name in (CONTRACT, LIMITS)},
    },
)


def gateways_own(policy: GatewayPolicy) -> Mapping[str, Sequence[Json]]:
    """What is asked of the gateway itself, by its address: tried behind what services have there."""
    return {_ALIVE: [_alive(policy.is_alive)]}


def front_routes(
    service: ManagedService, contracts: Sequence[Contract], processors: int = 1
) -> Sequence[Json]:
    """The front's routes of one service; `contracts` are those for it."""
    return [*few(service, _front_routes(service, contracts, processors))]


def _front_routes(service: ManagedService, contracts: Sequence[Contract], processors: int) -> Iterator[Json]:
    yield from ways_up(service)
    for parts, alike in with_likenesses(service, parts_of(service)):
        for part in parts:
            asked = [asking(service, part, step, processors) for _, step in part.checks]
            for way in ways(service, part, contracts, asked):
                yield from readable(part, _routes(service, part, way, processors))
        yield from alike


def _alive(is_alive: bool) -> Json:
    """What anybody may ask, and is answered here."""
    reason = {} if is_alive else {"metadata": {"filter_metadata": {"tulle": {"reason": "resting"}}}}
    return {
        "match": {
            "path": _ALIVE,
            "headers": [{"name": ":method", "string_match": {"exact": "GET"}}],
        },
        "direct_response": {"status": 200 if is_alive else 503},
        "typed_per_filter_config": {name: off() for name in (NORMALISE, AUTH, CONTRACT, LIMITS)},
        **reason,
    }


def behind(policy: GatewayPolicy) -> Json:
    """The routes of the inner listener: to what answers for every service, whether it has steps now or not.

    So a service that gets steps, or has none any more, changes the front's routes alone, and no request is lost.
    """
    found: dict[str, list[Json]] = {}
    for service in ordered(policy.services):
        found.setdefault(service.address, []).extend(inner_routes(service))
    return {**behind_all(policy), "virtual_hosts": [{**INNER_HOST, **indexed(found, INNER_OF_NOBODY)}]}


def behind_all(policy: GatewayPolicy) -> Json:
    """What the inner listener's routes are in, without any."""
    return {**inner(SECRET_HEADERS), **largest_answer(policy.services)}


def inner_routes(service: ManagedService) -> Sequence[Json]:
    """The inner listener's routes of one service, without filters, which are the front's."""
    parts = leading_apart(parts_of(service))
    return [
        {key: value for key, value in route.items() if key != "typed_per_filter_config"}
        for route in few(service, (route for part in parts for route in _routes(service, part, BEHIND)))
    ]


def _routes(service: ManagedService, part: ServicePart, way: Way, processors: int = 1) -> Iterator[Json]:
    """Those of one way into a part of a service, the first that fits a request is taken."""
    by_body = {} if service.traffic is None else _dispatch_by_body(service.traffic)
    is_external = service.front is not None and service.front.external is not None
    outside = {READER_SET: enabled()} if is_external else {}
    # Workers are told by which way the caller came: a name means something only together with it.
    to_workers = way is not BEHIND and (service.front is None or bool(service.front.serves))
    told = {"request_headers_to_add": [set_header(WAY_HEADER, way.name)]} if to_workers else {}
    counted: Mapping[str, str] = {}
    if way is not BEHIND:
        counted = counted_as(service, part, way.name, is_known=way.name != BY_NOTHING)
    asked = part.match(service.address.rstrip("/"))
    of_part = "" if part.operation.is_any else f" {part.operation}"

    def route(name: str, *headers: Json, reason: str = "", status: int = 0, **action: Any) -> Json:
        about = {"service": service.name, "environment": service.environment, "reason": reason}
        about["version"] = service.front.version if service.front is not None else ""
        about |= {"access": way.name, **way.counted_as, **counted}
        headers = (*asked, *way.headers, *headers)
        made: Json = {
            "name": name + of_part,
            "match": match_of(service, headers),
            "metadata": {"filter_metadata": {"tulle": {k: v for k, v in about.items() if v}}},
            "typed_per_filter_config": {
                **way.filters,
                **({REMEMBER: enabled()} if rewritten(service) else {}),  # the path as it came
                BODY: _body(part.max_request_bytes),
                **by_body,
                **outside,
                **part.settings,
            },
        }
        if service.notice is not None:
            made["response_headers_to_add"] = _notice_headers(service.notice)
        made = merged(made, part.route)
        if status:
            return {**made, "direct_response": {"status": status}}
        return {**made, **told, "route": merged({**_to_workers(service), **action}, part.action)}

    if way is not BEHIND:
        yield from asked_before(service, part, route)
    if way is not BEHIND and (chain := chain_of(service, part)) is not None:
        is_mock = service.front is not None and service.front.is_mock and service.stopped is None
        made = route(service.path, reason="mock" if is_mock else "")
        yield to_processor(made, service, part, chain, processors)
        return
    if service.stopped is not None:
        reason = service.stopped if service.front is None else f"api_{service.stopped}"
        yield route(service.path, reason=reason, status=410 if service.stopped == "retired" else 503)
        return
    if service.front is not None and not service.front.serves:
        yield from _of_none(service, service.front, route, part)
        return
    if service.traffic is None:
        yield route(service.path, cluster=service.answered_by)
        return
    for name in sorted(service.traffic.mounted):  # others that are known still are on their way out
        forced = {"name": FORCED_HEADER, "string_match": {"exact": name}}
        yield route(f"{service.path} forced {name}", forced, cluster=cluster_name(service, name))
    some = {"name": FORCED_HEADER, "present_match": True}
    yield route(f"{service.path} forced", some, reason="generation", status=404)
    keyed = {"name": KEY_HEADER, "present_match": True}
    if service.traffic.mode == "sticky":
        yield route(service.path, keyed, **_split(service, service.traffic))
        yield route(f"{service.path} without key", reason="dispatch_key", status=400)
    else:
        yield route(service.path, **_split(service, service.traffic))


def _of_none(
    service: ManagedService, front: Front, route: Callable[..., Json], part: ServicePart
) -> Iterator[Json]:
    """Those of an API behind which no service of the mesh is."""
    if front.is_unbound:
        yield route(service.path, reason="unbound", status=503)
    elif front.mocks:
        yield from mock_routes(service, route(service.path), part.operation)
    else:
        yield from external_routes(service, route(service.path), part.action)


def _split(service: ManagedService, traffic: Traffic) -> Json:
    """Where a request goes that names no generation."""
    action: Json = {}
    if traffic.mode == "single":
        action["cluster"] = cluster_name(service, traffic.main)
    else:
        weights = [
            {"name": cluster_name(service, share.generation), "weight": share.parts}
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
                "cluster": cluster_name(service, traffic.shadow.generation),
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
