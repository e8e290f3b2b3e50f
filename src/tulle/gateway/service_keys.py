"""API keys of a service or an API, and who may call a service where that was changed at its deployment.

A key is a client with a contract for one service, or for one API in all its versions: `<id>.<secret>`, shown once, kept
as the hash the gateway checks. It has a label, may expire, and is revoked for good; what is over stays on record, since
logs name its id. Every change and its event are one transaction. Knows nothing of Envoy and not which services and APIs
exist.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from sqlalchemy import Connection, Row, delete, func, insert, select, update

from tulle import events
from tulle.errors import AlreadyExists, Broken, Conflict, Invalid, NotFound, did_you_mean
from tulle.events import Event
from tulle.gateway.secret import check_end, hash_secret, new_secret
from tulle.serving.access import Access, access_of
from tulle.spec.rate_limit import RateLimit
from tulle.state import log
from tulle.state.db import Database, in_turn, now
from tulle.state.tables import service_access, service_keys

MOST_KEYS: Final = 1000  # of one service or API that are in force
LONGEST_LABEL: Final = 100
LONGEST_DESCRIPTION: Final = 1000

State = Literal["in force", "expired", "revoked"]
Kind = Literal["service", "API"]  # what a key opens, as people are told of it


@dataclass(frozen=True, slots=True)
class ServiceKey:
    """A key without its secret; times are seconds since the epoch. No `limit`: that of the service's keys.

    `service` is the name of the service or the API that it opens.
    """

    id: str
    service: str
    label: str
    description: str
    created_by: str
    created_at: float
    expires_at: float | None
    revoked_at: float | None
    limit: RateLimit | None

    def state(self, at: float) -> State:
        """Whether it opens the service at a time."""
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.expires_at is not None and self.expires_at <= at else "in force"


@dataclass(frozen=True, slots=True)
class MadeKey:
    """A key and its secret, for the one time it is shown."""

    key: ServiceKey
    secret: str

    @property
    def api_key(self) -> str:
        """What callers send: as Bearer token, or as Basic user name with no password."""
        return f"{self.key.id}.{self.secret}"

    def __repr__(self) -> str:
        """Without the secret: values end up in tracebacks and logs."""
        return f"MadeKey(id={self.key.id!r})"


def create(
    database: Database,
    service: str,
    *,
    label: str,
    description: str = "",
    expires_at: float | None = None,
    limit: RateLimit | None = None,
    kind: Kind = "service",
    actor: str = "",
) -> MadeKey:
    """Make a key of `service`, which is of `kind`.

    AlreadyExists when a key in force has the label, Invalid for a time that is past.
    """
    at = now()
    label = label.strip()
    if not label or len(label) > LONGEST_LABEL or not label.isprintable():
        raise Invalid(
            f"a key has a label of 1 to {LONGEST_LABEL} characters", hint="who is to use it, and where"
        )
    if len(description) > LONGEST_DESCRIPTION:
        raise Invalid(f"the description is longer than {LONGEST_DESCRIPTION} characters")
    if expires_at is not None:
        check_end(expires_at, at, past="the key would have expired before it is made")
    key = ServiceKey(
        f"{service[:38].rstrip('-')}-key-{secrets.token_hex(8)}",
        service,
        label,
        description,
        actor,
        at,
        expires_at,
        None,
        limit,
    )
    secret = new_secret()
    with database.write() as connection:
        in_turn(connection, f"keys of {service}")
        known = [k for k in _of(connection, service) if k.state(at) == "in force"]
        if any(k.label == label for k in known):
            raise AlreadyExists(
                f"{kind} '{service}' has a key '{label}'", hint="revoke it first, or choose another label"
            )
        if len(known) >= MOST_KEYS:
            raise Conflict(f"{kind} '{service}' has {MOST_KEYS} keys", hint="revoke those nobody uses")
        connection.execute(
            insert(service_keys).values(
                client_id=key.id,
                service=service,
                label=label,
                description=description,
                created_by=actor,
                secret_hash=hash_secret(secret),
                requests=limit.requests if limit else None,
                period_ms=limit.period_ms if limit else None,
                created_at=at,
                expires_at=expires_at,
            )
        )
        told = {
            "id": key.id,
            "label": label,
            "expires_at": expires_at,
            "limit": str(limit) if limit else None,
        }
        log.append(connection, Event(events.SERVICE_KEY_CREATED, service, told), actor=actor)
    return MadeKey(key, secret)


def keys(database: Database, service: str) -> tuple[ServiceKey, ...]:
    """Every key the service has had, the newest first."""
    with database.read() as connection:
        return _of(connection, service)


def labels(database: Database) -> Mapping[str, str]:
    """The labels of all keys there have been, by their ids."""
    with database.read() as connection:
        query = select(service_keys.c.client_id, service_keys.c.label)
        return {row.client_id: row.label for row in connection.execute(query)}


def held(database: Database) -> tuple[ServiceKey, ...]:
    """The keys of all services that are in force, by service and label."""
    with database.read() as connection:
        found = [key for key, _ in in_force(connection, now())]
    return tuple(sorted(found, key=lambda key: (key.service, key.label)))


def change(
    database: Database,
    service: str,
    name: str,
    *,
    expires_at: float | None,
    limit: RateLimit | None,
    kind: Kind = "service",
    actor: str = "",
) -> ServiceKey:
    """Give a key, named by its id or its label, another end and limit; None: none, the usual one.

    One that has expired may go on, but not beside another of its label: Conflict.
    """
    at = now()
    if expires_at is not None:
        check_end(expires_at, at, past="the key would have expired by now: revoke it to end it at once")
    with database.write() as connection:
        in_turn(connection, f"keys of {service}")
        before = _find(connection, service, name, at, kind)
        others = [k for k in _of(connection, service) if k.id != before.id and k.state(at) == "in force"]
        if any(k.label == before.label for k in others):
            raise Conflict(
                f"{kind} '{service}' has another key '{before.label}' by now", hint="make a new one"
            )
        changed = replace(before, expires_at=expires_at, limit=limit)
        if changed == before:
            return before
        connection.execute(
            update(service_keys)
            .where(service_keys.c.client_id == before.id)
            .values(
                expires_at=expires_at,
                requests=limit.requests if limit else None,
                period_ms=limit.period_ms if limit else None,
            )
        )
        told = {
            "id": before.id,
            "label": before.label,
            "expires_at": expires_at,
            "limit": str(limit) if limit else None,
        }
        log.append(connection, Event(events.SERVICE_KEY_CHANGED, service, told), actor=actor)
    return changed


def revoke(
    database: Database, service: str, name: str, *, kind: Kind = "service", actor: str = ""
) -> ServiceKey:
    """End a key, named by its id or its label. NotFound when no key has it that was not revoked."""
    at = now()
    with database.write() as connection:
        in_turn(connection, f"keys of {service}")
        found = _find(connection, service, name, at, kind)
        _end(connection, service, found, at, actor)
    return found


def _find(connection: Connection, service: str, name: str, at: float, kind: Kind) -> ServiceKey:
    known = [k for k in _of(connection, service) if k.state(at) != "revoked"]
    found = [k for k in known if name == k.id] or [k for k in known if name == k.label]
    # several of one label: but for one they have expired
    found.sort(key=lambda k: k.state(at) != "in force")
    if not found:
        raise unknown(service, name, kind, [k.label for k in known])
    return found[0]


def unknown(service: str, name: str, kind: Kind, labels: Collection[str] = ()) -> NotFound:
    """That it has no such key; the hint has the nearest of these labels, or where they are seen."""
    hint = did_you_mean(name, labels) or f"`tulle {kind.lower()} key list {service}` shows them"
    return NotFound(f"{kind} '{service}' has no key '{name}'", hint=hint)


def revoke_all(connection: Connection, service: str, *, actor: str = "") -> int:
    """End every key of a service, in the transaction of `connection`; how many."""
    at = now()
    ended = [key for key in _of(connection, service) if key.state(at) != "revoked"]
    for key in ended:
        _end(connection, service, key, at, actor)
    return len(ended)


def end_others(
    database: Database, services: Collection[str], apis: Collection[str], *, actor: str = ""
) -> tuple[str, ...]:
    """End what was given for services and APIs that are no longer there, lest another one of the name inherits it.

    `services` and `apis` are those that are; the names of those for which something was ended.
    """
    with database.write() as connection:
        at = now()
        said = connection.execute(select(service_access.c.service)).scalars()
        without = {key.service for key, _ in in_force(connection, at)}.difference(services, apis)
        unsaid = set(said).difference(services)
        for service in without:
            revoke_all(connection, service, actor=actor)
        for service in unsaid:
            connection.execute(delete(service_access).where(service_access.c.service == service))
    return tuple(sorted(without | unsaid))


def _end(connection: Connection, service: str, key: ServiceKey, at: float, actor: str) -> None:
    connection.execute(update(service_keys).where(service_keys.c.client_id == key.id).values(revoked_at=at))
    told = {"id": key.id, "label": key.label}
    log.append(connection, Event(events.SERVICE_KEY_REVOKED, service, told), actor=actor)


def in_force(connection: Connection, at: float) -> list[tuple[ServiceKey, str]]:
    """The keys of all services that open them at a time, each with the hash of its secret."""
    query = select(service_keys).where(
        service_keys.c.revoked_at.is_(None),
        service_keys.c.expires_at.is_(None) | (service_keys.c.expires_at > at),
    )
    return [(_value(row), row.secret_hash) for row in connection.execute(query)]


def next_end(connection: Connection, at: float) -> float | None:
    """When the next of those in force ends, in seconds since the epoch."""
    columns = service_keys.c
    query = select(func.min(columns.expires_at)).where(columns.revoked_at.is_(None), columns.expires_at > at)
    found = connection.execute(query).scalar()
    return None if found is None else float(found)


def _of(connection: Connection, service: str) -> tuple[ServiceKey, ...]:
    query = select(service_keys).where(service_keys.c.service == service)
    newest = service_keys.c.created_at.desc(), service_keys.c.client_id
    return tuple(_value(row) for row in connection.execute(query.order_by(*newest)))


def _value(row: Row[Any]) -> ServiceKey:
    return ServiceKey(
        row.client_id,
        row.service,
        row.label,
        row.description,
        row.created_by,
        row.created_at,
        row.expires_at,
        row.revoked_at,
        RateLimit(row.requests, row.period_ms) if row.requests is not None else None,
    )


# ── who may call a service, said at its deployment ───────────────────────────────────────────────────────


def said_at_deployment(database: Database) -> Mapping[tuple[str, str], Access]:
    """By service and environment who may call it, where its deployment says other than its package."""
    with database.read() as connection:
        return accesses(connection)


def accesses(connection: Connection) -> Mapping[tuple[str, str], Access]:
    """As `said_at_deployment`, in the transaction of `connection`."""
    found, damaged = readable_accesses(connection)
    for message in damaged.values():
        raise Broken(message)
    return found


def readable_accesses(
    connection: Connection,
) -> tuple[Mapping[tuple[str, str], Access], Mapping[tuple[str, str], str]]:
    """As `accesses`, but for those that cannot be read: of these why, by service and environment."""
    found: dict[tuple[str, str], Access] = {}
    damaged: dict[tuple[str, str], str] = {}
    for row in connection.execute(select(service_access)):
        place = (row.service, row.environment)
        try:
            found[place] = access_of(row.access)
        except Broken as exc:
            damaged[place] = f"what its deployment says cannot be read: {exc.message}"
    return found, damaged


def set_access(
    database: Database, service: str, access: Access | None, *, environment: str = "", actor: str = ""
) -> None:
    """Say who may call a service, whatever its packages say; None: as they say."""
    where = (service_access.c.service == service) & (service_access.c.environment == environment)
    with database.write() as connection:
        in_turn(connection, f"access of {service}")
        known, damaged = readable_accesses(connection)
        before = known.get((service, environment))
        if before == access and (service, environment) not in damaged:
            return
        connection.execute(delete(service_access).where(where))
        if access is not None:
            connection.execute(
                insert(service_access).values(
                    service=service, environment=environment, access=access.as_plain(), changed_at=now()
                )
            )
        told = {
            "environment": environment,
            "before": list(before.ways()) if before else None,
            "after": list(access.ways()) if access else None,
        }
        log.append(connection, Event(events.SERVICE_ACCESS_CHANGED, service, told), actor=actor)
