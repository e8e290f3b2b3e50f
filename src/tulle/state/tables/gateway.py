"""Who may call what through the gateway, managed APIs, and what the gateway was told."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
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
)

from tulle.state.tables.schema import BigId, metadata

applications = Table(
    "applications",
    metadata,
    Column("client_id", String(63), primary_key=True),
    Column("name", String(63), nullable=False),
    Column("owner", String(255), nullable=False, server_default=""),
    Column("owners", JSON),  # names; none: made before there could be several, then `owner` is the one
    Column("description", Text, nullable=False, server_default=""),
    Column("purpose", Text, nullable=False, server_default=""),
    Column("contact", String(255), nullable=False, server_default=""),
    # Two secrets at most: one of each form (gateway/secret.py). An empty hash: none of that form.
    Column("secret_hash", String(64), nullable=False),
    Column("secret_made_at", Float),
    Column("secret_until", Float),  # null: without an end
    Column("second_hash", String(64), nullable=False, server_default=""),
    Column("second_made_at", Float),
    Column("second_until", Float),
    Column("told_until", Float),  # of which end of its secret its owners were told
    Column("created_at", Float, nullable=False),
    Column("revoked_at", Float),
)
# A name belongs to one application that may sign in; revoked ones keep theirs for the record.
Index(
    "applications_by_name",
    applications.c.name,
    unique=True,
    sqlite_where=applications.c.revoked_at.is_(None),
    postgresql_where=applications.c.revoked_at.is_(None),
)

# Every request for access and what became of it; one that is approved is a contract. None is ever removed.
contracts = Table(
    "access_contracts",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("client_id", String(63), nullable=False),
    Column("kind", String(16), nullable=False),  # api product
    Column("subject", String(127), nullable=False),  # the name of the API or product
    Column("version", String(32), nullable=False, server_default=""),  # empty: whichever
    Column("environment", String(63)),  # empty: that of consumers; null: each
    Column("tier", String(63), nullable=False, server_default=""),  # empty: limits of its own
    Column("limits", JSON, nullable=False),  # its own, else those of its tier when it was given
    Column("purpose", Text, nullable=False, server_default=""),
    Column("state", String(16), nullable=False),  # pending approved rejected revoked expired deleted
    Column("requested_by", String(255), nullable=False, server_default=""),
    Column("requested_at", Float, nullable=False),
    Column("terms_version", String(32), nullable=False, server_default=""),
    Column("terms_digest", String(64), nullable=False, server_default=""),
    Column("terms_by", String(255), nullable=False, server_default=""),
    Column("terms_at", Float),
    Column("decided_by", String(255), nullable=False, server_default=""),
    Column("decided_at", Float),
    Column("reason", Text, nullable=False, server_default=""),
    Column("since", Float),
    Column("until", Float),  # null: without an end
    Column("told_until", Float),  # of which end people were told
    Column("changed_at", Float, nullable=False),
    ForeignKeyConstraint(["client_id"], ["applications.client_id"], ondelete="CASCADE"),
    Index("access_contracts_by_client", "client_id"),
    Index("access_contracts_by_subject", "subject", "state"),
    Index("access_contracts_by_end", "state", "until"),
    Index("access_contracts_by_time", "requested_at"),
)

# What APIs offer to those who would call them; that of the empty name is the mesh's, for all that say nothing.
offers = Table(
    "offers",
    metadata,
    Column("api", String(127), nullable=False),
    Column("version", String(32), nullable=False, server_default=""),
    Column("product", String(63), nullable=False, server_default=""),
    Column("offer", JSON, nullable=False),
    Column("changed_at", Float, nullable=False),
    PrimaryKeyConstraint("api", "version"),
)

# The texts that somebody accepted, by their digest.
accepted_terms = Table(
    "accepted_terms",
    metadata,
    Column("digest", String(64), primary_key=True),
    Column("version", String(32), nullable=False),
    Column("text", Text, nullable=False),
)

# A key of one service or API; its hash is what the gateway checks. What is over stays: logs name its id.
service_keys = Table(
    "service_keys",
    metadata,
    Column("client_id", String(63), primary_key=True),
    Column("service", String(63), nullable=False),
    Column("label", String(100), nullable=False),
    Column("description", Text, nullable=False, server_default=""),
    Column("created_by", String(255), nullable=False, server_default=""),
    Column("secret_hash", String(64), nullable=False),
    Column("requests", Integer),  # with the period: its rate limit; null: that of the service's keys
    Column("period_ms", Integer),
    Column("created_at", Float, nullable=False),
    Column("expires_at", Float),
    Column("revoked_at", Float),
)
Index("service_keys_by_service", service_keys.c.service)

# When a key or an application last called a service, as the gateway's access log tells.
last_used = Table(
    "last_used",
    metadata,
    Column("client_id", String(63), nullable=False),
    Column("service", String(63), nullable=False),
    Column("environment", String(63), nullable=False),
    Column("at", Float, nullable=False),
    PrimaryKeyConstraint("client_id", "service", "environment"),
)

# What opens the admin API of API nodes.
admin_keys = Table(
    "admin_keys",
    metadata,
    Column("id", String(63), primary_key=True),
    Column("label", String(100), nullable=False, server_default=""),
    Column("description", Text, nullable=False, server_default=""),
    Column("created_by", String(255), nullable=False, server_default=""),
    Column("secret_hash", String(64), nullable=False),
    Column("created_at", Float, nullable=False),
    Column("expires_at", Float),
)

# Who may call a service where that was said at its deployment; else its package says it.
service_access = Table(
    "service_access",
    metadata,
    Column("service", String(63), nullable=False),
    Column("environment", String(63), nullable=False),
    Column("access", JSON, nullable=False),
    Column("changed_at", Float, nullable=False),
    PrimaryKeyConstraint("service", "environment"),
)

# What signs the certificates by which parts of the mesh know one another; the keys are in `sealed`.
authorities = Table(
    "authorities",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("domain", String(63), nullable=False),
    Column("root", Text, nullable=False),
    Column("intermediate", Text, nullable=False),
    Column("sealed", LargeBinary, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("issues_from", Float, nullable=False),
    Column("overlap_seconds", Float, nullable=False),  # for which the one before it is trusted beside it
)

# APIs as they were applied, whole. The revision is by chance: a sum of them tells whether anything changed.
apis = Table(
    "apis",
    metadata,
    Column("name", String(63), primary_key=True),
    Column("product", String(63), nullable=False),
    Column("document", JSON, nullable=False),
    Column("applied_at", Float, nullable=False),
    Column("revision", Integer, nullable=False),
    Index("apis_by_product", "product"),
)

# APIs that were not for all and are there no longer: what is counted and recorded of them still has their names.
removed_apis = Table(
    "removed_apis",
    metadata,
    Column("name", String(63), primary_key=True),
    Column("product", String(63), nullable=False),
    Column("visibility", String(16), nullable=False),
    Column("visible_to", JSON, nullable=False),
    Column("removed_at", Float, nullable=False),
)

# The life of each version of an API, and the OpenAPI document of the external service behind it.
api_versions = Table(
    "api_versions",
    metadata,
    Column("api", String(63), nullable=False),
    Column("version", String(63), nullable=False),
    Column("status", String(16), nullable=False),  # draft published deprecated retired
    Column("deprecated_at", Float),
    Column("sunset_at", Float),
    Column("successor", String(63), nullable=False, server_default=""),
    Column("openapi", Text),
    Column("changed_at", Float, nullable=False),
    Column("changed_by", String(255), nullable=False, server_default=""),
    Column("revision", Integer, nullable=False),
    PrimaryKeyConstraint("api", "version"),
)

# What answers an instance of an API instead of what is declared.
api_bindings = Table(
    "api_bindings",
    metadata,
    Column("api", String(63), nullable=False),
    Column("version", String(63), nullable=False),
    Column("environment", String(63), nullable=False),
    Column("target", JSON, nullable=False),
    Column("reason", Text, nullable=False, server_default=""),
    Column("changed_at", Float, nullable=False),
    Column("changed_by", String(255), nullable=False, server_default=""),
    Column("revision", Integer, nullable=False),
    PrimaryKeyConstraint("api", "version", "environment"),
)

# The policies of an instance of an API where they were set by hand; else its version says them.
api_policies = Table(
    "api_policies",
    metadata,
    Column("api", String(63), nullable=False),
    Column("version", String(63), nullable=False),
    Column("environment", String(63), nullable=False),
    Column("policies", JSON, nullable=False),
    Column("changed_at", Float, nullable=False),
    Column("changed_by", String(255), nullable=False, server_default=""),
    Column("revision", Integer, nullable=False),
    PrimaryKeyConstraint("api", "version", "environment"),
)

# What people think of an API: one rating each, with what an owner says to it.
api_ratings = Table(
    "api_ratings",
    metadata,
    Column("api", String(63), nullable=False),
    Column("user_id", String(255), nullable=False),
    Column("stars", Integer, nullable=False),
    Column("text", Text, nullable=False, server_default=""),
    Column("rated_at", Float, nullable=False),
    Column("reply", Text, nullable=False, server_default=""),
    Column("replied_by", String(255), nullable=False, server_default=""),
    Column("replied_at", Float),
    PrimaryKeyConstraint("api", "user_id"),
)

# What people ask about an API, and what they are answered.
api_questions = Table(
    "api_questions",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("api", String(63), nullable=False),
    Column("user_id", String(255), nullable=False),
    Column("text", Text, nullable=False),
    Column("asked_at", Float, nullable=False),
    Index("api_questions_by_api", "api", "asked_at"),
)

api_answers = Table(
    "api_answers",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("question", String(32), nullable=False),
    Column("user_id", String(255), nullable=False),
    Column("by_owner", Boolean, nullable=False),
    Column("text", Text, nullable=False),
    Column("answered_at", Float, nullable=False),
    ForeignKeyConstraint(["question"], ["api_questions.id"], ondelete="CASCADE"),
    Index("api_answers_by_question", "question", "answered_at"),
)

# What the gateway does with the requests of a service where that was said at its deployment; else its package says it.
service_policies = Table(
    "service_policies",
    metadata,
    Column("service", String(63), nullable=False),
    Column("environment", String(63), nullable=False),
    Column("policies", JSON, nullable=False),
    Column("changed_at", Float, nullable=False),
    PrimaryKeyConstraint("service", "environment"),
)

# What the gateway was told, version by version: which parts it is made of, and the facts that came before it.
gateway_versions = Table(
    "gateway_versions",
    metadata,
    Column("number", BigId, primary_key=True, autoincrement=True),
    Column("at", Float, nullable=False),
    Column("digest", String(64), nullable=False),
    Column("parts", LargeBinary, nullable=False),
    Column("services", Integer, nullable=False),
    Column("clients", Integer, nullable=False),
    Column("contracts", Integer, nullable=False),
    Column("causes", JSON, nullable=False),
    Column("event_id", BigId, nullable=False),  # the last one before it
)

gateway_parts = Table(
    "gateway_parts",
    metadata,
    Column("digest", String(64), primary_key=True),
    Column("content", LargeBinary, nullable=False),
)

# To which version the gateway was rolled back, and until when; at most one has no end.
gateway_pins = Table(
    "gateway_pins",
    metadata,
    Column("id", BigId, primary_key=True, autoincrement=True),
    Column("version", BigId, nullable=False),
    Column("reason", Text, nullable=False, server_default=""),
    Column("by", String(255), nullable=False, server_default=""),
    Column("at", Float, nullable=False),
    Column("known", JSON, nullable=False),  # services that there were
    Column("ended_at", Float),
    Column("ended_by", String(255), nullable=False, server_default=""),
)
