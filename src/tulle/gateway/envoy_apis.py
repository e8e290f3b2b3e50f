"""APIs in Envoy's words: which requests are for one, where they lead, and an external service as what answers.

An external service is met by its own name, over TLS that is checked, and is told nothing of ours: neither who called
nor with what. Pure. Who may call is `envoy_access`'s matter, as for services.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final
from urllib.parse import quote

from tulle.gateway.envoy_access import enabled, off
from tulle.gateway.envoy_policies import merged
from tulle.gateway.envoy_tracing import TRACE_HEADER
from tulle.gateway.envoy_values import (
    ADDRESS_HEADER,
    API_PREFIX,
    BODY,
    CLAIMS_HEADER,
    CLIENT_HEADER,
    CONTRACT,
    LIMITS,
    PROCESS_HEADER,
    READER_SET,
    REMEMBER,
    WAY_HEADER,
    Json,
    trusted,
    typed,
)
from tulle.gateway.front import External, Front, Upstream, is_address
from tulle.gateway.policy import ManagedService

# What the gateway adds for workers, or a caller's own word to it.
_OURS: Final = (
    CLIENT_HEADER,
    ADDRESS_HEADER,
    CLAIMS_HEADER,
    PROCESS_HEADER,
    WAY_HEADER,
    TRACE_HEADER,
    "x-tulle-token",
    "x-tulle-environment",
    "x-forwarded-proto",
    "x-forwarded-for",
    "x-envoy-internal",
    "x-envoy-external-address",
    "transfer_encoding",
    "content_length",
    "proxy-connection",
    "dispatch-key",
    "forced-generation",
)
# By these some frameworks take a request for one of another method or path than the one whose policies were asked.
_OVERRIDES: Final = (
    "x-http-method-override",
    "x-http-method",
    "x-method-override",
    "x-original-method",
    "x-original-url",
    "x-original-uri",
    "x-rewrite-url",
)
# What a route says of filters that matter only where it leads somewhere.
_LEADING: Final = frozenset({BODY, READER_SET, REMEMBER})
# What the access log has of a route.
_ABOUT: Final = ("service", "environment", "version", "access")
_MOST_CONNECTIONS: Final = 512
_LARGEST_EXPRESSION: Final = 4000  # characters; more paths go into a route of their own
_SAFE: Final = "/%:@!$&'()*+,;=~-._"
_PARAMETER: Final = re.compile(r"\{[^{}/]+\}")


def ordered(services: Sequence[ManagedService]) -> Sequence[ManagedService]:
    """Services in the order in which their routes are tried: APIs after them, the more exact address first."""
    apis = [one for one in services if one.front is not None]
    apis.sort(key=lambda one: (-len(one.address), not (one.front and one.front.hosts), one.path))
    return [*(one for one in services if one.front is None), *apis]


def match_of(service: ManagedService, headers: Sequence[Json]) -> Json:
    """Which requests are for a service, by its address, and an API's hosts."""
    wanted = [*headers, *_hosts(service.front)]
    where = {"prefix": "/"} if service.address == "/" else {"path_separated_prefix": service.address}
    return {**where, **({"headers": wanted} if wanted else {})}


def rewritten(service: ManagedService) -> Json:
    """How workers see the path: always as that of their own service."""
    front = service.front
    if front is None:
        return {"prefix_rewrite": f"{API_PREFIX}{service.name}"} if service.environment else {}
    name = front.serves.rpartition("/")[2]
    return {"prefix_rewrite": f"{API_PREFIX}{name}{'/' if front.path == '/' else ''}"}


def external_routes(service: ManagedService, usual: Json, said: Mapping[str, Any]) -> Iterator[Json]:
    """The routes of an API with an external service behind it, made of the `usual` one of its way in.

    `said` is what policies have to say of where they lead.
    What is declared passes, each path with its methods; what is not is refused as 405 with those there are, or 404.
    Envoy takes longest for what a route says of filters, so few of them lead anywhere: paths share one, behind what
    refuses their other methods, as long as what one path refuses is not what another one that may be meant lets pass.
    """
    front = service.front
    assert front is not None
    assert front.external is not None
    has_parts = front.only_declared or any(policy.operations for policy in service.policies)
    ours = {
        "request_headers_to_remove": [*_OURS, *(_OVERRIDES if has_parts else ())],
        "typed_per_filter_config": {REMEMBER: enabled()},
    }
    leading = {**merged(usual, ours), "route": merged(_action(service, front, front.external), said)}
    if not front.only_declared:
        yield leading
        return
    headers = usual["match"].get("headers", [])
    prefix = "" if front.path == "/" else re.escape(front.path)
    for together in _together(front.operations):
        for group in together:
            # Each by itself: to make an expression takes Envoy ten times as long.
            others = [
                {"name": ":method", "string_match": {"exact": method}, "invert_match": True}
                for method in group.methods
            ]
            no_method = refused(usual, "method", 405)
            allow = {"header": {"key": "allow", "value": ", ".join(group.methods)}}
            told = [*no_method.get("response_headers_to_add", []), allow]
            where = {"safe_regex": {"regex": f"{prefix}(?:{group.expression})"}}
            match = {**where, "headers": [*headers, *others]}
            yield {**no_method, "match": match, "response_headers_to_add": told}
        paths = "|".join(group.expression for group in together)
        match = {"safe_regex": {"regex": f"{prefix}(?:{paths})"}, **({"headers": headers} if headers else {})}
        yield {**leading, "match": match}
    yield refused(usual, "operation", 404)


def external_cluster(service: ManagedService) -> Json:
    """An external service: its addresses by their weights, spoken to as declared, set aside while they fail."""
    front = service.front
    assert front is not None
    assert front.external is not None
    external = front.external
    named = not is_address(external.upstreams[0].host)
    cluster: Json = {
        "name": service.path,
        "type": "STRICT_DNS" if named else "STATIC",
        "connect_timeout": _seconds(external.connect_seconds),
        "load_assignment": {
            "cluster_name": service.path,
            "endpoints": [{"lb_endpoints": [_endpoint(n, one) for n, one in enumerate(external.upstreams)]}],
        },
        "lb_policy": "ROUND_ROBIN",
        "circuit_breakers": {
            "thresholds": [
                {
                    "max_connections": _MOST_CONNECTIONS,
                    "max_pending_requests": 1024,
                    "max_requests": service.most_requests,
                    "max_retries": 64,
                }
            ]
        },
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": typed(
                "envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                explicit_http_config={"http_protocol_options": {}},
                common_http_protocol_options={"idle_timeout": _seconds(external.idle_seconds)},
                http_filters=_not_theirs(),
            )
        },
        # A name that nobody knows, or one that does not answer, must not keep other changes waiting.
        "wait_for_warm_on_init": False,
    }
    if named:
        cluster["dns_lookup_family"] = "ALL"
    if len(external.upstreams) > 1:
        cluster["outlier_detection"] = _OUTLIERS
    if external.health_path:
        cluster["health_checks"] = [_health(external)]
        cluster["common_lb_config"] = {"healthy_panic_threshold": {"value": 1}}
    if external.upstreams[0].is_secure:
        cluster |= _transport(external)
    return cluster


def _not_theirs() -> list[Json]:
    """Takes away what an external service says in the gateway's own words: by these its answers are told from ours."""
    words = [{"remove_on_match": {"key_matcher": {"prefix": prefix}}} for prefix in ("x-tulle-", "x-envoy-")]
    return [
        {
            "name": "not_theirs",
            "typed_config": typed(
                "envoy.extensions.filters.http.header_mutation.v3.HeaderMutation",
                mutations={"response_mutations": words},
            ),
        },
        {
            "name": "codec",
            "typed_config": typed("envoy.extensions.filters.http.upstream_codec.v3.UpstreamCodec"),
        },
    ]


# ── routes ───────────────────────────────────────────────────────────────────────────────────────────────


def _hosts(front: Front | None) -> list[Json]:
    if front is None or not front.hosts:
        return []
    names = "|".join(re.escape(host) for host in front.hosts)
    expression = f"(?i)({names})(:[0-9]{{1,5}})?"
    return [{"name": ":authority", "string_match": {"safe_regex": {"regex": expression}}}]


def _action(service: ManagedService, front: Front, external: External) -> Json:
    base = external.upstreams[0].base
    if front.path == "/":
        pattern, instead = "^/", f"{base}/"
    elif base:
        pattern, instead = f"^{re.escape(front.path)}", base
    else:  # the whole of what is left begins with a slash, and may be nothing
        pattern, instead = f"^{re.escape(front.path)}/?", "/"
    seconds = _seconds(external.timeout_seconds)
    return {
        "cluster": service.path,
        "timeout": seconds,
        "idle_timeout": seconds,
        "regex_rewrite": {"pattern": {"regex": pattern}, "substitution": instead},
        "auto_host_rewrite": True,
        # Only what never reached it is sent again: what it does is not ours to judge.
        "retry_policy": {
            "retry_on": "connect-failure,refused-stream,reset-before-request",
            "num_retries": 2,
            "retry_host_predicate": [
                {
                    "name": "previous",
                    "typed_config": typed(
                        "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"
                    ),
                }
            ],
            "host_selection_retry_max_attempts": 5,
            "retry_back_off": {"base_interval": "0.025s", "max_interval": "0.25s"},
        },
    }


def refused(usual: Json, reason: str, status: int) -> Json:
    """What the gateway answers itself, to whoever has shown who it is."""
    told = usual["metadata"]["filter_metadata"]["tulle"]
    about = {key: told[key] for key in _ABOUT if key in told}  # nobody is counted here
    route = {key: value for key, value in usual.items() if key != "route"}
    filters = {key: value for key, value in usual["typed_per_filter_config"].items() if key not in _LEADING}
    return {
        **route,
        "metadata": {"filter_metadata": {"tulle": {**about, "reason": reason}}},
        "direct_response": {"status": status},
        "typed_per_filter_config": {**filters, **{name: off() for name in (CONTRACT, LIMITS)}},
    }


@dataclass(frozen=True, slots=True)
class _Group:
    """Declared paths that have the same methods, as one expression."""

    expression: str
    methods: Sequence[str]
    is_doubtful: bool  # whether a path of another group may be meant by the same request


@lru_cache(maxsize=4096)
def _together(operations: tuple[tuple[str, str], ...]) -> Sequence[Sequence[_Group]]:
    """The groups in their order, in runs that one route can lead on.

    Within a run whatever a group lets pass no later one that may be meant refuses.
    """
    runs: list[list[_Group]] = []
    size = 0
    for group in _groups(operations):
        size += len(group.expression)
        if not runs or size > _LARGEST_EXPRESSION or any(_refuses(group, one) for one in runs[-1]):
            runs.append([])
            size = len(group.expression)
        runs[-1].append(group)
    return runs


def methods_of(declared: str) -> tuple[str, ...]:
    """The methods that a declared one lets pass: whoever may read something may ask what it is (RFC 9110, 9.3.2)."""
    return ("GET", "HEAD") if declared == "GET" else (declared,)


def _refuses(later: _Group, earlier: _Group) -> bool:
    """Whether `later`, asked first, may refuse what `earlier` lets pass."""
    return later.is_doubtful and earlier.is_doubtful and not set(earlier.methods) <= set(later.methods)


def _groups(operations: tuple[tuple[str, str], ...]) -> Sequence[_Group]:
    """The declared paths; one that is written out comes before a parameter's.

    Paths that have the same methods share an expression as far as none of them could be meant by another one.
    """
    declared: dict[str, set[str]] = {}
    for method, path in operations:  # `/a b` and `/a%20b` are one path to whoever calls
        declared.setdefault(_as_sent(path), set()).update(methods_of(method))
    methods = {path: sorted(several) for path, several in declared.items()}
    doubtful = _doubtful(methods)
    shapes: dict[tuple[str, ...], list[str]] = {}
    for path, known in methods.items():
        shapes.setdefault((shape_of(path) if path in doubtful else "", *known), []).append(path)
    for kind in sorted(shapes):  # where the others go matters to no request: fewer groups are fewer routes
        _, *known = kind
        if kind[0] and (others := shapes.pop(("", *known), None)):
            shapes[kind] += others
    found: list[_Group] = []
    for (shape, *known), paths in sorted(shapes.items()):
        parts = [expression_of(path) for path in sorted(paths)]
        while parts:
            taken, size = [parts.pop(0)], 0
            while parts and size + len(parts[0]) < _LARGEST_EXPRESSION:
                size += len(parts[0])
                taken.append(parts.pop(0))
            found.append(_Group("|".join(taken), known, is_doubtful=bool(shape)))
    return found


def _doubtful(paths: Collection[str]) -> set[str]:
    """Those that a request may be meant for which could also be meant for another one."""
    by_length: dict[int, list[tuple[str, Sequence[str]]]] = {}
    for path in paths:
        steps = path.split("/")
        by_length.setdefault(len(steps), []).append((path, steps))
    found: set[str] = set()
    for several in by_length.values():
        for (one, mine), (other, theirs) in itertools.combinations(several, 2):
            if all(a == b or "{" in a or "{" in b for a, b in zip(mine, theirs, strict=True)):
                found |= {one, other}
    return found


def shape_of(path: str) -> str:
    """Which steps of a path are parameters, or have some: what is written out sorts before them."""
    steps = path.split("/")
    return "".join("p" if _PARAMETER.fullmatch(one) else "o" if "{" in one else "a" for one in steps)


def expression_of(path: str) -> str:
    """A path with its parameters, as an expression; nothing of a parameter leads into another step."""
    if path == "/":
        return "/?"
    parts: list[str] = []
    at = 0
    for found in _PARAMETER.finditer(path):
        parts += [_literal(path[at : found.start()]), "[^/]+"]
        at = found.end()
    return "".join([*parts, _literal(path[at:])])


def _as_sent(path: str) -> str:
    """A path as callers send it, with its parameters."""
    return quote(path, safe="{}" + _SAFE)


def _literal(text: str) -> str:
    return re.escape(quote(text, safe=_SAFE))


# ── the external service ─────────────────────────────────────────────────────────────────────────────────

_OUTLIERS: Final[Mapping[str, Any]] = {
    "split_external_local_origin_errors": True,
    "consecutive_local_origin_failure": 2,
    "enforcing_consecutive_local_origin_failure": 100,
    "enforcing_local_origin_success_rate": 0,
    "enforcing_consecutive_5xx": 0,  # its own 500 says nothing about where it came from
    "enforcing_consecutive_gateway_failure": 0,
    "enforcing_success_rate": 0,
    "interval": "0.5s",
    "base_ejection_time": "1s",
    "max_ejection_time": "30s",
    "max_ejection_percent": 100,
}


def _endpoint(number: int, upstream: Upstream) -> Json:
    usual = upstream.port == (443 if upstream.is_secure else 80)
    host = f"[{upstream.host}]" if ":" in upstream.host else upstream.host
    name = host if usual else f"{host}:{upstream.port}"  # as its own callers write it in `host`
    endpoint: Json = {
        "address": {"socket_address": {"address": upstream.host, "port_value": upstream.port}},
        "hostname": name,
        "health_check_config": {"hostname": name},
    }
    return {
        "endpoint": endpoint,
        "load_balancing_weight": upstream.weight,
        "metadata": {"filter_metadata": {"envoy.transport_socket_match": {"to": str(number)}}},
    }


def _health(external: External) -> Json:
    return {
        "timeout": _seconds(min(external.health_seconds, 5.0)),
        "interval": _seconds(external.health_seconds),
        "no_traffic_interval": _seconds(external.health_seconds),
        "unhealthy_threshold": 2,
        "healthy_threshold": 1,
        "http_health_check": {"path": f"{external.upstreams[0].base}{external.health_path}"},
    }


def _transport(external: External) -> Json:
    """TLS to each address under its own name; a certificate of one is not taken from another."""
    sockets = [tls_to(one.host, external.ca) for one in external.upstreams]
    if len({one.host for one in external.upstreams}) == 1:
        return {"transport_socket": sockets[0]}
    return {
        "transport_socket_matches": [
            {"name": str(number), "match": {"to": str(number)}, "transport_socket": socket}
            for number, socket in enumerate(sockets)
        ]
    }


def tls_to(host: str, ca: str) -> Json:
    """TLS to a host under its own name; `ca` are certificates (PEM) to trust in place of this machine's."""
    kind = "IP_ADDRESS" if is_address(host) else "DNS"
    check = {
        "trusted_ca": {"inline_string": ca} if ca else {"filename": trusted()},
        "match_typed_subject_alt_names": [{"san_type": kind, "matcher": {"exact": host}}],
    }
    return {
        "name": "tls",
        "typed_config": typed(
            "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
            common_tls_context={"validation_context": check},
            **({} if is_address(host) else {"sni": host}),
        ),
    }


def _seconds(value: float) -> str:
    return f"{value:.3f}s"
