"""What the whole lake needs: tables and columns that a database of the first schema lacks.

Until 0.1 is released this step adds whatever `state.tables` has and the database has not.
"""

from __future__ import annotations

from alembic import op
from sqlalchemy import Column, inspect

from tulle.state.tables import metadata

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add missing tables and columns."""
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


def downgrade() -> None:
    """Nothing is taken away: what the step added does no harm."""
