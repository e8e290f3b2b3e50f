"""A database of an earlier schema is opened: what it has is there afterwards, in the form of now."""

from __future__ import annotations

from sqlalchemy import text

from tulle.serving import generation
from tulle.serving.traffic import single
from tulle.state.db import Database
from tulle.state.migrations import upgrade

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
