"""Contracts as they are recorded: who asked for what, who decided, and which of them are in force.

One row a request; no row is removed, so that the record tells why somebody may, or once might, call. What can be done
with one is in `contract_step`. Knows nothing of Envoy, of people's rights, and not which APIs and products there are.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, Literal

from sqlalchemy import ColumnElement, Connection, Row, Text, func, or_, select, type_coerce

from tulle.errors import NotFound
from tulle.gateway.offer import MESH, offers
from tulle.gateway.policy import Contract
from tulle.spec.rate_limit import RateLimit
from tulle.spec.tier import Offer, Terms, Tier, limits_in_words, limits_of
from tulle.state.db import Database
from tulle.state.tables import accepted_terms, applications
from tulle.state.tables import contracts as table

Kind = Literal["api", "product"]
State = Literal["pending", "approved", "rejected", "revoked", "expired", "deleted"]
STATES: Final[tuple[State, ...]] = ("pending", "approved", "rejected", "revoked", "expired", "deleted")
_USUAL_PAGE: Final = 100


@dataclass(frozen=True, slots=True)
class Place:
    """What a contract is for: an API or a product by name; an environment of None is each, an empty version any."""

    kind: Kind
    subject: str
    version: str = ""
    environment: str | None = None

    def __str__(self) -> str:
        """As sentences name it."""
        word = "product" if self.kind == "product" else "service"
        version = f" version {self.version}" if self.version else ""
        where = f" in '{self.environment}'" if self.environment else ""
        return f"{word} '{self.subject}'{version}{where}"


@dataclass(frozen=True, slots=True)
class ContractRecord:
    """One request and what became of it. Times are seconds since the epoch; `limits` are those that hold now.

    `terms_digest` is that of the text its applicant accepted last; `is_own` says that the limits are not a tier's.
    """

    id: str
    client_id: str
    application: str
    place: Place
    tier: str
    limits: tuple[RateLimit, ...]
    is_own: bool
    purpose: str
    state: State
    requested_by: str
    requested_at: float
    terms_version: str
    terms_digest: str
    terms_by: str
    terms_at: float | None
    decided_by: str
    decided_at: float | None
    reason: str
    since: float | None
    until: float | None
    changed_at: float

    @property
    def words(self) -> str:
        """The limits as people write them."""
        return limits_in_words(self.limits)

    def in_force(self, at: float) -> bool:
        """Whether it lets its application in."""
        return self.state == "approved" and (self.until is None or self.until > at)


Subjects = Sequence[tuple[Kind, str]]
Moment = tuple[
    float, str
]  # when one was asked for, and its id, as many may be at once; without one: any of then


@dataclass(frozen=True, slots=True)
class Concerning:
    """The contracts of these applications, by name, and those for these APIs and products, whoever has them."""

    applications: Collection[str]
    subjects: Subjects

    @property
    def condition(self) -> ColumnElement[bool]:
        """Where they are among contracts joined with their applications."""
        return applications.c.name.in_(self.applications) | _for(self.subjects)


# ── looking ──────────────────────────────────────────────────────────────────────────────────────────────


def get(database: Database, id_: str) -> ContractRecord:
    """One of them. NotFound."""
    with database.read() as cx:
        return get_in(cx, id_)


def records(
    database: Database,
    *,
    states: Sequence[State] | None = None,
    application: str | None = None,
    subjects: Subjects | None = None,
    concerning: Concerning | None = None,
    without: str = "",
    before: Moment | None = None,
    limit: int = _USUAL_PAGE,
) -> tuple[ContractRecord, ...]:
    """The newest first, at most `limit`, asked for before a moment.

    `application` is a name or a client id, `subjects` the APIs and products that count; without them, all. That called
    `without` is left out.
    """
    query = _joined().order_by(table.c.requested_at.desc(), table.c.id.desc()).limit(limit)
    if states is not None:
        query = query.where(table.c.state.in_(states))
    if application is not None:
        query = query.where((applications.c.name == application) | (applications.c.client_id == application))
    if subjects is not None:
        query = query.where(_for(subjects))
    if concerning is not None:
        query = query.where(concerning.condition)
    if without:
        query = query.where(applications.c.name != without)
    if before is not None:
        at, id_ = before
        of_then = (table.c.requested_at == at) & (table.c.id < id_)
        query = query.where((table.c.requested_at < at) | of_then)
    with database.read() as cx:
        return tuple(_values(cx, query))


def _for(subjects: Subjects) -> ColumnElement[bool]:
    apis = [name for kind, name in subjects if kind == "api"]
    products = [name for kind, name in subjects if kind == "product"]
    return ((table.c.kind == "api") & table.c.subject.in_(apis)) | (
        (table.c.kind == "product") & table.c.subject.in_(products)
    )


def holders(
    cx: Connection,
    at: float,
    *,
    subjects: Subjects | None = None,
    application: str = "",
    concerning: Concerning | None = None,
) -> Mapping[str, tuple[str, ...]]:
    """The applications with a contract in force at a time, by name, with their client ids; as `records` chooses."""
    query = select(applications.c.name, table.c.client_id).distinct().where(_in_force(at))
    query = query.join(applications, applications.c.client_id == table.c.client_id)
    if subjects is not None:
        query = query.where(_for(subjects))
    if application:
        query = query.where(applications.c.name == application)
    if concerning is not None:
        query = query.where(concerning.condition)
    found: dict[str, tuple[str, ...]] = {}
    for name, client_id in cx.execute(query):
        found[name] = (*found.get(name, ()), client_id)
    return found


@dataclass(frozen=True, slots=True)
class Head:
    """As much of a request as tells whether somebody is shown it."""

    id: str
    application: str
    kind: Kind
    subject: str


def heads(database: Database, state: State) -> tuple[Head, ...]:
    """All requests and contracts of a state, the oldest first: of what page one is, before it is read."""
    query = select(table.c.id, applications.c.name, table.c.kind, table.c.subject)
    query = query.join(applications, applications.c.client_id == table.c.client_id)
    query = query.where(table.c.state == state).order_by(table.c.requested_at, table.c.id)
    with database.read() as cx:
        return tuple(Head(*row) for row in cx.execute(query))


def by_id(database: Database, ids: Sequence[str]) -> tuple[ContractRecord, ...]:
    """Those of these ids, in that order."""
    with database.read() as cx:
        found = {one.id: one for one in _values(cx, _joined().where(table.c.id.in_(ids)))}
    return tuple(found[id_] for id_ in ids if id_ in found)


def waiting(database: Database) -> int:
    """How many requests wait for somebody to decide."""
    with database.read() as cx:
        return int(cx.execute(select(func.count()).where(table.c.state == "pending")).scalar() or 0)


@dataclass(frozen=True, slots=True)
class Held:
    """As much of a contract in force as the gateway needs."""

    client_id: str
    kind: Kind
    subject: str
    environment: str | None
    tier: str
    limits: tuple[RateLimit, ...]
    since: float | None = None

    def contract(self, service: str, environment: str | None, *, not_in: tuple[str, ...] = ()) -> Contract:
        """The contract, for one service; of an API without those versions."""
        first, *more = self.limits
        return Contract(
            self.client_id,
            service,
            first,
            environment=environment,
            more=tuple(more),
            tier=self.tier,
            not_in=not_in,
        )


def all_held(cx: Connection, at: float) -> tuple[Held, ...]:
    """What is in force at a time, of all applications; quick, as there may be ten thousand."""
    columns = table.c
    query = select(
        columns.client_id,
        columns.kind,
        columns.subject,
        columns.environment,
        columns.tier,
        type_coerce(columns.limits, Text).label("limits"),  # most are the same text, which is read once
        columns.since,
    ).where(_in_force(at))
    known = offers(cx)
    return tuple(
        Held(client_id, kind, subject, environment, tier, _limits(known, kind, subject, tier, limits), since)
        for client_id, kind, subject, environment, tier, limits, since in cx.execute(query)
    )


def _in_force(at: float) -> ColumnElement[bool]:
    return (table.c.state == "approved") & or_(table.c.until.is_(None), table.c.until > at)


def held(
    cx: Connection,
    at: float,
    *,
    client_ids: Sequence[str] | None = None,
    subjects: Subjects | None = None,
) -> list[ContractRecord]:
    """What is in force at a time, with the limits that hold now; of some applications or of all, for some or all."""
    query = _joined().where(_in_force(at))
    if subjects is not None:
        query = query.where(_for(subjects))
    if client_ids is not None:
        query = query.where(table.c.client_id.in_(client_ids))
    return _values(cx, query.order_by(table.c.client_id, table.c.subject))


def next_end(cx: Connection, at: float) -> float | None:
    """When the next of those in force ends, in seconds since the epoch."""
    query = select(func.min(table.c.until)).where(table.c.state == "approved", table.c.until > at)
    found = cx.execute(query).scalar()
    return None if found is None else float(found)


def terms_of(database: Database, digest: str) -> Terms | None:
    """The text that somebody accepted."""
    with database.read() as cx:
        row = cx.execute(select(accepted_terms).where(accepted_terms.c.digest == digest)).first()
    return None if row is None else Terms(row.version, row.text)


def of_client(cx: Connection, client_id: str) -> list[ContractRecord]:
    return _values(cx, _joined().where(table.c.client_id == client_id))


def get_in(cx: Connection, id_: str) -> ContractRecord:
    row = cx.execute(_joined().where(table.c.id == id_)).first()
    if row is None:
        raise NotFound(
            f"there is no contract '{id_[:40]}'", hint="`tulle app requests --all` shows them with their ids"
        )
    return _value(row, offers(cx, [row.subject]))


def _joined() -> Any:
    return select(table, applications.c.name).join(
        applications, applications.c.client_id == table.c.client_id
    )


def _values(cx: Connection, query: Any) -> list[ContractRecord]:
    """What a query over `_joined` finds, with what the APIs that it is about offer now."""
    rows = cx.execute(query).all()
    known = offers(cx, {row.subject for row in rows})
    return [_value(row, known) for row in rows]


def _value(row: Row[Any], known: Mapping[str, Offer]) -> ContractRecord:
    limits = _limits(known, row.kind, row.subject, row.tier, row.limits)
    return ContractRecord(
        row.id,
        row.client_id,
        row.name,
        Place(row.kind, row.subject, row.version, row.environment),
        row.tier,
        limits,
        not row.tier,
        row.purpose,
        row.state,
        row.requested_by,
        row.requested_at,
        row.terms_version,
        row.terms_digest,
        row.terms_by,
        row.terms_at,
        row.decided_by,
        row.decided_at,
        row.reason,
        row.since,
        row.until,
        row.changed_at,
    )


def _limits(
    known: Mapping[str, Offer], kind: str, subject: str, tier: str, said: str | list[str]
) -> tuple[RateLimit, ...]:
    """As its tier is now, for whoever has a contract under it; one that is gone leaves what it was."""
    for one in _tiers(subject if kind == "api" else MESH, known) if tier else ():
        if one.name == tier:
            return one.limits
    return _read_limits(
        said if isinstance(said, str) else json.dumps(said)
    )  # as PostgreSQL's driver reads it


def under_mesh_tier(database: Database, tier: str) -> tuple[str, ...]:
    """The applications with a contract in force or asked for under a tier of the mesh, by name."""
    with database.read() as cx:
        own = [name for name, one in offers(cx).items() if name and one.tiers]
        of_mesh = (table.c.kind == "product") | table.c.subject.not_in(own)
        query = (
            select(applications.c.name)
            .join(table, table.c.client_id == applications.c.client_id)
            .where(table.c.tier == tier, table.c.state.in_(("pending", "approved")), of_mesh)
            .distinct()
            .order_by(applications.c.name)
        )
        return tuple(cx.execute(query).scalars())


@lru_cache(maxsize=4096)
def _read_limits(said: str) -> tuple[RateLimit, ...]:
    return limits_of(json.loads(said))


def _tiers(api: str, known: Mapping[str, Offer]) -> Sequence[Tier]:
    own = known.get(api, Offer()).tiers
    return own or known.get(MESH, Offer()).tiers
