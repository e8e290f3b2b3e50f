"""What happened in the mesh, in order."""

from __future__ import annotations

from sqlalchemy import JSON, Column, Float, Index, String, Table

from tulle.state.tables.schema import BigId, metadata

events = Table(
    "events",
    metadata,
    Column("id", BigId, primary_key=True, autoincrement=True),
    Column("at", Float, nullable=False),
    Column("kind", String(64), nullable=False),
    Column("subject", String(255), nullable=False),
    Column("actor", String(255), nullable=False, server_default=""),
    Column("data", JSON, nullable=False),
    Column("previous_hash", String(64), nullable=False),
    Column("hash", String(64), nullable=False),
    Index("events_by_subject", "subject", "id"),
)
