"""What callers send to show who they are, by each way in: what documents and programs that call say of it.

A way in is some credentials that are sent together; one of none is that nobody is asked. Pure. Knows nothing of who
checks them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from tulle.serving.access import Access

KEY: Final = "API_KEY"
Place = Literal["header", "query", "basic", "bearer"]


@dataclass(frozen=True, slots=True)
class Credential:
    """One thing that is sent: `name` is that of a header or a parameter of the query.

    `scheme` is what it is called in documents. `variables` are those of the environment that a program has it in: of
    `basic` the name and the password, else one.
    """

    scheme: str
    place: Place
    variables: tuple[str, ...]
    name: str = ""
    description: str = ""
    form: str = ""  # of a bearer's token
    scopes: tuple[str, ...] = ()

    def as_scheme(self) -> dict[str, Any]:
        """As OpenAPI says it."""
        told = {"description": self.description} if self.description else {}
        if self.place in {"header", "query"}:
            return {"type": "apiKey", "in": self.place, "name": self.name, **told}
        form = {"bearerFormat": self.form} if self.form else {}
        return {"type": "http", "scheme": self.place, **form, **told}


WayIn = tuple[Credential, ...]


def ways_of(access: Access) -> tuple[WayIn, ...]:
    """The ways in that `access` says, each of which is enough."""
    ways: list[WayIn] = []
    if access.contracts:
        ways.append(
            (
                Credential("clientId", "header", ("CLIENT_ID",), "client_id"),
                Credential("clientSecret", "header", ("CLIENT_SECRET",), "client_secret"),
            )
        )
    if access.contracts or access.api_keys is not None:
        whose = "the application's API key" if access.api_keys is None else "an API key"
        user = "the API key as user name with an empty password"
        both = f"client id and secret, or {user}" if access.contracts else user
        key = KEY if access.api_keys is not None else "CLIENT_KEY"
        ways.append((Credential("apiKey", "bearer", (key,), description=whose),))
        ways.append((Credential("basic", "basic", ("CLIENT_ID", "CLIENT_SECRET"), description=both),))
    if access.jwt is not None:
        told = f"a token of {access.jwt.issuer}"
        if access.jwt.audiences:
            told += f" for {' or '.join(access.jwt.audiences)}"
        if access.jwt.scopes:
            told += f", with the scopes {' '.join(access.jwt.scopes)}"
        if access.jwt.contract:
            told += ", that names an application with a contract"
        token = Credential(
            "token", "bearer", ("TOKEN",), description=told, form="JWT", scopes=access.jwt.scopes
        )
        ways.append((token,))
    if access.public is not None:
        ways.append(())
    return tuple(ways)


def easiest(ways: Sequence[WayIn]) -> WayIn:
    """The way that an example goes: without credentials where that is one, else with a key, else the first."""
    if () in ways:
        return ()
    keys = (way for way in ways if any(KEY in one.variables for one in way))
    return next(keys, ways[0] if ways else ())
