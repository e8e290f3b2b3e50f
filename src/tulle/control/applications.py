"""Client applications on the write side: registered only for services that exist, and the portal's own one.

The portal tries services as an application of its own. Its secret is made anew at every start of the control
plane and lives in memory only.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from tulle.control import release
from tulle.control.identities import PREFIX
from tulle.control.workspace import Workspace
from tulle.errors import Denied, NotFound, did_you_mean
from tulle.gateway import contract
from tulle.gateway.contract import Application, Credentials
from tulle.gateway.policy import RateLimit

PORTAL = contract.PORTAL
PORTAL_LIMIT = RateLimit(10, 1000)
_PORTAL_ID = re.compile(rf"{PORTAL}-[0-9a-f]{{8}}")  # as `contract.register` makes them


def visible(workspace: Workspace) -> tuple[Application, ...]:
    """Every application that somebody registered."""
    return tuple(
        a for a in contract.applications(workspace.database, include_revoked=True) if a.name != PORTAL
    )


def create(
    workspace: Workspace, name: str, *, owner: str, services: Mapping[str, str | None], actor: str = ""
) -> Credentials:
    """Register an application for declared services; a limit of None is the mesh's default.

    Raises NotFound for a service that no product declares, Invalid for a limit that is not understood and
    AlreadyExists for a name in use.
    """
    _check_name(name)
    known = release.declared_services(workspace)
    limits = {}
    for service, limit in services.items():
        if service not in known:
            release.declared_service(workspace, service)  # which tells when it is its file that is wrong
            raise NotFound(
                f"no applied product has a service '{service}'",
                hint=did_you_mean(service, known) or "`tulle service list` shows what there is",
            )
        limits[service] = RateLimit.parse(limit or workspace.settings.default_rate_limit)
    return contract.register(workspace.database, name, owner=owner, services=limits, actor=actor)


def revoke(workspace: Workspace, name: str, *, actor: str = "") -> None:
    """Refuse an application from now on."""
    _check_name(name)
    contract.revoke(workspace.database, name, actor=actor)


def rotate(workspace: Workspace, name: str, *, actor: str = "") -> Credentials:
    """New credentials for an application; the old ones end."""
    _check_name(name)
    return contract.rotate(workspace.database, name, actor=actor)


def change_contract(
    workspace: Workspace, name: str, service: str, limit: RateLimit | None, *, actor: str = ""
) -> None:
    """Let an application call a service at a rate, or not at all."""
    _check_name(name, of_services=True)
    if limit is None:
        contract.withdraw(workspace.database, name, service, actor=actor)
        return
    release.declared_service(workspace, service)
    if any(c.service == service for c in contract.get(workspace.database, name).contracts):
        contract.change_limit(workspace.database, name, service, limit, actor=actor)
    else:
        contract.grant(workspace.database, name, service, limit, actor=actor)


def sign_in_portal(workspace: Workspace) -> Credentials:
    """New credentials for the portal's own application, which may call whatever is deployed."""
    names = {a.name for a in contract.applications(workspace.database)}
    if PORTAL in names:
        return contract.rotate(workspace.database, PORTAL)
    return contract.register(workspace.database, PORTAL, owner="tulle", services={})


def grant_portal(workspace: Workspace, services: Mapping[str, Any]) -> None:
    """Let the portal's application call these services."""
    for application in contract.applications(workspace.database):
        if application.name == PORTAL:
            known = {c.service for c in application.contracts}
            for service in services:
                if service not in known:
                    contract.grant(workspace.database, PORTAL, service, PORTAL_LIMIT)


def as_shown_once(credentials: Credentials) -> dict[str, str]:
    """Credentials as plain values, for the one time they are shown."""
    return {
        "name": credentials.name,
        "client_id": credentials.client_id,
        "client_secret": credentials.client_secret,
        "api_key": credentials.api_key,
    }


def as_plain(application: Application, used: Mapping[tuple[str, str], float]) -> dict[str, Any]:
    """An application as plain values, without its secret; `used` is when callers last called which service."""
    id_ = application.client_id
    return {
        "name": application.name,
        "client_id": application.client_id,
        "owner": application.owner,
        "created_at": application.created_at,
        "revoked_at": application.revoked_at,
        "last_used_at": max((at for (client, _), at in used.items() if client == id_), default=None),
        "contracts": [
            {"service": c.service, "limit": str(c.limit), "last_used_at": used.get((id_, c.service))}
            for c in application.contracts
        ],
    }


def _check_name(name: str, *, of_services: bool = False) -> None:
    if name.startswith(PREFIX) and not of_services:
        raise Denied(
            f"application '{name}' is a service's own",
            hint="withdraw its contract to keep it from calling yours",
        )
    if name == PORTAL or _PORTAL_ID.fullmatch(name) is not None:
        raise Denied(f"application '{PORTAL}' is the portal's own", hint="choose another name")
