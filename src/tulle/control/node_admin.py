"""What tools for API nodes do with services, in this mesh's words: generations, mappings, switches, archives, figures.

A mapping is asked for as everywhere (`control.deployment`); here it is also waited for, since those tools expect that
what they asked for is so when they are answered.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from typing import Any

from tulle.control import deployment, deployment_request
from tulle.control.activation import START_SECONDS
from tulle.control.deployment_request import Request
from tulle.control.release import declared_service, declared_services
from tulle.control.workspace import Workspace
from tulle.deploy import local
from tulle.errors import AlreadyExists, Broken, Conflict, Invalid, NotFound, Unavailable
from tulle.gateway.admin import Admin
from tulle.gateway.envoy_values import ADMIN_SOCKET
from tulle.serving import generation, package, package_import
from tulle.serving.generation import Deployment
from tulle.serving.traffic import Traffic, split

_COUNTED = {
    "total": "requests",
    "2xx": "answered",
    "4xx": "refused",
    "5xx": "failed",
    "active": "active",
    "timeout": "timedOut",
    "pending_overflow": "overflowed",
}
_STATISTIC = re.compile(r"cluster\.(?P<service>[a-z0-9-]+)/(?P<generation>[^/]+)\.upstream_rq_(?P<what>\w+)")


def services(workspace: Workspace) -> list[dict[str, Any]]:
    """Every service, and whether it answers."""
    deployed = {d.service: d for d in generation.deployments(workspace.database)}
    names = sorted({*declared_services(workspace), *deployed})
    return [{"serviceId": name, "enabled": _answers(deployed.get(name))} for name in names]


def _answers(found: Deployment | None) -> bool:
    return found is not None and found.enabled and found.active is not None


def claim(workspace: Workspace, name: str) -> None:
    """Asked to create a service: there is one already when a product declares it. NotFound, AlreadyExists."""
    try:
        declared_service(workspace, name)
    except NotFound as exc:
        raise NotFound(
            f"no applied product declares a service '{name}'",
            hint=exc.hint or "services come from products: services/<service>.yaml",
        ) from None
    if generation.find(workspace.database, name) is not None:
        raise AlreadyExists(f"service '{name}' exists already")


def generations(workspace: Workspace, name: str) -> list[dict[str, Any]]:
    """The versions of a service, the newest first, and what part of the requests each answers."""
    declared_service(workspace, name)
    found = generation.find(workspace.database, name)
    active = found.active if found is not None else None
    mounted = found.mounted if found is not None else ()
    tested = found.tested if found is not None else {}
    return [
        {
            "generation": one.version,
            "tag": one.version,
            "createdOn": int(one.created_at * 1000),
            "mounted": one.version in mounted,
            "mapped": active is not None and active.parts_of(one.version) > 0,
            "proba": active.parts_of(one.version) / 10_000 if active is not None else 0.0,
            "digest": one.digest,
            "bytes": one.bytes,
            "testQueries": tested[one.version].as_plain() if one.version in tested else None,
        }
        for one in reversed(package.packages(workspace.database, name))
    ]


def take_in(workspace: Workspace, name: str, path: str) -> str:
    """Import an archive that lies in the folder of imports; its version."""
    owner = declared_service(workspace, name).product.name
    made = package_import.take_in(
        package_import.archive_in(workspace.settings, path),
        service=name,
        product=owner,
        database=workspace.database,
        settings=workspace.settings,
    )
    return made.version


def map_generations(
    workspace: Workspace, name: str, entries: Any, *, actor: str, test_queries: str = ""
) -> Deployment:
    """Let each generation of `[{generation, proba}]` answer its part; the service is enabled by it."""
    if not isinstance(entries, list) or not all(isinstance(one, Mapping) for one in entries):
        raise Invalid("'entries' is a list of {generation, proba}")
    shares = []
    for one in entries:
        version, part = one.get("generation"), one.get("proba")
        if not isinstance(version, str) or isinstance(part, bool) or not isinstance(part, int | float):
            raise Invalid("an entry has a 'generation' (text) and its 'proba' (0 to 1)")
        shares.append((version, float(part) if 0 <= part <= 1 else -1.0))  # no float has all whole numbers
    return switch(workspace, name, split(shares), actor=actor, test_queries=test_queries)


def switch(
    workspace: Workspace, name: str, traffic: Traffic, *, actor: str, test_queries: str = ""
) -> Deployment:
    """Let generations answer by `traffic`, and wait until they do; the service is enabled by it.

    Conflict where people have to agree first: then it is asked for.
    """
    asked = _deployed(deployment_request.ask(workspace, name, traffic, by=actor, test_queries=test_queries))
    if not asked.enabled:
        deployment.enable(workspace, name, is_enabled=True, actor=actor)
    return _settled(workspace, name, traffic)


def newest(workspace: Workspace, name: str) -> str:
    """The newest version of a service. Conflict when there is none."""
    declared_service(workspace, name)
    known = package.packages(workspace.database, name)
    if not known:
        raise Conflict(
            f"service '{name}' has no generation yet", hint="import one, or `tulle service package`"
        )
    return known[-1].version


def preload(
    workspace: Workspace, name: str, version: str, *, actor: str, test_queries: str = ""
) -> Deployment:
    """Start a generation beside those that answer, and wait until it runs. Conflict where people have to agree."""
    wanted = _deployed(
        deployment_request.preload(workspace, name, version, by=actor, test_queries=test_queries)
    )
    return _settled(workspace, name, wanted.desired)


def _deployed(asked: Deployment | Request) -> Deployment:
    if isinstance(asked, Request):
        raise Conflict(
            f"'{asked.service}' {asked.traffic} waits for approval: {asked.id}",
            hint=f"`tulle service approve {asked.id}`, by who may",
        )
    return asked


def _settled(workspace: Workspace, name: str, wanted: Traffic) -> Deployment:
    """The deployment once `wanted` is in force; at once while the mesh is down, then it starts with it."""
    deadline = time.monotonic() + START_SECONDS + 5
    while True:
        found = generation.deployment(workspace.database, name)
        if found.desired != wanted:
            raise Conflict(f"service '{name}' is to answer by '{found.desired}' by now, not by '{wanted}'")
        if found.status == "failed":
            raise Broken(f"generation '{wanted}' of '{name}' failed to start: {found.message}")
        if found.status == "active" or local.supervisor_pid(workspace.settings) is None:
            return found
        if time.monotonic() > deadline:
            raise Unavailable(f"generation '{wanted}' of '{name}' did not start in time", hint="try again")
        time.sleep(0.05)


def metrics(workspace: Workspace) -> dict[str, Any]:
    """What the gateway counted since it started, by service and generation."""
    found: dict[str, dict[str, dict[str, int]]] = {}
    statistics = Admin(workspace.settings.state_folder, ADMIN_SOCKET).stats(
        rf"^cluster\..*/.*\.upstream_rq_({'|'.join(_COUNTED)})$"
    )
    for name, value in statistics.items():
        match = _STATISTIC.fullmatch(name)
        if match is not None and match["what"] in _COUNTED:
            of_service = found.setdefault(match["service"], {})
            of_service.setdefault(match["generation"], {})[_COUNTED[match["what"]]] = int(value)
    return {"services": found}


def clean(workspace: Workspace) -> dict[str, Any]:
    """Remove the unpacked generations that nobody uses; services that are disabled stay, and are told."""
    removed = deployment.clean(workspace)
    disabled: Sequence[str] = [d.service for d in generation.deployments(workspace.database) if not d.enabled]
    return {
        "deletedGenerations": [
            {"serviceId": one.service, "generation": one.version, "bytes": one.bytes} for one in removed
        ],
        "deletedServices": [],
        "deletedCodeEnvs": [],
        "disabledServices": list(disabled),
    }
