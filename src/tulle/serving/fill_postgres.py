"""Filling a table of PostgreSQL from the lake, so that whoever reads it sees the rows of one commit, or of the next.

Rows are first brought into a table beside, a chunk a transaction: what is interrupted goes on from there. Then one
transaction puts them in force. Where the columns are the same it takes the rows of the changed keys out and the new
ones in, and nobody waits; where they are not, the table beside takes the place of the old one. What the table holds
then is said by its comment. Knows nothing of commits but their names.
"""

# ruff: noqa: S608  composing SQL is this module's work; every name is quoted, every value `literal`
from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tulle.engine.engine import literal, quoted
from tulle.errors import Conflict, Denied, Invalid, LimitExceeded, TulleError
from tulle.pipeline.sources.hidden import without_secrets
from tulle.pipeline.sources.postgres import parameters_of
from tulle.pipeline.sources.sql import signed_out, table_names, unreachable
from tulle.serving.fill_marker import Marker, comment_of, of_comment
from tulle.serving.fill_rows import FillRows
from tulle.serving.index import Column
from tulle.serving.store import demand_driver, demand_postgres

if TYPE_CHECKING:
    from tulle.state.connections import Connection

CHUNK = 50_000  # rows of a transaction
_LOCK_SECONDS = 30  # that taking the place of a table waits for whoever reads it
_GONE = "tulle_gone"  # in the table beside: of this key there is no row any more
_TYPES = {
    "string": "text",
    "integer": "bigint",
    "double": "double precision",
    "boolean": "boolean",
    "date": "date",
    "timestamp": "timestamptz",
    "binary": "bytea",
}
_FULL = ("53100", "53200", "53400", "54000")


class PostgresFill:
    """One table while it is filled; nobody else fills it meanwhile."""

    def __init__(self, opened: Any, table: str) -> None:
        self._opened = opened
        *self._schema, name = table_names(table)
        self._table = self._named(name)
        self.table = table
        self._beside = self._named("tulle_" + hashlib.blake2b(table.encode(), digest_size=8).hexdigest())

    def marker(self) -> Marker | None:
        """What the table says that it holds; None where there is no such table. Conflict for one that is not ours."""
        found = self._comment(self._table)
        if found is None:
            return None
        marker = of_comment(found[0])
        if marker is None:
            raise Conflict(
                f"table '{self.table}' is there already, and it was not filled from the lake",
                hint="name another table, or remove that one: what is filled from the lake is the lake's alone",
            )
        return marker

    def fill(
        self, rows: FillRows, wanted: Marker, there: Marker | None, told: Callable[[int, int], None]
    ) -> None:
        """Bring the rows that count into the table, and let it say `wanted`. `told`: rows done, of how many."""
        most, removed = rows.count()
        is_new = there is None or dict(there.types) != dict(wanted.types) or there.key != wanted.key
        columns = (*rows.filled.key, *rows.filled.columns)
        self._bring(rows, wanted, columns, (most, removed), told, base=there.commit if there else "")
        with self._opened.transaction():
            self._execute(f"SET LOCAL lock_timeout = '{_LOCK_SECONDS}s'")
            if is_new:
                self._take_place(wanted)
            else:
                self._merge(rows, columns)
            self._execute(f"COMMENT ON TABLE {self._table} IS {literal(comment_of(wanted))}")
        self._execute(f"DROP TABLE IF EXISTS {self._beside}")
        self._execute(f"ANALYZE {self._table}")

    def say(self, wanted: Marker) -> None:
        """Let the table name another commit whose rows are the same."""
        self._execute(f"COMMENT ON TABLE {self._table} IS {literal(comment_of(wanted))}")

    # ── the table beside ─────────────────────────────────────────────────────────────────────────────────

    def _bring(
        self,
        rows: FillRows,
        wanted: Marker,
        columns: tuple[Column, ...],
        number: tuple[int, int],
        told: Callable[[int, int], None],
        base: str,
    ) -> None:
        most, removed = number
        content = f"{comment_of(wanted)} {base} {most} {removed} {rows.changed is None} "
        done = self._resumed(content)
        if done is None:
            done = 0
            self._make_beside(columns, content)
        told(done, most)
        names = ", ".join(quoted(column.name) for column in columns)
        with rows.rows(rows.as_line(), CHUNK, done) as batches:
            for batch in batches:
                with self._opened.transaction():
                    with self._copying(f"COPY {self._beside} ({names}) FROM STDIN") as copy:
                        copy.write(b"".join(batch.column("o0").to_pylist()))
                    done += batch.num_rows
                    self._execute(f"COMMENT ON TABLE {self._beside} IS {literal(content + str(done))}")
                told(done, most)
        keys = [column.name for column in rows.filled.key]
        listed = ", ".join(map(quoted, keys))
        with self._opened.transaction(), rows.gone(CHUNK) as batches:
            self._execute(f"DELETE FROM {self._beside} WHERE {_GONE}")
            for batch in batches:
                with self._copying(f"COPY {self._beside} ({listed}, {_GONE}) FROM STDIN") as copy:
                    for row in batch.to_pylist():
                        copy.write_row([*row.values(), True])

    def _resumed(self, content: str) -> int | None:
        """How many rows an interrupted fill of the same has brought; None where there is none of the same."""
        found = self._comment(self._beside)
        if found is None or found[0] is None or not found[0].startswith(content):
            return None
        rest = found[0].removeprefix(content)
        return int(rest) if rest.isdigit() else None

    def _make_beside(self, columns: tuple[Column, ...], content: str) -> None:
        with self._opened.transaction():
            self._execute(f"DROP TABLE IF EXISTS {self._beside}")
            typed = ", ".join(f"{quoted(column.name)} {_type(column.type)}" for column in columns)
            self._execute(f"CREATE TABLE {self._beside} ({typed}, {_GONE} boolean NOT NULL DEFAULT false)")
            self._execute(f"COMMENT ON TABLE {self._beside} IS {literal(content + '0')}")

    def _take_place(self, wanted: Marker) -> None:
        """Let the table beside be the table."""
        listed = ", ".join(map(quoted, wanted.key))
        self._execute(f"ALTER TABLE {self._beside} DROP COLUMN {_GONE}")
        self._execute(f"CREATE INDEX ON {self._beside} ({listed})")
        self._execute(f"DROP TABLE IF EXISTS {self._table}")
        self._execute(f"ALTER TABLE {self._beside} RENAME TO {quoted(table_names(self.table)[-1])}")

    def _merge(self, rows: FillRows, columns: tuple[Column, ...]) -> None:
        """Take the rows of changed keys out, and those that count in."""
        names = ", ".join(quoted(column.name) for column in columns)
        if rows.changed is None:
            self._execute(f"DELETE FROM {self._table}")
        else:
            self._execute(f"ANALYZE {self._beside}")
            same = " AND ".join(f"t.{quoted(c.name)} = n.{quoted(c.name)}" for c in rows.filled.key)
            keys = ", ".join(quoted(c.name) for c in rows.filled.key)
            self._execute(
                f"DELETE FROM {self._table} t USING (SELECT DISTINCT {keys} FROM {self._beside}) n WHERE {same}"
            )
        self._execute(
            f"INSERT INTO {self._table} ({names}) SELECT {names} FROM {self._beside} WHERE NOT {_GONE}"
        )

    # ── the database ─────────────────────────────────────────────────────────────────────────────────────

    def _named(self, name: str) -> str:
        return ".".join(map(quoted, (*self._schema, name)))

    def _comment(self, table: str) -> tuple[str | None] | None:
        """The comment of a table; None where there is no such table."""
        found: tuple[str | None] | None = self._opened.execute(
            "SELECT obj_description(c.oid, 'pg_class') FROM pg_class c WHERE c.oid = to_regclass(%s)", [table]
        ).fetchone()
        return found

    def _execute(self, statement: str) -> None:
        self._opened.execute(statement.encode())

    @contextmanager
    def _copying(self, statement: str) -> Iterator[Any]:
        with self._opened.cursor().copy(statement.encode()) as copy:
            yield copy


@contextmanager
def opened(connection: Connection, table: str) -> Iterator[PostgresFill]:
    """A table to be filled. Conflict when somebody else is filling it; Denied, Unavailable, Invalid, LimitExceeded."""
    demand_driver()
    demand_postgres(connection)
    import psycopg  # noqa: PLC0415  an extra

    try:
        with psycopg.connect(**parameters_of(connection), autocommit=True) as session:
            session.execute("SET TimeZone = 'UTC'; SET statement_timeout = 0; SET client_encoding = 'UTF8'")
            digest = hashlib.blake2b(f"tulle {table}".encode(), digest_size=7).hexdigest()
            got = session.execute("SELECT pg_try_advisory_lock(%s)", [int(digest, 16)]).fetchone()
            if not got or not got[0]:
                raise Conflict(
                    f"table '{table}' is being filled by another process", hint="wait until it is done"
                )
            yield PostgresFill(session, table)
    except psycopg.Error as exc:
        raise _told(exc, connection, table) from None


def _told(exc: Any, connection: Connection, table: str) -> TulleError:  # noqa: PLR0911  one for each kind
    """A failure of the database in our own kinds."""
    said = without_secrets(connection, (exc.diag.message_primary or str(exc)).strip().splitlines()[0])
    state = exc.sqlstate or ""
    if state.startswith("28"):
        return signed_out(connection, said)
    if state == "42501":
        hint = f"grant the user of connection '{connection.name}' CREATE on the schema of '{table}'"
        return Denied(f"the database refuses: {said}", hint=hint)
    if state in _FULL:
        hint = "free space there and publish again: what is brought already is kept"
        return LimitExceeded(f"the database has no room left: {said}", hint=hint)
    if state == "55P03":
        hint = "publish again: what is brought already is kept"
        return Conflict(f"somebody holds table '{table}' for more than {_LOCK_SECONDS} s", hint=hint)
    if state == "2BP01":
        hint = "remove what depends on it, a view perhaps, or name another table: its columns are others now"
        return Conflict(f"table '{table}' cannot be replaced: {said}", hint=hint)
    if state.startswith(("22", "42", "3F", "0A")):
        return Invalid(f"the database cannot hold it: {said}", hint="what is in the table stays as it was")
    return unreachable(connection, said)


def _type(kind: str) -> str:
    return "numeric" + kind.removeprefix("decimal") if kind.startswith("decimal") else _TYPES[kind]
