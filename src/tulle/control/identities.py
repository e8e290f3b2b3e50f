"""The identities of services that call others: an application a service, contracts by the owners of those it calls.

Such a service is refused by every other one until it says in `uses` that it calls it, and the other's owner has given
it a contract; between services of one product the one word is enough. Its secret is in one file that its workers read,
made anew every day; nowhere else is more of it than the hash. Knows nothing of what is called, nor how.
"""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from tulle.config import Settings
from tulle.control import release
from tulle.control.workspace import Workspace
from tulle.deploy.local import Mounted
from tulle.errors import Conflict, NotFound, Problem, TulleError
from tulle.gateway import application_secret, applications, contract
from tulle.gateway.own_call import certificate_of, own_address
from tulle.gateway.policy import RateLimit
from tulle.gateway.trust.identity import Identity
from tulle.gateway.trust.services_door import SOCKET
from tulle.gateway.trust.transport import BUNDLE, FOLDER
from tulle.pipeline.sources.address import PROD
from tulle.pipeline.sources.client_credentials import OAUTH2
from tulle.pipeline.sources.http import signing_headers
from tulle.serving import generation
from tulle.serving.compose_declared import ComposeSpec, connections_of
from tulle.serving.manifest import MANIFEST, read_manifest
from tulle.serving.outside import Outside, Way, outside_file, read_outside, write_outside
from tulle.serving.own_certificate import Mutual
from tulle.serving.service import Service
from tulle.spec.environment import production
from tulle.spec.product import DataProduct
from tulle.state.connections import open_connections
from tulle.state.db import now

_log = logging.getLogger("tulle")
PREFIX = "of-service-"
ROTATED_SECONDS = 86_400.0
OVERLAP_SECONDS = 60.0
_LONGEST = 63
_TOKENS = "signs in with tokens of OAuth2, which APIs and sources do alone"


@dataclass(frozen=True, slots=True)
class Reach:
    """What the compositions of a package call that is elsewhere."""

    services: frozenset[str] = frozenset()
    connections: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        """Whether there is anything."""
        return bool(self.services or self.connections)


def application_of(service: str, environment: str = "") -> str:
    """The name of a service's application; no other may be called so."""
    name = f"{PREFIX}{service}" + (f"-in-{environment}" if environment else "")
    if len(name) > _LONGEST or "_" in name:  # environments may have it, applications may not
        name = f"{name[: _LONGEST - 9].replace('_', '-')}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
    return name


def reach_of(endpoints: Sequence[Mapping[str, Any]]) -> Reach:
    """What the endpoints of a manifest call that is elsewhere."""
    services: set[str] = set()
    connections: set[str] = set()
    for endpoint in endpoints:
        steps, callees = endpoint.get("steps") or (), endpoint.get("callees") or {}
        services |= {callee.partition("/")[0] for callee in callees}
        connections |= connections_of(steps)
    return Reach(frozenset(services), frozenset(connections))


def demand_contracts(workspace: Workspace, service: str, reach: Reach, environment: str = "") -> None:
    """Give a service its application, and contracts for what its own product offers.

    Conflict, telling what to do, while another owner has not let it call theirs.
    """
    if not reach.services:
        return
    declared = release.declared_services(workspace)
    name = application_of(service, environment)
    owner = release.declared_service(workspace, service).product.name
    _registered(workspace, name, owner)
    held = {one.service for one in applications.get(workspace.database, name).contracts}
    missing = []
    for callee in sorted(reach.services - held):
        if callee in declared and declared[callee].product.name == owner:
            limit = RateLimit.parse(workspace.settings.default_rate_limit)
            contract.grant(workspace.database, name, callee, limit, actor=f"service {service}")
        else:
            missing.append(callee)
    if missing:
        said = ", ".join(f"'{one}'" for one in missing)
        raise Conflict(
            f"service '{service}' calls {said}, whose owners have not let it yet",
            hint=f"they do so by `tulle app grant {name} {missing[0]} --limit 20/1s`",
        )


class Identities:
    """Keeps the files that workers call others by as they must be; one a control plane."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._reach: dict[tuple[str, str], Reach] = {}  # a version's never changes
        self._lock = threading.Lock()

    def keep(self, generations: Sequence[Mounted]) -> None:
        """Write what is missing, too old or no longer so, of the generations that shall run, and remove the rest."""
        with self._lock:
            places: dict[str, tuple[Mounted, Reach]] = {}
            for one in generations:
                before = places[one.place][1] if one.place in places else Reach()
                reach = self._reach_of(one)
                both = Reach(before.services | reach.services, before.connections | reach.connections)
                if both:
                    places[one.place] = (one, both)
            for place, (one, reach) in places.items():
                try:
                    self._keep(one, reach)
                except (TulleError, OSError, ValueError) as exc:  # the others must not wait for it
                    _log.error("what service '%s' calls others by cannot be written: %s", place, exc)
            home = outside_file(self._workspace.settings.state_folder, "x").parent
            for file in home.glob("*.json") if home.is_dir() else ():
                if file.stem not in places:
                    file.unlink(missing_ok=True)

    def _reach_of(self, one: Mounted) -> Reach:
        key = (one.service, one.version)
        if key not in self._reach:
            try:
                self._reach[key] = reach_of(read_manifest(one.folder / MANIFEST).endpoints)
            except TulleError:  # then it does not answer either
                return Reach()
        return self._reach[key]

    def _keep(self, one: Mounted, reach: Reach) -> None:
        workspace, settings = self._workspace, self._workspace.settings
        file = outside_file(settings.state_folder, one.place)
        try:
            before = read_outside(file)
        except (OSError, msgspec.MsgspecError):
            before = None
        name = application_of(one.service, one.environment)
        # Who died between the secret and the file, or could not write it, left a file that opens nothing.
        opens = before is not None and application_secret.opens(
            workspace.database, name, before.client_id, before.client_secret
        )
        if before is None or not opens or now() - before.made_at > ROTATED_SECONDS:
            _registered(workspace, name, "")
            # What a worker has sent already, or reads the file for a moment too late to send, is let in.
            made = application_secret.rotate(workspace.database, name, overlap=OVERLAP_SECONDS)
            client_id, secret, made_at = made.client_id, made.client_secret, now()
        else:
            client_id, secret, made_at = before.client_id, before.client_secret, before.made_at
        # By mutual TLS they come in by a door of their own, and what is shown to everybody else is nothing to them.
        shown, named = ("", "") if settings.mutual_tls else certificate_of(settings)
        wanted = Outside(
            gateway=gateway_of(settings, one.environment),
            mutual=self._mutual(one),
            shown=shown,
            named=named,
            client_id=client_id,
            client_secret=secret,
            connections=self._ways(reach.connections, one.environment or PROD),
            allowed=tuple(settings.source_addresses),
            made_at=made_at,
        )
        if wanted != before:
            write_outside(file, wanted)

    def _mutual(self, one: Mounted) -> Mutual | None:
        """By which certificate a service calls others, where hops inside the mesh are by mutual TLS."""
        settings = self._workspace.settings
        if not settings.mutual_tls:
            return None
        place = one.environment or production(settings).name
        file = Identity("", one.service, place).file_name
        return Mutual(SOCKET, f"{FOLDER}/{file}.json", f"{FOLDER}/{BUNDLE}.json", Identity("").host)

    def _ways(self, names: frozenset[str], environment: str) -> dict[str, Way]:
        """The connections that there are; a step that needs one that is not there says so when it runs."""
        found: dict[str, Way] = {}
        known = open_connections(self._workspace.settings, self._workspace.database)
        for name in sorted(names):
            try:
                one = known.get(name, environment)
            except NotFound:
                continue
            if one.kind != "http":
                continue
            takes_tokens = one.options.get("auth") == OAUTH2  # a worker has no secret to ask for them with
            found[name] = (
                Way(one.address, why_not=_TOKENS) if takes_tokens else Way(one.address, signing_headers(one))
            )
        return found


def end_others(workspace: Workspace, known: Collection[str], *, actor: str = "") -> tuple[str, ...]:
    """Revoke the identities of services that are no longer there, lest another of the name inherits contracts.

    `known` are the services that are; the names of the applications that ended. So do those of environments that
    neither `mesh.yaml` nor a deployment knows.
    """
    places = {"", *workspace.settings.environments}
    places |= {one.environment for one in generation.everywhere(workspace.database)}
    kept = {application_of(service, place) for service in known for place in places}
    ended = [
        one.name
        for one in applications.applications(workspace.database)
        if one.name.startswith(PREFIX) and one.name not in kept
    ]
    for name in ended:
        applications.revoke(workspace.database, name, actor=actor)
    return tuple(ended)


def gateway_of(settings: Settings, environment: str) -> str:
    """Where the services of an environment are called."""
    before = f"/{environment}" if environment else ""
    if settings.mutual_tls:
        return f"https://{Identity('').host}{before}"
    return f"{own_address(settings)}{before}"


def _registered(workspace: Workspace, name: str, owner: str) -> None:
    if not applications.is_known(workspace.database, name):
        applications.register(workspace.database, name, owner=owner, services={})


def use_problems(services: Mapping[str, tuple[DataProduct, Service]]) -> Iterator[Problem]:
    """Services that are used and not there, endpoints of theirs that are not, and services that use one another in
    a circle: every request would go round in it.
    """
    for name, (_, service) in services.items():
        for callee in service.uses:
            if callee not in services:
                yield Problem(f"service '{name}' uses '{callee}', which no product declares", service.place)
        for endpoint in service.endpoints:
            if not isinstance(endpoint, ComposeSpec):
                continue
            for callee, at in endpoint.callees.items():
                other, _, wanted = callee.partition("/")
                if other in services and wanted not in {e.name for e in services[other][1].endpoints}:
                    message = f"endpoint '{endpoint.name}': service '{other}' has no endpoint '{wanted}'"
                    yield Problem(message, endpoint.place_of(at) or service.place)
    told: set[frozenset[str]] = set()
    for name in sorted(services):
        circle = _circle(name, services)
        if circle and frozenset(circle) not in told:
            told.add(frozenset(circle))
            shown = " → ".join([*circle, circle[0]])
            hint = "let one of them do without the other"
            yield Problem(f"services use one another in a circle: {shown}", services[name][1].place, hint)


def _circle(start: str, services: Mapping[str, tuple[DataProduct, Service]]) -> list[str]:
    """The services on a way from `start` back to it; empty when there is none."""
    ways = [[start]]
    seen: set[str] = set()
    while ways:
        way = ways.pop()
        for callee in services[way[-1]][1].uses:
            if callee == start:
                return way
            if callee in services and callee not in seen:
                seen.add(callee)
                ways.append([*way, callee])
    return []
