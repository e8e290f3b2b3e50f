"""Who may call a service, as its page shows it: the ways in, who says so, and the API keys that are in force."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tulle.gateway import service_keys
from tulle.gateway.last_used import last_used
from tulle.gateway.service_keys import ServiceKey
from tulle.serving.access import Access, access_of
from tulle.serving.package import Package
from tulle.state.db import Database, now


@dataclass(frozen=True, slots=True)
class AccessView:
    """The ways into a service in words, who says so, its keys in force, and how many are over."""

    ways: tuple[tuple[str, str], ...]
    said_by: str
    takes_keys: bool
    keys: tuple[ServiceKey, ...]
    over: int
    last_used: Mapping[str, float]  # by client id, of keys and applications


def access_view(database: Database, service: str, declared: Access, chosen: Package | None) -> AccessView:
    """Of the environment of consumers; `chosen` is the package that answers, else the newest."""
    access, by = access_now(database, service, declared, chosen)
    known, at = service_keys.keys(database, service), now()
    in_force = tuple(key for key in known if key.state(at) == "in force")
    ways = tuple((way, _sentence(access, way)) for way in access.ways())
    used = {client: at for (client, _), at in last_used(database, service).items()}
    return AccessView(ways, by, access.api_keys is not None, in_force, len(known) - len(in_force), used)


def access_now(
    database: Database, service: str, declared: Access, chosen: Package | None
) -> tuple[Access, str]:
    """By which ways a service is called where consumers are, and who says so."""
    said = service_keys.said_at_deployment(database).get((service, ""))
    if said is not None:
        return said, "said at its deployment"
    if chosen is not None:
        return access_of(chosen.manifest.access), f"as version {chosen.version} says"
    return declared, "as its file says"


def _sentence(access: Access, way: str) -> str:
    if way == "contracts":
        return "applications that have a contract"
    if access.api_keys is not None and way == "api_keys":
        limit = f", {access.api_keys.limit} each" if access.api_keys.limit else ""
        return f"whoever has a key of the service{limit}"
    if access.public is not None and way == "public":
        return f"everybody, {access.public.limit} {'for each address' if access.public.by == 'address' else 'together'}"
    assert access.jwt is not None  # the last of the ways
    more = f" with {', '.join(access.jwt.scopes)}" if access.jwt.scopes else ""
    if access.jwt.contract:
        return f"applications that have a contract, with a token of {access.jwt.issuer}{more}"
    return f"whoever has a token of {access.jwt.issuer}{more}"
