"""What runs by itself, and work that is still to be done."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from tulle.state.tables.schema import BigId, metadata

# ── schedules ──────────────────────────────────────────────────────────────────────────────────────────

# What runs by itself. `next_at` is the next moment anything of a schedule is due, so that looking costs nothing.

schedules = Table(
    "schedules",
    metadata,
    Column("product", String(63), nullable=False),
    Column("environment", String(63), nullable=False),
    Column("domain", String(63), nullable=False),
    Column("document", JSON, nullable=False),
    Column(
        "paused", Boolean, nullable=False, server_default=text("false")
    ),  # by somebody, not by the document
    Column("cron_at", Float),
    Column("fresh_at", Float),
    Column("late_at", Float),
    Column("good_at", Float),  # when what is published was confirmed last
    Column("next_at", Float),
    Column("changed_at", Float, nullable=False),
    PrimaryKeyConstraint("product", "environment"),
    Index("schedules_by_next", "next_at"),
)

schedule_upstreams = Table(
    "schedule_upstreams",
    metadata,
    Column("upstream", String(63), nullable=False),
    Column("environment", String(63), nullable=False),
    Column("product", String(63), nullable=False),
    PrimaryKeyConstraint("upstream", "environment", "product"),
)

schedule_fires = Table(
    "schedule_fires",
    metadata,
    Column("id", BigId, primary_key=True, autoincrement=True),
    Column("product", String(63), nullable=False),
    Column("environment", String(63), nullable=False),
    Column("domain", String(63), nullable=False),
    Column("series", String(32), nullable=False, server_default=""),  # empty, or the backfill it belongs to
    Column("reason", String(16), nullable=False),  # cron upstream fresh backfill
    Column("fire_at", Float, nullable=False),
    Column("attempt", Integer, nullable=False, server_default="1"),
    Column(
        "status", String(16), nullable=False
    ),  # waiting started …how its run ended, skipped held cancelled
    Column("due_at", Float, nullable=False),
    Column("options", JSON, nullable=False),
    Column("run_id", String(32)),
    Column("message", Text, nullable=False, server_default=""),
    Column("created_at", Float, nullable=False),
    Column("ended_at", Float),
    UniqueConstraint("product", "environment", "series", "fire_at", "attempt"),
    Index("schedule_fires_by_status", "status", "due_at"),
    Index("schedule_fires_by_product", "product", "environment", "status"),
    Index("schedule_fires_by_run", "run_id"),
    Index("schedule_fires_by_time", "created_at"),
    Index("schedule_fires_by_series", "series", "fire_at"),
)

backfills = Table(
    "backfills",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("product", String(63), nullable=False),
    Column("environment", String(63), nullable=False),
    Column("window_start", Text, nullable=False),
    Column("window_end", Text, nullable=False),
    Column("step", String(16), nullable=False),
    Column("status", String(16), nullable=False),  # running done failed cancelled
    Column("actor", Text, nullable=False, server_default=""),
    Column("created_at", Float, nullable=False),
    Column("ended_at", Float),
    Index("backfills_by_product", "product", "created_at"),
)

# How far somebody who follows the log of events has come.
followers = Table(
    "followers",
    metadata,
    Column("name", String(63), primary_key=True),
    Column("position", BigInteger, nullable=False),
    Column(
        "before", String(255)
    ),  # of what was there before: up to where it was taken over; null: all of it was
)

# ── work to be done ────────────────────────────────────────────────────────────────────────────────────

# A durable queue: imports, exports, collections, hooks after the fact. See tulle.state.tasks.

tasks = Table(
    "tasks",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("kind", String(64), nullable=False),
    Column("subject", String(255), nullable=False),
    Column("status", String(16), nullable=False),  # waiting running done failed cancelled
    Column("request", JSON, nullable=False),
    Column("progress", JSON, nullable=False),
    Column("result", JSON),
    Column("error", JSON),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("due_at", Float, nullable=False),
    Column("owner", String(255)),
    Column("owner_until", Float),
    Column("cancelled", Boolean, nullable=False, server_default=text("false")),
    Column("actor", Text, nullable=False, server_default=""),
    Column("created_at", Float, nullable=False),
    Column("updated_at", Float, nullable=False),
    Index("tasks_by_status", "status", "kind", "due_at"),
    Index("tasks_by_subject", "subject", "kind", "created_at"),
)
