"""Client applications and their contracts: who may call which service, how often.

Secrets are made here, shown once and kept as the hash the gateway checks (docs/decisions/gateway-credentials.md).
Default deny: an application may call the services it has a contract for and no other. Every change and the event
that tells of it are one transaction; the gateway follows when `current_policy` is published. Knows nothing of
Envoy and not which services exist.
"""

from __future__ import annotations

import hmac
import secrets
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from sqlalchemy import Connection, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from tulle import events
from tulle.errors import AlreadyExists, Broken, Conflict, Invalid, NotFound, did_you_mean
from tulle.events import Event
from tulle.gateway import service_keys
from tulle.gateway.policies.opening import accesses
from tulle.gateway.policy import (
    SERVICE_NAME,
    USUAL_LIMIT,
    Client,
    Contract,
    GatewayPolicy,
    ManagedService,
    RateLimit,
)
from tulle.gateway.secret import hash_secret, new_secret
from tulle.state import log
from tulle.state.db import Database, now
from tulle.state.tables import applications as application_rows
from tulle.state.tables import contracts as contract_rows

PORTAL: Final = "tulle-portal"  # the portal's own application, which may try every service
LONGEST_OWNER: Final = 255


@dataclass(frozen=True, slots=True)
class Credentials:
    """What an application signs in with; shown once, never stored. The key is the two others in one string."""

    name: str
    client_id: str
    client_secret: str

    @property
    def api_key(self) -> str:
        """For clients that know a single key: sent as Bearer token, or as Basic user name with no password."""
        return f"{self.client_id}.{self.client_secret}"

    def __repr__(self) -> str:
        """Without the secret: values end up in tracebacks and logs."""
        return f"Credentials(name={self.name!r}, client_id={self.client_id!r})"


@dataclass(frozen=True, slots=True)
class Application:
    """A client application and what it may call; `revoked_at` is None while it may sign in."""

    client_id: str
    name: str
    owner: str
    created_at: float
    revoked_at: float | None
    contracts: tuple[Contract, ...]


def register(
    database: Database,
    name: str,
    *,
    owner: str = "",
    services: Mapping[str, RateLimit] | None = None,
    actor: str = "",
) -> Credentials:
    """Make an application that may call `services`, each so often, and its credentials.

    Raises Invalid for a name that is not kebab-case and AlreadyExists when an application of that name is not
    revoked.
    """
    _check_name(name)
    if len(owner) > LONGEST_OWNER:
        raise Invalid(f"owner of application '{name}' is longer than {LONGEST_OWNER} characters")
    limits = dict(services or {})
    for service in limits:
        _check_service(service)
    # A readable id: logs and statistics then tell at a glance who called.
    client_id = f"{name[:40].rstrip('-')}-{secrets.token_hex(4)}"
    made = Credentials(name, client_id, new_secret())
    at = now()
    try:
        with database.write() as connection:
            _refuse_taken(connection, name)
            connection.execute(
                insert(application_rows).values(
                    client_id=client_id,
                    name=name,
                    owner=owner,
                    secret_hash=hash_secret(made.client_secret),
                    created_at=at,
                )
            )
            for service, limit in limits.items():
                connection.execute(
                    insert(contract_rows).values(**_row(client_id, service, limit), created_at=at)
                )
            data = {
                "client_id": client_id,
                "owner": owner,
                "services": {s: str(v) for s, v in limits.items()},
            }
            log.append(connection, Event(events.APPLICATION_REGISTERED, _subject(name), data), actor=actor)
    except IntegrityError as exc:  # somebody registered the same name at the same moment
        raise _taken(name) from exc
    return made


def applications(database: Database, *, include_revoked: bool = False) -> tuple[Application, ...]:
    """All applications with their contracts, by name."""
    query = select(application_rows).order_by(application_rows.c.name, application_rows.c.created_at)
    if not include_revoked:
        query = query.where(application_rows.c.revoked_at.is_(None))
    with database.read() as connection:
        found = connection.execute(query).all()
        contracts = _contracts(connection)
    return tuple(
        Application(a.client_id, a.name, a.owner, a.created_at, a.revoked_at, contracts.get(a.client_id, ()))
        for a in found
    )


def client_ids(database: Database, prefix: str) -> Mapping[str, str]:
    """The client ids of live applications whose names begin so, by name."""
    live = application_rows.c.revoked_at.is_(None)
    query = select(application_rows.c.name, application_rows.c.client_id)
    with database.read() as connection:
        found = connection.execute(
            query.where(live, application_rows.c.name.startswith(prefix, autoescape=True))
        )
        return {row.name: row.client_id for row in found}


def get(database: Database, name: str) -> Application:
    """The application of this name or client id; NotFound when there is none, or it is revoked."""
    known = applications(database)
    for application in known:
        if name in {application.name, application.client_id}:
            return application
    raise _unknown(name, [a.name for a in known])


def opens(database: Database, name: str, client_id: str, secret: str) -> bool:
    """Whether these are the present credentials of the application of this name."""
    columns = application_rows.c
    query = select(columns.secret_hash).where(
        columns.name == name, columns.client_id == client_id, columns.revoked_at.is_(None)
    )
    with database.read() as connection:
        known = connection.execute(query).scalar()
    return known is not None and hmac.compare_digest(known, hash_secret(secret))


def revoke(database: Database, name: str, *, actor: str = "") -> None:
    """Refuse the application from now on, for good; its contracts end. The name is free again."""
    with database.write() as connection:
        client_id, full_name = _find(connection, name)
        connection.execute(delete(contract_rows).where(contract_rows.c.client_id == client_id))
        connection.execute(
            update(application_rows).where(application_rows.c.client_id == client_id).values(revoked_at=now())
        )
        event = Event(events.APPLICATION_REVOKED, _subject(full_name), {"client_id": client_id})
        log.append(connection, event, actor=actor)


def rotate(database: Database, name: str, *, actor: str = "") -> Credentials:
    """A new secret for the application; the old one ends. The client id and the contracts stay."""
    secret = new_secret()
    with database.write() as connection:
        client_id, full_name = _find(connection, name)
        connection.execute(
            update(application_rows)
            .where(application_rows.c.client_id == client_id)
            .values(secret_hash=hash_secret(secret))
        )
        event = Event(events.APPLICATION_ROTATED, _subject(full_name), {"client_id": client_id})
        log.append(connection, event, actor=actor)
    return Credentials(full_name, client_id, secret)


def grant(database: Database, name: str, service: str, limit: RateLimit, *, actor: str = "") -> None:
    """Let the application call `service` so often; changes the limit when it may already."""
    _check_service(service)
    with database.write() as connection:
        client_id, full_name = _find(connection, name)
        before = _limit(connection, client_id, service)
        if before == limit:
            return
        row = _row(client_id, service, limit)
        if before is None:
            connection.execute(insert(contract_rows).values(**row, created_at=now()))
        else:
            where = (contract_rows.c.client_id == client_id) & (contract_rows.c.service == service)
            connection.execute(update(contract_rows).where(where).values(**row))
        _log_contract(connection, full_name, client_id, service, (before, limit), actor)


def withdraw(database: Database, name: str, service: str, *, actor: str = "") -> None:
    """End the application's contract for `service`; NotFound when it has none."""
    with database.write() as connection:
        client_id, full_name = _find(connection, name)
        before = _limit(connection, client_id, service)
        if before is None:
            raise NotFound(f"application '{full_name}' has no contract for the service '{service}'")
        where = (contract_rows.c.client_id == client_id) & (contract_rows.c.service == service)
        connection.execute(delete(contract_rows).where(where))
        _log_contract(connection, full_name, client_id, service, (before, None), actor)


def change_limit(database: Database, name: str, service: str, limit: RateLimit, *, actor: str = "") -> None:
    """Change how often the application may call `service`; NotFound when it may not at all."""
    held = {c.service for c in get(database, name).contracts}
    if service not in held:
        raise NotFound(
            f"application '{name}' has no contract for the service '{service}'",
            hint=did_you_mean(service, held),
        )
    grant(database, name, service, limit, actor=actor)


def current_policy(
    database: Database, services: Iterable[ManagedService], *, usual_limit: str = USUAL_LIMIT
) -> GatewayPolicy:
    """The policy that the applications, contracts and keys of the database make for the services that are deployed.

    `usual_limit` is that of callers of whom nothing else is said.
    """
    deployed, wrong = as_deployed(database, services, usual_limit=usual_limit)
    for message in wrong.values():
        raise Broken(message)
    return policy_of(database, deployed)


def as_deployed(
    database: Database, services: Iterable[ManagedService], *, usual_limit: str = USUAL_LIMIT
) -> tuple[list[ManagedService], Mapping[tuple[str, str], str]]:
    """The services with what their deployments say of who may call them; and where that cannot be read, why."""
    with database.read() as connection:
        said, damaged = service_keys.readable_accesses(connection)
    deployed: list[ManagedService] = []
    wrong: dict[tuple[str, str], str] = {}
    for service in services:
        place = (service.name, service.environment)
        if place in damaged:
            wrong[place] = damaged[place]
            continue
        found = replace(service, access=said.get(place, service.access), usual_limit=usual_limit)
        try:
            _limit_of_keys(found)
        except Invalid as exc:
            wrong[place] = exc.message
            continue
        deployed.append(found)
    return deployed, wrong


def _limit_of_keys(service: ManagedService) -> RateLimit | None:
    """That of a key made without one; None where keys do not open it. Invalid."""
    found = (access.api_keys for access in accesses(service.policies, service.access))
    keys = next((keys for keys in found if keys is not None), None)
    return None if keys is None else RateLimit.parse(keys.limit or service.usual_limit)


def policy_of(database: Database, deployed: Iterable[ManagedService]) -> GatewayPolicy:
    """The policy by which exactly these services are called, as the database knows applications, contracts and keys."""
    live = application_rows.c.revoked_at.is_(None)
    columns = (application_rows.c.client_id, application_rows.c.secret_hash, application_rows.c.name)
    with database.read() as connection:
        clients = connection.execute(select(*columns).where(live)).all()
        contracts = _contracts(connection)
        keys = service_keys.in_force(connection, now())
    deployed = tuple(deployed)
    known = {c.client_id for c in clients}
    portal = {c.client_id for c in clients if c.name == PORTAL}
    held = [c for of_client in contracts.values() for c in of_client if c.client_id in known]
    # a deployment may say another limit than another one: each holds in its own environment
    usual: dict[str, dict[str, RateLimit]] = defaultdict(dict)
    for service in deployed:
        if (limit := _limit_of_keys(service)) is not None:
            usual[service.name][service.environment] = limit
    opening = [(key, hashed) for key, hashed in keys if key.service in usual]
    return GatewayPolicy.of(
        services=deployed,
        clients=(
            *(Client(c.client_id, c.secret_hash) for c in clients),
            *(Client(key.id, hashed) for key, hashed in opening),
        ),
        contracts=(
            *(replace(c, way="always") if c.client_id in portal else c for c in held),
            *(
                Contract(key.id, key.service, key.limit or limit, "api_keys", environment)
                for key, _ in opening
                for environment, limit in usual[key.service].items()
            ),
        ),
    )


def _check_name(name: str) -> None:
    if SERVICE_NAME.fullmatch(name) is None:
        raise Invalid(
            f"application name '{name}': expected 2 to 63 lower-case letters, digits and hyphens",
            hint="for example mobile-app",
        )


def _check_service(service: str) -> None:
    if SERVICE_NAME.fullmatch(service) is None:
        raise Invalid(f"service name '{service}': expected 2 to 63 lower-case letters, digits and hyphens")


def _refuse_taken(connection: Connection, name: str) -> None:
    query = select(application_rows.c.client_id).where(
        application_rows.c.name == name, application_rows.c.revoked_at.is_(None)
    )
    if connection.execute(query).first() is not None:
        raise _taken(name)


def _taken(name: str) -> AlreadyExists:
    return AlreadyExists(
        f"application '{name}' exists already",
        hint="rotate its credentials when they are lost, revoke it to start anew, or choose another name",
    )


def _unknown(name: str, known: Sequence[str]) -> NotFound:
    return NotFound(f"there is no application '{name}'", hint=did_you_mean(name, known))


def _find(connection: Connection, name: str) -> tuple[str, str]:
    """(client id, name) of the live application of this name or client id."""
    live = application_rows.c.revoked_at.is_(None)
    query = select(application_rows.c.client_id, application_rows.c.name).where(live)
    found = connection.execute(
        query.where((application_rows.c.name == name) | (application_rows.c.client_id == name))
    ).all()
    if not found:
        names = [row.name for row in connection.execute(query.order_by(application_rows.c.name))]
        raise _unknown(name, names)
    if len(found) > 1:
        raise Conflict(f"'{name}' is the name of one application and the client id of another")
    return found[0].client_id, found[0].name


def _contracts(connection: Connection) -> Mapping[str, tuple[Contract, ...]]:
    by_client: dict[str, list[Contract]] = defaultdict(list)
    query = select(contract_rows).order_by(contract_rows.c.client_id, contract_rows.c.service)
    for row in connection.execute(query):
        limit = RateLimit(row.requests, row.period_ms)
        by_client[row.client_id].append(Contract(row.client_id, row.service, limit))
    return {client_id: tuple(held) for client_id, held in by_client.items()}


def _limit(connection: Connection, client_id: str, service: str) -> RateLimit | None:
    where = (contract_rows.c.client_id == client_id) & (contract_rows.c.service == service)
    row = connection.execute(select(contract_rows).where(where)).first()
    return None if row is None else RateLimit(row.requests, row.period_ms)


def _row(client_id: str, service: str, limit: RateLimit) -> dict[str, str | int]:
    return {
        "client_id": client_id,
        "service": service,
        "requests": limit.requests,
        "period_ms": limit.period_ms,
    }


def _log_contract(
    connection: Connection,
    name: str,
    client_id: str,
    service: str,
    change: tuple[RateLimit | None, RateLimit | None],
    actor: str,
) -> None:
    before, after = (None if limit is None else str(limit) for limit in change)
    data = {"client_id": client_id, "service": service, "before": before, "after": after}
    log.append(connection, Event(events.CONTRACT_CHANGED, _subject(name), data), actor=actor)


def _subject(name: str) -> str:
    return f"application:{name}"
