"""Client applications: who they are of and what people say of them.

Default deny: an application may call what it has a contract for (`contract`, `contract_record`) and nothing else. What
it signs in with is made here, shown once and kept as the hash the gateway checks
(docs/decisions/gateway-credentials.md); `application_secret` gives it another. Every change and the event that tells of
it are one transaction; the gateway follows when who is `admitted` is published. Knows nothing of Envoy and not which
services exist.
"""

from __future__ import annotations

import json
import secrets
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Row, Text, cast, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from tulle import events
from tulle.errors import AlreadyExists, Invalid, NotFound, did_you_mean
from tulle.events import Event
from tulle.gateway import contract_record, contract_step
from tulle.gateway.contract_record import ContractRecord, Held, Place
from tulle.gateway.policy import SERVICE_NAME, Contract, RateLimit
from tulle.gateway.secret import check_end, hash_secret, new_secret
from tulle.state import log
from tulle.state.db import Database, now
from tulle.state.tables import applications as application_rows

PORTAL: Final = "tulle-portal"  # the portal's own application, which may try every service
LONGEST_OWNER: Final = 255
MOST_OWNERS: Final = 20
LONGEST_TEXT: Final = 2000


@dataclass(frozen=True, slots=True)
class Credentials:
    """What an application signs in with; shown once, never stored. The key is the two others in one string.

    `until` is when it ends, `former_until` until when the secret before it goes on.
    """

    name: str
    client_id: str
    client_secret: str
    until: float | None = None
    former_until: float | None = None

    @property
    def api_key(self) -> str:
        """For clients that know a single key: sent as Bearer token, or as Basic user name with no password."""
        return f"{self.client_id}.{self.client_secret}"

    def __repr__(self) -> str:
        """Without the secret: values end up in tracebacks and logs."""
        return f"Credentials(name={self.name!r}, client_id={self.client_id!r})"


@dataclass(frozen=True, slots=True)
class About:
    """What people say of an application."""

    owners: tuple[str, ...] = ()
    description: str = ""
    purpose: str = ""
    contact: str = ""


@dataclass(frozen=True, slots=True)
class Secret:
    """That there is a secret, since when and until when, in seconds since the epoch; never the secret."""

    made_at: float | None
    until: float | None


@dataclass(frozen=True, slots=True)
class Application:
    """A client application and what it may call; `revoked_at` is None while it may sign in.

    `contracts` are those for APIs, `secrets` those in force, the newest first.
    """

    client_id: str
    name: str
    about: About
    created_at: float
    revoked_at: float | None
    contracts: tuple[Contract, ...]
    secrets: tuple[Secret, ...] = ()

    @property
    def owner(self) -> str:
        """Its owners, as one text."""
        return ", ".join(self.about.owners)


def register(
    database: Database,
    name: str,
    *,
    owner: str = "",
    about: About | None = None,
    services: Mapping[str, RateLimit | Sequence[RateLimit]] | None = None,
    expires_at: float | None = None,
    actor: str = "",
) -> Credentials:
    """Make an application that may call `services`, each so often, and its credentials.

    Raises Invalid for a name that is not kebab-case and AlreadyExists when an application of that name is not
    revoked.
    """
    _check_name(name)
    said = about if about is not None else About((owner,) if owner else ())
    _check_about(name, said)
    limits = dict(services or {})
    for service in limits:
        check_service(service)
    at = now()
    if expires_at is not None:
        check_end(expires_at, at, past="the secret would have ended before it is made", what="the secret")
    # A readable id: logs and statistics then tell at a glance who called.
    client_id = f"{name[:40].rstrip('-')}-{secrets.token_hex(4)}"
    made = Credentials(name, client_id, new_secret(), expires_at)
    try:
        with database.write() as connection:
            _refuse_taken(connection, name)
            connection.execute(
                insert(application_rows).values(
                    client_id=client_id,
                    name=name,
                    **_said(said),
                    secret_hash=hash_secret(made.client_secret),
                    secret_made_at=at,
                    secret_until=expires_at,
                    created_at=at,
                )
            )
            data = {
                "client_id": client_id,
                "owner": ", ".join(said.owners),
                "services": {s: str(v) for s, v in limits.items()},
            }
            log.append(connection, Event(events.APPLICATION_REGISTERED, subject_of(name), data), actor=actor)
            for service, limit in limits.items():
                several = (limit,) if isinstance(limit, RateLimit) else tuple(limit)
                contract_step.agree_in(connection, client_id, Place("api", service), several, by=actor)
    except IntegrityError as exc:  # somebody registered the same name at the same moment
        raise _taken(name) from exc
    return made


def applications(
    database: Database,
    *,
    include_revoked: bool = False,
    containing: str = "",
    owner: str = "",
    after: str = "",
    limit: int | None = None,
) -> tuple[Application, ...]:
    """Applications with their contracts, by name: of those whose name contains a text, of an owner, so many.

    `after` is where the page before ended: `name/client id`.
    """
    columns = application_rows.c
    order = (columns.name, columns.created_at) if limit is None else (columns.name, columns.client_id)
    query = select(application_rows).order_by(*order)
    if not include_revoked:
        query = query.where(columns.revoked_at.is_(None))
    if containing:
        query = query.where(columns.name.contains(containing, autoescape=True))
    if owner:
        query = query.where(_owned_by(owner))
    if after:
        name, _, last = after.partition("/")
        query = query.where((columns.name > name) | ((columns.name == name) & (columns.client_id > last)))
    if limit is not None:
        query = query.limit(limit)
    at = now()
    with database.read() as connection:
        found = connection.execute(query).all()
        if limit is None and not owner and not containing:
            held = contract_record.held(connection, at)
        else:
            held = contract_record.held(connection, at, client_ids=[a.client_id for a in found])
    by_client = _by_client(held)
    return tuple(
        _value(row, by_client.get(row.client_id, ()), at)
        for row in found
        if not owner or owner in _owners(row)
    )


def _owned_by(owner: str) -> ColumnElement[bool]:
    """Where somebody is among the owners, in whichever of the two columns they are."""
    columns = application_rows.c
    # A list of names as JSON; LIKE would not tell capital letters from others, and quotes within a name are escaped.
    text: ColumnElement[str] = cast(columns.owners, Text)
    if '"' not in owner:
        text = func.replace(text, '\\"', "")
    unsaid = columns.owners.is_(None) | (cast(columns.owners, Text) == "null")
    return (func.replace(text, json.dumps(owner), "") != text) | (unsaid & (columns.owner == owner))


def names(database: Database, *, owner: str = "", only: Collection[str] | None = None) -> Mapping[str, str]:
    """The names of applications by client id, also of those that are revoked; of an owner, of some ids or of all."""
    columns = application_rows.c
    query = select(columns.client_id, columns.name, columns.owner, columns.owners)
    if owner:
        query = query.where(_owned_by(owner))
    if only is not None:
        query = query.where(columns.client_id.in_(only))
    with database.read() as connection:
        found = connection.execute(query).all()
    return {row.client_id: row.name for row in found if not owner or owner in _owners(row)}


def _owners(row: Any) -> tuple[str, ...]:
    return tuple(row.owners) if row.owners is not None else ((row.owner,) if row.owner else ())


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
    at = now()
    with database.read() as connection:
        client_id, _ = find_in(connection, name)
        row = connection.execute(
            select(application_rows).where(application_rows.c.client_id == client_id)
        ).one()
        held = contract_record.held(connection, at, client_ids=[client_id])
    return _value(row, _by_client(held).get(client_id, ()), at)


def about(database: Database, client_id: str) -> About | None:
    """What people say of an application, also of one that is revoked; None where there never was one."""
    with database.read() as connection:
        row = connection.execute(
            select(application_rows).where(application_rows.c.client_id == client_id)
        ).first()
    return None if row is None else _value(row, (), now()).about


def count(database: Database) -> int:
    """How many applications may sign in, the portal's own left out."""
    columns = application_rows.c
    query = select(func.count()).where(columns.revoked_at.is_(None), columns.name != PORTAL)
    with database.read() as connection:
        return int(connection.execute(query).scalar() or 0)


def is_known(database: Database, name: str) -> bool:
    """Whether an application of this name may sign in."""
    query = select(application_rows.c.client_id).where(
        application_rows.c.name == name, application_rows.c.revoked_at.is_(None)
    )
    with database.read() as connection:
        return connection.execute(query).first() is not None


def change(database: Database, name: str, about: About, *, actor: str = "") -> None:
    """Say something else of an application."""
    _check_about(name, about)
    with database.write() as connection:
        client_id, full_name = find_in(connection, name)
        where = application_rows.c.client_id == client_id
        connection.execute(update(application_rows).where(where).values(**_said(about)))
        data = {"client_id": client_id, "owners": list(about.owners)}
        log.append(connection, Event(events.APPLICATION_CHANGED, subject_of(full_name), data), actor=actor)


def revoke(database: Database, name: str, *, actor: str = "") -> None:
    """Refuse the application from now on, for good; its contracts end. The name is free again."""
    with database.write() as connection:
        client_id, full_name = find_in(connection, name)
        contract_step.end_all(connection, client_id, reason="the application is revoked", by=actor)
        connection.execute(
            update(application_rows).where(application_rows.c.client_id == client_id).values(revoked_at=now())
        )
        event = Event(events.APPLICATION_REVOKED, subject_of(full_name), {"client_id": client_id})
        log.append(connection, event, actor=actor)


def _check_name(name: str) -> None:
    if SERVICE_NAME.fullmatch(name) is None:
        raise Invalid(
            f"application name '{name}': expected 2 to 63 lower-case letters, digits and hyphens",
            hint="for example mobile-app",
        )


def check_service(service: str) -> None:
    """Invalid for what can be no name of a service."""
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


def find_in(connection: Connection, name: str) -> tuple[str, str]:
    """(client id, name) of the live application of this name or client id. NotFound with the nearest name."""
    live = application_rows.c.revoked_at.is_(None)
    query = select(application_rows.c.client_id, application_rows.c.name).where(live)
    found = connection.execute(
        query.where((application_rows.c.name == name) | (application_rows.c.client_id == name))
    ).all()
    if len(found) > 1:  # an id is of one application for ever; a name may be chosen to be like it
        found = [row for row in found if row.client_id == name]
    if not found:
        names = [row.name for row in connection.execute(query.order_by(application_rows.c.name))]
        raise _unknown(name, names)
    return found[0].client_id, found[0].name


def _by_client(held: Iterable[ContractRecord]) -> Mapping[str, tuple[Contract, ...]]:
    by_client: dict[str, list[Contract]] = defaultdict(list)
    for one in held:
        if one.place.kind == "api":
            place = one.place
            made = Held(one.client_id, place.kind, place.subject, place.environment, one.tier, one.limits)
            by_client[one.client_id].append(made.contract(place.subject, place.environment))
    return {client_id: tuple(some) for client_id, some in by_client.items()}


def _value(row: Row[Any], contracts: tuple[Contract, ...], at: float) -> Application:
    return Application(
        row.client_id,
        row.name,
        About(_owners(row), row.description, row.purpose, row.contact),
        row.created_at,
        row.revoked_at,
        contracts,
        () if row.revoked_at is not None else tuple(secret for _, secret in forms_of(row, at)),
    )


def forms_of(row: Row[Any], at: float) -> list[tuple[str, Secret]]:
    """The forms of secret that are in force, the newest first."""
    found = [
        ("secret", row.secret_hash, row.secret_made_at, row.secret_until),
        ("second", row.second_hash, row.second_made_at, row.second_until),
    ]
    forms = [
        (form, Secret(made_at, until))
        for form, hashed, made_at, until in found
        if hashed and (until is None or until > at)
    ]
    return sorted(forms, key=lambda one: -(one[1].made_at or 0.0))


def _said(about: About) -> dict[str, Any]:
    return {
        "owner": ", ".join(about.owners)[:LONGEST_OWNER],
        "owners": list(about.owners),
        "description": about.description,
        "purpose": about.purpose,
        "contact": about.contact,
    }


def _check_about(name: str, about: About) -> None:
    if len(about.owners) > MOST_OWNERS:
        raise Invalid(f"application '{name}' has {len(about.owners)} owners, at most {MOST_OWNERS} are kept")
    for owner in about.owners:
        if len(owner) > LONGEST_OWNER:
            raise Invalid(f"owner of application '{name}' is longer than {LONGEST_OWNER} characters")
        if not owner.strip() or not owner.isprintable():
            raise Invalid(f"owner of application '{name}' is no name")
    for what in ("description", "purpose"):
        if len(getattr(about, what)) > LONGEST_TEXT:
            raise Invalid(f"the {what} of application '{name}' is longer than {LONGEST_TEXT} characters")
    if len(about.contact) > LONGEST_OWNER or not (about.contact.isprintable() or not about.contact):
        raise Invalid(
            f"the contact of application '{name}' is no address of up to {LONGEST_OWNER} characters"
        )


def subject_of(name: str) -> str:
    """Of what an event about an application is."""
    return f"application:{name}"
