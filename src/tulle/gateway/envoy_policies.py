"""The policies of a service in Envoy's words: for each part of its requests what its routes have to say.

Each route carries its own chain of filters, in the order of the list, in three places among the filters that every
request passes (`policies/order.py`), so a change of policies is a change of routes alone. Windows of rate limits are
buckets in the limits file, as a change of routes keeps those. Pure. Knows nothing of workers and of ways in.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from tulle.errors import Invalid
from tulle.gateway.envoy_values import CLIENT_HEADER, ELSEWHERE, POLICIES, Json, typed
from tulle.gateway.policies.entry import Operation, split
from tulle.gateway.policies.kind import Check, Count, Parts, Registry, Spike, Spot, known_kinds
from tulle.gateway.policies.listed import conflict
from tulle.gateway.policies.opening import access_where
from tulle.gateway.policies.order import stretches
from tulle.gateway.policy import ManagedService, RateLimit
from tulle.gateway.processing.plan import StepPlan, step_plan
from tulle.serving.access import Access

BY_CLIENT, BY_ADDRESS = "client", "address"
_CHAIN: Final = "envoy.extensions.filters.http.filter_chain.v3"
_VERIFIED: Final = "envoy.filters.http.jwt_authn"


@dataclass(frozen=True, slots=True)
class ServicePart:
    """Some of a service's requests and what holds for all of them.

    `settings` are a route's for filters by their names; `counts` are numbers of the service's windows.
    """

    operation: Operation
    access: Access
    access_name: str  # no other service, and no part with other ways in, has it
    shown_in: Sequence[str]  # where else credentials may be: `header:<name>`, `query:<name>`
    settings: Mapping[str, Json]
    action: Mapping[str, Any]
    route: Mapping[str, Any]
    max_request_bytes: int
    counts: Sequence[tuple[int, Count]]
    steps: Sequence[StepPlan]  # for the processor, in order
    checks: Sequence[tuple[Check, StepPlan]]  # by which it says who calls

    def match(self, address: str, *, alike: bool = False) -> list[Json]:
        """What a route asks of a request's headers beside the service's address, which it has at its beginning.

        With `alike` also of one whose path some servers take for the operation's.
        """
        found: list[Json] = []
        if self.operation.path:
            before = re.escape(address.removesuffix("/"))
            path = self.operation.likeness() if alike else self.operation.regex()
            regex = f"{before}{path}(\\?.*)?"
            found.append({"name": ":path", "string_match": {"safe_regex": {"regex": regex}}})
        if self.operation.method == "GET":
            found.append({"name": ":method", "string_match": {"safe_regex": {"regex": "GET|HEAD"}}})
        elif self.operation.method:
            found.append({"name": ":method", "string_match": {"exact": self.operation.method}})
        return found


@dataclass(frozen=True, slots=True)
class _Worked:
    """What was made of a service's policies; shared, so nobody changes it."""

    parts: Sequence[ServicePart]
    rendered: Sequence[Parts]
    windows: Sequence[tuple[int, Count]]  # all of the service
    is_open: bool  # some of it to callers who show nothing


_MOST_WORKED: Final = 10_000
_WORKED: Final[dict[tuple[Registry, bytes], _Worked]] = {}
_LATEST: Final[dict[str, tuple[ManagedService, Registry, _Worked]]] = {}  # by path: the form asked for last


def parts_of(service: ManagedService) -> Sequence[ServicePart]:
    """The parts of a service's requests, the first that fits a request holds for it; the last fits all.

    Invalid for policies that cannot hold together, or that no kind knows.
    """
    return _worked(service).parts


def _worked(service: ManagedService) -> _Worked:
    """Worked out once as long as it stays the same: a change of one service of a thousand is one service's work."""
    known = known_kinds()
    latest = _LATEST.get(service.path)
    if latest is not None and latest[0] is service and latest[1] is known:
        return latest[2]
    over = service.front is not None and service.has_workers
    about = [service.path, over, service.max_request_bytes, service.access, service.policies]
    key = (known, msgspec.json.encode(about))
    if (found := _WORKED.get(key)) is None:
        found = _work_out(service, known)
        if len(_WORKED) >= _MOST_WORKED:
            _WORKED.clear()
        _WORKED[key] = found
    if len(_LATEST) >= _MOST_WORKED:
        _LATEST.clear()
    _LATEST[service.path] = service, known, found
    return found


def _work_out(service: ManagedService, known: Registry) -> _Worked:
    if (wrong := conflict(service.policies, known)) is not None:
        _, message, hint = wrong
        raise Invalid(f"service '{service.path}': {message}", hint=hint)
    for policy in service.policies if service.front is not None and service.has_workers else ():
        if known.carried_out(policy.kind).of_workers:
            raise Invalid(
                f"'{policy.kind}' is of the workers of '{service.answered_by}', not of an API over them",
                hint="list it in the file of that service",
            )
    rendered = _rendered(service, known)
    windows = dict(_windows(rendered))
    parts = [
        _part(service, operation, held, rendered, windows, known)
        for operation, held in split(service.policies)
    ]
    return _Worked(
        parts,
        rendered,
        [window for found in windows.values() for window in found],
        any(part.access.public is not None for part in parts),
    )


def _rendered(service: ManagedService, known: Registry) -> list[Parts]:
    return [
        known.parts(policy.kind, policy.settings, Spot(service.path, position))
        for position, policy in enumerate(service.policies)
    ]


def _windows(rendered: Sequence[Parts]) -> Iterator[tuple[int, list[tuple[int, Count]]]]:
    """By position of a policy its windows, each with its number among all of the service."""
    number = 0
    for position, parts in enumerate(rendered):
        counts = list(parts.counts)
        yield position, list(enumerate(counts, number))
        number += len(counts)


def _part(
    service: ManagedService,
    operation: Operation,
    held: Sequence[int],
    rendered: Sequence[Parts],
    windows: Mapping[int, list[tuple[int, Count]]],
    known: Registry,
) -> ServicePart:
    kinds = [known.carried_out(service.policies[position].kind) for position in held]
    chains: dict[int, list[Json]] = {}
    settings: Json = {}
    action: Json = {}
    route: Json = {}
    largest = service.max_request_bytes
    steps: list[StepPlan] = []
    checks: list[tuple[Check, StepPlan]] = []
    # what is first whatever the list says is also first among the filters of its place
    places = zip(held, kinds, stretches(kinds), strict=True)
    for position, kind, stretch in sorted(places, key=lambda one: one[1].phase != "first"):
        parts = rendered[position]
        step = known.step(kind.name, service.policies[position].settings)
        if step is not None:
            steps.append(step_plan(_name_of_step(service, position), step))
        if parts.check is not None:
            checks.append((parts.check, step_plan(_name_of_step(service, position), parts.check.step)))
        if parts.filters:
            chains.setdefault(0 if stretch is None else stretch, []).extend(parts.filters)
        settings = merged(settings, parts.settings)
        action = merged(action, parts.action)
        route = merged(route, parts.route)
        if parts.max_request_bytes is not None:
            largest = min(largest, parts.max_request_bytes)
    for stretch, filters in chains.items():
        settings[POLICIES[stretch]] = chain_of_filters(filters)
    counts = [window for position in held for window in windows[position]]
    access, name = access_named(service, held, known)
    kinds_and_settings = [
        (service.policies[position].kind, service.policies[position].settings) for position in held
    ]
    shown_in = sorted({name for kind, said in kinds_and_settings for name in known.hidden(kind, said)})
    # Where callers of other operations show who they are, nothing goes on to the service either.
    everywhere = {name for policy in service.policies for name in known.hidden(policy.kind, policy.settings)}
    if elsewhere := everywhere.difference(shown_in):
        settings = merged(settings, {ELSEWHERE: taken_away(elsewhere)})
    return ServicePart(
        operation,
        access,
        name,
        shown_in,
        settings,
        action,
        route,
        largest,
        counts,
        steps,
        checks,
    )


def taken_away(hidden: Collection[str]) -> Json:
    """What a route has for the script that looks for credentials where nobody may show any: they do not go on."""
    names: dict[str, list[str]] = {"header": [], "query": []}
    for one in sorted(hidden):
        where, _, name = one.partition(":")
        names[where].append(name)
    said = {f"hidden_{where}": ",".join(some) for where, some in names.items() if some}
    return typed("envoy.extensions.filters.http.lua.v3.LuaPerRoute", name=ELSEWHERE, filter_context=said)


def chain_of_filters(filters: Sequence[Json]) -> Json:
    """What a route has for one of the places for filters of its own."""
    return typed(f"{_CHAIN}.FilterChainConfigPerRoute", filter_chain={"filters": list(filters)})


def _name_of_step(service: ManagedService, position: int) -> str:
    """By which what it counts and keeps is found again: its kind, and which one of the kind in the list it is."""
    kind = service.policies[position].kind
    earlier = sum(one.kind == kind for one in service.policies[:position])
    return f"{kind} {earlier + 1}" if earlier else kind


def access_named(service: ManagedService, held: Sequence[int], known: Registry) -> tuple[Access, str]:
    """The ways into the part of a service where these policies hold, and a name for them."""
    access = access_where(service.policies, held, service.access, known)
    asking = [n for n in held if known.carried_out(service.policies[n].kind).opens is not None]
    return access, f"{service.path}#{','.join(map(str, asking))}" if asking else service.path


def merged(one: Mapping[str, Any], other: Mapping[str, Any]) -> Json:
    """Both, what is a mapping in both merged likewise, lists one after the other; else the second holds."""
    found = dict(one)
    for key, value in other.items():
        before = found.get(key)
        if isinstance(before, dict) and isinstance(value, Mapping):
            found[key] = merged(before, value)
        elif isinstance(before, list) and isinstance(value, list):
            found[key] = [*before, *value]
        else:
            found[key] = value
    return found


def further_clusters(service: ManagedService) -> list[Json]:
    """Other places that policies send something to."""
    return [cluster for parts in _worked(service).rendered for cluster in parts.clusters]


def spikes_of(service: ManagedService) -> list[Spike]:
    """What the service takes at once, where policies bound it."""
    return [spike for parts in _worked(service).rendered for spike in parts.spikes]


def in_cluster(service: ManagedService, cluster: Json) -> Json:
    """Where the service's requests are sent to, as its policies would have it."""
    (threshold,) = cluster["circuit_breakers"]["thresholds"]
    for parts in _worked(service).rendered:
        cluster = merged(cluster, parts.cluster)
        threshold = {**threshold, **{key: min(threshold[key], most) for key, most in parts.bounds.items()}}
    return {**cluster, "circuit_breakers": {"thresholds": [threshold]}}


# ── limits ───────────────────────────────────────────────────────────────────────────────────────────────


def counted_as(service: ManagedService, part: ServicePart, way: str, *, is_known: bool) -> dict[str, str]:
    """What a route's metadata says of whom it counts; `is_known`: callers of this way have shown who they are."""
    found = {}
    for number, count in part.counts:
        by = BY_ADDRESS if count.by == BY_CLIENT and not is_known else count.by
        found[_key(number, by)] = _window(service, number, way if by == BY_CLIENT else "")
        found[_limit_key(number)] = str(count.limit)
    return found


def policy_counted_by(services: Sequence[ManagedService]) -> list[list[Json]]:
    """By what the requests of services with limits of their own are counted; the route says which of them hold."""
    keys: dict[tuple[int, str], None] = {}
    for service in services:
        for number, count in _worked(service).windows:
            keys[number, count.by] = None
            if count.by == BY_CLIENT and _worked(service).is_open:
                keys[number, BY_ADDRESS] = None
    return [actions for number, by in sorted(keys) for actions in _actions(number, by)]


def policy_buckets(services: Sequence[ManagedService]) -> list[Json]:
    """The buckets of services with limits of their own: of each limit, as Envoy makes one for every window and caller.

    So a service that comes or goes with the limits that others have fills nobody's.
    """
    found: dict[str, Json] = {}
    for service in services:
        for number, count in _worked(service).windows:
            for bucket in _buckets(service, number, count):
                found.setdefault(repr(bucket["entries"]), bucket)
    return list(found.values())


def _buckets(service: ManagedService, number: int, count: Count) -> Iterator[Json]:
    def of(by: str, **more: str) -> Json:
        entries = {_key(number, by): "", _limit_key(number): str(count.limit), **more}
        return bucket(count.limit, entries)

    if count.by == "all":
        yield of("all")
    elif count.by == BY_CLIENT:
        yield of(BY_CLIENT, client="")
    if count.by == BY_ADDRESS or (count.by == BY_CLIENT and _worked(service).is_open):
        yield of(BY_ADDRESS, remote_address="")
    if count.by.startswith(("header:", "claim:")):
        yield of(count.by, said="")
    if count.by.startswith("header:"):
        yield of(count.by, unsaid="1")


def bucket(limit: RateLimit, entries: Mapping[str, str]) -> Json:
    """A bucket of what these entries say; one that is empty stands for any value, each with a bucket of its own."""
    return {
        "entries": [{"key": key, **({"value": value} if value else {})} for key, value in entries.items()],
        "token_bucket": {
            "max_tokens": limit.requests,
            "tokens_per_fill": limit.requests,
            "fill_interval": f"{limit.period_ms / 1000:.3f}s",
        },
    }


def _actions(number: int, by: str) -> Iterator[list[Json]]:
    """The descriptors of a window: each is the window, its limit, and whose requests they are."""
    window = [
        {
            "metadata": {
                "descriptor_key": key,
                "metadata_key": {"key": "tulle", "path": [{"key": key}]},
                "source": "ROUTE_ENTRY",
            }
        }
        for key in (_key(number, by), _limit_key(number))
    ]
    if by == "all":
        yield window
    elif by == BY_CLIENT:
        yield [*window, {"request_headers": {"header_name": CLIENT_HEADER, "descriptor_key": "client"}}]
    elif by == BY_ADDRESS:
        yield [*window, {"remote_address": {}}]
    elif by.startswith("header:"):
        name = by.removeprefix("header:")
        yield [*window, {"request_headers": {"header_name": name, "descriptor_key": "said"}}]
        # Who leaves it out is counted, too: with all others who do.
        without = [{"name": name, "present_match": True, "invert_match": True}]
        match = {"descriptor_key": "unsaid", "descriptor_value": "1", "headers": without}
        yield [*window, {"header_value_match": match}]
    else:
        steps = by.removeprefix("claim:").split(".")
        about = {"key": _VERIFIED, "path": [{"key": step} for step in ("payload", *steps)]}
        claim = {"descriptor_key": "said", "metadata_key": about, "default_value": "-", "source": "DYNAMIC"}
        yield [*window, {"metadata": claim}]


def _key(number: int, by: str) -> str:
    return f"limit_{number}_{by}"


def _limit_key(number: int) -> str:
    return f"limit_{number}"


def _window(service: ManagedService, number: int, way: str) -> str:
    """What tells a service's window from all others; of each way in its own, as names of clients may be the same."""
    return f"{service.path}#{number}{'@' + way if way else ''}"
