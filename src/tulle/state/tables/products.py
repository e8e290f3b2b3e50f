"""Products, plans of what changes, and how what is built gets from one environment to the next."""

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
)

from tulle.state.tables.schema import metadata

# ── products ───────────────────────────────────────────────────────────────────────────────────────────

products = Table(
    "products",
    metadata,
    Column("name", String(63), primary_key=True),
    Column("domain", String(63), nullable=False),
    Column("folder", Text, nullable=False),
    Column("digest", String(64), nullable=False),
    Column("document", JSON, nullable=False),
    Column("code_digest", String(64), nullable=False),
    Column("applied_at", Float, nullable=False),
    Column(
        "files", JSON
    ),  # digest of each file beside the document, by path; none: applied before they were kept
    Column("services", JSON),  # what services/ declares
)

# ── plans ──────────────────────────────────────────────────────────────────────────────────────────────

plans = Table(
    "plans",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("digest", String(64), nullable=False),
    Column("kind", String(16), nullable=False),  # apply destroy
    Column("status", String(16), nullable=False),  # running succeeded failed
    Column("actor", String(255), nullable=False, server_default=""),
    Column("started_at", Float, nullable=False),
    Column("finished_at", Float),
    Column("document", JSON, nullable=False),
    Column("error", Text),
    Index("plans_by_time", "started_at"),
    Index("plans_by_digest", "digest"),
)

plan_steps = Table(
    "plan_steps",
    metadata,
    Column("plan_id", String(32), nullable=False),
    Column("position", Integer, nullable=False),
    Column("operation", String(32), nullable=False),
    Column("subject", String(255), nullable=False),
    Column("status", String(16), nullable=False),  # waiting running succeeded failed
    Column("started_at", Float),
    Column("finished_at", Float),
    Column("message", Text),
    PrimaryKeyConstraint("plan_id", "position"),
    ForeignKeyConstraint(["plan_id"], ["plans.id"], ondelete="CASCADE"),
    Index("plan_steps_by_subject", "subject", "plan_id"),
)

drift = Table(
    "drift",
    metadata,
    Column("subject", String(255), primary_key=True),  # a product; empty for the mesh as a whole
    Column("looked_at", Float, nullable=False),
    Column("findings", JSON, nullable=False),
)

# ── environments and releases ──────────────────────────────────────────────────────────────────────────

# What a product has of an environment: its branch, and which release its runs are made by. Previews are short-lived.
environments = Table(
    "environments",
    metadata,
    Column("product", String(63), nullable=False),
    Column("name", String(63), nullable=False),
    Column("kind", String(16), nullable=False),  # environment preview
    Column("branch", String(255), nullable=False),
    Column("source", String(63), nullable=False, server_default=""),  # what a preview was made of
    Column("version", String(63)),  # the release that is in force; null: the product's folder as it is
    Column("created_by", String(255), nullable=False, server_default=""),
    Column("created_at", Float, nullable=False),
    Column("changed_at", Float, nullable=False),
    PrimaryKeyConstraint("product", "name"),
    UniqueConstraint("product", "branch"),
)

releases = Table(
    "releases",
    metadata,
    Column("product", String(63), nullable=False),
    Column("version", String(63), nullable=False),
    Column("content", String(64), nullable=False),  # equal content, equal release
    Column("digest", String(64), nullable=False),  # of all that was signed
    Column("statement", JSON, nullable=False),  # what was signed: files, contract, notes, data commit
    Column("document", JSON, nullable=False),  # the product with its references resolved
    Column("signature", Text, nullable=False),
    Column("public_key", String(64), nullable=False),
    Column("path", Text, nullable=False),  # of the archive, in the lake's store
    Column("created_by", String(255), nullable=False),
    Column("created_at", Float, nullable=False),
    PrimaryKeyConstraint("product", "version"),
    UniqueConstraint("product", "content"),
)

promotions = Table(
    "promotions",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("product", String(63), nullable=False),
    Column("environment", String(63), nullable=False),
    Column("branch", String(255), nullable=False),
    Column("kind", String(16), nullable=False),  # promotion rollback
    Column("version", String(63), nullable=False),
    Column("status", String(16), nullable=False),  # waiting running done failed refused withdrawn
    Column("requested_by", String(255), nullable=False),
    Column("credential", String(255)),  # the user whose credential asked; may have named another one
    Column("requested_at", Float, nullable=False),
    Column("note", Text, nullable=False, server_default=""),
    Column("breaking", JSON, nullable=False),  # sentences, with the consumers they hit
    Column("run_id", String(32)),
    Column("before_version", String(63)),
    Column("before_commit", String(64)),
    Column("commit_id", String(64)),
    Column("message", Text, nullable=False, server_default=""),
    Column("changed_at", Float, nullable=False),
    Index("promotions_by_product", "product", "environment", "requested_at"),
    Index("promotions_by_status", "status"),
)

approvals = Table(
    "approvals",
    metadata,
    Column("promotion_id", String(32), nullable=False),
    Column("approver", String(255), nullable=False),
    Column("approved", Boolean, nullable=False),
    Column("note", Text, nullable=False, server_default=""),
    Column("at", Float, nullable=False),
    PrimaryKeyConstraint("promotion_id", "approver"),
    ForeignKeyConstraint(["promotion_id"], ["promotions.id"], ondelete="CASCADE"),
)

# Products that will end, and when.
deprecations = Table(
    "deprecations",
    metadata,
    Column("product", String(63), primary_key=True),
    Column("sunset", String(10), nullable=False),  # ISO date
    Column("reason", Text, nullable=False),
    Column("successor", String(63), nullable=False, server_default=""),
    Column("told", JSON, nullable=False),  # the consumers that were told
    Column("deprecated_by", String(255), nullable=False),
    Column("deprecated_at", Float, nullable=False),
)

# What a run was of: the document and code it was started with. What came of it is in runs and run_steps.
run_manifests = Table(
    "run_manifests",
    metadata,
    Column("run_id", String(32), primary_key=True),
    Column("product", String(63), nullable=False),
    Column("branch", String(63), nullable=False),
    Column("version", String(63)),  # the release it was made by, if it was one
    Column("code", String(64), nullable=False),
    Column("document", JSON, nullable=False),
    Column("at", Float, nullable=False),
    Index("run_manifests_by_product", "product", "branch", "run_id"),
)
