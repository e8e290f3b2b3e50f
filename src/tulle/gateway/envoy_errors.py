"""Every error that the gateway itself makes, in the shape the workers' errors have; in Envoy's words.

Pure. Nothing of the inside is told, and nothing of a filter's own words: what callers may do about it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from tulle.gateway.envoy_tracing import TRACE_HEADER
from tulle.gateway.envoy_values import API_PREFIX, REQUEST_ID, Json, typed
from tulle.gateway.policies.kind import Refusal
from tulle.gateway.trust.services_door import WRONG
from tulle.serving.endpoint import NODE_HEADERS

# status → (errorType, message); the same words whoever found the error
_ERRORS: Final[Mapping[int, tuple[str, str]]] = {
    400: ("InvalidRequest", "The request is not well-formed HTTP"),
    401: ("InvalidClient", "Missing or wrong credentials"),
    403: ("NoContract", "This application has no contract for the service"),
    404: ("UnknownService", "No service answers at this path"),
    405: ("MethodNotAllowed", "The gateway does not speak this method"),
    408: ("RequestTimeout", "The request did not arrive in time"),
    413: ("RequestTooLarge", "The request body is larger than the service accepts"),
    426: ("UpgradeRequired", "HTTP/1.0 is not spoken here; use HTTP/1.1"),
    429: ("TooManyRequests", "The caller's rate limit on the service is used up"),
    431: ("HeadersTooLarge", "The request headers are larger than the gateway accepts"),
    501: ("UnknownCoding", "The body is coded in a way that the gateway does not know"),
    502: ("BadAnswer", "What the service answered is not well-formed HTTP"),
    503: ("ServiceUnavailable", "The service does not answer now"),
    504: ("ServiceTimeout", "The service did not answer in time"),
}
_ADVICE: Final[Mapping[int, str]] = {
    401: "Send client_id and client_secret headers, Basic client_id:client_secret, or the API key as Bearer token",
    403: "Ask the owner of the service for a contract; none made after a version's sunset opens that version",
    404: f"Services are at {API_PREFIX}<service>/",
    429: "Try again after the seconds in retry-after",
    501: "Send it with a content-length, or chunked",
    502: "Its owner can see in the gateway's log what was wrong with it",
    503: "Try again; its workers may be restarting",  # and not what went wrong inside: that is in the access log
    504: "Try again, or ask for less at once",
}

# why a route answers by itself → (status, errorType, message)
_REASONS: Final[Mapping[str, tuple[int, str, str]]] = {
    "generation": (404, "UnknownGeneration", "The generation that was asked for does not answer here"),
    "dispatch_key": (400, "MissingDispatchKey", "The service is split by a key, and the request has none"),
    "disabled": (503, "ServiceDisabled", "The service is disabled"),
    "resting": (503, "NotAlive", "This gateway is to be asked no more for now"),
    "retired": (410, "ServiceRetired", "The service has ended"),
    "api_retired": (410, "ApiRetired", "This version of the API has ended"),
    "unbound": (503, "ApiNotBound", "Nothing is bound to this API now that could answer"),
    "path": (400, "AmbiguousPath", "The path is another form of one that the API treats apart"),
    "operation": (404, "UnknownOperation", "The API has no operation at this path"),
    "method": (405, "MethodNotAllowed", "The API has other operations at this path"),
}
# an answer by an example is the API's own, whatever its status
_MOCKED: Final = (
    "response.code_details == 'direct_response' && "
    "xds.route_metadata.filter_metadata['tulle']['reason'] == 'mock'"
)
# of tokens: what holds of the refusal → (status, errorType, message, advice, challenge)
_DETAILS: Final = "response.code_details"
INSUFFICIENT: Final = (
    "insufficient_scope"  # how a filter calls its refusal of a token that is good for something else
)
TOO_OLD: Final = "token_too_old"  # and of one that is too old, or does not say when it was signed
UNDATED: Final = "token_undated"
CRITICAL: Final = "token_critical"  # of one whose head demands what nothing here does
OTHER_KIND: Final = "token_of_other_kind"
_OF_TOKENS: Final[Mapping[str, tuple[int, str, str, str, str]]] = {
    f"{_DETAILS} == 'jwt_authn_access_denied{{Jwks_remote_fetch_is_failed}}'": (
        503,
        "KeysUnavailable",
        "The issuer's public keys cannot be fetched now",
        "Try again",
        "",
    ),
    f"{_DETAILS} == 'jwt_authn_access_denied{{Jwt_is_missing}}'": (
        401,
        "MissingToken",
        "The service is called with a token",
        "Send it as Authorization: Bearer",
        "Bearer",
    ),
    f"{_DETAILS}.startsWith('jwt_authn_access_denied{{')": (
        401,
        "InvalidToken",
        "The token is not accepted",
        "It may have expired, be meant for another audience, or be of another issuer",
        'Bearer error="invalid_token"',
    ),
    f"{_DETAILS} == 'rbac_access_denied_matched_policy[{TOO_OLD}]' || "
    f"{_DETAILS} == 'rbac_access_denied_matched_policy[{UNDATED}]'": (
        401,
        "InvalidToken",
        "The token is not accepted",
        "It was signed too long ago, or does not say when (iat): get another one",
        'Bearer error="invalid_token"',
    ),
    f"{_DETAILS} == 'rbac_access_denied_matched_policy[{CRITICAL}]' || "
    f"{_DETAILS} == 'rbac_access_denied_matched_policy[{OTHER_KIND}]'": (
        401,
        "InvalidToken",
        "The token is not accepted",
        "Its head demands what is not done here (crit), or it is for something else (typ): get an access token",
        'Bearer error="invalid_token"',
    ),
    f"{_DETAILS} == 'rbac_access_denied_matched_policy[{INSUFFICIENT}]' || "
    "(response.code == 403 && xds.route_metadata.filter_metadata['tulle']['access'] == 'token')": (
        403,
        "InsufficientScope",
        "The token does not allow this",
        "It must have the scopes that the service asks for, and name the client it was given to",
        'Bearer error="insufficient_scope"',
    ),
}

_REASON_ADVICE: Final[Mapping[str, str]] = {
    "generation": "Leave out forcedGeneration, or name one that is mapped or preloaded",
    "dispatch_key": 'Send "dispatch": {"dispatchKey": "…"} in the body, or the header dispatch-key',
    "disabled": "Its owner can enable it",
    "resting": "It still answers; `apinode-not-alive.txt` says so until it is removed",
    "retired": "Its page in the portal tells what comes after it",
    "api_retired": "Its page in the portal tells what comes after it",
    "unbound": "Its owner can bind it to a service",
    "path": "Write it as the API's document does: in its case, without ;parameters, with nothing encoded needlessly",
    "operation": "Its OpenAPI document has the operations there are",
    "method": "The header allow names their methods",
}
# What is no well-formed request is refused before Envoy gives it an id, so the refusal gives it one.
_IDENTIFIED: Final = {
    "header": {"key": "x-request-id", "value": '%COALESCE({"operators": ["STREAM_ID", "UNIQUE_ID"]})%'},
    "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
}
_AS_NODE: Final = [
    {"header": {"key": name.decode(), "value": value.decode()}, "append_action": "ADD_IF_ABSENT"}
    for name, value in NODE_HEADERS
]


def local_replies(refusals: Sequence[Refusal] = (), *, traced: bool = False) -> Json:
    """Every error that Envoy itself makes, in the shape the workers' errors have; `refusals` are those of policies.

    `traced`: requests have traces, whose ids are told.
    """
    reasons = [_reason_mapper(reason, *words) for reason, words in _REASONS.items()]
    alive = _mapper(200, "", "")
    alive["body_format_override"] = {"json_format": {"status": "alive"}, "content_type": "application/json"}
    tunnel = _mapper(405, *_ERRORS[405])  # it has no path, so no route and no contract: 403 would mislead
    tunnel["filter"] = {"and_filter": {"filters": [_status_is(403), _method_is("CONNECT")]}}
    tunnel["status_code"] = 405
    mock: Json = {"filter": _expression(_MOCKED)}
    mock["body_format_override"] = {"text_format_source": {"inline_string": "%LOCAL_REPLY_BODY%"}}
    of_policies = [_refusal_mapper(one) for one in refusals]
    mappers = [
        mock,
        _as_said(),
        _not_said(),
        alive,
        tunnel,
        _wrong_identity(),
        *reasons,
        *of_policies,
        *(_token_mapper(*of) for of in _OF_TOKENS.items()),
        _guessing(),
        _not_signed_in(),
    ]
    found = _replies([*mappers, *(_mapper(status, *words) for status, words in _ERRORS.items())])
    for body in (found["body_format"], *(one.get("body_format_override", {}) for one in found["mappers"])):
        if traced and "requestId" in body.get("json_format", {}):
            body["json_format"]["traceId"] = f"%REQ({TRACE_HEADER})%"
            body["omit_empty_values"] = True  # what is malformed has no trace
    return found


def _as_said() -> Json:
    """What the processor says of somebody whom it does not let in is a whole error by itself."""
    return {
        "filter": _expression(f"{_DETAILS} == 'ext_authz_denied'"),
        "body_format_override": {
            "text_format_source": {"inline_string": "%LOCAL_REPLY_BODY%"},
            "content_type": "application/json",
        },
    }


def _not_said() -> Json:
    """The processor does not answer, and so nobody knows who calls."""
    message = "Who calls cannot be found out now"
    mapper = _mapper(503, "IdentityUnavailable", message)
    mapper["filter"] = _expression(f"{_DETAILS} == 'ext_authz_error'")
    mapper["body_format_override"] = _error_body("IdentityUnavailable", message, "Try again")
    return mapper


def plain_replies(*, tls_needed: bool = False) -> Json:
    """The errors that any Envoy of the mesh makes, whatever it knows of services and policies.

    `tls_needed`: its door is one that only says that callers have to come by TLS.
    """
    first = [_tls_needed()] if tls_needed else []
    return _replies([*first, *(_mapper(status, *words) for status, words in _ERRORS.items())])


def _tls_needed() -> Json:
    message = "The gateway is met by TLS, and this request came without it"
    advice = "Use https://; if it had a secret in it, make another one: it could be read on its way"
    mapper = _mapper(403, "TlsRequired", message)
    mapper["filter"] = _expression(f"response.code == 426 && {_DETAILS} == 'direct_response'")
    mapper["status_code"] = 403
    mapper["body_format_override"] = _error_body("TlsRequired", message, advice)
    return mapper


def _replies(mappers: Sequence[Json]) -> Json:
    for mapper in mappers:
        mapper["headers_to_add"] = [*mapper.get("headers_to_add", ()), *_AS_NODE, _IDENTIFIED]
    return {
        "mappers": list(mappers),
        "body_format": _error_body("GatewayError", "The gateway could not answer", ""),
    }


def _wrong_identity() -> Json:
    """A service's own credentials without its certificate: stolen, or used where they are not meant to be."""
    message = "These credentials are a service's own, and the caller is not that service"
    mapper = _mapper(403, "WrongIdentity", message)
    mapper["filter"] = _expression(f"{_DETAILS} == 'rbac_access_denied_matched_policy[{WRONG}]'")
    advice = "Applications have credentials of their own"
    mapper["body_format_override"] = _error_body("WrongIdentity", message, advice)
    return mapper


def _guessing() -> Json:
    """Somebody tries secrets, and how often wrong ones are looked at is limited."""
    message = "Too many wrong credentials were sent from this address for this client"
    mapper = _mapper(429, "TooManyGuesses", message)
    mapper["filter"] = _expression(f"{_DETAILS} == 'lua_response' && response.code == 429")
    mapper["body_format_override"] = _error_body("TooManyGuesses", message, "Try again in a minute")
    later = {"key": "retry-after", "value": "60"}
    mapper["headers_to_add"] = [{"header": later, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}]
    return mapper


def _not_signed_in() -> Json:
    """Who gives tokens for the external service gives none, so nothing was sent to the service."""
    message = "The external service behind this API cannot be signed in to now"
    mapper = _mapper(503, "SignInUnavailable", message)
    mapper["filter"] = _expression(f"{_DETAILS} == 'lua_response' && response.code == 503")
    advice = "Try again; the gateway's log tells its owner why"
    mapper["body_format_override"] = _error_body("SignInUnavailable", message, advice)
    return mapper


def _mapper(status: int, error_type: str, message: str) -> Json:
    mapper: Json = {
        "filter": _status_is(status),
        "body_format_override": _error_body(error_type, message, _ADVICE.get(status, "")),
    }
    if status == 503:  # also what is more than a service's workers may hold at once
        later = {"key": "retry-after", "value": "1"}
        mapper["headers_to_add"] = [{"header": later, "append_action": "ADD_IF_ABSENT"}]
    if status == 401:
        mapper["headers_to_add"] = [_challenge('Basic realm="tulle", charset="UTF-8"')]
    return mapper


def _challenge(words: str) -> Json:
    header = {"key": "www-authenticate", "value": words}
    return {"header": header, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}


def _token_mapper(condition: str, words: tuple[int, str, str, str, str]) -> Json:
    """What is said of a token that does not open the service; the filter's own words are not ours."""
    status, error_type, message, advice, challenge = words
    mapper = _mapper(status, error_type, message)
    mapper |= {"filter": _expression(condition), "status_code": status}
    mapper["body_format_override"] = _error_body(error_type, message, advice)
    if challenge:
        mapper["headers_to_add"] = [_challenge(challenge)]
    return mapper


def _refusal_mapper(refusal: Refusal) -> Json:
    """What a policy's kind says of what it refuses."""
    mapper = _mapper(refusal.status, refusal.error_type, refusal.message)
    mapper["filter"] = _expression(refusal.when)
    if refusal.status:
        mapper["status_code"] = refusal.status
    mapper["body_format_override"] = _error_body(refusal.error_type, refusal.message, refusal.advice)
    if refusal.headers:
        mapper["headers_to_add"] = [
            {"header": {"key": key, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
            for key, value in refusal.headers.items()
        ]
    return mapper


def _reason_mapper(reason: str, status: int, error_type: str, message: str) -> Json:
    """What a route answers by itself says why."""
    mapper = _mapper(status, error_type, message)
    because = f"xds.route_metadata.filter_metadata['tulle']['reason'] == '{reason}'"
    details = "response.code_details == 'direct_response'"
    mapper["filter"] = _expression(f"{details} && {because}")
    mapper["body_format_override"] = _error_body(error_type, message, _REASON_ADVICE[reason])
    return mapper


def _status_is(status: int) -> Json:
    value = {"default_value": status, "runtime_key": f"error.{status}"}
    return {"status_code_filter": {"comparison": {"op": "EQ", "value": value}}}


def _method_is(method: str) -> Json:
    return _expression(f"request.method == '{method}'")


def _expression(text: str) -> Json:
    cel = typed("envoy.extensions.access_loggers.filters.cel.v3.ExpressionFilter", expression=text)
    return {"extension_filter": {"name": "cel", "typed_config": cel}}


def _error_body(error_type: str, message: str, advice: str) -> Json:
    detail = f"{message}. {advice}" if advice else f"{message} (%RESPONSE_CODE_DETAILS%)"
    return {
        "json_format": {
            "errorType": error_type,
            "message": message,
            "detailedMessage": detail,
            "requestId": REQUEST_ID,
        },
        "content_type": "application/json",
    }
