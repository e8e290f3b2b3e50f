"""Bringing a database to the current schema, with Alembic. Each file in versions/ is one step forward.

A new database is made whole, as `state.tables` has it, and takes none of the steps: they are for what is there already.
"""

from __future__ import annotations

from importlib import resources

from sqlalchemy import Column, Connection, Engine, MetaData, String, Table, select, text

from tulle.errors import Unavailable
from tulle.state.tables import metadata

FOLDER = resources.files("tulle.state") / "migrations"
# The last step: files are named after the step they take.
HEAD = max(file.name[:4] for file in (FOLDER / "versions").iterdir() if file.name[:4].isdigit())
# As Alembic has it, which reads it when there are steps to take.
_VERSION = Table("alembic_version", MetaData(), Column("version_num", String(32), primary_key=True))


def upgrade(engine: Engine) -> None:
    """Make a new database, or run every migration that one has not seen; quick when there is none.

    Two processes opening a new database at the same time take turns: the whole upgrade holds the write lock.

    Raises Unavailable when a newer Tulle has used it.
    """
    with engine.connect() as connection:
        version = _version(connection)
    if version == HEAD:
        return
    if version is not None and version > HEAD:
        raise Unavailable(
            f"the control-plane database is of a newer Tulle: its schema is {version}, this one knows {HEAD}",
            hint="install the version of Tulle that was last used with it, or a later one",
        )
    with engine.connect() as connection:
        if engine.dialect.name == "sqlite":
            connection.execute(text("BEGIN IMMEDIATE"))
        else:
            connection.execute(text("BEGIN"))
            connection.execute(text("SELECT pg_advisory_xact_lock(8315119617)"))  # a number of our own
        if _version(connection) is None:
            metadata.create_all(connection)
            _VERSION.create(connection)
            connection.execute(_VERSION.insert().values(version_num=HEAD))
        else:
            _take_steps(connection)
        connection.commit()


def _version(connection: Connection) -> str | None:
    """The last step that a database has taken, or None where there is none yet."""
    if not connection.dialect.has_table(connection, _VERSION.name):
        return None
    found: str | None = connection.execute(select(_VERSION.c.version_num)).scalar()
    return found


def _take_steps(connection: Connection) -> None:
    from alembic.config import Config  # noqa: PLC0415  Alembic costs 0.1 s to import and is rarely needed
    from alembic.runtime.environment import EnvironmentContext  # noqa: PLC0415
    from alembic.script import ScriptDirectory  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(FOLDER))
    scripts = ScriptDirectory.from_config(config)
    environment = EnvironmentContext(config, scripts)
    environment.configure(
        connection=connection,
        fn=lambda revision, _context: scripts._upgrade_revs("head", revision),  # noqa: SLF001  Alembic's own commands do the same
        transactional_ddl=False,
    )
    environment.run_migrations()
