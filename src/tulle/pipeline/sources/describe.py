"""What a database says of one of its tables: columns with their types and comments, and which tell rows apart."""

from __future__ import annotations

from typing import Any

from tulle.errors import Invalid
from tulle.pipeline.sources import sql
from tulle.spec.source import REDIS, SQL, is_table
from tulle.state.connections import Connection

MOST_COLUMNS = 1000


def described(connection: Connection, table: str) -> dict[str, Any]:
    """A table, as plain values. Invalid when that is no table's name, NotFound, Denied, Unavailable."""
    if connection.kind != SQL:
        message = f"connection '{connection.name}' leads to no database with tables, but is of kind {connection.kind}"
        hint = "name a connection of kind sql"
        raise Invalid(
            message, hint=hint + ("; in Redis, look up by `keys`" if connection.kind == REDIS else "")
        )
    if not is_table(table):
        hint = 'write orders, public.orders, or "Odd name" in double quotes'
        raise Invalid(f"'{table[:100]}' is no name of a table", hint=hint)
    names = sql.table_names(table)
    with sql.session_of(connection) as session:
        columns = session.columns(f"SELECT * FROM {sql.quoted_table(table, session)}")  # noqa: S608  quoted
        if len(columns) > MOST_COLUMNS:
            raise Invalid(f"'{table}' has {len(columns):,} columns; at most {MOST_COLUMNS:,} can be taken")
        found = session.about(names)
    return {
        "table": table,
        "comment": found.comment,
        "key": [name for name in found.key if name in {c.name for c in columns}],
        "columns": [
            {
                "name": column.name,
                "type": column.type,
                "physical_type": found.physical.get(column.name, ""),
                "required": column.name in found.filled or column.name in found.key,
                "comment": found.comments.get(column.name, ""),
            }
            for column in columns
        ],
    }
