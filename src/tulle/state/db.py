"""Opening the control-plane database and running transactions on it.

SQLite (WAL, synchronous=FULL: a commit is durable when it returns) by default, PostgreSQL for several servers.
On SQLite writers take the write lock at the start of a transaction, so one is alone and never fails half way for
having read before it wrote. On PostgreSQL they run side by side: every statement sees what is committed when it
starts, and whoever decides by what it read locks the row it read, or takes its turn with `in_turn`. Knows no
table's meaning.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import DatabaseError, DataError, DBAPIError, IntegrityError, OperationalError

from tulle.errors import Broken, Invalid, LimitExceeded, TulleError, Unavailable
from tulle.state import migrations

T = TypeVar("T")

RETRIES = 4
CONNECTIONS = 64  # at least, of an embedded database; opened when they are needed
WAIT_SECONDS = 30.0  # for another one's transaction
_PASSING = {"40P01", "40001"}  # PostgreSQL's codes of a deadlock and of a view that others changed


class Database:
    """A handle on the control-plane database; safe to share between threads."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._turn = threading.Lock()

    @property
    def is_sqlite(self) -> bool:
        """Whether the embedded database is in use."""
        return self.engine.dialect.name == "sqlite"

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that may change things; all of it is durable after the block, or none of it.

        Raises LimitExceeded when the disk is full, Unavailable when the database stays locked, cannot be reached
        or had to end the transaction for another's sake, Invalid when a value cannot be recorded.
        """
        begin = "BEGIN IMMEDIATE" if self.is_sqlite else "BEGIN"
        with _explaining(), self._alone(), self._begun(begin) as connection:
            try:
                yield connection
                connection.commit()
            except BaseException:
                connection.rollback()
                raise

    @contextmanager
    def _alone(self) -> Iterator[None]:
        # SQLite lets one write and the others look again after ever longer pauses, so that some wait for a second:
        # those of this process stand in line instead.
        if not self.is_sqlite:
            yield
            return
        if not self._turn.acquire(timeout=WAIT_SECONDS):
            raise Unavailable(
                "the control-plane database is busy", hint="something writes to it for long; try again"
            )
        try:
            yield
        finally:
            self._turn.release()

    def change(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in a transaction like that of `write`, again when it was ended for another's sake.

        So `work` must change nothing but the database. Raises what `write` raises.
        """
        for _ in range(RETRIES):
            try:
                with self.write() as connection:
                    return work(connection)
            except Exception as exc:
                if not is_passing(exc):
                    raise
        with self.write() as connection:
            return work(connection)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A view for reading: every statement in the block sees the same state. Unavailable."""
        # In PostgreSQL such a view is one snapshot, and never fails because of writers.
        if self.is_sqlite:
            with _explaining(), self.engine.connect() as connection:
                raw: Any = connection.connection.dbapi_connection
                # Said to the driver itself, which takes a tenth of the time: reads of an entry consist of little else.
                raw.execute("BEGIN")
                try:
                    yield connection
                finally:
                    connection.rollback()
                    raw.rollback()  # for SQLAlchemy nothing began where there was no statement
            return
        with _explaining(), self._begun("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY") as connection:
            try:
                yield connection
                connection.commit()  # nothing was changed, but psycopg prepares all statements anew after a rollback
            except BaseException:
                connection.rollback()
                raise

    @contextmanager
    def _begun(self, begin: str) -> Iterator[Connection]:
        """A connection with a transaction. One that died while nobody used it is replaced: nothing was asked yet."""
        connection = self.engine.connect()
        try:
            try:
                connection.exec_driver_sql(begin)
            except DBAPIError as exc:
                if not exc.connection_invalidated:
                    raise
                connection.close()
                connection = self.engine.connect()
                connection.exec_driver_sql(begin)
            yield connection
        finally:
            connection.close()

    def close(self) -> None:
        """Release all connections."""
        self.engine.dispose()


def open_database(url: str, *, migrate: bool = True) -> Database:
    """Open (and, by default, bring up to date) the database at `url`: `sqlite:///…` or `postgresql://…`.

    Raises Unavailable, naming the place, when it cannot be opened.
    """
    parsed = make_url(url)
    if parsed.drivername == "postgresql":
        parsed = parsed.set(drivername="postgresql+psycopg")  # the driver that we install
    if parsed.drivername.startswith("sqlite") and parsed.database:
        Path(parsed.database).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        engine = create_engine(
            parsed,
            connect_args={"timeout": 30, "check_same_thread": False},
            pool_size=CONNECTIONS,  # a thread that reads must not wait for others that read
            max_overflow=CONNECTIONS,
        )
    else:
        try:
            # We say BEGIN ourselves, as on SQLite: it tells whether the connection lives, so asking costs nothing.
            engine = create_engine(
                parsed,
                isolation_level="AUTOCOMMIT",
                pool_reset_on_return=None,
                pool_use_lifo=True,
                pool_size=16,
                max_overflow=16,
            )
        except ModuleNotFoundError as exc:
            raise Unavailable(
                f"the database driver '{exc.name}' is not installed", hint="install tulle[postgres]"
            ) from exc
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _prepare_sqlite)
    database = Database(engine)
    try:
        if migrate:
            migrations.upgrade(engine)
    except OperationalError as exc:
        place = parsed.render_as_string(hide_password=True)
        raise Unavailable(
            f"the control-plane database {place} cannot be opened: {str(exc.orig).strip()}",
            hint="check that the disk is not full and the folder is writable"
            if database.is_sqlite
            else "check that the server runs, and the name and password in the URL",
        ) from exc
    except DatabaseError as exc:
        raise _explained(exc) from exc
    return database


def in_turn(cx: Connection, what: str) -> None:
    """Wait until no other transaction that said the same is under way; until the end of this one.

    For what is decided by more than one row. Within SQLite a writing transaction is alone anyway.
    """
    if cx.dialect.name == "postgresql":
        cx.execute(_TURN, {"what": what})


def is_passing(exc: BaseException | None) -> bool:
    """Whether a transaction was ended for the sake of another one, so that the same again may well succeed."""
    if isinstance(exc, Unavailable):
        exc = exc.__cause__
    return isinstance(exc, DBAPIError) and getattr(exc.orig, "sqlstate", None) in _PASSING


_TURN = text("SELECT pg_advisory_xact_lock(hashtextextended(:what, 0))")


@contextmanager
def _explaining() -> Iterator[None]:
    try:
        yield
    except IntegrityError:
        raise
    except DatabaseError as exc:
        explained = _explained(exc)
        if explained is exc:
            raise
        raise explained from exc


def _explained(exc: DBAPIError) -> Exception:
    """The refusals a user can do something about, in words; any other as it is."""
    reason = str(exc.orig).strip()
    code = getattr(exc.orig, "sqlstate", None) or ""
    if isinstance(exc, DataError):
        return Invalid(f"the control-plane database cannot hold a value: {reason}")
    if code in _PASSING:
        return Unavailable(
            f"the control-plane database ended a change that waited for another one ({reason.splitlines()[0]}); "
            "nothing was changed",
            hint="try again",
        )
    if exc.connection_invalidated or code.startswith(("08", "57P")) or (not code and "onnection" in reason):
        return Unavailable(
            f"the control-plane database cannot be reached: {reason}",
            hint="whether a change under way was made is unknown; look, then try again",
        )
    for kind, words, codes, message, hint in _REFUSALS:
        if code in codes or any(word in reason for word in words):
            return kind(message.format(reason=reason), hint=hint)
    return exc


# What a database says, by words (SQLite) or codes (PostgreSQL), what that is to us, and what to do.
_REFUSALS: Sequence[tuple[type[TulleError], Sequence[str], Sequence[str], str, str]] = (
    (
        Broken,
        ("file is not a database", "disk image is malformed"),
        ("XX001", "XX002"),
        "the control-plane database is damaged: {reason}",
        "put a copy of it back (.tulle/state.db, where mesh.yaml names no other); what lies in the lake is untouched",
    ),
    (
        LimitExceeded,
        ("disk is full", "No space left"),
        ("53100",),
        "disk full: the control-plane database could not be written ({reason}); nothing was changed",
        "free some disk space and try again",
    ),
    (
        Unavailable,
        ("readonly database",),
        ("25006",),
        "the control-plane database cannot be written ({reason}); nothing was changed",
        "it is on a disk that is read-only, or belongs to somebody else",
    ),
    (
        Broken,
        ("malformed", "not a database"),
        ("XX001", "XX002"),
        "the control-plane database is damaged ({reason})",
        "restore it from a backup of the mesh",
    ),
    (
        Unavailable,
        ("disk I/O error",),
        ("58030",),
        "the disk of the control-plane database fails ({reason}); nothing was changed",
        "look at the system's log",
    ),
    (
        Unavailable,
        ("locked",),
        (),
        "the control-plane database is busy ({reason})",
        "another process is writing for long; try again",
    ),
)


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
