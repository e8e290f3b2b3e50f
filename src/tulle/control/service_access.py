"""Who may call a service: its API keys, and the ways in that its deployment allows instead of its package.

APIs have keys as services do. For what exists; the gateway follows with the next settling, which is at once where the
mesh is up.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any

from tulle.config import Settings
from tulle.control import deployment
from tulle.control.release import chosen_version, declared_service
from tulle.control.workspace import Workspace
from tulle.errors import Invalid, NotFound
from tulle.gateway import service_keys
from tulle.gateway.apis import records
from tulle.gateway.faults import fault_of
from tulle.gateway.last_used import last_used
from tulle.gateway.policy import RateLimit
from tulle.gateway.service_keys import Kind, MadeKey, ServiceKey
from tulle.serving import generation
from tulle.serving.access import Access, access_of, parse_access
from tulle.spec.schedule import duration
from tulle.state.db import now


@dataclass(frozen=True, slots=True)
class InForce:
    """By which ways a service may be called in an environment, and who says so."""

    service: str
    environment: str
    access: Access
    said_by: str  # deployment, the version of a package, or its file
    is_consumers: bool = True  # whether the environment is theirs


def access(workspace: Workspace, name: str, environment: str | None = None) -> InForce:
    """Who may call a service: as its deployment says, else the active (else newest) package, else its file."""
    declared = declared_service(workspace, name)
    place = deployment.place_of(workspace.settings, environment)
    shown = deployment.name_of(workspace.settings, place)
    said = service_keys.said_at_deployment(workspace.database).get((name, place))
    if said is not None:
        return InForce(name, shown, said, "deployment", not place)
    current = generation.find(workspace.database, name, place)
    try:
        chosen = chosen_version(workspace, name, current.active_version if current else None)
    except NotFound:
        return InForce(name, shown, declared.service.access, "file", not place)
    return InForce(name, shown, access_of(chosen.manifest.access), chosen.version, not place)


def set_access(
    workspace: Workspace, name: str, text: str | None, *, environment: str | None = None, actor: str = ""
) -> InForce:
    """Say who may call a service from now on, whatever its packages say; None: as they say.

    `text` is what `access:` would hold in its file, as YAML or JSON. Invalid with every problem in it.
    """
    declared_service(workspace, name)
    place = deployment.place_of(workspace.settings, environment)
    wanted = None if text is None else parse_access(text)
    service_keys.set_access(workspace.database, name, wanted, environment=place, actor=actor)
    return access(workspace, name, environment)


def create_key(
    workspace: Workspace,
    name: str,
    *,
    label: str,
    description: str = "",
    expires: str | None = None,
    limit: str | None = None,
    kind: Kind = "service",
    actor: str = "",
) -> MadeKey:
    """Make an API key of a service or an API; `expires` is a time or how long from now, such as 90d."""
    _demand(workspace, name, kind)
    return service_keys.create(
        workspace.database,
        name,
        label=label,
        description=description,
        expires_at=None if expires is None else moment_of(expires),
        limit=None if limit is None else RateLimit.parse(limit),
        kind=kind,
        actor=actor,
    )


def _demand(workspace: Workspace, name: str, kind: Kind) -> None:
    """NotFound, with the nearest name, where there is no such service or API."""
    if kind == "API":
        records.find(workspace.database, name)
    else:
        declared_service(workspace, name)


def keys(workspace: Workspace, name: str, kind: Kind = "service") -> tuple[ServiceKey, ...]:
    """Every key that a service or an API has had, the newest first."""
    _demand(workspace, name, kind)
    return service_keys.keys(workspace.database, name)


def change_key(
    workspace: Workspace,
    name: str,
    key: str,
    *,
    expires: str | None = None,
    limit: str | None = None,
    kind: Kind = "service",
    actor: str = "",
) -> ServiceKey:
    """Give a key another end (`never`, or as when it is made) or another limit (`usual`); None leaves it."""
    current = _named(workspace, name, key, kind)
    ends, bound = current.expires_at, current.limit
    if expires is not None:
        ends = None if expires == "never" else moment_of(expires)
    if limit is not None:
        bound = None if limit == "usual" else RateLimit.parse(limit)
    return service_keys.change(
        workspace.database, name, current.id, expires_at=ends, limit=bound, kind=kind, actor=actor
    )


def _named(workspace: Workspace, name: str, key: str, kind: Kind) -> ServiceKey:
    """The key of this id or label, one that is in force before others; revoked ones are none."""
    found = [k for k in keys(workspace, name, kind) if key in {k.id, k.label} and k.revoked_at is None]
    at = now()
    if not found:
        raise service_keys.unknown(name, key, kind)
    return min(found, key=lambda k: k.state(at) != "in force")


def revoke_key(
    workspace: Workspace, name: str, key: str, *, kind: Kind = "service", actor: str = ""
) -> ServiceKey:
    """End a key, named by its id or its label."""
    _demand(workspace, name, kind)
    return service_keys.revoke(workspace.database, name, key, kind=kind, actor=actor)


def moment_of(text: str) -> float:
    """Seconds since the epoch of `90d` from now, of a date or of a time; without a zone it is UTC. Invalid."""
    try:
        return now() + duration(text)
    except Invalid:
        pass
    try:
        found = dt.datetime.fromisoformat(text)
        return (found if found.tzinfo else found.replace(tzinfo=dt.UTC)).timestamp()
    except (ValueError, OverflowError):
        raise Invalid(
            f"'{text}' is no time", hint="write how long from now (90d), or a date (2030-12-31)"
        ) from None


def access_as_plain(settings: Settings, found: InForce) -> dict[str, Any]:
    """Who may call a service, as plain values; `fault` is why the gateway has it otherwise."""
    plain = found.access.as_plain()
    fault = fault_of(settings, found.service, "" if found.is_consumers else found.environment)
    return {
        "service": found.service,
        "environment": found.environment,
        "said_by": found.said_by,
        "ways": list(found.access.ways()),
        "access": plain,
        "fault": fault.sentence if fault is not None else None,
    }


def keys_as_plain(workspace: Workspace, name: str, kind: Kind = "service") -> list[dict[str, Any]]:
    """Every key that a service or an API has had, the newest first, and when each was used last."""
    found, used = keys(workspace, name, kind), last_used(workspace.database, name)
    return [{**key_as_plain(key), "last_used_at": used.get((key.id, name))} for key in found]


def key_as_plain(key: ServiceKey) -> dict[str, Any]:
    """A key as plain values; it holds no secret."""
    return {
        "id": key.id,
        "service": key.service,
        "label": key.label,
        "description": key.description,
        "created_by": key.created_by,
        "created_at": key.created_at,
        "expires_at": key.expires_at,
        "revoked_at": key.revoked_at,
        "limit": str(key.limit) if key.limit else None,
        "state": key.state(now()),
    }


def key_as_shown_once(made: MadeKey) -> dict[str, Any]:
    """A key with its secret, for the one time it is shown."""
    return {**key_as_plain(made.key), "api_key": made.api_key}
