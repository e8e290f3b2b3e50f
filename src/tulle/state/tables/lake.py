"""What changes in the lake: names, positions, staged entries."""

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
    LargeBinary,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    text,
)

from tulle.state.tables.schema import BigId, metadata

# Owned by tulle.lake. Only what changes lives here: names, positions, staged entries. What a commit holds is in
# the object store; `manifest` says under which name.

lake_repositories = Table(
    "lake_repositories",
    metadata,
    Column("id", BigId, primary_key=True, autoincrement=True),
    Column("name", String(63), nullable=False, unique=True),
    Column("storage", String(255), nullable=False, unique=True),  # folder in the lake's namespace
    Column("default_branch", String(255), nullable=False),
    Column("created_at", Float, nullable=False),
    Column("metadata", JSON, nullable=False),
    Column("namespace", Text, nullable=False, server_default=""),  # of the store; empty means the lake's own
    Column("read_only", Boolean, nullable=False, server_default=text("false")),
    Column("settings", JSON, nullable=False, server_default="{}"),  # protection, retention, quota
    Column("used_bytes", BigInteger, nullable=False, server_default="0"),  # counted where there is a quota
    Column("used_objects", BigInteger, nullable=False, server_default="0"),
)

# Where the objects of every repository are that ever was: data outlives its repository.
lake_storages = Table(
    "lake_storages",
    metadata,
    Column("storage", String(255), primary_key=True),
    Column("namespace", Text, nullable=False),
    Column("created_at", Float, nullable=False),
)

lake_branches = Table(
    "lake_branches",
    metadata,
    Column("repository_id", BigId, nullable=False),
    Column("name", String(255), nullable=False),
    Column("commit_id", String(64), nullable=False),
    Column(
        "staged", JSON, nullable=False
    ),  # newest first: tokens of lake_staged and runs in the object store
    Column("lock_owner", String(255)),  # who is moving the branch, until when
    Column("lock_until", Float),
    Column("created_at", Float, nullable=False),
    Column("hidden", Boolean, nullable=False, server_default=text("false")),
    PrimaryKeyConstraint("repository_id", "name"),
    ForeignKeyConstraint(["repository_id"], ["lake_repositories.id"], ondelete="CASCADE"),
)

lake_tags = Table(
    "lake_tags",
    metadata,
    Column("repository_id", BigId, nullable=False),
    Column("name", String(255), nullable=False),
    Column("commit_id", String(64), nullable=False),
    Column("created_at", Float, nullable=False),
    PrimaryKeyConstraint("repository_id", "name"),
    ForeignKeyConstraint(["repository_id"], ["lake_repositories.id"], ondelete="CASCADE"),
)

lake_commits = Table(
    "lake_commits",
    metadata,
    Column("repository_id", BigId, nullable=False),
    Column("id", String(64), nullable=False),
    Column("parents", JSON, nullable=False),
    Column("generation", Integer, nullable=False),
    Column("message", Text, nullable=False),
    Column("committer", Text, nullable=False),
    Column("date", BigInteger, nullable=False),  # microseconds since the epoch
    Column("metadata", JSON, nullable=False),
    Column("manifest", String(128), nullable=False),  # a fold gives the same commit another manifest
    Column("published", Boolean, nullable=False),  # false while a gate looks at it
    PrimaryKeyConstraint("repository_id", "id"),
    ForeignKeyConstraint(["repository_id"], ["lake_repositories.id"], ondelete="CASCADE"),
)

lake_reflog = Table(
    "lake_reflog",
    metadata,
    Column("id", BigId, primary_key=True, autoincrement=True),
    Column("repository_id", BigId, nullable=False),
    Column("branch", String(255), nullable=False),
    Column("before", String(64)),
    Column("after", String(64)),
    Column("at", Float, nullable=False),
    Column("operation", String(32), nullable=False),
    Column("actor", Text, nullable=False, server_default=""),
    ForeignKeyConstraint(["repository_id"], ["lake_repositories.id"], ondelete="CASCADE"),
    Index("lake_reflog_by_branch", "repository_id", "branch", "id"),
)

lake_staged = Table(
    "lake_staged",
    metadata,
    Column("token", String(32), nullable=False),
    Column("path", LargeBinary, nullable=False),
    Column("address", Text, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("checksum", LargeBinary, nullable=False),
    Column("etag", Text, nullable=False),
    Column("modified", BigInteger, nullable=False),
    Column("content_type", Text, nullable=False),
    Column("metadata", Text, nullable=False),
    Column("deleted", Boolean, nullable=False),
    PrimaryKeyConstraint("token", "path"),
    sqlite_with_rowid=False,
)

# Multipart uploads under way: the parts lie in the store until the upload is completed or given up.
lake_uploads = Table(
    "lake_uploads",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("repository_id", BigId, nullable=False),
    Column("branch", String(255), nullable=False),
    Column("path", LargeBinary, nullable=False),
    Column("content_type", Text, nullable=False),
    Column("metadata", JSON, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("actor", Text, nullable=False, server_default=""),
    ForeignKeyConstraint(["repository_id"], ["lake_repositories.id"], ondelete="CASCADE"),
    Index("lake_uploads_by_path", "repository_id", "branch", "path"),
)

lake_parts = Table(
    "lake_parts",
    metadata,
    Column("upload_id", String(64), nullable=False),
    Column("number", Integer, nullable=False),
    Column("blob", Text, nullable=False),  # name in the store
    Column("size", BigInteger, nullable=False),
    Column("etag", String(32), nullable=False),  # MD5 in hex
    Column("created_at", Float, nullable=False),
    PrimaryKeyConstraint("upload_id", "number"),
    ForeignKeyConstraint(["upload_id"], ["lake_uploads.id"], ondelete="CASCADE"),
)

# Places given to writers that write straight to the store, until they link what they wrote.
lake_addresses = Table(
    "lake_addresses",
    metadata,
    Column("address", String(255), nullable=False),
    Column("repository_id", BigId, nullable=False),
    Column("branch", String(255), nullable=False),
    Column("path", LargeBinary, nullable=False),
    Column("expires_at", Float, nullable=False),
    PrimaryKeyConstraint("repository_id", "address"),
    ForeignKeyConstraint(["repository_id"], ["lake_repositories.id"], ondelete="CASCADE"),
)

lake_pulls = Table(
    "lake_pulls",
    metadata,
    Column("repository_id", BigId, nullable=False),
    Column("id", String(32), nullable=False),
    Column("status", String(16), nullable=False),  # open closed merged
    Column("title", Text, nullable=False),
    Column("description", Text, nullable=False),
    Column("author", Text, nullable=False),
    Column("source", String(255), nullable=False),
    Column("destination", String(255), nullable=False),
    Column("created_at", Float, nullable=False),
    Column("closed_at", Float),
    Column("merged_commit_id", String(64)),
    PrimaryKeyConstraint("repository_id", "id"),
    ForeignKeyConstraint(["repository_id"], ["lake_repositories.id"], ondelete="CASCADE"),
)

# Runs of hooks: one row an event that had actions, one row a hook in it.
lake_action_runs = Table(
    "lake_action_runs",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("repository_id", BigId, nullable=False),
    Column("event", String(32), nullable=False),
    Column("branch", String(255), nullable=False, server_default=""),
    Column("source_ref", String(255), nullable=False, server_default=""),
    Column("commit_id", String(64), nullable=False, server_default=""),
    Column("status", String(16), nullable=False),  # running completed failed
    Column("payload", JSON, nullable=False),
    Column("owner", String(255)),
    Column("started_at", Float, nullable=False),
    Column("finished_at", Float),
    ForeignKeyConstraint(["repository_id"], ["lake_repositories.id"], ondelete="CASCADE"),
    Index("lake_action_runs_by_repository", "repository_id", "id"),
)

lake_hook_runs = Table(
    "lake_hook_runs",
    metadata,
    Column("run_id", String(64), nullable=False),
    Column("id", String(32), nullable=False),
    Column("action", Text, nullable=False),
    Column("hook", String(255), nullable=False),
    Column("status", String(16), nullable=False),  # waiting running completed failed skipped
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("started_at", Float),
    Column("finished_at", Float),
    Column("output", Text, nullable=False, server_default=""),
    PrimaryKeyConstraint("run_id", "id"),
    ForeignKeyConstraint(["run_id"], ["lake_action_runs.id"], ondelete="CASCADE"),
)
