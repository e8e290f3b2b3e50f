"""`client-id`, `api-key`, `jwt` and `public`: by which ways a service, or some of its operations, may be called.

Where a list has any of them they hold instead of what `access` says; of several, one is enough, as there. Credentials
may also be taken from where API managers have them: the query, or a header of another name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from tulle.errors import Invalid
from tulle.gateway.envoy_values import ELSEWHERE, Json, typed
from tulle.gateway.policies.kind import Kind, Parts, Registry, Settings, Spot, Unfit
from tulle.serving.access import ACCESS_SCHEMA, Access, Keys, Public, demand_few, parse_access
from tulle.serving.ways_in import KEY, Credential, Place, WayIn, ways_of
from tulle.spec.rate_limit import RATE_SCHEMA, RateLimit

_HEADER: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
_TAKEN: Final = frozenset({"authorization", "host", "connection", "content-length", "content-type", "te"})
CLIENT_PARAMETERS: Final = ("client_id", "client_secret")  # of a query
_PARAMETER: Final = r"^[A-Za-z0-9_.-]{1,64}$"


@dataclass(frozen=True, slots=True)
class Opening:
    """Ways in, and where else credentials are taken from: names for the script that looks there."""

    access: Access
    elsewhere: Mapping[str, str] = field(default_factory=dict)


def _read_client_id(settings: Settings) -> Opening:
    return Opening(Access(), {"client_query": "true"} if settings.get("query") else {})


def _read_api_key(settings: Settings) -> Opening:
    _check_limit(settings)
    elsewhere = {}
    if (header := settings.get("header")) is not None:
        if _HEADER.fullmatch(header) is None or header in _TAKEN or header.startswith("x-tulle-"):
            raise Unfit(
                f"'{header}' is no header for a key", "header", hint="in lower case, such as x-api-key"
            )
        elsewhere["key_header"] = header
    if (parameter := settings.get("query")) is not None:
        elsewhere["key_query"] = parameter
    return Opening(Access(contracts=False, api_keys=Keys(settings.get("limit", ""))), elsewhere)


def _read_jwt(settings: Settings) -> Opening:
    sources = {"jwks", "jwks_uri"} & settings.keys()  # a file beside the list is the matter of `access`
    if len(sources) != 1:
        message = f"the issuer's public keys are {'said twice' if sources else 'not said'}"
        raise Unfit(message, *sorted(sources)[1:], hint="give `jwks_uri` or `jwks`")
    try:
        return Opening(parse_access(json.dumps({"jwt": dict(settings)}), is_recorded=True))
    except Invalid as exc:
        first = exc.problems[0] if exc.problems else exc
        raise Unfit(first.message, hint=first.hint) from None


def _demand_meant(settings: Settings) -> None:
    for setting, needed in (("timeout", "jwks_uri"), ("refresh", "jwks_uri"), ("scope_claim", "scopes")):
        # By the name of the claim a text with blanks is a list, for `claims` as well.
        is_claim = setting == "scope_claim" and settings.get(setting) in settings.get("claims", {})
        if setting in settings and needed not in settings and not is_claim:
            hint = f"say `{needed}`, or leave `{setting}` out"
            raise Unfit(f"'{setting}' does nothing without '{needed}'", setting, hint=hint)
    try:
        demand_few(settings.get("jwks", {}).get("keys", ()))
    except Invalid as exc:
        raise Unfit(exc.message, "jwks", hint=exc.hint) from None


def _read_public(settings: Settings) -> Opening:
    _check_limit(settings)
    return Opening(Access(contracts=False, public=Public(**settings)))


def _check_limit(settings: Settings) -> None:
    if (limit := settings.get("limit")) is not None:
        try:
            RateLimit.parse(limit)
        except Invalid as exc:
            raise Unfit(exc.message, "limit", hint=exc.hint) from None


def _render(opening: Opening, _: Spot) -> Parts:
    if not opening.elsewhere:
        return Parts()
    said = dict(opening.elsewhere)
    lua = typed("envoy.extensions.filters.http.lua.v3.LuaPerRoute", name=ELSEWHERE, filter_context=said)
    return Parts(settings={ELSEWHERE: lua})


def _hides(opening: Opening) -> Collection[str]:
    found = set()
    for what, name in opening.elsewhere.items():
        if what == "client_query":
            found |= {f"query:{one}" for one in CLIENT_PARAMETERS}
        else:
            found.add(f"{'header' if what == 'key_header' else 'query'}:{name}")
    return found


def _opens(opening: Opening) -> Access:
    return opening.access


def _ways(opening: Opening) -> Sequence[WayIn]:
    said = opening.elsewhere
    found = list(ways_of(opening.access))
    if "client_query" in said:
        names = ("clientIdInQuery", "clientSecretInQuery")
        found.append(
            tuple(
                Credential(name, "query", (parameter.upper(),), parameter)
                for name, parameter in zip(names, CLIENT_PARAMETERS, strict=True)
            )
        )
    places: tuple[tuple[Place, str], ...] = (("header", "key_header"), ("query", "key_query"))
    for place, what in places:
        if what in said:
            name = f"apiKeyIn{place.capitalize()}"
            found.append((Credential(name, place, (KEY,), said[what], "an API key"),))
    return found


_LIMIT: Final[Json] = {**RATE_SCHEMA, "description": "requests/period of each, such as 50/1s"}
_CLIENT_ID: Final[Json] = {
    "query": {
        "type": "boolean",
        "description": "take them from the query, too: client_id=…&client_secret=… (false)",
    }
}
_API_KEY: Final[Json] = {
    "limit": {**_LIMIT, "description": "of a key made without one: requests/period, such as 20/1s"},
    "header": {"type": "string", "description": "take the key from this header, too, such as x-api-key"},
    "query": {
        "type": "string",
        "pattern": _PARAMETER,
        "x-expected": "the name of a parameter",
        "description": "take the key from this parameter of the query, too",
    },
}


def _tokens() -> Json:
    """The settings of `access: {jwt: …}` but for a file beside a services file; each with a description."""
    said = ACCESS_SCHEMA["properties"]["jwt"]["properties"]
    more = {
        "scope_claim": "the claim that has the scopes (scope)",
        "client_claim": "the claim that names the caller (client_id)",
        "limit": "of each client that tokens name: requests/period",
    }
    return {
        name: {**schema, "description": schema.get("description") or more[name]}
        for name, schema in said.items()
        if name != "jwks_file"
    }


def register(registry: Registry) -> None:
    """Make the kinds known."""
    more: dict[str, Any] = {
        "phase": "credentials",
        "opens": _opens,
        "ways": _ways,
        "render": _render,
        "once": True,
        "hides": _hides,
    }
    registry.add(
        Kind(
            "client-id",
            "Applications with a contract may call, with their id and secret.",
            _CLIENT_ID,
            read=_read_client_id,
            example="policy: client-id\nquery: true",
            **more,
        )
    )
    registry.add(
        Kind(
            "api-key",
            "Who has a key of the service or the API may call.",
            _API_KEY,
            read=_read_api_key,
            example="policy: api-key\nlimit: 20/1s\nheader: x-api-key",
            **more,
        )
    )
    registry.add(
        Kind(
            "jwt",
            "Who has a signed token of the issuer may call.",
            _tokens(),
            read=_read_jwt,
            anew=_demand_meant,
            required=("issuer",),
            example="policy: jwt\nissuer: https://login.example.com/\naudience: orders\nscopes: [orders.read]\n"
            "claims: {tenant: [north, south]}\njwks_uri: https://login.example.com/.well-known/jwks.json",
            **more,
        )
    )
    registry.add(
        Kind(
            "public",
            "Everybody may call, without credentials.",
            {
                "limit": {**_LIMIT, "description": "requests/period, of all together or of each address"},
                "by": {"enum": ["all", "address"], "description": "whom the limit is for (all)"},
            },
            read=_read_public,
            required=("limit",),
            example="policy: public\nlimit: 100/1s\nby: address\noperations: [{method: GET, path: /openapi.json}]",
            **more,
        )
    )
