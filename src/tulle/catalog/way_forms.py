"""What a form asks somebody for, by each way in to an operation, and what is then sent. Pure.

What was typed is sent along once and kept nowhere: no value that this module makes shows it.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Final
from urllib.parse import quote

from tulle.errors import Invalid
from tulle.serving.ways_in import KEY, Credential, WayIn, easiest

NOBODY: Final = "none"
_LONGEST: Final = 20_000
_LABELS: Final[Mapping[str, str]] = {
    "CLIENT_ID": "Client id",
    "CLIENT_SECRET": "Client secret",
    "CLIENT_KEY": "API key of the application",
    KEY: "API key",
    "TOKEN": "Token",
    "USER_NAME": "Name",
    "PASSWORD": "Password",
}
_WORDS: Final[Mapping[str, str]] = {
    "clientId": "an application: id and secret",
    "clientIdInQuery": "an application: id and secret in the query",
    "apiKey": "an API key",
    "token": "a token",
    "introspection": "an opaque token",
    "user": "somebody of the mesh: name and password",
    "ldap": "somebody of the directory: name and password",
}


@dataclass(frozen=True, slots=True)
class Asked:
    """One thing that is typed: `name` is that of the variable by which programs have it."""

    name: str
    label: str
    is_secret: bool


@dataclass(frozen=True, slots=True)
class WayForm:
    """A way in as a form offers it, by its `id`."""

    id: str
    told: str
    asks: tuple[Asked, ...] = ()

    @property
    def fields(self) -> list[dict[str, object]]:
        """What is typed, for a page's script."""
        return [asdict(one) for one in self.asks]


@dataclass(frozen=True, slots=True)
class Sent:
    """What shows who calls: headers, and parameters of the query as they are sent."""

    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    query: str = field(default="", repr=False)


def forms_of(ways: Sequence[WayIn]) -> tuple[WayForm, ...]:
    """Each way in once, the one that is easiest first; nobody is always among them, to see what is refused."""
    return tuple(_form(way) for way in (_by_id(ways) | {NOBODY: ()}).values())


def sent_of(ways: Sequence[WayIn], wanted: str, given: Mapping[str, str]) -> Sent:
    """What is sent by one of the ways in, of what was typed. Invalid: an unknown way, something missing."""
    if wanted == NOBODY:
        return Sent()
    way = _by_id(ways).get(wanted)
    if way is None:
        known = ", ".join(form.id for form in forms_of(ways))
        raise Invalid(f"it is not called by '{wanted[:60]}'", hint=f"known: {known}")
    headers: dict[str, str] = {}
    query: list[str] = []
    for one in way:
        values = [_typed(given, name) for name in one.variables]
        if one.place == "basic":
            headers["authorization"] = _basic(*values)
        elif one.place == "bearer":
            headers["authorization"] = f"Bearer {values[0]}"
        elif one.place == "header":
            headers[one.name.lower()] = values[0]
        else:
            query.append(f"{quote(one.name, safe='')}={quote(values[0], safe='')}")
    return Sent(headers, "&".join(query))


def _typed(given: Mapping[str, str], name: str) -> str:
    value = given.get(name, "")
    if name != "PASSWORD":  # blanks may be part of one
        value = value.strip()
    if not value:
        raise Invalid("a part of the credentials is missing", hint="give all of them, or try it without any")
    if len(value) > _LONGEST:
        raise Invalid(f"'{_label(name)}' is too long", hint=f"at most {_LONGEST} characters are sent")
    return value


def _basic(name: str, password: str) -> str:
    if ":" in name:  # which ends it where both are sent together
        raise Invalid("a name has no colon", hint="the password has a field of its own")
    return "Basic " + base64.b64encode(f"{name}:{password}".encode("utf-8", "replace")).decode()


def _by_id(ways: Sequence[WayIn]) -> dict[str, WayIn]:
    """Each way in once, the easiest first; without a key as the name of HTTP Basic, which is the same key once more."""
    takes_clients = any("CLIENT_ID" in one.variables for way in ways for one in way if one.place != "basic")
    found: dict[str, WayIn] = {}
    for way in (easiest(ways), *ways):
        name = "+".join(one.scheme for one in way) or NOBODY
        if takes_clients or name != "basic":
            found.setdefault(name, way)
    return found


def _form(way: WayIn) -> WayForm:
    if not way:
        return WayForm(NOBODY, "nobody")
    names = tuple(dict.fromkeys(name for one in way for name in one.variables))
    open_ = {"CLIENT_ID", "USER_NAME"}
    return WayForm(
        "+".join(one.scheme for one in way),
        _words(way[0]),
        tuple(Asked(one, _label(one), one not in open_) for one in names),
    )


def _words(one: Credential) -> str:
    if one.scheme == "basic":
        return "an application: HTTP Basic"
    if one.scheme == "apiKey" and KEY not in one.variables:
        return "an application: its API key"
    if (known := _WORDS.get(one.scheme)) is not None:
        return known
    what = "an API key" if KEY in one.variables else one.scheme
    if one.place == "header":
        return f"{what}, in the header {one.name}"
    return f"{what}, in the query as {one.name}" if one.place == "query" else what


def _label(variable: str) -> str:
    return _LABELS.get(variable) or variable.replace("_", " ").capitalize()
