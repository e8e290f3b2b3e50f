"""A database of an earlier schema is opened: what it has is there afterwards, in the form of now."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import inspect, text
from sqlalchemy.exc import IntegrityError

from tulle.errors import Unavailable
from tulle.serving import generation
from tulle.serving.traffic import single
from tulle.state import migrations
from tulle.state.db import Database, open_database
from tulle.state.migrations import HEAD, upgrade
from tulle.state.tables import metadata

DATABASES = ("sqlite", "postgres")
OLD = """CREATE TABLE deployments (service VARCHAR(63) PRIMARY KEY, desired_version VARCHAR(63) NOT NULL,
  active_version VARCHAR(63), previous_version VARCHAR(63), status VARCHAR(16) NOT NULL, message TEXT,
  changed_at FLOAT NOT NULL)"""
PACKAGE = """INSERT INTO packages (service, version, digest, product, path, manifest, created_at)
  VALUES ('prices', :version, :version, 'sales', 'p', '{}', 1.0)"""
DEPLOYED = "INSERT INTO deployments VALUES (:service, 'v2', :active, :previous, :status, NULL, 7.5)"


def test_deployments_of_one_version_become_such_of_one_generation(database: Database) -> None:
    with database.write() as cx:
        cx.execute(text("DROP TABLE service_deployments"))
        cx.execute(text(OLD))
        for version in ("v1", "v2"):
            cx.execute(text(PACKAGE), {"version": version})
        for service, active, previous, status in (
            ("prices", "v2", "v1", "active"),
            ("lost", None, None, "starting"),  # its package is gone, so nothing can be made of it
        ):
            values = {"service": service, "active": active, "previous": previous, "status": status}
            cx.execute(text(DEPLOYED), values)
        cx.execute(text("UPDATE alembic_version SET version_num = '0003'"))
    upgrade(database.engine)
    (found,) = generation.everywhere(database)
    assert (found.service, found.environment, found.product) == ("prices", "", "sales")
    assert (found.desired, found.active, found.previous) == (single("v2"), single("v2"), single("v1"))
    assert (found.status, found.enabled, found.changed_at) == ("active", True, 7.5)
    with database.read() as cx:
        assert not database.engine.dialect.has_table(cx, "deployments")
    upgrade(database.engine)  # and again, which does nothing
    assert generation.everywhere(database) == (found,)


def schema(database: Database) -> dict[str, Any]:
    """Every table with its columns and indices."""
    found = inspect(database.engine)
    return {
        table: (
            sorted((c["name"], str(c["type"]), c["nullable"]) for c in found.get_columns(table)),
            sorted(str(index["name"]) for index in found.get_indexes(table)),
            sorted(found.get_pk_constraint(table)["constrained_columns"]),
        )
        for table in found.get_table_names()
    }


def test_a_new_database_is_as_one_that_took_every_step(database: Database) -> None:
    whole = schema(database)
    assert set(whole) == {*metadata.tables, "alembic_version"}
    with database.write() as cx:
        metadata.drop_all(cx)
        cx.execute(text("DELETE FROM alembic_version"))
    with database.engine.connect() as cx:
        cx.execute(text("BEGIN"))
        migrations._take_steps(cx)
        cx.commit()
    assert schema(database) == whole
    with database.read() as cx:
        assert cx.execute(text("SELECT version_num FROM alembic_version")).scalar_one() == HEAD


def test_the_steps_are_one_after_another_and_the_last_one_is_known() -> None:
    files = sorted((Path(migrations.__file__).parent / "versions").glob("0*.py"))
    said = [re.findall(r'^(?:down_)?revision = "?(\w+)"?$', file.read_text(), re.MULTILINE) for file in files]
    assert said == [[f"{n:04}", f"{n - 1:04}" if n > 1 else "None"] for n in range(1, len(files) + 1)]
    assert [file.name[:4] for file in files] == [own for own, _ in said]
    assert said[-1][0] == HEAD


def test_a_database_at_the_last_step_is_opened_without_waiting_for_those_who_write(
    database: Database, database_url: str
) -> None:
    with database.write() as cx:
        cx.execute(text("UPDATE alembic_version SET version_num = version_num"))
        open_database(database_url).close()


def test_a_database_of_a_newer_tulle_is_left_alone(database: Database, database_url: str) -> None:
    with database.write() as cx:
        cx.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(Unavailable, match=f"its schema is 9999, this one knows {HEAD}"):
        open_database(database_url)
    with database.write() as cx:
        cx.execute(text("UPDATE alembic_version SET version_num = :now"), {"now": HEAD})


def test_incidents_that_were_one_a_cause_become_one_for_each_watch(database: Database) -> None:
    with database.write() as cx:
        cx.execute(text("DROP INDEX incidents_open_about"))
        cx.execute(
            text(
                "CREATE UNIQUE INDEX incidents_open ON incidents (product, environment, cause) "
                "WHERE closed_at IS NULL"
            )
        )
        cx.execute(text("UPDATE alembic_version SET version_num = '0015'"))
    upgrade(database.engine)
    row = (
        "INSERT INTO incidents (id, product, environment, cause, message, opened_at, last_at, about) VALUES "
    )
    with database.write() as cx:
        cx.execute(text(row + "('a', 'sales', 'main', 'calls', 'x', 1, 1, 'slow/calc')"))
        cx.execute(text(row + "('b', 'sales', 'main', 'calls', 'x', 1, 1, 'slow/other')"))
    with pytest.raises(IntegrityError), database.write() as cx:
        cx.execute(text(row + "('c', 'sales', 'main', 'calls', 'x', 1, 1, 'slow/calc')"))
