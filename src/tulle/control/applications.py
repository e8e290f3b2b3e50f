"""Client applications on the write side: registered only for services that exist, and the portal's own one.

Who asks with a key of their own manages the applications that they own. The portal tries services as an application of
its own, whose secret is made anew at every start of the control plane and lives in memory only.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from tulle.control import api_lives
from tulle.control.identities import PREFIX
from tulle.control.service_access import moment_of
from tulle.control.workspace import Workspace
from tulle.errors import Denied, Invalid, NotFound
from tulle.gateway import application_secret, contract
from tulle.gateway import applications as registered
from tulle.gateway.applications import About, Application, Credentials
from tulle.gateway.policy import RateLimit
from tulle.lake.access import people
from tulle.spec.schedule import duration
from tulle.spec.tier import limits_in_words, parse_limits

PORTAL = registered.PORTAL
PORTAL_LIMIT = RateLimit(10, 1000)
USUAL_OVERLAP = "24h"  # for which an old secret goes on beside the new one
MOST_SHOWN = 1000
_PORTAL_ID = re.compile(rf"{PORTAL}-[0-9a-f]{{8}}")  # as `applications.register` makes them
_CLIENT_ID = re.compile(r".+-[0-9a-f]{8}")  # as `applications.register` makes them
_CONTRACT_ID = re.compile(r"c-[0-9a-f]{16}")


def visible(
    workspace: Workspace,
    *,
    containing: str = "",
    after: str = "",
    limit: int | None = None,
    user: str | None = None,
) -> tuple[Application, ...]:
    """The applications that somebody registered, by name; those of a user where one is named."""
    found: list[Application] = []
    while True:
        some = registered.applications(
            workspace.database,
            include_revoked=True,
            containing=containing,
            owner=user or "",
            after=after,
            limit=limit,
        )
        found += [a for a in some if a.name != PORTAL]
        if limit is None or len(some) < limit or len(found) >= limit:
            return tuple(found if limit is None else found[:limit])
        after = place_of(some[-1])


def place_of(application: Application) -> str:
    """Where a page ends that ends with this one."""
    return f"{application.name}/{application.client_id}"


def one(workspace: Workspace, name: str, *, user: str | None = None) -> Application:
    """One of them. NotFound, also for a user who does not own it."""
    found = registered.get(workspace.database, name)
    if user is not None and user not in found.about.owners:
        raise NotFound(
            f"there is no application '{name}' of '{user}'", hint="its owners see it: `tulle app list`"
        )
    return found


def create(
    workspace: Workspace,
    name: str,
    *,
    owner: str = "",
    about: About | None = None,
    services: Mapping[str, str | None],
    expires: str | None = None,
    actor: str = "",
    user: str | None = None,
) -> Credentials:
    """Register an application for declared services and APIs; limits of None are the mesh's default.

    A user who registers one owns it, and asks for access instead of naming services. Raises NotFound for a service that
    no product declares, Invalid for a limit that is not understood and AlreadyExists for a name in use.
    """
    _check_name(name)
    for form, what in ((_CONTRACT_ID, "a contract"), (_CLIENT_ID, "an application")):
        if form.fullmatch(name):
            raise Invalid(
                f"application name '{name}' looks like the id of {what}", hint="choose another name"
            )
    said = about if about is not None else About((owner,) if owner else ())
    if user is not None:
        if services:
            raise Denied(
                f"'{user}' may not give access to {', '.join(sorted(services))}",
                hint="register the application, then ask: `tulle app request`",
            )
        said = replace(said, owners=tuple(dict.fromkeys((user, *said.owners))))
        _demand_known(workspace, name, said.owners)
    demand_pace(workspace, user)
    limits = {}
    for service, limit in services.items():
        api_lives.demand_open(workspace, service)
        limits[service] = parse_limits(limit or workspace.settings.default_rate_limit)
    return registered.register(
        workspace.database,
        name,
        about=said,
        services=limits,
        expires_at=moment_of(expires) if expires else None,
        actor=actor,
    )


def change(
    workspace: Workspace, name: str, said: Mapping[str, Any], *, actor: str = "", user: str | None = None
) -> Application:
    """Say something else of an application: any of owners, description, purpose and contact."""
    _check_name(name)
    before = one(workspace, name, user=user)
    demand_pace(workspace, user)
    about = replace(
        before.about, **{**said, **({"owners": tuple(said["owners"])} if "owners" in said else {})}
    )
    if not about.owners and before.about.owners:
        raise Invalid(f"application '{name}' would have no owner", hint="name at least one")
    if user is not None:
        _demand_known(workspace, name, [one for one in about.owners if one not in before.about.owners])
    registered.change(workspace.database, before.client_id, about, actor=actor)
    return registered.get(workspace.database, before.client_id)


def revoke(workspace: Workspace, name: str, *, actor: str = "", user: str | None = None) -> None:
    """Refuse an application from now on."""
    _check_name(name)
    one(workspace, name, user=user)
    registered.revoke(workspace.database, name, actor=actor)


def rotate(
    workspace: Workspace,
    name: str,
    *,
    overlap: str = USUAL_OVERLAP,
    expires: str | None = None,
    actor: str = "",
    user: str | None = None,
) -> Credentials:
    """New credentials for an application; the secret before them goes on for `overlap`, such as 24h; 0 ends it now."""
    _check_name(name)
    one(workspace, name, user=user)
    demand_pace(workspace, user)
    seconds = 0.0 if overlap in {"0", "now"} else float(duration(overlap))
    expires_at = moment_of(expires) if expires else None
    return application_secret.rotate(
        workspace.database, name, overlap=seconds, expires_at=expires_at, actor=actor
    )


def end_former(workspace: Workspace, name: str, *, actor: str = "", user: str | None = None) -> bool:
    """End the secret that goes on beside the newest, now; False where there is none."""
    _check_name(name)
    one(workspace, name, user=user)
    return application_secret.end_former(workspace.database, name, actor=actor)


def change_contract(
    workspace: Workspace, name: str, service: str, limits: Sequence[RateLimit] | None, *, actor: str = ""
) -> None:
    """Let an application call a service at a rate, or not at all."""
    _check_name(name, of_services=True)
    if limits is None:
        contract.withdraw(workspace.database, name, service, actor=actor)
        return
    if all(c.service != service for c in registered.get(workspace.database, name).contracts):
        api_lives.demand_open(workspace, service)
    contract.grant(workspace.database, name, service, limits, actor=actor)


def sign_in_portal(workspace: Workspace) -> Credentials:
    """New credentials for the portal's own application, which may call whatever is deployed."""
    if registered.is_known(workspace.database, PORTAL):
        return application_secret.rotate(workspace.database, PORTAL)
    return registered.register(workspace.database, PORTAL, owner="tulle", services={})


def grant_portal(workspace: Workspace, services: Iterable[str]) -> None:
    """Let the portal's application call these services and APIs."""
    if not registered.is_known(workspace.database, PORTAL):
        return
    known = {c.service for c in registered.get(workspace.database, PORTAL).contracts}
    for service in services:
        if service not in known:
            contract.grant(workspace.database, PORTAL, service, PORTAL_LIMIT)


def as_shown_once(credentials: Credentials) -> dict[str, Any]:
    """Credentials as plain values, for the one time they are shown."""
    return {
        "name": credentials.name,
        "client_id": credentials.client_id,
        "client_secret": credentials.client_secret,
        "api_key": credentials.api_key,
        "expires_at": credentials.until,
        "former_until": credentials.former_until,
    }


def by_client(used: Mapping[tuple[str, str], float]) -> Mapping[str, Mapping[str, float]]:
    """When each client last called which service, by its id."""
    found: dict[str, dict[str, float]] = {}
    for (client_id, service), at in used.items():
        found.setdefault(client_id, {})[service] = at
    return found


def as_plain(application: Application, used: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    """An application as plain values, without its secret; `used` is when each client last called which service."""
    mine = used.get(application.client_id, {})
    return {
        "name": application.name,
        "client_id": application.client_id,
        "owner": application.owner,
        **asdict(application.about),
        "owners": list(application.about.owners),
        "created_at": application.created_at,
        "revoked_at": application.revoked_at,
        "secrets": [{"made_at": s.made_at, "expires_at": s.until} for s in application.secrets],
        "last_used_at": max(mine.values(), default=None),
        "contracts": [
            {
                "service": c.service,
                "environment": c.environment,
                "limit": limits_in_words(c.windows),
                "last_used_at": mine.get(c.service),
            }
            for c in application.contracts
        ],
    }


def demand_pace(workspace: Workspace, user: str | None) -> None:
    """Count what a person does with applications, of which others are told. LimitExceeded."""
    workspace.steps.demand(user, "changed applications or what they ask for")


def _demand_known(workspace: Workspace, name: str, owners: Iterable[str]) -> None:
    """Owners are told of each step: whoever is named by a person has to be a user of the mesh. Invalid."""
    with workspace.database.read() as connection:
        for owner in owners:
            try:
                people.get_user(connection, owner)
            except NotFound as exc:
                raise Invalid(
                    f"owner '{owner}' of application '{name}' is no user of the mesh",
                    hint=exc.hint or "name users; an address for all of them is its --contact",
                ) from None


def _check_name(name: str, *, of_services: bool = False) -> None:
    if name.startswith(PREFIX) and not of_services:
        raise Denied(
            f"application '{name}' is a service's own",
            hint="withdraw its contract to keep it from calling yours",
        )
    if name == PORTAL or _PORTAL_ID.fullmatch(name) is not None:
        raise Denied(f"application '{PORTAL}' is the portal's own", hint="choose another name")
