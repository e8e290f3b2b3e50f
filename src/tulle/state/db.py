"""Opening the control-plane database and running transactions on it.

SQLite (WAL, synchronous=FULL: a commit is durable when it returns) by default; any SQLAlchemy URL works the
same. Writers take the write lock at the start of a transaction, so a transaction never fails half way for
having read before it wrote. Knows no table's meaning.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import OperationalError

from tulle.errors import LimitExceeded, Unavailable
from tulle.state import migrations


class Database:
    """A handle on the control-plane database; safe to share between threads."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    @property
    def is_sqlite(self) -> bool:
        """Whether the embedded database is in use."""
        return self.engine.dialect.name == "sqlite"

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that may change things; all of it is durable after the block, or none of it.

        Raises LimitExceeded when the disk is full and Unavailable when the database stays locked.
        """
        with self.engine.connect() as connection:
            try:
                if self.is_sqlite:
                    connection.execute(text("BEGIN IMMEDIATE"))
                yield connection
                connection.commit()
            except OperationalError as exc:
                connection.rollback()
                raise _explained(exc) from exc
            except BaseException:
                connection.rollback()
                raise

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A view for reading: every statement in the block sees the same state."""
        with self.engine.connect() as connection:
            if self.is_sqlite:
                connection.execute(text("BEGIN"))
            else:
                connection.execution_options(isolation_level="REPEATABLE READ")
            try:
                yield connection
            finally:
                connection.rollback()

    def close(self) -> None:
        """Release all connections."""
        self.engine.dispose()


def open_database(url: str, *, migrate: bool = True) -> Database:
    """Open (and, by default, bring up to date) the database at `url`.

    Raises Unavailable, naming the place, when it cannot be opened.
    """
    parsed = make_url(url)
    if parsed.drivername.startswith("sqlite") and parsed.database:
        Path(parsed.database).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        engine = create_engine(parsed, connect_args={"timeout": 30, "check_same_thread": False})
    else:
        engine = create_engine(parsed, pool_pre_ping=True)
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _prepare_sqlite)
    database = Database(engine)
    try:
        if migrate:
            migrations.upgrade(engine)
    except OperationalError as exc:
        place = parsed.render_as_string(hide_password=True)
        raise Unavailable(
            f"the control-plane database {place} cannot be opened: {exc.orig}",
            hint="check that the disk is not full and the folder is writable",
        ) from exc
    return database


def _explained(exc: OperationalError) -> Exception:
    """The refusals a user can do something about, in words; any other as it is."""
    reason = str(exc.orig)
    if "disk is full" in reason or "No space left" in reason:
        return LimitExceeded(
            f"disk full: the control-plane database could not be written ({reason}); nothing was changed",
            hint="free some disk space and try again",
        )
    if "locked" in reason:
        return Unavailable(
            f"the control-plane database is busy ({reason})",
            hint="another process is writing for long; try again",
        )
    return exc


def _prepare_sqlite(dbapi_connection: object, _record: object) -> None:
    # isolation_level None hands transaction control to us: `write` says BEGIN IMMEDIATE itself.
    dbapi_connection.isolation_level = None  # type: ignore[attr-defined]
    cursor = dbapi_connection.cursor()  # type: ignore[attr-defined]
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=30000"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def now() -> float:
    """Seconds since the epoch; the one clock of the control plane."""
    return time.time()
