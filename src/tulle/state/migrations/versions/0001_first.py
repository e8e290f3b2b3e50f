"""The first schema.

Until 0.1 is released this step creates the tables as `state.tables` has them; from then on it is frozen and
changes come as steps of their own.
"""

from __future__ import annotations

from alembic import op

from tulle.state.tables import metadata

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create every table."""
    metadata.create_all(op.get_bind())


def downgrade() -> None:
    """Drop every table."""
    metadata.drop_all(op.get_bind())
