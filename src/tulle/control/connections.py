"""Connections on the write side and over HTTP, below `/mesh/v1/connections`: set, list, show, test, describe, remove.

What comes back has the names of the secrets, never a secret.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from tulle.catalog.routes import Routes
from tulle.control.asking import AskedBy
from tulle.control.workspace import Workspace
from tulle.errors import Invalid
from tulle.pipeline.sources.address import PROD, environment_of, made
from tulle.pipeline.sources.describe import described
from tulle.pipeline.sources.hidden import shown_address
from tulle.pipeline.sources.kept_certificates import with_certificates
from tulle.pipeline.sources.probe import probe
from tulle.spec.source import CONNECTION_NAME
from tulle.state.connections import Connection, open_connections


class ConnectionBody(BaseModel):
    """A connection to record."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    kind: str
    address: str
    options: Mapping[str, str] = {}
    secrets: Mapping[str, str] = Field(default={}, repr=False)


class TableBody(BaseModel):
    """A table to describe, as it is written in a source."""

    model_config = ConfigDict(extra="forbid")

    table: str = Field(max_length=400)


def router(workspace: Workspace) -> Routes:
    """The routes on one mesh."""
    api = Routes(prefix="/mesh/v1")
    known = open_connections(workspace.settings, workspace.database)

    @api.get("/connections")
    def list_connections() -> dict[str, Any]:
        return {"connections": [shown(connection) for connection in known.all()]}

    @api.put("/connections/{environment}/{name}")
    def set_connection(by: AskedBy, environment: str, name: str, body: ConnectionBody) -> dict[str, Any]:
        where = _environment(environment)
        connection = made(name, where, body.kind, body.address, body.options, body.secrets)
        known.save(with_certificates(connection), actor=by)
        return shown(known.get(name, where))

    @api.get("/connections/{environment}/{name}")
    def show(environment: str, name: str) -> dict[str, Any]:
        return shown(known.get(name, _environment(environment)))

    @api.delete("/connections/{environment}/{name}")
    def remove(by: AskedBy, environment: str, name: str) -> dict[str, Any]:
        known.remove(name, _environment(environment), actor=by)
        return {"name": name, "environment": _environment(environment), "removed": True}

    @api.post("/connections/{environment}/{name}/test")
    def test(environment: str, name: str) -> dict[str, Any]:
        found = probe(known.get(name, _environment(environment)), workspace.settings)
        return {"name": name, "environment": _environment(environment), "answers": True, "message": found}

    @api.post("/connections/{environment}/{name}/describe")
    def describe(environment: str, name: str, body: TableBody) -> dict[str, Any]:
        return described(known.get(name, _environment(environment)), body.table)

    return api


def shown(connection: Connection) -> dict[str, Any]:
    """A connection as it may be shown."""
    return {
        "name": connection.name,
        "environment": connection.environment,
        "kind": connection.kind,
        "address": shown_address(connection.address),
        "options": dict(connection.options),
        "secrets": sorted(connection.secrets),
        "updated_at": connection.updated_at,
    }


def _environment(text: str) -> str:
    found = environment_of(text) if text else PROD
    if not re.fullmatch(CONNECTION_NAME, found):
        raise Invalid(f"'{found[:80]}' is no name for an environment", hint="such as dev, test or prod")
    return found
