"""What people do with a deployed service: share its traffic, keep a generation warm, bound it, end it, tidy up.

Deployments are written down here; the supervisor and the switchboard carry them out. Every function names the
environment by its name, None for that of consumers.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection

from tulle.config import Settings
from tulle.control.identities import demand_contracts, reach_of
from tulle.control.release import declared_service
from tulle.control.workspace import Workspace
from tulle.deploy.generations import mounted_of
from tulle.errors import Conflict
from tulle.gateway.faults import fault_of
from tulle.serving import generation, package
from tulle.serving.generation import Bounds, Deployment, Ending
from tulle.serving.package import Package
from tulle.serving.tested import demand_way
from tulle.serving.traffic import Traffic, preloading
from tulle.spec import environment as declared
from tulle.state.db import now


@dataclass(frozen=True, slots=True)
class Cleaned:
    """An unpacked generation that was removed, and the disk it took; its package stays."""

    service: str
    version: str
    bytes: int


def place_of(settings: Settings, environment: str | None) -> str:
    """How deployments name an environment: empty for that of consumers. NotFound with the nearest name."""
    if not environment:
        return ""
    return declared.place_of(declared.environment(settings, environment))


def name_of(settings: Settings, place: str) -> str:
    """The name of an environment, as people know it."""
    return place or declared.production(settings).name


def newest(workspace: Workspace, name: str) -> str:
    """The newest version that the product which declares a service has made of it. Conflict when there is none."""
    owner = declared_service(workspace, name).product.name
    versions = [p for p in package.packages(workspace.database, name) if p.product == owner]
    if not versions:
        raise Conflict(f"service '{name}' has no package yet", hint=f"`tulle service package {name}`")
    return versions[-1].version


def share(
    workspace: Workspace,
    name: str,
    traffic: Traffic,
    *,
    environment: str | None = None,
    actor: str = "",
    before: Traffic | None = None,
    check: Callable[[Connection], None] | None = None,
    test_queries: str = "",
) -> Deployment:
    """Ask for several generations to answer, each its part. Conflict when `before` is not what is wanted until now.

    `check` raises what refuses it, in the transaction that writes it down. `test_queries` says what they lead to once
    it answers: tell, rollback or skip; empty: as the environment says. Conflict where they would lead back at once.
    """
    demand_way(test_queries)
    place = place_of(workspace.settings, environment)
    current = generation.find(workspace.database, name, place)
    if current is not None and current.has_ended(now()):
        raise Conflict(
            f"service '{name}' has ended, so nothing of it runs",
            hint=f"`tulle service deprecate {name} --undo` lets it go on",
        )
    way = (
        test_queries
        or declared.environment(workspace.settings, name_of(workspace.settings, place)).test_queries
    )
    if current is not None and way == "rollback":
        _demand_not_failed(current, traffic)
    chosen = packages_of(workspace, name, traffic)
    for one in chosen:
        demand_contracts(workspace, name, reach_of(one.manifest.endpoints), place)
        generation.unpack(one, workspace.settings)
    made = generation.request(
        workspace.database,
        name,
        traffic,
        environment=place,
        actor=actor,
        before=before,
        check=check,
        test_queries=test_queries,
    )
    for one in chosen:  # from now on nobody tidies them up; what was tidied up until now is needed
        if not generation.folder_of(workspace.settings, name, one.version).exists():
            generation.unpack(one, workspace.settings)
    return made


def _demand_not_failed(current: Deployment, traffic: Traffic) -> None:
    """Conflict when a generation is to get more requests whose test queries failed since it runs."""
    for share_ in traffic.shares:
        found = current.tested.get(share_.generation)
        runs = current.active is not None and share_.generation in current.active.mounted
        had = current.active.parts_of(share_.generation) if current.active else 0
        if runs and share_.parts > had and found is not None and found.status == "failed":
            raise Conflict(
                f"'{share_.generation}' of '{current.service}' is given no requests: {found}",
                hint=f"mend it; once they pass (`tulle service test {current.service} --generation "
                f"{share_.generation}`) it may have them, and with `--test-queries tell` all the same",
            )


def beside(
    workspace: Workspace, name: str, version: str, *, environment: str | None = None
) -> tuple[Traffic, Traffic]:
    """The traffic in which a version runs beside those that answer, and the one that is wanted until now."""
    current = _deployment(workspace, name, environment)
    return preloading(_standing(current), version), current.desired


def unload(
    workspace: Workspace, name: str, version: str, *, environment: str | None = None, actor: str = ""
) -> Deployment:
    """Let a version that gets no requests of its own run no more. Conflict when it does get some."""
    current = _deployment(workspace, name, environment)
    standing = _standing(current)
    if standing.parts_of(version):
        raise Conflict(
            f"generation '{version}' of '{name}' answers requests ({standing})",
            hint="give its part to another one first: `tulle service traffic`",
        )
    shadow = standing.shadow
    wanted = replace(
        standing,
        preloaded=tuple(one for one in standing.preloaded if one != version),
        shadow=None if shadow and shadow.generation == version else shadow,
    )
    return share(workspace, name, wanted, environment=environment, actor=actor, before=current.desired)


def rollback(
    workspace: Workspace,
    name: str,
    *,
    environment: str | None = None,
    actor: str = "",
    before: Traffic | None = None,
    test_queries: str = "",
) -> Deployment:
    """Ask for the traffic that was in force before. Conflict when there is none.

    What is not in force yet, or has failed, is taken back instead: nobody means to end what answers now. Asking twice
    for the way back is asking once. With `before`, Conflict when that is not what is wanted until now. What fails of
    its test queries is told, unless `test_queries` says otherwise: it does not lead back to what was left.
    """
    current = _deployment(workspace, name, environment)
    wanted = current.way_back
    if wanted is None:
        raise Conflict(f"service '{name}' has no earlier active version to go back to")
    if not test_queries:
        place = declared.environment(workspace.settings, name_of(workspace.settings, current.environment))
        test_queries = "skip" if place.test_queries == "skip" else "tell"
    return share(
        workspace,
        name,
        wanted,
        environment=environment,
        actor=actor,
        before=before,
        test_queries=test_queries,
    )


def enable(
    workspace: Workspace, name: str, is_enabled: bool, *, environment: str | None = None, actor: str = ""
) -> Deployment:
    """Let a service answer, or answer 503 to everybody while its workers stay."""
    place = place_of(workspace.settings, environment)
    return generation.enable(workspace.database, name, is_enabled, environment=place, actor=actor)


def bound(
    workspace: Workspace, name: str, bounds: Bounds, *, environment: str | None = None, actor: str = ""
) -> Deployment:
    """Say how many workers each generation has, at least and at most, and how much they may hold at once."""
    place = place_of(workspace.settings, environment)
    return generation.bound(workspace.database, name, bounds, environment=place, actor=actor)


def end(
    workspace: Workspace,
    name: str,
    *,
    sunset_at: float | None = None,
    successor: str = "",
    environment: str | None = None,
    actor: str = "",
) -> Deployment:
    """Tell every caller that a service ends, and when, and what comes after it; from then on it answers 410."""
    place = place_of(workspace.settings, environment)
    path = ""
    if successor:
        declared_service(workspace, successor)
        path = f"{f'/{place}' if place else ''}/public/api/v1/{successor}/"
    current = generation.deployment(workspace.database, name, place)
    since = current.ending.deprecated_at if current.ending else now()
    ending = Ending(min(since, sunset_at) if sunset_at is not None else since, sunset_at, path)
    return generation.end(workspace.database, name, ending, environment=place, actor=actor)


def go_on(workspace: Workspace, name: str, *, environment: str | None = None, actor: str = "") -> Deployment:
    """A service does not end after all; it answers again when it had."""
    place = place_of(workspace.settings, environment)
    return generation.end(workspace.database, name, None, environment=place, actor=actor)


def withdraw(workspace: Workspace, name: str, *, environment: str | None = None, actor: str = "") -> None:
    """Let a service answer no more in an environment; its packages and contracts stay."""
    place = place_of(workspace.settings, environment)
    generation.deployment(workspace.database, name, place)
    with workspace.database.write() as connection:
        generation.withdraw(connection, name, environment=place, actor=actor)


def clean(workspace: Workspace, name: str | None = None, *, is_dry: bool = False) -> tuple[Cleaned, ...]:
    """Remove the unpacked folders of generations that do not run and are not what a rollback goes back to.

    They are unpacked again from their packages when they are deployed again.
    """
    home = workspace.settings.state_folder / "generations"
    removed = []
    for folder in sorted(home.glob("*/*")):
        service, version = folder.parent.name, folder.name
        is_scratch = version.startswith(".")
        if is_scratch or (name is not None and service != name):
            continue
        with workspace.database.read() as connection:
            if version in generation.in_use(connection, service):
                continue
        size = sum(file.lstat().st_size for file in folder.rglob("*") if file.is_file())
        if not is_dry:
            aside = generation.set_aside(workspace.database, service, folder)
            if aside is None:  # it is wanted by now
                continue
            shutil.rmtree(aside)
        removed.append(Cleaned(service, version, size))
    return tuple(removed)


def as_plain(settings: Settings, found: Deployment) -> dict[str, Any]:
    """A deployment as plain values, with the addresses of what runs."""
    address = next(iter(mounted_of(settings, found).values())).address if found.mounted else ""
    ending, fault = found.ending, fault_of(settings, found.service, found.environment)
    return {
        "service": found.service,
        "environment": name_of(settings, found.environment),
        "is_consumers": not found.environment,
        "stage": _stage_of(settings, found.environment),
        "product": found.product,
        "status": found.status,
        "message": found.message,
        "fault": fault.sentence if fault is not None else None,
        "desired_version": found.desired_version,
        "active_version": found.active_version,
        "previous_version": found.previous_version,
        "desired": found.desired.as_plain(),
        "active": found.active.as_plain() if found.active else None,
        "previous": found.previous.as_plain() if found.previous else None,
        "traffic": str(found.active or found.desired),
        "enabled": found.enabled,
        "floor": found.least(settings.service_workers),
        "ceil": found.most(settings.service_workers),
        "most_requests": found.bounds.most_requests,
        "workers": {v: found.workers_of(v, settings.service_workers) for v in found.mounted},
        "deprecated_at": ending.deprecated_at if ending else None,
        "sunset_at": ending.sunset_at if ending else None,
        "successor": ending.successor if ending else "",
        "ended": found.has_ended(now()),
        "changed_at": found.changed_at,
        "test_queries": found.test_queries,
        "tested": {version: one.as_plain() | {"told": str(one)} for version, one in found.tested.items()},
        "url": f"{settings.gateway_url}{address}" if address else "",
    }


def _stage_of(settings: Settings, place: str) -> str:
    """What an environment is for; nothing where it does not say, or is in mesh.yaml no more."""
    known = settings.environments.get(name_of(settings, place))
    return known.stage if known is not None else ""


def _standing(found: Deployment) -> Traffic:
    """What small changes begin with: what is wanted, but what answers once that has failed."""
    return found.active if found.status == "failed" and found.active else found.desired


def _deployment(workspace: Workspace, name: str, environment: str | None) -> Deployment:
    return generation.deployment(workspace.database, name, place_of(workspace.settings, environment))


def packages_of(workspace: Workspace, name: str, traffic: Traffic) -> Sequence[Package]:
    """The packages of a traffic. Conflict when another product made one: a name may have changed hands."""
    owner = declared_service(workspace, name).product.name
    found = [package.get(workspace.database, name, version) for version in traffic.mounted]
    for chosen in found:
        if chosen.product != owner:
            raise Conflict(
                f"{name} {chosen.version} was made by product '{chosen.product}'; "
                f"'{owner}' declares the service now"
            )
    return found
