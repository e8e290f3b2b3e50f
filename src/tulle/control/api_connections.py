"""External services that a connection of the mesh leads to: where they are, and what the gateway signs in there with.

An API names the connection, which says who may: its option `apis` has the products whose APIs may lead there. What
signs in is read from the database whenever the gateway is told anew, is in no value that is recorded or shown, and goes
to the connection's own address alone. Knows nothing of Envoy.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from typing import Final

from tulle.config import Settings
from tulle.control.declared_apis import demand_reachable
from tulle.control.workspace import Workspace
from tulle.errors import Invalid, Problem, TulleError
from tulle.gateway.apis.declared import Target
from tulle.gateway.apis.load import Loaded
from tulle.gateway.envoy_sign_in import ClientCredentials
from tulle.gateway.front import Upstream, check_url
from tulle.gateway.policy import GatewayPolicy, ManagedService
from tulle.gateway.signing import Signing
from tulle.pipeline.sources.address import PROD, demand_led_to
from tulle.pipeline.sources.client_credentials import OAUTH2
from tulle.pipeline.sources.http import signing_headers
from tulle.pipeline.sources.kept_certificates import with_certificates
from tulle.spec.environment import production
from tulle.spec.source import HTTP
from tulle.state.connections import Connection, open_connections
from tulle.state.db import Database

_VALUE: Final = re.compile(r"[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?")
_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")
# What a request is framed and led by is not for a connection to say.
_TAKEN: Final = frozenset({"host", "connection", "content-length", "transfer-encoding", "te", "upgrade"})


class ApiConnections:
    """Those of one mesh; not for several threads at once."""

    def __init__(self, workspace: Workspace) -> None:
        self._settings = workspace.settings
        self._connections = open_connections(workspace.settings, workspace.database)
        self._stamp: tuple[Mapping[tuple[str, str], float], Collection[str]] = {}, ()
        self._judged: dict[tuple[str, str, str], tuple[Signing, Upstream] | TulleError] = {}

    def take_up(self, settings: Settings) -> None:
        """Judge by other settings of the mesh."""
        self._settings = settings

    def stamp(self) -> object:
        """Another object whenever any connection is another, is new, or is gone, or others may be reached."""
        found = self._connections.stamps(), self._settings.source_addresses
        if found != self._stamp:
            self._stamp = found
            self._judged.clear()
        return self._stamp

    def resolved(self, service: ManagedService) -> ManagedService:
        """It, with the address that its connection says now; as it is where it names none.

        Invalid or Denied where the connection is not there, is of another kind, or may not be used.
        """
        front = service.front
        if front is None or front.external is None or not front.external.connection:
            return service
        _, upstream = self._usable(service, front.external.connection)
        external = replace(front.external, upstreams=(upstream,))
        return replace(service, front=replace(front, external=external))

    def signings(self, policy: GatewayPolicy) -> Mapping[str, Signing]:
        """What signs in for each service of the policy that a connection leads to, by its path.

        None for one whose connection is gone, may not be used any more, or leads elsewhere by now.
        """
        found: dict[str, Signing] = {}
        led = [(one, one.front.external) for one in policy.services if one.front and one.front.external]
        if any(external.connection for _, external in led):
            self.stamp()
        for service, external in led:
            if not external.connection:
                continue
            try:
                signing, upstream = self._usable(service, external.connection)
            except TulleError:  # told where the service is made
                continue
            if external.upstreams == (upstream,):
                found[service.path] = signing
        return found

    def _usable(self, service: ManagedService, name: str) -> tuple[Signing, Upstream]:
        """What a connection signs in with, and where it leads.

        Judged once as long as neither it nor what may be reached is another.
        """
        key = (name, service.environment or PROD, service.product)
        found = self._judged.get(key)
        if found is None:
            found = self._judged[key] = self._judge(*key)
        if isinstance(found, TulleError):
            raise found
        return found

    def _judge(self, name: str, environment: str, product: str) -> tuple[Signing, Upstream] | TulleError:
        try:
            return demand_usable(self._settings, self._connections.get(name, environment), product)
        except TulleError as exc:
            return exc


def demand_usable(settings: Settings, connection: Connection, product: str) -> tuple[Signing, Upstream]:
    """The external service that a connection leads to, for APIs of a product, and what the gateway signs in with there.

    Invalid for one of another kind, or with what cannot be sent; Denied where it is not for this product.
    """
    if connection.kind != HTTP:
        raise Invalid(
            f"connection '{connection.name}' in environment '{connection.environment}' is of kind "
            f"'{connection.kind}', an API is led by one of kind '{HTTP}'",
            hint=f"`tulle connection set {connection.name} --kind {HTTP} --address https://…`",
        )
    demand_led_to(connection, product)
    upstream = check_url(connection.address)
    demand_reachable(settings, upstream)
    if connection.options.get("auth") == OAUTH2:
        return Signing(connection.updated_at, {}, _client(settings, connection)), upstream
    headers = signing_headers(connection)
    for header, value in headers.items():
        if _NAME.fullmatch(header) is None or header.lower() in _TAKEN:
            raise Invalid(
                f"connection '{connection.name}' signs in with the header '{header[:60]}', which cannot be sent"
            )
        if _VALUE.fullmatch(value) is None or len(value) > 8192:
            raise Invalid(
                f"what connection '{connection.name}' signs in with cannot be sent in a header",
                hint="up to 8,192 visible characters of ASCII",
            )
    return Signing(connection.updated_at, headers), upstream


def _client(settings: Settings, connection: Connection) -> ClientCredentials:
    """How tokens are asked for. Invalid or Denied where they may not be asked for there."""
    said = connection.options
    url = said["token_url"]
    try:
        demand_reachable(settings, Upstream(url))
    except TulleError as exc:
        about = f"the 'token_url' of connection '{connection.name}': {exc.message}"
        raise type(exc)(about, hint=exc.hint) from None
    return ClientCredentials(
        url,
        said["client_id"],
        connection.secrets["client_secret"],
        said.get("scope", ""),
        said.get("audience", ""),
        "body" if said.get("client_auth") == "body" else "header",
        with_certificates(connection).certificates,
    )


def connection_problems(settings: Settings, database: Database, loaded: Loaded) -> Iterator[Problem]:
    """What is wrong with the connections that the versions of an API name, each with its place."""
    known = open_connections(settings, database)
    consumers = production(settings).name
    for number, version in enumerate(loaded.api.versions):
        for place in dict.fromkeys([consumers, *version.environments]):
            said = version.environments.get(place)
            at: tuple[str | int, ...] = ("versions", number)
            target: Target = version.target
            if said is not None and said.target is not None:
                target, at = said.target, (*at, "environments", place)
            if target.external is None or not target.external.connection:
                continue
            environment = PROD if place == consumers else place
            try:
                demand_usable(
                    settings, known.get(target.external.connection, environment), loaded.api.product
                )
            except TulleError as exc:
                yield loaded.problem(exc.message, *at, "upstream", "connection", hint=exc.hint)
