"""`cors`: which web pages of other origins may call a service from a browser.

Browsers ask before they call, and show no credentials when they do: such a question is answered here, before anybody
is asked who he is. What a service says of pages itself is taken away, or it would open what the list does not. Answers
differ by the page that asked, and say so: a cache would else give one page's to another.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

import msgspec

from tulle.gateway.envoy_values import Json, typed
from tulle.gateway.policies.entry import METHODS
from tulle.gateway.policies.kind import Kind, Parts, Registry, Settings, Spot, Unfit

_HOST: Final = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*(:[0-9]{1,5})?"
_ORIGIN: Final = re.compile(rf"https?://{_HOST}")
_BELOW: Final = re.compile(rf"(https?)://\*\.({_HOST})")
_TOKEN: Final = r"^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}$"  # noqa: S105  a form, of RFC 9110
# what answers tell pages by, behind `access-control-`; a route takes away headers by their whole names alone
_SAYS: Final = (
    "allow-origin",
    "allow-credentials",
    "allow-methods",
    "allow-headers",
    "allow-private-network",
    "allow-local-network",
    "expose-headers",
    "max-age",
)
_USUAL_METHODS: Final = ("GET", "POST")
# what services of ours are called with, beside what a browser always may send
_USUAL_HEADERS: Final = ("authorization", "content-type", "client_id", "client_secret")


@dataclass(frozen=True, slots=True)
class Cors:
    """Origins as browsers write them; `https://*.example.com` is every host below."""

    origins: tuple[str, ...]
    methods: tuple[str, ...] = _USUAL_METHODS
    headers: tuple[str, ...] = _USUAL_HEADERS
    expose: tuple[str, ...] = ()
    credentials: bool = False
    max_age: int = 30


def _names(description: str) -> Json:
    return {
        "type": "array",
        "maxItems": 100,
        "items": {"type": "string", "pattern": _TOKEN, "x-expected": "a name without spaces"},
        "description": description,
    }


_PROPERTIES: Final[Json] = {
    "origins": {
        "type": "array",
        "minItems": 1,
        "maxItems": 100,
        "items": {"type": "string", "x-example": "https://app.example.com"},
        "description": "https://app.example.com, https://*.example.com, or '*' for every page",
    },
    "methods": _names("methods that pages may use (GET and POST)"),
    "headers": _names("headers that pages may send (authorization, content-type, client_id, client_secret)"),
    "expose": _names("headers of answers that pages may read"),
    "credentials": {
        "type": "boolean",
        "description": "whether browsers may send what they keep for the host",
    },
    "max_age": {
        "type": "integer",
        "minimum": 0,
        "maximum": 86_400,
        "description": "seconds for which a browser need not ask again (30)",
    },
}


def _read(settings: Settings) -> Cors:
    found = msgspec.convert(settings, Cors)
    for number, origin in enumerate(found.origins):
        if origin == "*" and found.credentials:
            message = "every page with the browser's own credentials: any page could act for its reader"
            raise Unfit(message, "origins", number, hint="name the origins, or leave out `credentials`")
        if origin != "*" and not _ORIGIN.fullmatch(origin) and not _BELOW.fullmatch(origin):
            raise Unfit(
                f"'{origin}' is no origin",
                "origins",
                number,
                hint="scheme and host in lower case, without a path: https://app.example.com",
            )
    return found


def _demand_methods(settings: Settings) -> None:
    for number, method in enumerate(settings.get("methods", ())):
        if method not in METHODS and method.upper() in METHODS:  # case counts, and browsers say it so
            message = f"no page asks by the method '{method}'"
            raise Unfit(message, "methods", number, hint=f"write '{method.upper()}'")


def _render(cors: Cors, spot: Spot) -> Parts:
    name = spot.name_of("cors")
    policy: Json = {
        "allow_origin_string_match": [_matcher(origin) for origin in cors.origins],
        "allow_methods": ", ".join(cors.methods),
        "allow_headers": ", ".join(cors.headers),
        "max_age": str(cors.max_age),
        "allow_credentials": cors.credentials,
    }
    if cors.expose:
        policy["expose_headers"] = ", ".join(cors.expose)
    config = typed("envoy.extensions.filters.http.cors.v3.Cors")
    return Parts(
        filters=[_differing(spot.name_of("cors vary")), {"name": name, "typed_config": config}],
        settings={name: typed("envoy.extensions.filters.http.cors.v3.CorsPolicy", **policy)},
        # Done where an answer arrives, so what the filter says afterwards stands.
        route={"response_headers_to_remove": [f"access-control-{what}" for what in _SAYS]},
    )


def _differing(name: str) -> Json:
    """A filter that has answers say that they differ by page; it is before the other, which may answer itself."""
    vary = {"header": {"key": "vary", "value": "origin"}, "append_action": "APPEND_IF_EXISTS_OR_ADD"}
    change = typed(
        "envoy.extensions.filters.http.header_mutation.v3.HeaderMutation",
        mutations={"response_mutations": [{"append": vary}]},
    )
    return {"name": name, "typed_config": change}


def _matcher(origin: str) -> Json:
    if origin == "*":
        return {"safe_regex": {"regex": ".*"}}
    if below := _BELOW.fullmatch(origin):
        return {"safe_regex": {"regex": rf"{below[1]}://[a-z0-9.-]+\.{re.escape(below[2])}"}}
    return {"exact": origin}


def register(registry: Registry) -> None:
    """Make the kind known."""
    registry.add(
        Kind(
            "cors",
            "Web pages of these origins may call the service from a browser.",
            _PROPERTIES,
            "first",
            _read,
            anew=_demand_methods,
            render=_render,
            required=("origins",),
            example="policy: cors\norigins: ['https://app.example.com']\nmethods: [GET, POST]",
            whole=True,
            once=True,
        )
    )
