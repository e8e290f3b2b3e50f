"""Bringing a database to the current schema, with Alembic. Each file in versions/ is one step forward."""

from __future__ import annotations

from importlib import resources

from sqlalchemy import Engine, text


def upgrade(engine: Engine) -> None:
    """Run every migration the database has not seen; quick when there is none.

    Two processes opening a new database at the same time take turns: the whole upgrade holds the write lock.
    """
    from alembic.config import Config  # noqa: PLC0415  Alembic costs 0.1 s to import and is rarely needed
    from alembic.runtime.environment import EnvironmentContext  # noqa: PLC0415
    from alembic.script import ScriptDirectory  # noqa: PLC0415

    if _at_head(engine):
        return
    config = Config()
    config.set_main_option("script_location", str(resources.files("tulle.state") / "migrations"))
    scripts = ScriptDirectory.from_config(config)
    with engine.connect() as connection:
        if engine.dialect.name == "sqlite":
            connection.execute(text("BEGIN IMMEDIATE"))
        else:
            connection.execute(text("BEGIN"))
            connection.execute(text("SELECT pg_advisory_xact_lock(8315119617)"))  # a number of our own
        environment = EnvironmentContext(config, scripts)
        environment.configure(
            connection=connection,
            fn=lambda revision, _context: scripts._upgrade_revs("head", revision),  # noqa: SLF001  Alembic's own commands do the same
            transactional_ddl=False,
        )
        environment.run_migrations()
        connection.commit()


HEAD = "0009"


def _at_head(engine: Engine) -> bool:
    with engine.connect() as connection:
        if not engine.dialect.has_table(connection, "alembic_version"):
            return False
        return connection.execute(text("SELECT version_num FROM alembic_version")).scalar() == HEAD
