"""Requests for access and what became of them; contracts of the schema before are such that were approved."""

from __future__ import annotations

import json
import secrets

from alembic import op
from sqlalchemy import inspect, text

from tulle.spec.rate_limit import RateLimit
from tulle.state.migrations.missing import add_missing

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_ADD = """
INSERT INTO access_contracts
  (id, client_id, kind, subject, limits, state, requested_at, decided_at, since, changed_at)
VALUES (:id, :client_id, 'api', :subject, :limits, 'approved', :at, :at, :at, :at)
"""


def upgrade() -> None:
    """Add missing tables and columns, and take over the contracts there are."""
    add_missing(op)
    bind = op.get_bind()
    if "contracts" not in inspect(bind).get_table_names():
        return
    for row in bind.execute(text("SELECT * FROM contracts")).mappings().all():
        limit = str(RateLimit(row["requests"], row["period_ms"]))
        values = {"id": f"c-{secrets.token_hex(8)}", "client_id": row["client_id"], "subject": row["service"]}
        bind.execute(text(_ADD), {**values, "limits": json.dumps([limit]), "at": row["created_at"]})
    op.drop_table("contracts")


def downgrade() -> None:
    """Nothing is taken away: what the step added does no harm."""
