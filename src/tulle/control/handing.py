"""Hands the gateway's processors what policies name and may not hold themselves: connections, with what opens them, and
users with hashes of their passwords.

They are kept encrypted in the database and handed over in an encrypted file, before the policies that need them are
published. A policy that names what is not there, or what cannot be read, is told; until then what was published last
stays. Knows nothing of what processors do with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from urllib.parse import urlsplit

from tulle.config import Settings
from tulle.control.declared_apis import demand_reachable
from tulle.errors import Broken, Invalid, NotFound, TulleError
from tulle.gateway.front import Upstream, check_url
from tulle.gateway.policies.entry import Policy
from tulle.gateway.policies.kind import known_kinds
from tulle.gateway.policy import ManagedService
from tulle.gateway.processing import handed
from tulle.gateway.processing.handed import Handed, HandedConnection, HandedUser, place_of
from tulle.lake.access.passwords import api_users
from tulle.pipeline.sources.address import PROD
from tulle.pipeline.sources.http import signing_headers
from tulle.spec.source import HTTP, LDAP
from tulle.state.connections import Connection, open_connections
from tulle.state.db import Database
from tulle.state.secrets import open_secrets


class Handing:
    """Of one control plane."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self._settings = settings
        self._database = database
        self._connections = open_connections(settings, database)
        self._has_handed = True  # by a control plane before this one, it may be

    def take_up(self, settings: Settings) -> None:
        """Judge by other settings of the mesh."""
        self._settings = settings

    def demand(self, service: ManagedService) -> None:
        """Refuse a service whose policies name a connection that is not there, or that may not be used. Invalid.

        Broken or Unavailable where it cannot be read.
        """
        for kind, name in _named(service.policies):
            try:
                found = self._connections.get(name, service.environment or PROD)
            except NotFound as exc:
                raise Invalid(f"policy '{kind}': {exc.message}", hint=exc.hint) from None
            _check(self._settings, kind, found)

    def hand(self, services: Iterable[ManagedService]) -> None:
        """Hand over what the policies of these services name, and nothing else.

        What cannot be read goes on as it was handed before, and is nobody else's trouble: `demand` tells of it. OSError
        where nothing can be written, Unavailable where the processors' key cannot be read.
        """
        found: dict[str, HandedConnection] = {}
        unread: set[str] = set()
        users: dict[str, HandedUser] = {}
        for service in services:
            if not users and any(policy.kind == "basic-auth" for policy in service.policies):
                with self._database.read() as cx:
                    users = {one.user: HandedUser(one.hashed, one.groups) for one in api_users(cx)}
            for _, name in _named(service.policies):
                place = place_of(service.environment, name)
                if place in found:
                    continue
                try:
                    found[place] = _handed(self._connections.get(name, service.environment or PROD))
                except NotFound:  # of a service that stays as it was: nobody comes in by it
                    continue
                except (TulleError, LookupError):  # the latter for want of a part of it
                    unread.add(place)
        if unread:
            found |= {place: one for place, one in self._before().items() if place in unread}
        if not found and not users and not self._has_handed:
            return
        folder = self._settings.state_folder
        file = folder / handed.FILE
        if found or users or file.exists():
            handed.write(file, Handed(found, users), open_secrets(folder / handed.KEY_FILE))
        self._has_handed = bool(found or users)

    def _before(self) -> Mapping[str, HandedConnection]:
        """The connections that are handed now."""
        folder = self._settings.state_folder
        try:
            return handed.read(folder / handed.FILE, open_secrets(folder / handed.KEY_FILE)).connections
        except Broken:  # nobody comes in by those either
            return {}


def _named(policies: Iterable[Policy]) -> Iterable[tuple[str, str]]:
    """The kinds of policies that ask somewhere who calls, each with the connection it names."""
    known = known_kinds()
    for policy in policies:
        name = policy.settings.get("connection")
        if isinstance(name, str) and known.carried_out(policy.kind).shown_as:
            yield policy.kind, name


def _handed(known: Connection) -> HandedConnection:
    if known.kind == LDAP:
        user, password = known.options.get("user", ""), known.secrets.get("password", "")
        return HandedConnection(known.address, user=user, password=password, options=dict(known.options))
    return HandedConnection(known.address, signing_headers(known))


def _check(settings: Settings, kind: str, connection: Connection) -> None:
    wanted = LDAP if kind == "ldap" else HTTP
    if connection.kind != wanted:
        raise Invalid(
            f"policy '{kind}': the connection '{connection.name}' is of kind '{connection.kind}', expected {wanted}",
            hint=f"`tulle connection set {connection.name} --kind {wanted} --address …`",
        )
    if wanted == HTTP:
        signing_headers(connection)
        demand_reachable(settings, check_url(connection.address))
        return
    parts = urlsplit(connection.address)  # it is spoken to by TLS, or is of this machine
    host, port = parts.hostname or "", parts.port or (636 if parts.scheme == "ldaps" else 389)
    named = f"[{host}]" if ":" in host else host
    demand_reachable(settings, Upstream(f"https://{named}:{port}"))
