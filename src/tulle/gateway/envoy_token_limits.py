"""What a token must not be, in Envoy's words: for something else, by its head, or signed too long ago, by its `iat`.

Pure. Knows nothing of issuers and services.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from tulle.gateway.envoy_errors import CRITICAL, OTHER_KIND, TOO_OLD, UNDATED
from tulle.gateway.envoy_values import Json, typed

VERIFIED: Final = "envoy.filters.http.jwt_authn"  # where the filter tells what a token says
PAYLOAD, HEAD = "payload", "header"
_LAST_SECOND: Final = 1e11  # no clock says more
# What issuers sign as well, and say so: that somebody signed out, that something happened, what a token is worth, which
# ones are withdrawn, who they are.
_KINDS: Final = r"(?i)(application/)?(logout|secevent|token-introspection|statuslist|entity-statement)\+jwt"
_SKEW_SECONDS: Final = 60  # by which an issuer's clock may be fast, as with `exp`


def refusing_unfit() -> Json:
    """What refuses what is well signed and yet no token to let somebody in by, whichever issuer's.

    One whose head says that something is critical (RFC 7515, 4.1.11), as nothing here knows any of it, and one that
    says to be for something else. It is the same for all routes, so it is made once, and they turn it on.
    """
    other_kind = _found(HEAD, "typ", {"string_match": {"safe_regex": {"regex": _KINDS}}})
    return _denying(
        {
            CRITICAL: {"permissions": [{"any": True}], "condition": _has(_told(HEAD), "crit")},
            OTHER_KIND: {"permissions": [other_kind]},
        }
    )


def refusing_old(seconds: float) -> Json:
    """A filter that refuses a token that was signed longer ago, or for later, or that does not say when.

    An expression that cannot be worked out refuses nothing, so what it is worked out of is demanded before: a number.
    """
    sane = {"double_match": {"range": {"start": 0, "end": _LAST_SECOND}}}
    now, signed = _call("int", _of_request("time")), _call("int", _at(_told(PAYLOAD), "iat"))
    late = _call("_>_", now, _call("_+_", signed, _number(int(seconds))))
    early = _call("_<_", _call("_+_", now, _number(_SKEW_SECONDS)), signed)
    refused: dict[str, Json] = {
        UNDATED: {"permissions": [{"not_rule": _found(PAYLOAD, "iat", sane)}]},
        TOO_OLD: {"permissions": [{"any": True}], "condition": _call("_||_", late, early)},
    }
    return {"name": "age_of_tokens", "typed_config": _denying(refused)}


def _denying(policies: Mapping[str, Json]) -> Json:
    """That each of these is refused, whoever it is; an error tells them apart by their names."""
    everybody = {"principals": [{"any": True}]}
    rules = {"action": "DENY", "policies": {name: {**said, **everybody} for name, said in policies.items()}}
    return typed("envoy.extensions.filters.http.rbac.v3.RBAC", rules=rules)


def _found(part: str, name: str, value: Json) -> Json:
    """That a token says so in this part."""
    matcher = {"filter": VERIFIED, "path": [{"key": part}, {"key": name}], "value": value}
    return {"sourced_metadata": {"metadata_matcher": matcher, "metadata_source": "DYNAMIC"}}


# ── expressions ──────────────────────────────────────────────────────────────────────────────────────────


def _told(part: str) -> Json:
    """What the filter tells of a part of the token."""
    metadata = {"select_expr": {"operand": {"ident_expr": {"name": "metadata"}}, "field": "filter_metadata"}}
    return _at(_at(metadata, VERIFIED), part)


def _at(where: Json, key: str) -> Json:
    return _call("_[_]", where, {"const_expr": {"string_value": key}})


def _has(where: Json, key: str) -> Json:
    """That there is such a member, whatever it is: no matcher of values finds a list that is empty."""
    return {"select_expr": {"operand": where, "field": key, "test_only": True}}


def _of_request(field: str) -> Json:
    return {"select_expr": {"operand": {"ident_expr": {"name": "request"}}, "field": field}}


def _number(value: int) -> Json:
    return {"const_expr": {"int64_value": value}}


def _call(function: str, *args: Json) -> Json:
    return {"call_expr": {"function": function, "args": list(args)}}
