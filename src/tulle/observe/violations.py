"""Why a request got no answer of its service, by what the gateway noted of it.

The names are those that callers read as `errorType`. A violation is the gateway's own 4xx: something the caller did
against a policy. A failure is its own 5xx: something behind it did not answer. What the service itself answered is
neither. Pure.
"""

from __future__ import annotations

import re
from typing import Final

MOCK_REASON: Final = "mock"  # of a route whose answers are examples
_TOKEN: Final = "jwt_authn_access_denied{"  # noqa: S105  what a filter says
_BY_STATUS: Final = {
    0: "CallerLeft",
    400: "InvalidRequest",
    401: "InvalidClient",
    403: "NoContract",
    404: "UnknownService",
    405: "MethodNotAllowed",
    408: "RequestTimeout",
    410: "ServiceRetired",
    413: "RequestTooLarge",
    414: "AddressTooLong",
    426: "UpgradeRequired",
    429: "TooManyRequests",
    431: "HeadersTooLarge",
    501: "UnknownCoding",
    502: "BadAnswer",
    503: "ServiceUnavailable",
    504: "ServiceTimeout",
}
_DENIED: Final = "ext_authz_denied"
_SCRIPT: Final = "lua_response"
_BY_DETAILS: Final = {
    "ext_authz_error": "IdentityUnavailable",
    "fault_filter_abort": "InjectedFault",
    "rbac_access_denied_matched_policy[address]": "AddressNotAllowed",
    "rbac_access_denied_matched_policy[insufficient_scope]": "InsufficientScope",
    "rbac_access_denied_matched_policy[token_critical]": "InvalidToken",
    "rbac_access_denied_matched_policy[token_of_other_kind]": "InvalidToken",
    "rbac_access_denied_matched_policy[token_too_old]": "InvalidToken",
    "rbac_access_denied_matched_policy[token_undated]": "InvalidToken",
    "rbac_access_denied_matched_policy[wrong_identity]": "WrongIdentity",
}
_WORD: Final = re.compile(r"[A-Z][A-Za-z]{2,39}")
_BY_REASON: Final = {
    "generation": "UnknownGeneration",
    "dispatch_key": "MissingDispatchKey",
    "disabled": "ServiceDisabled",
    "resting": "NotAlive",
    "retired": "ServiceRetired",
    "api_retired": "ApiRetired",
    "unbound": "ApiNotBound",
    "path": "AmbiguousPath",
    "operation": "UnknownOperation",
    "method": "MethodNotAllowed",
}


def kind_of(
    status: int,
    details: str | None,
    reason: str | None = None,
    access: str | None = None,
    told: str | None = None,
) -> str:
    """The kind of a violation or failure of the gateway's own; empty for what the service answered, or was well.

    `details` are Envoy's response code details, `reason` why a route answers by itself, `access` by which way the
    caller came, `told` the word that came with the answer.
    """
    if details == "via_upstream" or 100 <= status < 400:
        # The gateway's processor says so, by a header; nobody else has a reason to.
        return told if told and status >= 400 and _WORD.fullmatch(told) else ""
    if details == "direct_response" and reason == MOCK_REASON:  # an example, whatever its status
        return ""
    if details == _DENIED:  # the processor did not recognise the caller, and says why in the same way
        return told if told and _WORD.fullmatch(told) else _BY_STATUS.get(status, "GatewayError")
    if details == "direct_response" and reason in _BY_REASON:
        return _BY_REASON[reason]
    if details and details.startswith(_TOKEN):
        return _of_token(details)
    usual = _BY_STATUS.get(status, "GatewayError")
    if status == 403 and access == "token":
        usual = "InsufficientScope"
    elif status == 503 and details == _SCRIPT:
        usual = "SignInUnavailable"
    return _BY_DETAILS.get(details or "", usual)


def _of_token(details: str) -> str:
    if "Jwks_remote_fetch_is_failed" in details:
        return "KeysUnavailable"
    return "MissingToken" if "Jwt_is_missing" in details else "InvalidToken"


def is_violation(status: int, kind: str) -> bool:
    """Whether the caller did something against a policy."""
    return bool(kind) and 400 <= status < 500
