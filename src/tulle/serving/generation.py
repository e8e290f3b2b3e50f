"""Which version of a service shall answer, which one does, and which one did before.

A generation is a deployed version. `request` writes down what is wanted; whoever runs the workers calls
`activate` when they answer, or `fail`. Every change and its event are one transaction. Knows nothing of
processes or of the gateway.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec
from sqlalchemy import Connection, Row, delete, insert, select, update

from tulle.config import Settings
from tulle.errors import Broken, Conflict, NotFound, Unavailable, did_you_mean
from tulle.events import (
    GENERATION_ACTIVATED,
    GENERATION_FAILED,
    GENERATION_REQUESTED,
    GENERATION_WITHDRAWN,
    Event,
)
from tulle.serving import package
from tulle.serving.loaded import Verdict
from tulle.serving.package import Package
from tulle.state import log
from tulle.state.db import Database, now
from tulle.state.tables import deployments as table
from tulle.state.tables import packages as package_table

Status = Literal["starting", "active", "failed"]
TEST_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Deployment:
    """A service and its generations; `message` says why when the status is failed."""

    service: str
    product: str
    desired_version: str
    active_version: str | None
    previous_version: str | None
    status: Status
    message: str
    changed_at: float


def folder_of(settings: Settings, service: str, version: str) -> Path:
    """Where a generation is unpacked."""
    return settings.state_folder / "generations" / service / version


def unpack(chosen: Package, settings: Settings) -> Path:
    """Unpack a package where its workers look for it; Broken, naming the file, when it is damaged."""
    folder = folder_of(settings, chosen.service, chosen.version)
    package.unpack(settings.state_folder / chosen.path, folder, digest=chosen.digest)
    return folder


def request(database: Database, service: str, version: str, *, actor: str = "") -> Deployment:
    """Ask for a version to answer; nothing changes when it does already. NotFound when it was never built."""
    package.get(database, service, version)
    with database.write() as connection:
        row = connection.execute(select(table).where(table.c.service == service)).first()
        values = {"desired_version": version, "status": "starting", "message": None, "changed_at": now()}
        if row is None:
            connection.execute(insert(table).values(service=service, **values))
        elif row.desired_version == version and row.status != "failed":
            return _one(connection, service)
        else:
            if row.active_version == version:
                values["status"] = "active"  # a later version was asked for, and is no longer
            connection.execute(update(table).where(table.c.service == service).values(**values))
        log.append(connection, Event(GENERATION_REQUESTED, service, {"version": version}), actor=actor)
        return _one(connection, service)


def activate(database: Database, service: str, version: str) -> Deployment:
    """Say that the workers of a version answer and get the traffic; Conflict when another one is wanted now."""
    with database.write() as connection:
        row = _wanted(connection, service, version)
        if row.status == "active" and row.active_version == version:
            return _one(connection, service)
        values: dict[str, Any] = {
            "active_version": version,
            "status": "active",
            "message": None,
            "changed_at": now(),
        }
        if row.active_version != version:
            values["previous_version"] = row.active_version
        connection.execute(update(table).where(table.c.service == service).values(**values))
        data = {"version": version, "previous": row.active_version}
        log.append(connection, Event(GENERATION_ACTIVATED, service, data))
        return _one(connection, service)


def fail(database: Database, service: str, version: str, message: str) -> Deployment:
    """Say that a version cannot answer; what is active stays. Conflict when another one is wanted now."""
    with database.write() as connection:
        _wanted(connection, service, version)
        connection.execute(
            update(table)
            .where(table.c.service == service)
            .values(status="failed", message=message, changed_at=now())
        )
        log.append(connection, Event(GENERATION_FAILED, service, {"version": version, "message": message}))
        return _one(connection, service)


def withdraw(connection: Connection, service: str, *, actor: str = "") -> None:
    """Let no version of a service answer any more, in the transaction of `connection`; packages stay."""
    removed = connection.execute(delete(table).where(table.c.service == service))
    if removed.rowcount:
        log.append(connection, Event(GENERATION_WITHDRAWN, service), actor=actor)


def deployment(database: Database, service: str) -> Deployment:
    """The deployment of one service; NotFound, with the nearest name, when there is none."""
    with database.read() as connection:
        return _one(connection, service)


def find(database: Database, service: str) -> Deployment | None:
    """The deployment of one service, or None when it has never been deployed."""
    return next((found for found in deployments(database) if found.service == service), None)


def deployments(database: Database) -> tuple[Deployment, ...]:
    """Every deployment, by service."""
    with database.read() as connection:
        return tuple(_value(row) for row in connection.execute(_query().order_by(table.c.service)))


def test(folder: Path, generation: str | None = None) -> tuple[Verdict, ...]:  # noqa: PT028  not of pytest's
    """Run the test queries saved in an unpacked package, in a process of their own.

    Loading a native model runs code from its file, which must not happen in the control plane. Raises Broken
    when the package cannot be loaded, Unavailable when it takes longer than a minute.
    """
    argv = [sys.executable, "-m", "tulle.serving.worker", "--package-folder", str(folder), "--test"]
    argv += ["--generation", generation] if generation else []
    try:
        done = subprocess.run(argv, capture_output=True, timeout=TEST_SECONDS, check=False)  # noqa: S603  our own module
    except subprocess.TimeoutExpired as exc:
        raise Unavailable(f"the test queries in {folder.name} took longer than {TEST_SECONDS:.0f} s") from exc
    if done.returncode:
        reason = done.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["no reason given"]
        raise Broken(f"the package in {folder.name} cannot be tested: {reason[0]}")
    return msgspec.json.decode(done.stdout, type=tuple[Verdict, ...])


def _query() -> Any:
    product = (
        select(package_table.c.product)
        .where(package_table.c.service == table.c.service, package_table.c.version == table.c.desired_version)
        .scalar_subquery()
    )
    return select(table, product.label("product"))


def _one(connection: Connection, service: str) -> Deployment:
    row = connection.execute(_query().where(table.c.service == service)).first()
    if row is None:
        known = connection.execute(select(table.c.service)).scalars().all()
        hint = did_you_mean(service, known) or f"`tulle service deploy {service}` deploys it"
        raise NotFound(f"service '{service}' is not deployed", hint=hint)
    return _value(row)


def _wanted(connection: Connection, service: str, version: str) -> Row[Any]:
    row = connection.execute(select(table).where(table.c.service == service)).first()
    if row is None or row.desired_version != version:
        wanted = "none" if row is None else f"'{row.desired_version}'"
        raise Conflict(
            f"service '{service}': version '{version}' is not the one that is wanted now ({wanted})"
        )
    return row


def _value(row: Row[Any]) -> Deployment:
    return Deployment(
        row.service,
        row.product or "",
        row.desired_version,
        row.active_version,
        row.previous_version,
        row.status,
        row.message or "",
        row.changed_at,
    )
