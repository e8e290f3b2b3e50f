"""Keys of the API by which tools administer services as they do on API nodes; without one it is off.

A key is `<id>.<secret>`, shown once and kept as a SHA-256: 160 random bits need no slower hash. Whoever has one may
do all that API knows. Every change and its event are one transaction.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, delete, insert, select

from tulle import events
from tulle.errors import Denied, Invalid, NotFound
from tulle.events import Event
from tulle.gateway.secret import check_end, new_secret
from tulle.state import log
from tulle.state.db import Database, now
from tulle.state.tables import admin_keys as table

LONGEST: dict[str, int] = {"label": 100, "description": 1000, "created_by": 255}


@dataclass(frozen=True, slots=True)
class AdminKey:
    """A key without its secret; times in seconds since the epoch."""

    id: str
    label: str
    description: str
    created_by: str
    created_at: float
    expires_at: float | None


def create(
    database: Database,
    *,
    label: str = "",
    description: str = "",
    created_by: str = "",
    expires_at: float | None = None,
    actor: str = "",
) -> tuple[AdminKey, str]:
    """Make a key; it, and the text that opens the API."""
    at = now()
    for name, value in (("label", label), ("description", description), ("created_by", created_by)):
        if len(value) > LONGEST[name]:
            raise Invalid(f"the {name} of a key is longer than {LONGEST[name]} characters")
    if not (label + created_by).isprintable():  # they are in the trail, and on terminals
        raise Invalid("the label of a key and who made it are a line of text each")
    if expires_at is not None:
        check_end(expires_at, at, past="the key would have expired before it is made")
    key = AdminKey(f"admin-{secrets.token_hex(8)}", label, description, created_by, at, expires_at)
    secret = new_secret()
    with database.write() as connection:
        connection.execute(
            insert(table).values(
                id=key.id,
                label=label,
                description=description,
                created_by=created_by,
                secret_hash=_hash(secret),
                created_at=at,
                expires_at=expires_at,
            )
        )
        told = {"id": key.id, "label": label, "expires_at": expires_at}
        log.append(connection, Event(events.ADMIN_KEY_CREATED, key.id, told), actor=actor)
    return key, f"{key.id}.{secret}"


def known(database: Database) -> tuple[AdminKey, ...]:
    """Every key, also those that have expired, the oldest first."""
    with database.read() as connection:
        rows = connection.execute(select(table).order_by(table.c.created_at, table.c.id))
        return tuple(_value(row) for row in rows)


def remove(database: Database, key: str, *, actor: str = "") -> str:
    """End a key, named by its id or by the whole of it; its id. NotFound."""
    with database.write() as connection:
        id_, _, secret = key.partition(".")
        row = connection.execute(select(table).where(table.c.id == id_)).first()
        if row is None or (secret and not hmac.compare_digest(_hash(secret), row.secret_hash)):
            raise NotFound("there is no such admin key", hint="`tulle service admin-key list` shows them")
        connection.execute(delete(table).where(table.c.id == id_))
        log.append(connection, Event(events.ADMIN_KEY_DELETED, id_, {"label": row.label}), actor=actor)
    return str(id_)


def is_on(database: Database) -> bool:
    """Whether there is a key that opens the API."""
    at = now()
    return any(key.expires_at is None or key.expires_at > at for key in known(database))


def holder(database: Database, header: str) -> AdminKey:
    """Whose key an Authorization header carries: Basic with the key as user name, or Bearer. Denied."""
    id_, _, secret = _sent(header).partition(".")
    with database.read() as connection:
        row = connection.execute(select(table).where(table.c.id == id_)).first()
    # as much work for an unknown id as for a wrong secret
    fits = hmac.compare_digest(_hash(secret), row.secret_hash if row is not None else "0" * 64)
    if row is None or not fits or (row.expires_at is not None and row.expires_at <= now()):
        raise Denied("missing or wrong admin key", hint="send it as Basic user name with an empty password")
    return _value(row)


def who(database: Database, header: str) -> str | None:
    """Who comes with a key, as the trail names them; None while there is none, and the API is off. Denied."""
    if not is_on(database):
        return None
    key = holder(database, header)
    return f"{key.id} ({key.label})" if key.label else key.id


def _sent(header: str) -> str:
    scheme, _, value = header.partition(" ")
    if scheme.lower() == "bearer":
        return value.strip()
    if scheme.lower() != "basic":
        return ""
    try:
        name, _, password = base64.b64decode(value.strip(), validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        return ""
    return name if not password else ""


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _value(row: Row[Any]) -> AdminKey:
    return AdminKey(row.id, row.label, row.description, row.created_by, row.created_at, row.expires_at)
