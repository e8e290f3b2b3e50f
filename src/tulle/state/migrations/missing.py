"""Adding to a database whatever `state.tables` has and the database has not.

Until 0.1 is released every step of the schema is made this way: nobody's data needs to be turned into anything.
"""

from __future__ import annotations

from types import ModuleType

from sqlalchemy import Column, inspect

from tulle.state.tables import metadata


def add_missing(op: ModuleType) -> None:
    """Add missing tables and columns, by Alembic's operations `op`."""
    bind = op.get_bind()
    inspector = inspect(bind)
    known = set(inspector.get_table_names())
    for table in metadata.sorted_tables:
        if table.name not in known:
            table.create(bind)
            continue
        columns = {column["name"] for column in inspector.get_columns(table.name)}
        for column in table.columns:
            if column.name not in columns:
                bare = Column(
                    column.name, column.type, nullable=column.nullable, server_default=column.server_default
                )
                op.add_column(table.name, bare)
