"""Several watches and test queries of one product may have an open incident at once."""

from __future__ import annotations

from alembic import op
from sqlalchemy import inspect

from tulle.state.tables.alerts import OPEN_INCIDENTS

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Let what an incident is about tell open ones apart."""
    known = {index["name"] for index in inspect(op.get_bind()).get_indexes("incidents")}
    if "incidents_open" in known:
        op.drop_index("incidents_open", "incidents")
    if OPEN_INCIDENTS.name not in known:
        OPEN_INCIDENTS.create(op.get_bind())


def downgrade() -> None:
    """Nothing is taken away: what the step added does no harm."""
