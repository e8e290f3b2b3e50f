"""What is wrong, and who is told."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
)

from tulle.state.tables.schema import metadata

# What is wrong with a product, from when it began until it was good again: one open incident a product, cause and
# what it is about.

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
OPEN_INCIDENTS = Index(
    "incidents_open_about",
    incidents.c.product,
    incidents.c.environment,
    incidents.c.cause,
    incidents.c.about,
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
