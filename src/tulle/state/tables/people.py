"""Who may do what, and the connections to sources."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    Column,
    Float,
    ForeignKeyConstraint,
    Index,
    LargeBinary,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
)

from tulle.state.tables.schema import metadata

# ── who may do what ────────────────────────────────────────────────────────────────────────────────────

users = Table(
    "users",
    metadata,
    Column("id", String(255), primary_key=True),
    Column("friendly_name", Text, nullable=False, server_default=""),
    Column("email", Text, nullable=False, server_default=""),
    Column("created_at", Float, nullable=False),
)

groups = Table(
    "groups",
    metadata,
    Column("id", String(255), primary_key=True),
    Column("description", Text, nullable=False, server_default=""),
    Column("created_at", Float, nullable=False),
)

group_members = Table(
    "group_members",
    metadata,
    Column("group_id", String(255), nullable=False),
    Column("user_id", String(255), nullable=False),
    PrimaryKeyConstraint("group_id", "user_id"),
    ForeignKeyConstraint(["group_id"], ["groups.id"], ondelete="CASCADE"),
    ForeignKeyConstraint(["user_id"], ["users.id"], ondelete="CASCADE"),
)

policies = Table(
    "policies",
    metadata,
    Column("id", String(255), primary_key=True),
    Column("statements", JSON, nullable=False),
    Column("created_at", Float, nullable=False),
)

policy_attachments = Table(
    "policy_attachments",
    metadata,
    Column("policy_id", String(255), nullable=False),
    Column("holder_kind", String(8), nullable=False),  # user group
    Column("holder_id", String(255), nullable=False),
    PrimaryKeyConstraint("holder_kind", "holder_id", "policy_id"),
    ForeignKeyConstraint(["policy_id"], ["policies.id"], ondelete="CASCADE"),
)

access_keys = Table(
    "access_keys",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("user_id", String(255), nullable=False),
    Column("secret", LargeBinary, nullable=False),  # encrypted: signatures need the secret itself
    Column("created_at", Float, nullable=False),
    Column("expires_at", Float),
    ForeignKeyConstraint(["user_id"], ["users.id"], ondelete="CASCADE"),
    Index("access_keys_by_user", "user_id", "id"),
)

api_passwords = Table(
    "api_passwords",
    metadata,
    Column("user_id", String(255), primary_key=True),
    Column("hashed", String(255), nullable=False),  # state.passwords
    Column("since", Float, nullable=False),
    ForeignKeyConstraint(["user_id"], ["users.id"], ondelete="CASCADE"),
)

# ── sources ────────────────────────────────────────────────────────────────────────────────────────────

connections = Table(
    "connections",
    metadata,
    Column("name", String(64), nullable=False),
    Column("environment", String(64), nullable=False),
    Column("kind", String(16), nullable=False),  # sql store http
    Column("sealed", LargeBinary, nullable=False),  # encrypted: address, options and secrets
    Column("updated_at", Float, nullable=False),
    PrimaryKeyConstraint("name", "environment"),
)
