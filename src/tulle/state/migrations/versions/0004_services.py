"""What services of several generations need; deployments of the schema before become such of one generation."""

from __future__ import annotations

import json

from alembic import op
from sqlalchemy import inspect, text

from tulle.state.migrations.missing import add_missing

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_ONE = """
SELECT d.service, d.desired_version, d.active_version, d.previous_version, d.status, d.message, d.changed_at,
       p.product
FROM deployments d JOIN packages p ON p.service = d.service AND p.version = d.desired_version
"""
_ADD = """
INSERT INTO service_deployments
  (service, environment, product, desired, active, previous, status, message, changed_at)
VALUES (:service, '', :product, :desired, :active, :previous, :status, :message, :changed_at)
"""


def upgrade() -> None:
    """Add missing tables and columns, and turn the deployments of one version into such of one generation."""
    add_missing(op)
    bind = op.get_bind()
    if "deployments" not in inspect(bind).get_table_names():
        return
    for row in bind.execute(text(_ONE)).mappings().all():
        traffics = {name: _single(row[f"{name}_version"]) for name in ("desired", "active", "previous")}
        kept = {name: row[name] for name in ("service", "product", "status", "message", "changed_at")}
        bind.execute(text(_ADD), {**kept, **traffics})
    op.drop_table("deployments")


def _single(version: str | None) -> str | None:
    if version is None:
        return None
    shares = [{"generation": version, "share": 1.0}]
    return json.dumps({"mode": "single", "shares": shares, "shadow": None, "preloaded": []})


def downgrade() -> None:
    """Nothing is taken away: what the step added does no harm."""
