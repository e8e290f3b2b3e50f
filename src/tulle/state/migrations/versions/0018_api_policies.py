"""Policies of APIs that were set by hand."""

from __future__ import annotations

from alembic import op

from tulle.state.migrations.missing import add_missing

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add missing tables and columns."""
    add_missing(op)


def downgrade() -> None:
    """Nothing is taken away: what the step added does no harm."""
