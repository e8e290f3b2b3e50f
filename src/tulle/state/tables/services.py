"""Packages of services, their deployments, and who agreed to them."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Float,
    ForeignKeyConstraint,
    Index,
    Integer,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    UniqueConstraint,
    true,
)

from tulle.state.tables.schema import metadata

packages = Table(
    "packages",
    metadata,
    Column("service", String(63), nullable=False),
    Column("version", String(63), nullable=False),
    Column("digest", String(64), nullable=False),
    Column("product", String(63), nullable=False),
    Column("path", Text, nullable=False),
    Column("manifest", JSON, nullable=False),
    Column("created_at", Float, nullable=False),
    PrimaryKeyConstraint("service", "version"),
    UniqueConstraint("service", "digest"),
)

# A service in one environment; that of consumers is the empty one, whatever its name. The three traffics say which
# generations answer (serving/traffic.py); times are seconds since the epoch.
deployments = Table(
    "service_deployments",
    metadata,
    Column("service", String(63), nullable=False),
    Column("environment", String(63), nullable=False),
    Column("product", String(63), nullable=False),
    Column("desired", JSON, nullable=False),
    Column("active", JSON),
    Column("previous", JSON),
    Column("status", String(16), nullable=False),  # starting active failed
    Column("message", Text),
    Column("enabled", Boolean, nullable=False, server_default=true()),
    Column("floor", Integer),  # workers of a generation; null: what the settings say
    Column("ceil", Integer),
    Column("scale", JSON),  # generation → workers, between the two, as its load asks for
    Column("most_requests", Integer),  # that a generation's workers may hold at once
    Column("deprecated_at", Float),
    Column("sunset_at", Float),
    Column("successor", Text),
    Column("changed_at", Float, nullable=False),
    Column("test_queries", String(8)),  # tell rollback skip; null: as the environment says
    Column("tested", JSON),  # generation → how its test queries went since it runs
    PrimaryKeyConstraint("service", "environment"),
)

# A deployment that people have to agree to first; `before` is what was wanted when it was asked for.
deployment_requests = Table(
    "deployment_requests",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("service", String(63), nullable=False),
    Column("environment", String(63), nullable=False),
    Column("traffic", JSON, nullable=False),
    Column("before", JSON),
    Column("status", String(16), nullable=False),  # waiting done failed refused withdrawn
    Column("requested_by", String(255), nullable=False),
    Column("credential", String(255), nullable=False),
    Column("requested_at", Float, nullable=False),
    Column("note", Text, nullable=False, server_default=""),
    Column("message", Text, nullable=False, server_default=""),
    Column("changed_at", Float, nullable=False),
    Column("test_queries", String(8)),  # as of a deployment
    Index("deployment_requests_by_service", "service", "environment", "requested_at"),
)

deployment_decisions = Table(
    "deployment_decisions",
    metadata,
    Column("request_id", String(32), nullable=False),
    Column("approver", String(255), nullable=False),
    Column("approved", Boolean, nullable=False),
    Column("note", Text, nullable=False, server_default=""),
    Column("at", Float, nullable=False),
    PrimaryKeyConstraint("request_id", "approver"),
    ForeignKeyConstraint(["request_id"], ["deployment_requests.id"], ondelete="CASCADE"),
)
