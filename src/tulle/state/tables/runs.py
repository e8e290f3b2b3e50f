"""Runs and experiments, and what checks found in them."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
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
    text,
)

from tulle.state.tables.schema import BigId, metadata

# ── runs ───────────────────────────────────────────────────────────────────────────────────────────────

runs = Table(
    "runs",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("product", String(63), nullable=False),
    Column("environment", String(63), nullable=False),
    Column("status", String(16), nullable=False),  # queued running succeeded failed unchanged stopped
    Column("pid", Integer),
    Column("pid_started", Float),
    Column("machine", String(128)),  # where that process is
    Column("alive_at", Float),  # when it said so last
    Column("requested_at", Float, nullable=False),
    Column("started_at", Float),
    Column("finished_at", Float),
    Column("branch", String(255)),
    Column("base_commit", String(64)),
    Column("commit_id", String(64)),
    Column("options", JSON, nullable=False),
    Column("error", JSON),
    Column("cause", String(16)),  # why it did not end well: error cancelled timeout lost superseded
    Index("runs_by_product", "product", "requested_at"),
)

run_steps = Table(
    "run_steps",
    metadata,
    Column("run_id", String(32), nullable=False),
    Column("name", String(255), nullable=False),
    Column("position", Integer, nullable=False),
    Column("kind", String(32), nullable=False),  # ingest port sql python publish
    Column("status", String(16), nullable=False),  # waiting running succeeded failed unchanged skipped
    Column("started_at", Float),
    Column("finished_at", Float),
    Column("branch", String(255)),
    Column("rows", BigInteger),
    Column("message", Text),
    Column("report", JSON),  # checks with their verdicts and failing rows, metrics, lineage
    PrimaryKeyConstraint("run_id", "name"),
    ForeignKeyConstraint(["run_id"], ["runs.id"], ondelete="CASCADE"),
)

experiments = Table(
    "experiments",
    metadata,
    Column("id", String(32), primary_key=True),  # that of its run
    Column("product", String(63), nullable=False),
    Column("environment", String(63), nullable=False),
    Column("model", String(63), nullable=False),
    Column("commit_id", String(64), nullable=False),  # that published the model
    Column("metric", String(32), nullable=False),
    Column("score", Float, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("document", JSON, nullable=False),
    Index("experiments_by_model", "product", "model", "created_at"),
)

# ── quality ────────────────────────────────────────────────────────────────────────────────────────────

# Owned by tulle.quality: what every check found in every run that judged it.

check_results = Table(
    "check_results",
    metadata,
    Column("id", BigId, primary_key=True, autoincrement=True),
    Column("product", String(63), nullable=False),
    Column("environment", String(255), nullable=False),
    Column("data_set", String(255), nullable=False),
    Column("check_name", String(255), nullable=False),
    Column("kind", String(63), nullable=False),
    Column("severity", String(16), nullable=False),  # error warn
    Column("passed", Boolean, nullable=False),
    Column("failing", BigInteger, nullable=False),
    Column("total", BigInteger, nullable=False),
    Column("value", Float),
    Column("threshold", Text, nullable=False, server_default=""),
    Column("message", Text, nullable=False, server_default=""),
    Column("detail", JSON),  # what later runs are compared with
    Column("tags", JSON),
    Column("run", String(64), nullable=False),
    Column("made", Boolean, nullable=False, server_default=text("true")),  # false: only looked at again
    Column("at", Float, nullable=False),
    Index("check_results_by_check", "product", "environment", "data_set", "check_name", "id"),
)

data_set_profiles = Table(
    "data_set_profiles",
    metadata,
    Column("id", BigId, primary_key=True, autoincrement=True),
    Column("product", String(63), nullable=False),
    Column("environment", String(255), nullable=False),
    Column("data_set", String(255), nullable=False),
    Column("identity", String(64), nullable=False),  # of its rows
    Column("commit_id", String(64), nullable=False),
    Column("run", String(64), nullable=False, server_default=""),  # empty: made when it was asked for
    Column("profile", JSON, nullable=False),
    Column("at", Float, nullable=False),
    UniqueConstraint("product", "environment", "data_set", "commit_id"),
)
