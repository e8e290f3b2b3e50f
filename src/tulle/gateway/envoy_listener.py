"""The gateway's one door in Envoy's words: what a request passes, and how the access log reads.

One request passes: strip forgeable headers and a portal reader's cookie → policies of its route → (Lua, only for
callers that do not send plain Basic) → credentials, or a token → contract → policies → rate limits → policies → body
size → router. Pure; depends on the Door alone, so that no change of policy touches the listener or a connection. Knows
nothing of services and clients: those come in watched parts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from importlib import resources
from typing import Any, Final

from tulle.gateway.envoy_cross_origin import filter_of_pages
from tulle.gateway.envoy_errors import local_replies
from tulle.gateway.envoy_origin import detection, removed_after, removed_before
from tulle.gateway.envoy_proxy_protocol import proxied_listener
from tulle.gateway.envoy_tls import HTTP2, by_tls, hsts, plain_listener
from tulle.gateway.envoy_token_limits import refusing_unfit
from tulle.gateway.envoy_tracing import HEADERS as TRACE_HEADERS
from tulle.gateway.envoy_tracing import trace_filter, tracing, without_malformed
from tulle.gateway.envoy_values import (
    AUTH,
    BODY,
    CHECKS,
    CLIENT_HEADER,
    CONTRACT,
    DISPATCH,
    DISPATCH_BODY,
    ELSEWHERE,
    GUARD,
    HEADER_LIMIT,
    JWT,
    LIMITS,
    LISTENER,
    MESSAGES,
    NORMALISE,
    ONE_NAME,
    POLICIES,
    READER,
    READER_COOKIE,
    READER_SET,
    REMEMBER,
    REQUEST_ID,
    ROUTES,
    SECOND_NAME,
    SPIKES,
    TYPE,
    UNFIT,
    Door,
    Json,
    callers_path,
    header_input,
    typed,
    watched,
)
from tulle.gateway.policies.kind import known_kinds
from tulle.gateway.trust.services_door import identity_filter, services_listener

# Basic whose text ends in none of `6`, `+`, `o=`, `4=`, `Og==` and `fg==`
PLAIN_BASIC: Final = "Basic .*([^6+=]|[^o4=]=|([^g]|[^Of]g)==)"
# Many servers read `_` in a name as `-`. One expression: to look at each header again costs a request as much as it.
_FORGEABLE: Final = (
    "x[-_](tulle.*|envoy.*|dg[-_].*|real[-_]ip|request[-_]id)|forwarded"
    # by which frameworks do another operation: as they are written they may be meant, so routes decide about those
    "|x_http[-_]method([-_]override)?|x-http_method([-_]override)?|x-http-method_override|x(_method[-_]|-method_)override"
    "|x(_original[-_]|-original_)(method|ur[il])|x(_rewrite[-_]|-rewrite_)url"
)


def listener(door: Door, parts: Mapping[str, Json] | None = None) -> Json:
    """The listener without TLS. AUTH, LIMITS and ROUTES are watched in files of their own, or in place when `parts`
    has them."""
    return {
        "name": LISTENER,
        "address": {"socket_address": {"address": door.host, "port_value": door.port}},
        # With reuse_port two gateways could take the same port and share its callers without an error.
        "enable_reuse_port": False,
        "per_connection_buffer_limit_bytes": 65_536,
        "filter_chains": [{"filters": [_connection_manager(door, parts)]}],
    }


def listeners(door: Door, parts: Mapping[str, Json] | None = None) -> list[Json]:
    """The gateway's doors: for callers by TLS or without it, the same behind a TCP load balancer, and by mutual TLS for
    services that call each other.
    """
    plain = listener(door, parts)
    found = [plain]
    if door.tls:
        safe = _connection_manager(door, parts, hsts_seconds=door.hsts_seconds)
        found = [by_tls(plain, safe)]
        if door.plain_port:
            found.append(plain_listener(plain, door.plain_port, door.port, serves=door.plain_serves))
    if door.proxied_port:
        found.append(proxied_listener(found[0], door.proxied_port, door.trusted_proxies))
    if not door.mutual_tls:
        return found
    # Services come by a socket of their own: none of them is a proxy, whatever it says.
    return [*found, services_listener(listener(replace(door, trusted_proxies=()), parts))]


def _connection_manager(door: Door, parts: Mapping[str, Json] | None, *, hsts_seconds: int = 0) -> Json:
    if parts is None:
        where: Json = {"rds": {"route_config_name": ROUTES, "config_source": watched("routes")}}
    else:
        where = {"route_config": parts[ROUTES]}
    config = typed(
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix="gateway",
        codec_type="AUTO",  # HTTP/2 by ALPN, or where a connection begins with its words
        server_name="tulle",
        http_filters=[
            *removed_after(door.trusted_proxies),
            *trace_filter(door.traces),
            *hsts(hsts_seconds),
            *_filters(parts),
        ],
        local_reply_config=local_replies(known_kinds().refusals(), traced=door.traces is not None),
        access_log=[access_log(door.access_log)],
        # what callers can never say themselves, removed before anything reads a header
        early_header_mutation_extensions=[_strip_forgeable_headers(door)],
        **detection(door.trusted_proxies),
        request_id_extension={
            "typed_config": typed(
                "envoy.extensions.request_id.uuid.v3.UuidRequestIdConfig", pack_trace_reason=False
            )
        },
        preserve_external_request_id=False,
        always_set_request_id_in_response=True,
        # one path, one meaning: what the route saw is what the worker sees
        normalize_path=True,
        merge_slashes=True,
        path_with_escaped_slashes_action="REJECT_REQUEST",
        common_http_protocol_options={
            "idle_timeout": "300s",
            "max_headers_count": 100,
            "headers_with_underscores_action": "ALLOW",  # client_id and client_secret have one
        },
        # no service speaks anything but HTTP: a wish for another protocol is not heard, the request answered
        http_protocol_options={"ignore_http_11_upgrade": [{"safe_regex": {"regex": ".*"}}]},
        http2_protocol_options=HTTP2,
        max_request_headers_kb=32,
        request_headers_timeout="10s",
        request_timeout="60s",
        stream_idle_timeout="120s",
        **tracing(door.traces),
        **where,
    )
    return {"name": "http", "typed_config": config}


def _filters(parts: Mapping[str, Json] | None) -> list[Json]:
    def part(name: str, kind: str, **more: Any) -> Json:
        if parts is None:
            discovery = {"config_source": watched(name), "type_urls": [TYPE + kind]}
            return {"name": name, "config_discovery": discovery, **more}
        return {"name": name, "typed_config": parts[name], **more}

    auth = part(AUTH, "envoy.extensions.filters.http.basic_auth.v3.BasicAuth")
    # off, but for the routes of services that take tokens
    token = part(JWT, "envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication", disabled=True)
    chain = "envoy.extensions.filters.http.filter_chain.v3.FilterChainConfig"
    spike = part(SPIKES, chain, disabled=True)  # on where a route has a policy of it
    limit = part(LIMITS, "envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit")
    deny = typed("envoy.extensions.filters.http.rbac.v3.RBAC", matcher=only_clients({}))
    body = typed("envoy.extensions.filters.http.buffer.v3.Buffer", max_request_bytes=1)
    router = typed("envoy.extensions.filters.http.router.v3.Router", suppress_envoy_headers=True)
    before, known, after = (_policies_of_route(name) for name in POLICIES)
    return [
        filter_of_pages(),
        {"name": READER, "typed_config": _where_a_reader_calls(_lua("reader_cookie.lua"))},
        {"name": READER_SET, "typed_config": _lua("reader_set.lua"), "disabled": True},
        {"name": MESSAGES, "typed_config": _named_lua("message_log.lua"), "disabled": True},
        {"name": HEADER_LIMIT, "typed_config": _named_lua("header_limit.lua"), "disabled": True},
        before,
        {"name": ELSEWHERE, "typed_config": _named_lua("credentials_elsewhere.lua"), "disabled": True},
        {"name": NORMALISE, "typed_config": _unless_plain_basic(_lua("credentials.lua"))},
        {"name": GUARD, "typed_config": _lua("guard.lua"), "disabled": True},
        auth,
        {"name": ONE_NAME, "typed_config": _only_second_names(_one_name()), "disabled": True},
        token,
        {"name": UNFIT, "typed_config": refusing_unfit(), "disabled": True},
        _policies_of_route(CHECKS),  # the processor, where it says who calls
        identity_filter(),
        {"name": REMEMBER, "typed_config": _remember(), "disabled": True},
        {"name": CONTRACT, "typed_config": deny},  # each route names its clients; without that nobody passes
        known,
        {"name": "retry_after", "typed_config": _only_when_limited(_retry_after())},
        limit,
        spike,
        after,
        {"name": BODY, "typed_config": body, "disabled": True},  # on where something behind reads bodies
        {"name": DISPATCH_BODY, "typed_config": _read_dispatch(), "disabled": True},
        {"name": DISPATCH, "typed_config": _lua("dispatch.lua"), "disabled": True},
        {"name": "router", "typed_config": router},
    ]


def _remember() -> Json:
    """For the access log what is gone by then: who called where the service is not told, and the path as it came."""
    known = {"metadata_namespace": "tulle", "key": "client", "type": "STRING"}
    without_query = {"pattern": {"regex": "[?].*"}, "substitution": ""}
    came = {**known, "key": "path", "regex_value_rewrite": without_query}
    return typed(
        "envoy.extensions.filters.http.header_to_metadata.v3.Config",
        request_rules=[
            {"header": CLIENT_HEADER, "on_header_present": known},
            {"header": ":path", "on_header_present": came},
        ],
    )


def _policies_of_route(name: str) -> Json:
    """A place for filters that routes bring along; where they do not it is passed over."""
    chain = typed("envoy.extensions.filters.http.filter_chain.v3.FilterChainConfig")
    return {"name": name, "typed_config": chain, "disabled": True}


def only_clients(clients: Mapping[str, str]) -> Json:
    """A hash map from client to ALLOW: as quick for ten thousand clients as for one. Who is not in it is denied.

    Each comes with the name under which it is allowed, which the filter tells those behind it.
    """

    def action(name: str, does: str) -> Json:
        kind = typed("envoy.config.rbac.v3.Action", name=name, action=does)
        return {"action": {"name": name, "typed_config": kind}}

    denied = {"on_no_match": action("DENY", "DENY")}
    if not clients:
        return denied
    by_client = {"map": {client: action(name, "ALLOW") for client, name in clients.items()}}
    return {"matcher_tree": {"input": header_input(CLIENT_HEADER), "exact_match_map": by_client}, **denied}


def _named_lua(name: str) -> Json:
    """A script of ours that a route turns on by its name, and tells what it is to do."""
    script = resources.files("tulle.gateway").joinpath(name).read_text()
    return typed(
        "envoy.extensions.filters.http.lua.v3.Lua",
        source_codes={name.removesuffix(".lua"): {"inline_string": script}},
        clear_route_cache=False,
    )


def _lua(name: str) -> Json:
    """A script of ours. It chooses no route anew unless it says so itself."""
    script = resources.files("tulle.gateway").joinpath(name).read_text()
    return typed(
        "envoy.extensions.filters.http.lua.v3.Lua",
        default_source_code={"inline_string": script},
        clear_route_cache=False,
    )


def _unless_plain_basic(filter_config: Json) -> Json:
    """Skip the script for `Basic base64(id:secret)`, which the credentials filter reads itself.

    An API key as user name has an empty password: its last byte is the colon, which ends base64 text in `6`,
    `o=` or `Og==`. A secret of the second form ends in a tilde: `+`, `4=` or `fg==`. Other secrets are hexadecimal,
    which never ends so. One expression, as each look at a header costs as much as it.
    """

    def value(header: str, regex: str) -> Json:
        match = {"safe_regex": {"google_re2": {}, "regex": regex}}
        return {"single_predicate": {"input": header_input(header), "value_match": match}}

    plain = [value("authorization", PLAIN_BASIC), {"not_matcher": value("client_id", ".*")}]
    return _skip_when(filter_config, {"and_matcher": {"predicate": plain}})


def _where_a_reader_calls(filter_config: Json) -> Json:
    """Only for requests with such a cookie; of those without cookies nothing is looked at."""
    seen = {"input": header_input("cookie"), "value_match": {"contains": READER_COOKIE}}
    return _skip_when(filter_config, {"not_matcher": {"single_predicate": seen}})


def _one_name() -> Json:
    """Whichever of its secrets a client signed in by, from here on it has the one name."""
    script = (
        "function envoy_on_request(handle)\n"
        f'  local name = handle:headers():get("{CLIENT_HEADER}")\n'
        f'  handle:headers():replace("{CLIENT_HEADER}", name:sub(1, -{len(SECOND_NAME) + 1}))\n'
        "end\n"
    )
    return typed(
        "envoy.extensions.filters.http.lua.v3.Lua",
        default_source_code={"inline_string": script},
        clear_route_cache=False,
    )


def _only_second_names(filter_config: Json) -> Json:
    second = {
        "single_predicate": {"input": header_input(CLIENT_HEADER), "value_match": {"suffix": SECOND_NAME}}
    }
    return _skip_when(filter_config, {"not_matcher": second})


def _read_dispatch() -> Json:
    """The member `dispatch` of a body, as metadata. What is no JSON is the worker's matter."""

    def rule(member: str) -> Json:
        selectors = [{"key": "dispatch"}, {"key": member}]
        return {"selectors": selectors, "on_present": {"metadata_namespace": "tulle", "key": member}}

    return typed(
        "envoy.extensions.filters.http.json_to_metadata.v3.JsonToMetadata",
        request_rules={
            "rules": [rule("forcedGeneration"), rule("dispatchKey")],
            # whatever a caller calls its body, it is read as JSON
            "allow_empty_content_type": True,
            "allow_content_types_regex": {"regex": ".*"},
        },
    )


def _retry_after() -> Json:
    append = {
        "append_action": "ADD_IF_ABSENT",
        "header": {"key": "retry-after", "value": "%RESP(x-ratelimit-reset)%"},
    }
    return typed(
        "envoy.extensions.filters.http.header_mutation.v3.HeaderMutation",
        mutations={"response_mutations": [{"append": append}]},
    )


def _only_when_limited(filter_config: Json) -> Json:
    limited = {
        "single_predicate": {
            "input": {
                "name": "status",
                "typed_config": typed("envoy.type.matcher.v3.HttpResponseStatusCodeMatchInput"),
            },
            "value_match": {"exact": "429"},
        }
    }
    return _skip_when(filter_config, {"not_matcher": limited})


def _skip_when(filter_config: Json, predicate: Json) -> Json:
    skip = typed("envoy.extensions.filters.common.matcher.action.v3.SkipFilter")
    return typed(
        "envoy.extensions.common.matching.v3.ExtensionWithMatcher",
        extension_config={"name": "inner", "typed_config": filter_config},
        xds_matcher={
            "matcher_list": {
                "matchers": [
                    {"predicate": predicate, "on_match": {"action": {"name": "skip", "typed_config": skip}}}
                ]
            }
        },
    )


def _strip_forgeable_headers(door: Door) -> Json:
    # Without a collector no trace begins here, and none of a caller's goes on.
    traces = () if door.traces is not None else TRACE_HEADERS
    names = "|".join((_FORGEABLE, removed_before(door.trusted_proxies), *traces))
    return {
        "name": "strip",
        "typed_config": typed(
            "envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation",
            mutations=[
                {"remove_on_match": {"key_matcher": {"safe_regex": {"regex": names}}}},
                *without_malformed(door.traces),
            ],
        ),
    }


def access_log(path: str) -> Json:
    """One line a request, in the file at `path`. No query strings and no credentials, but who was recognised."""
    line = {
        "time": "%START_TIME(%Y-%m-%dT%H:%M:%S.%3fZ)%",
        # What callers choose is cut: a line is never longer than whoever reads it expects.
        "method": "%REQ(:METHOD):20%",
        "path": callers_path(1000),
        "code": "%RESPONSE_CODE%",
        "caller": "%DOWNSTREAM_PEER_URI_SAN%",  # of the mesh's own services
        "client": f"%REQ({CLIENT_HEADER}):200%",
        "client_of_external": "%DYNAMIC_METADATA(tulle:client):200%",
        "address": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
        "access": "%METADATA(ROUTE:tulle:access)%",
        "service": "%METADATA(ROUTE:tulle:service)%",
        "environment": "%METADATA(ROUTE:tulle:environment)%",
        "version": "%METADATA(ROUTE:tulle:version)%",  # of an API
        "generation": "%RESP(x-tulle-generation):100%",
        "reason": "%METADATA(ROUTE:tulle:reason)%",
        "error": "%RESP(x-tulle-error):100%",
        "duration_ms": "%DURATION%",
        "duration_us": "%COMMON_DURATION(DS_RX_BEG:DS_TX_END:us)%",
        "upstream_ms": "%RESPONSE_DURATION%",
        "bytes_in": "%BYTES_RECEIVED%",
        "bytes_out": "%BYTES_SENT%",
        "request_id": REQUEST_ID,
        "trace": "%TRACE_ID%",
        "flags": "%RESPONSE_FLAGS%",
        "details": "%RESPONSE_CODE_DETAILS%",
        "message": "%DYNAMIC_METADATA(tulle.message)%",  # what a policy wants to have told
    }
    return {
        "name": "file",
        "typed_config": typed(
            "envoy.extensions.access_loggers.file.v3.FileAccessLog",
            path=path,
            log_format={"json_format": line},
        ),
    }
