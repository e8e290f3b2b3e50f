"""The ways into a service in Envoy's words: which route a request takes by what it shows, and what that asks of it.

A service that only its contracts open has one route. Each further way is a route before it that matches what its
callers send, so nobody pays for a way of another service: filters for tokens are off unless a route turns them on.
Pure. Knows nothing of workers; where a way leads is the caller's matter.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from tulle.gateway.envoy_errors import INSUFFICIENT
from tulle.gateway.envoy_keys import keys_cluster, keys_cluster_name
from tulle.gateway.envoy_listener import only_clients
from tulle.gateway.envoy_policies import ServicePart, bucket, chain_of_filters, parts_of
from tulle.gateway.envoy_token_limits import HEAD, PAYLOAD, VERIFIED, refusing_old
from tulle.gateway.envoy_values import (
    AUTH,
    CHECKS,
    CLAIMS_HEADER,
    CLIENT_HEADER,
    CONTRACT,
    GUARD,
    JWT,
    NORMALISE,
    UNFIT,
    Json,
    typed,
)
from tulle.gateway.policies.kind import Check
from tulle.gateway.policy import Contract, ManagedService
from tulle.serving.access import ALGORITHMS, Access, Public, Tokens
from tulle.spec.rate_limit import RateLimit
from tulle.spec.tier import limits_in_words

# what tells the ways apart, in a route's metadata and in the access log
BY_CONTRACT: Final = "contract"
BY_TOKEN: Final = "token"  # noqa: S105  no secret
BY_NOTHING: Final = "public"

# under which key a route's metadata says whose limit is counted
_CONTRACTS_OF: Final = "contracts_of"
_TOKENS_OF: Final = "tokens_of"
_EVERYBODY_OF: Final = "everybody_of"
_ADDRESSES_OF: Final = "addresses_of"
LIMIT: Final = "limit"  # the limit itself, or those of a contract, by which buckets of one size are one entry
# Where the filter of contracts tells which limits the contract that lets a caller in is under.
_TOLD: Final = "contract_"
_FEW_CLIENTS: Final = 32  # of one service
_LIMITS: Final = ("envoy.filters.http.rbac", f"{_TOLD}enforced_effective_policy_id")

MOST_CALLERS: Final = 100_000  # of all services, under one limit; the idlest are forgotten
_TOKEN: Final = r"(?i)bearer +[a-z0-9_-]+\.[a-z0-9_-]+\.[a-z0-9_-]+ *"  # noqa: S105  a form; an API key has one dot
_KEY: Final = r"(?i)bearer +[a-z0-9][a-z0-9-]{0,62}\.[0-9a-f]{40}~? *"  # a key of an application or a service
_CACHED_TOKENS: Final = 1000
_CLIENT: Final = "[!-~]+"  # what a token may call its client


def _without(header: str) -> Json:
    return {"name": header, "present_match": True, "invert_match": True}


def _shows_not(hidden: str) -> Json:
    """That nothing is where credentials may be, too; a parameter's name may be encoded."""
    where, _, name = hidden.partition(":")
    if where == "header":
        return _without(name)
    encoded = "".join(f"({re.escape(one)}|(?i:%{ord(one):02x}))" for one in name)
    regex = f"[^?]*[?](.*&)?{encoded}([=&].*)?"
    return {"name": ":path", "string_match": {"safe_regex": {"regex": regex}}, "invert_match": True}


_SHOWS_NOTHING: Final = [_without("authorization"), _without("client_id")]


@dataclass(frozen=True, slots=True)
class Way:
    """One way into a service: by which headers it is taken, its filters, and what its limit is counted as."""

    name: str
    headers: Sequence[Json]
    filters: Mapping[str, Json]
    counted_as: Mapping[str, str]


def ways(
    service: ManagedService, part: ServicePart, contracts: Sequence[Contract], asked: Sequence[Json] = ()
) -> Iterator[Way]:
    """The ways into a part of `service` in the order they are tried; `contracts` are those for it.

    `asked` is for each of the part's checks what its route has for the filter that asks the processor.
    """
    access = part.access
    held = [one for one in contracts if one.opens(service)]
    signs_in = access.contracts or access.api_keys is not None
    clients = _limits_by_client(held, {"always", *access.ways()})
    keyed = _by_contract(service, clients)
    for client in () if signs_in else clients:  # the portal, which may try every service
        yield replace(keyed, headers=[{"name": "client_id", "string_match": {"exact": client}}])
    checked = list(zip((check for check, _ in part.checks), asked, strict=True))
    named = keyed  # those who sign in with nothing of ours, but are named by an issuer
    if (access.jwt is not None and access.jwt.contract) or any(check.contract for check, _ in checked):
        named = _by_contract(service, _limits_by_client(held, {"contracts"}))
    if access.jwt is not None and (signs_in or access.public is not None or checked):
        sent = {"name": "authorization", "string_match": {"safe_regex": {"regex": _TOKEN}}}
        yield _by_token(part.access_name, access.jwt, [sent], service.usual_limit, named)
    for check, filter_ in checked:
        shown = _shown_to(check, signs_in=signs_in)
        yield _by_check(part.access_name, check, filter_, shown, service.usual_limit, named)
    if access.public is not None:
        apart = signs_in or access.jwt is not None or checked
        shows = [*_SHOWS_NOTHING, *(_shows_not(name) for name in part.shown_in)]
        yield _by_nothing(part.access_name, access.public, shows if apart else ())
    if signs_in:
        yield keyed
    elif access.jwt is not None:  # whatever else is shown is no token
        yield _by_token(part.access_name, access.jwt, (), service.usual_limit, named)
    elif checked:
        yield _by_check(part.access_name, *checked[0], (), service.usual_limit, named)


def _limits_by_client(held: Iterable[Contract], open_by: Collection[str]) -> Mapping[str, str]:
    return {one.client_id: limits_in_words(one.windows) for one in held if one.way in open_by}


def _by_contract(service: ManagedService, clients: Mapping[str, str]) -> Way:
    named = _rules(clients) if 0 < len(clients) <= _FEW_CLIENTS else {"matcher": only_clients(clients)}
    filters = {CONTRACT: _rbac({**named, "rules_stat_prefix": _TOLD})}
    return Way(BY_CONTRACT, (), filters, {_CONTRACTS_OF: service.path})


def _rules(clients: Mapping[str, str]) -> Json:
    """The same as a map from client to ALLOW, gone through: for few, in a quarter of the bytes and of Envoy's work."""
    by_name: dict[str, list[Json]] = {}
    for client, name in clients.items():
        is_it = {"header": {"name": CLIENT_HEADER, "string_match": {"exact": client}}}
        by_name.setdefault(name, []).append(is_it)
    policies = {
        name: {"permissions": [{"any": True}], "principals": principals}
        for name, principals in by_name.items()
    }
    return {"rules": {"action": "ALLOW", "policies": policies}}


def _shown_to(check: Check, *, signs_in: bool) -> Sequence[Json]:
    """What callers of this way send. Keys of our own are told from an issuer's tokens by their form."""

    def sent(expression: str, **more: bool) -> Json:
        return {"name": "authorization", "string_match": {"safe_regex": {"regex": expression}}, **more}

    if check.shows == "basic":
        return [sent("(?i)basic .*"), *([_without("client_id")] if signs_in else [])]
    if not signs_in:
        return [sent("(?i)bearer .*")]
    return [sent("(?i)bearer .*"), sent(_KEY, invert_match=True), _without("client_id")]


def _by_check(
    service: str, check: Check, filter_: Json, headers: Sequence[Json], usual_limit: str, named: Way
) -> Way:
    filters = {GUARD: off(), NORMALISE: off(), AUTH: off(), CONTRACT: off(), CHECKS: filter_}
    if check.contract:
        return replace(named, headers=headers, filters={**filters, **named.filters})
    limit = str(RateLimit.parse(check.limit or usual_limit))
    return Way(check.way, headers, filters, {_TOKENS_OF: _checked_name(service, check), LIMIT: limit})


def _checked_name(service: str, check: Check) -> str:
    """Under which callers of a check are counted; no service's tokens have it."""
    return f"{service} {check.way}"


def _by_token(service: str, tokens: Tokens, headers: Sequence[Json], usual_limit: str, named: Way) -> Way:
    """The way of those who have a token: as who their issuer says they are, or as the application it names."""
    per_route = typed("envoy.extensions.filters.http.jwt_authn.v3.PerRouteConfig", requirement_name=service)
    accepted = {"or_match": {"value_matchers": [_exactly(name) for name in ALGORITHMS]}}
    demanded = [_demand(HEAD, "alg", accepted)]
    demanded.append(_demand(PAYLOAD, tokens.client_claim, _text({"safe_regex": {"regex": _CLIENT}})))
    demanded += [
        _demand(PAYLOAD, tokens.scope_claim, {"list_match": {"one_of": _exactly(scope)}})
        for scope in tokens.scopes
    ]
    demanded += [
        _demand(PAYLOAD, claim, {"or_match": {"value_matchers": [*_any_of(values)]}})
        for claim, values in tokens.claims
    ]
    right = {"and_rules": {"rules": demanded}}
    aged = [refusing_old(tokens.max_age)] if tokens.max_age else []
    filters = {
        GUARD: off(),  # what a token begins with is no name
        NORMALISE: off(),
        AUTH: off(),
        JWT: per_route,
        UNFIT: enabled(),
    }
    if tokens.contract:  # from here on it is that application, whose contract is looked for as ever
        filters[CHECKS] = chain_of_filters([*aged, _refusing(right)])
        return replace(named, headers=headers, filters={**filters, **named.filters})
    if aged:
        filters[CHECKS] = chain_of_filters(aged)
    rule = {"permissions": [right], "principals": [{"any": True}]}
    filters[CONTRACT] = _rbac({"rules": {"action": "ALLOW", "policies": {"token": rule}}})
    limit = RateLimit.parse(tokens.limit or usual_limit)
    return Way(BY_TOKEN, headers, filters, {_TOKENS_OF: service, LIMIT: str(limit)})


def _refusing(right: Json) -> Json:
    """A filter that refuses a token of which this is not so; by its name an error tells it from a lack of contract."""
    rule = {"permissions": [{"not_rule": right}], "principals": [{"any": True}]}
    rules = {"action": "DENY", "policies": {INSUFFICIENT: rule}}
    return {
        "name": "demanded_of_tokens",
        "typed_config": typed("envoy.extensions.filters.http.rbac.v3.RBAC", rules=rules),
    }


def _by_nothing(service: str, public: Public, headers: Sequence[Json]) -> Way:
    filters = {GUARD: off(), NORMALISE: off(), AUTH: off(), CONTRACT: off()}
    whose = _EVERYBODY_OF if public.by == "all" else _ADDRESSES_OF
    return Way(BY_NOTHING, headers, filters, {whose: service, LIMIT: str(RateLimit.parse(public.limit))})


# ── limits ───────────────────────────────────────────────────────────────────────────────────────────────


Windows = tuple[RateLimit, ...]  # that hold together


def counted_by(services: Sequence[ManagedService], held: Iterable[Windows] = ()) -> list[list[Json]]:
    """By what requests are counted; the route says which of them holds. Only what some service needs is asked.

    `held` are the limits of contracts.
    """
    most = max((len(windows) for windows in held), default=1)
    opened = [access for _, access in _opened(services)]
    publics = {access.public.by for access in opened if access.public is not None}
    filter_, key = _LIMITS
    told = {"key": filter_, "path": [{"key": key}]}
    under: Json = {"metadata": {"descriptor_key": LIMIT, "metadata_key": told, "source": "DYNAMIC"}}
    found = [[_of_route(_CONTRACTS_OF, number), under, _of_header("client")] for number in range(most)]
    checks = (one for service in services for part in parts_of(service) for one, _ in part.checks)
    by_name = any(access.jwt is not None and not access.jwt.contract for access in opened)
    if by_name or any(not check.contract for check in checks):
        found.append([_of_route(_TOKENS_OF), _of_route(LIMIT), _of_header("client")])
    if "all" in publics:
        found.append([_of_route(_EVERYBODY_OF), _of_route(LIMIT)])
    if "address" in publics:
        found.append([_of_route(_ADDRESSES_OF), _of_route(LIMIT), {"remote_address": {}}])
    return found


def buckets(services: Sequence[ManagedService], held: Iterable[Windows]) -> list[Json]:
    """Token buckets for each limit there is; Envoy makes one of them for every service, environment and caller.

    So who comes and goes changes nothing here, where a change fills all buckets. `held` are the limits of contracts.
    """
    found: dict[tuple[object, ...], Json] = {}

    def add(limit: RateLimit, entries: Mapping[str, str]) -> None:
        found.setdefault(tuple(entries.items()), bucket(limit, entries))

    for windows in sorted(held, key=limits_in_words):
        for number, window in enumerate(windows):
            add(window, {_nth(_CONTRACTS_OF, number): "", LIMIT: limits_in_words(windows), "client": ""})
    for service in services:
        for _, access in _opened([service]):
            if (tokens := access.jwt) is not None and not tokens.contract:
                limit = RateLimit.parse(tokens.limit or service.usual_limit)
                add(limit, {_TOKENS_OF: "", LIMIT: str(limit), "client": ""})
            if (public := access.public) is not None:
                limit = RateLimit.parse(public.limit)
                if public.by == "address":
                    add(limit, {_ADDRESSES_OF: "", LIMIT: str(limit), "remote_address": ""})
                else:
                    add(limit, {_EVERYBODY_OF: "", LIMIT: str(limit)})
        for check in (one for part in parts_of(service) for one, _ in part.checks if not one.contract):
            limit = RateLimit.parse(check.limit or service.usual_limit)
            add(limit, {_TOKENS_OF: "", LIMIT: str(limit), "client": ""})
    return list(found.values())


def _opened(services: Iterable[ManagedService]) -> Iterator[tuple[str, Access]]:
    """The ways into all parts of services, each once by its name."""
    for service in services:
        yield from {part.access_name: part.access for part in parts_of(service)}.items()


def _of_route(key: str, number: int = 0) -> Json:
    """What the route says under `key`, for the window of this number."""
    about = {"key": "tulle", "path": [{"key": key}]}
    return {"metadata": {"descriptor_key": _nth(key, number), "metadata_key": about, "source": "ROUTE_ENTRY"}}


def _nth(key: str, number: int) -> str:
    return f"{key}_{number + 1}" if number else key


def _of_header(key: str) -> Json:
    return {"request_headers": {"header_name": CLIENT_HEADER, "descriptor_key": key}}


# ── tokens ───────────────────────────────────────────────────────────────────────────────────────────────


def token_checks(services: Sequence[ManagedService]) -> Json:
    """The filter that checks tokens: for each service that takes them, the issuer and where its keys are."""
    taking = [(name, access.jwt) for name, access in _opened(services) if access.jwt is not None]
    asked = {part.access_name for service in services for part in parts_of(service) if part.steps}
    # Steps may ask what a token says; workers are not told.
    claims = {"forward_payload_header": CLAIMS_HEADER}
    return typed(
        "envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication",
        providers={
            name: _provider(name, tokens) | (claims if name in asked else {}) for name, tokens in taking
        },
        requirement_map={name: {"provider_name": name} for name, _ in taking},
    )


def _provider(service: str, tokens: Tokens) -> Json:
    if tokens.jwks:
        # What was found good once is taken for good again only where the keys cannot change behind its back.
        cache = {"jwt_cache_config": {"jwt_cache_size": _CACHED_TOKENS}}
        keys: Json = {"local_jwks": {"inline_string": tokens.jwks}, **cache}
    else:
        keys = {
            "remote_jwks": {
                "http_uri": {
                    "uri": tokens.jwks_uri,
                    "cluster": keys_cluster_name(service),
                    "timeout": f"{tokens.timeout:.3f}s",
                },
                "cache_duration": f"{tokens.refresh:.3f}s",
                "async_fetch": {"fast_listener": True},
            }
        }
    return {
        "issuer": tokens.issuer,
        **({"audiences": list(tokens.audiences)} if tokens.audiences else {}),
        **keys,
        "require_expiration": True,
        # the route is chosen again by the same headers when a body names a generation; it ends at the router
        "forward": True,
        "from_headers": [
            {"name": "authorization", "value_prefix": f"{word} "} for word in ("Bearer", "bearer", "BEARER")
        ],
        "claim_to_headers": [{"header_name": CLIENT_HEADER, "claim_name": tokens.client_claim}],
        "payload_in_metadata": PAYLOAD,
        "header_in_metadata": HEAD,
        "normalize_payload_in_metadata": {"space_delimited_claims": [tokens.scope_claim]},
    }


def keys_clusters(services: Sequence[ManagedService]) -> list[Json]:
    """Where public keys are fetched from: one cluster a service that has them at an address."""
    return [
        keys_cluster(name, access.jwt)
        for name, access in _opened(services)
        if access.jwt is not None and access.jwt.jwks_uri
    ]


# ── small parts ──────────────────────────────────────────────────────────────────────────────────────────


def enabled() -> Json:
    """A filter that is disabled where nothing is said."""
    return typed("envoy.config.route.v3.FilterConfig", config={})


def off() -> Json:
    """A filter that a route does without."""
    return typed("envoy.config.route.v3.FilterConfig", disabled=True)


def _rbac(content: Json) -> Json:
    return typed("envoy.extensions.filters.http.rbac.v3.RBACPerRoute", rbac=content)


def _demand(part: str, claim: str, value: Json) -> Json:
    """That a claim of the token, or of its header, is so."""
    path = [{"key": step} for step in (part, *claim.split("."))]
    matcher = {"filter": VERIFIED, "path": path, "value": value}
    return {"sourced_metadata": {"metadata_matcher": matcher, "metadata_source": "DYNAMIC"}}


def _any_of(values: Iterable[str]) -> Iterator[Json]:
    """A claim that is one of these texts, or a list with one of them."""
    for value in values:
        yield _exactly(value)
        yield {"list_match": {"one_of": _exactly(value)}}


def _exactly(text: str) -> Json:
    return _text({"exact": text})


def _text(match: Json) -> Json:
    return {"string_match": match}
