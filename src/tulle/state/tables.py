"""Every table of the control plane, on one page.

Rows never leave the module that selected them: each slice turns its rows into frozen values. Times are
seconds since the epoch. JSON columns hold plain values.
"""

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
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
    true,
)

metadata = MetaData()
BigId = BigInteger().with_variant(Integer, "sqlite")  # SQLite numbers only INTEGER keys by itself

# ── facts ────────────────────────────────────────────────────────────────────────────────────────────────

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

# ── products ─────────────────────────────────────────────────────────────────────────────────────────────

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

# ── plans ────────────────────────────────────────────────────────────────────────────────────────────────

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

# ── runs ─────────────────────────────────────────────────────────────────────────────────────────────────

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

# ── environments and releases ────────────────────────────────────────────────────────────────────────────

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

# ── quality ──────────────────────────────────────────────────────────────────────────────────────────────
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

# ── services ─────────────────────────────────────────────────────────────────────────────────────────────

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

# ── the gateway ──────────────────────────────────────────────────────────────────────────────────────────

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

# A key of one service; its hash is what the gateway checks. What is over stays: logs name its id.
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

# ── the lake ─────────────────────────────────────────────────────────────────────────────────────────────
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

# ── schedules ────────────────────────────────────────────────────────────────────────────────────────────
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

# ── alerts ───────────────────────────────────────────────────────────────────────────────────────────────
# What is wrong with a product, from when it began until it was good again: one open incident a product and cause.

incidents = Table(
    "incidents",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("product", String(63), nullable=False),
    Column("environment", String(63), nullable=False),
    Column("cause", String(16), nullable=False),  # run checks late drift
    Column("message", Text, nullable=False),
    Column("run_id", String(32)),  # the first that failed
    Column("times", Integer, nullable=False, server_default="1"),
    Column("opened_at", Float, nullable=False),
    Column("last_at", Float, nullable=False),
    Column("closed_at", Float),
    Column("closed_by", String(32)),  # the run that was good again
    Column(
        "about", String(255), nullable=False, server_default=""
    ),  # the watch and the service, where there is one
    Column("severity", String(16), nullable=False, server_default=""),
    Index("incidents_by_time", "opened_at"),
)

# What is told of calls: watches that were made by command (those of mesh.yaml have no `what`), and how each is.
watches = Table(
    "watches",
    metadata,
    Column("name", String(63), primary_key=True),
    Column("what", JSON(none_as_null=True)),
    Column("made_by", String(255), nullable=False, server_default=""),
    Column("made_at", Float),
    Column("muted_until", Float),
)

watch_states = Table(
    "watch_states",
    metadata,
    Column("watch", String(63), nullable=False),
    Column("service", String(63), nullable=False),
    Column("environment", String(63), nullable=False),
    Column("digest", String(32), nullable=False),  # of the watch: another one begins anew
    Column("until", Float, nullable=False),  # judged up to here
    Column("streak", Integer, nullable=False),  # periods in a row in which it did not hold
    Column("broken_at", Float),
    Column("told_at", Float),
    Column("value", Float),  # of the last period of which something is known
    Column("unknown", Integer, nullable=False),  # periods since then
    PrimaryKeyConstraint("watch", "service", "environment"),
)
Index(
    "incidents_open",
    incidents.c.product,
    incidents.c.environment,
    incidents.c.cause,
    unique=True,
    sqlite_where=incidents.c.closed_at.is_(None),
    postgresql_where=incidents.c.closed_at.is_(None),
)

alert_channels = Table(
    "alert_channels",
    metadata,
    Column("name", String(63), primary_key=True),
    Column("url", LargeBinary, nullable=False),  # encrypted
    Column("set_at", Float, nullable=False),
)

# Where the people of an application have its steps told to, and what signs it; both encrypted.
application_hooks = Table(
    "application_hooks",
    metadata,
    Column("client_id", String(63), primary_key=True),
    Column("url", LargeBinary, nullable=False),
    Column("secret", LargeBinary, nullable=False),
    Column("set_at", Float, nullable=False),
)

# ── work to be done ──────────────────────────────────────────────────────────────────────────────────────
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

# ── who may do what ──────────────────────────────────────────────────────────────────────────────────────

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

# ── sources ──────────────────────────────────────────────────────────────────────────────────────────────

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

# Text is compared and ordered by its bytes, as SQLite does it, not by the rules of some language.
for _table in metadata.tables.values():
    for _column in _table.columns:
        if isinstance(_column.type, String):
            _plain = type(_column.type)(_column.type.length, collation="C")
            _column.type = _column.type.with_variant(_plain, "postgresql")

__all__ = ["Boolean", "LargeBinary", "metadata"]
