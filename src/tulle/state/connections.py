"""Connections by name and environment: the address of a source and the secrets that open it, encrypted together.

Knows the columns of one table and nothing of what a connection leads to.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import ColumnElement, Row, delete, insert, select, update
from sqlalchemy import Connection as Cx

from tulle.config import Settings
from tulle.errors import Broken, NotFound, did_you_mean
from tulle.events import CONNECTION_CHANGED, CONNECTION_REMOVED, Event
from tulle.state import log
from tulle.state.db import Database, now
from tulle.state.secrets import Secrets, open_secrets
from tulle.state.tables import connections

KEY_FILE = "secret.key"


@dataclass(frozen=True, slots=True)
class Connection:
    """Where a source is and what opens it. Its text never has a secret."""

    name: str
    environment: str
    kind: str  # sql | store | http | redis
    address: str  # without name and password
    options: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    updated_at: float = 0.0
    certificates: str = ""  # PEM, those of its option `ca_file` when it was set, where they are kept


class Connections:
    """The connections of one mesh."""

    def __init__(self, database: Database, key_file: Path) -> None:
        self._database = database
        self._key_file = key_file

    def save(self, connection: Connection, *, actor: str = "") -> None:
        """Record a connection, in place of one of the same name and environment."""
        content = {
            "address": connection.address,
            "options": dict(connection.options),
            "secrets": dict(connection.secrets),
            "certificates": connection.certificates,
        }
        sealed = self._secrets().encrypt(
            json.dumps(content), _purpose(connection.name, connection.environment)
        )
        values = {"kind": connection.kind, "sealed": sealed, "updated_at": now()}
        told = {"environment": connection.environment, "kind": connection.kind}
        with self._database.write() as cx:
            changed = cx.execute(
                update(connections).where(*_is(connection.name, connection.environment)).values(**values)
            )
            if not changed.rowcount:
                key = {"name": connection.name, "environment": connection.environment}
                cx.execute(insert(connections).values(**key, **values))
            log.append(cx, Event(CONNECTION_CHANGED, connection.name, told), actor=actor)

    def get(self, name: str, environment: str) -> Connection:
        """One connection. NotFound, telling in which environments there is one of that name."""
        with self._database.read() as cx:
            row = cx.execute(select(connections).where(*_is(name, environment))).first()
            if row is None:
                raise _unknown(cx, name, environment)
        return self._value(row)

    def all(self) -> tuple[Connection, ...]:
        """Every connection, by name and environment."""
        order = (connections.c.name, connections.c.environment)
        with self._database.read() as cx:
            rows = cx.execute(select(connections).order_by(*order)).all()
        return tuple(self._value(row) for row in rows)

    def stamps(self) -> Mapping[tuple[str, str], float]:
        """When each was changed last, by name and environment; nothing is decrypted."""
        columns = connections.c
        with self._database.read() as cx:
            rows = cx.execute(select(columns.name, columns.environment, columns.updated_at)).all()
        return {(row.name, row.environment): row.updated_at for row in rows}

    def remove(self, name: str, environment: str, *, actor: str = "") -> None:
        """Forget a connection. NotFound."""
        with self._database.write() as cx:
            if not cx.execute(delete(connections).where(*_is(name, environment))).rowcount:
                raise _unknown(cx, name, environment)
            log.append(cx, Event(CONNECTION_REMOVED, name, {"environment": environment}), actor=actor)

    def _secrets(self, *, make: bool = True) -> Secrets:
        return open_secrets(self._key_file, make=make)

    def _value(self, row: Row[tuple[object, ...]]) -> Connection:
        text = self._secrets(make=False).decrypt(row.sealed, _purpose(row.name, row.environment))
        try:
            content = json.loads(text)
            return Connection(
                row.name,
                row.environment,
                row.kind,
                content["address"],
                content["options"],
                content["secrets"],
                row.updated_at,
                content.get("certificates", ""),  # what was set by an older version has none
            )
        except (ValueError, KeyError, TypeError):
            raise Broken(f"what is recorded of connection '{row.name}' cannot be read") from None


def open_connections(settings: Settings, database: Database) -> Connections:
    """The connections of a mesh, encrypted with the key that lies beside its state."""
    return Connections(database, settings.state_folder / KEY_FILE)


def _is(name: str, environment: str) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return connections.c.name == name, connections.c.environment == environment


def _purpose(name: str, environment: str) -> str:
    return f"connection {environment} {name}"


def _unknown(cx: Cx, name: str, environment: str) -> NotFound:
    known = cx.execute(select(connections.c.name, connections.c.environment)).all()
    elsewhere = sorted(row.environment for row in known if row.name == name)
    if elsewhere:
        hint = f"it is known in {', '.join(elsewhere)}; `tulle connection set {name} --environment {environment} …`"
    else:
        near = did_you_mean(name, {row.name for row in known if row.environment == environment})
        hint = near or f"`tulle connection set {name} --environment {environment} --kind … --address …`"
    return NotFound(f"there is no connection '{name}' in environment '{environment}'", hint=hint)
