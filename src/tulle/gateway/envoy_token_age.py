"""The age of a token in Envoy's words: what refuses one that was signed too long ago, by its claim `iat`.

Pure. Knows nothing of issuers and services.
"""

from __future__ import annotations

from typing import Final

from tulle.gateway.envoy_errors import TOO_OLD, UNDATED
from tulle.gateway.envoy_values import Json, typed

VERIFIED: Final = "envoy.filters.http.jwt_authn"  # where the filter tells what a token says
PAYLOAD: Final = "payload"
_LAST_SECOND: Final = 1e11  # no clock says more
_SKEW_SECONDS: Final = 60  # by which an issuer's clock may be fast, as with `exp`


def refusing_old(seconds: float) -> Json:
    """A filter that refuses a token that was signed longer ago, or for later, or that does not say when.

    An expression that cannot be worked out refuses nothing, so what it is worked out of is demanded before: a number.
    """
    sane = {"double_match": {"range": {"start": 0, "end": _LAST_SECOND}}}
    path = [{"key": PAYLOAD}, {"key": "iat"}]
    matcher = {"filter": VERIFIED, "path": path, "value": sane}
    undated = {"not_rule": {"sourced_metadata": {"metadata_matcher": matcher, "metadata_source": "DYNAMIC"}}}
    now, signed = _call("int", _of_request("time")), _signed_at()
    late = _call("_>_", now, _call("_+_", signed, _number(int(seconds))))
    early = _call("_<_", _call("_+_", now, _number(_SKEW_SECONDS)), signed)
    everybody = {"principals": [{"any": True}]}
    policies = {
        UNDATED: {"permissions": [undated], **everybody},
        TOO_OLD: {"permissions": [{"any": True}], **everybody, "condition": _call("_||_", late, early)},
    }
    return {
        "name": "age_of_tokens",
        "typed_config": typed(
            "envoy.extensions.filters.http.rbac.v3.RBAC", rules={"action": "DENY", "policies": policies}
        ),
    }


def _signed_at() -> Json:
    """When a token was signed, in whole seconds, as an expression."""
    found = {"select_expr": {"operand": {"ident_expr": {"name": "metadata"}}, "field": "filter_metadata"}}
    for key in (VERIFIED, PAYLOAD, "iat"):
        found = _call("_[_]", found, {"const_expr": {"string_value": key}})
    return _call("int", found)


def _of_request(field: str) -> Json:
    return {"select_expr": {"operand": {"ident_expr": {"name": "request"}}, "field": field}}


def _number(value: int) -> Json:
    return {"const_expr": {"int64_value": value}}


def _call(function: str, *args: Json) -> Json:
    return {"call_expr": {"function": function, "args": list(args)}}
