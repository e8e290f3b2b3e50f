"""What is recorded of APIs: the declarations in force, the life of each version, what instances were bound to by hand.

Policies that were set by hand come with them (`own_policies.py`). Every change and the event that tells of it are one
transaction. Each row has a revision by chance, so that who follows sees by two numbers whether anything changed. Knows
nothing of Envoy, and not which services run.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal
from weakref import WeakKeyDictionary

import msgspec
from sqlalchemy import ColumnElement, Connection, Row, Select, delete, func, insert, select, update

from tulle import events
from tulle.errors import Broken, Conflict, NotFound, did_you_mean
from tulle.events import Event
from tulle.gateway.apis import own_policies, remarks
from tulle.gateway.apis.declared import ApiDeclared, Target, api_of, as_plain
from tulle.gateway.apis.load import Loaded
from tulle.gateway.apis.own_policies import SetByHand
from tulle.gateway.apis.writing import changing, revision
from tulle.state import log
from tulle.state.db import Database, in_turn, now
from tulle.state.tables import api_bindings, api_policies, api_versions, apis, removed_apis

LOG = logging.getLogger("tulle")
Status = Literal["draft", "published", "deprecated", "retired"]
_AT_ONCE: Final = 100  # documents that are read together


@dataclass(frozen=True, slots=True)
class Life:
    """Where a version is in its life; times in seconds since the epoch, `successor` the version that comes after it."""

    status: Status = "draft"
    deprecated_at: float | None = None
    sunset_at: float | None = None
    successor: str = ""
    changed_at: float = 0.0
    changed_by: str = ""

    def takes_contracts(self, at: float) -> bool:
        """Whether anybody may still begin to use it."""
        over = self.sunset_at is not None and self.sunset_at <= at
        return self.status in {"published", "deprecated"} and not over


@dataclass(frozen=True, slots=True)
class Binding:
    """What answers an instance instead of what is declared; `reason` is why nothing does."""

    target: Target
    reason: str = ""
    changed_at: float = 0.0
    changed_by: str = ""


@dataclass(frozen=True, slots=True)
class RecordedApi:
    """An API as it is in force: what is by version and environment has that of consumers by the empty name."""

    declared: ApiDeclared
    lives: Mapping[str, Life]
    bindings: Mapping[tuple[str, str], Binding] = field(default_factory=dict)
    policies: Mapping[tuple[str, str], SetByHand] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Its name."""
        return self.declared.name

    def takes_contracts(self, at: float) -> bool:
        """Whether any version may still begin to be used."""
        return any(life.takes_contracts(at) for life in self.lives.values())


@dataclass(frozen=True, slots=True)
class RemovedApi:
    """An API that was not for all when it was taken out of the mesh: whose it was, and who found it."""

    name: str
    product: str
    visibility: str
    visible_to: tuple[str, ...]


def recorded(database: Database, names: Collection[str] | None = None) -> tuple[RecordedApi, ...]:
    """Every API in force, by name, or those of these names."""
    with database.read() as connection:
        return _read(connection, names)


def followed(database: Database) -> tuple[RecordedApi, ...]:
    """The same, read again only when anything about them changed: for doors, which ask often."""
    with _LOCK:
        kept = _KEPT.get(database)
        if kept is None:
            kept = _KEPT[database] = _Kept()
    return kept.look(database)


def find(database: Database, name: str) -> RecordedApi:
    """One API. NotFound with the nearest name."""
    with database.read() as connection:
        for one in _read(connection, [name]):
            return one
        known = connection.execute(select(apis.c.name)).scalars().all()
    hint = did_you_mean(name, known) or "`tulle new api` declares one, `tulle apply` makes it known"
    raise NotFound(f"there is no API '{name}'", hint=hint)


def declared(database: Database, name: str) -> ApiDeclared | None:
    """An API as it was applied; None where there is none, or it cannot be read."""
    with database.read() as connection:
        document = connection.execute(select(apis.c.document).where(apis.c.name == name)).scalar()
    try:
        return None if document is None else api_of(document)
    except Broken:
        return None


def of_product(database: Database, product: str) -> Mapping[str, ApiDeclared]:
    """The APIs of a product as they were applied, by name."""
    with database.read() as connection:
        query = select(apis).where(apis.c.product == product).order_by(apis.c.name)
        return {row.name: api_of(row.document) for row in connection.execute(query)}


def by_product(database: Database) -> Mapping[str, Mapping[str, ApiDeclared]]:
    """The same of every product that has any."""
    found: dict[str, dict[str, ApiDeclared]] = {}
    with database.read() as connection:
        for row in connection.execute(select(apis).order_by(apis.c.name)):
            found.setdefault(row.product, {})[row.name] = api_of(row.document)
    return found


def owners(database: Database) -> Mapping[str, str]:
    """The product of each API."""
    with database.read() as connection:
        return {row.name: row.product for row in connection.execute(select(apis.c.name, apis.c.product))}


def hidden(database: Database) -> frozenset[str]:
    """The APIs that not everybody finds: a contract for all of a product's opens them to nobody."""
    with database.read() as connection:
        is_hidden = apis.c.document["visibility"].as_string() != "public"
        return frozenset(connection.execute(select(apis.c.name).where(is_hidden)).scalars())


def removed(database: Database) -> tuple[RemovedApi, ...]:
    """The APIs that were not for all and are there no longer, by name."""
    columns = (
        removed_apis.c.name,
        removed_apis.c.product,
        removed_apis.c.visibility,
        removed_apis.c.visible_to,
    )
    with database.read() as connection:
        rows = connection.execute(select(*columns).order_by(removed_apis.c.name)).all()
    return tuple(RemovedApi(row.name, row.product, row.visibility, tuple(row.visible_to)) for row in rows)


def openapi_text(database: Database, api: str, version: str) -> str | None:
    """The OpenAPI document of an external service as it was applied, JSON; None where it has none."""
    with database.read() as connection:
        where = (api_versions.c.api == api) & (api_versions.c.version == version)
        found: str | None = connection.execute(select(api_versions.c.openapi).where(where)).scalar()
    return found


_MARKS: Final = select(  # of all at once: it is asked several times a second
    *(
        select(of).select_from(table).scalar_subquery()
        for table in (apis, api_versions, api_bindings, api_policies)
        for of in (func.count(), func.sum(table.c.revision))
    )
)


def openapi_texts(database: Database, wanted: Collection[tuple[str, str]]) -> Mapping[tuple[str, str], str]:
    """The same of many, by API and version; those that have one."""
    columns, keys = api_versions.c, sorted(wanted)
    found: dict[tuple[str, str], str] = {}
    with database.read() as connection:
        for begin in range(0, len(keys), _AT_ONCE):
            some = {api for api, _ in keys[begin : begin + _AT_ONCE]}
            query = select(columns.api, columns.version, columns.openapi).where(columns.api.in_(some))
            for api, version, text in connection.execute(query):
                if text and (api, version) in wanted:
                    found[api, version] = text
    return found


class _Kept:
    """What was read last of one database. Safe to share between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._mark: object = None
        self._known: tuple[RecordedApi, ...] = ()

    def look(self, database: Database) -> tuple[RecordedApi, ...]:
        with self._lock, database.read() as connection:
            marks = tuple(connection.execute(_MARKS).one())
            if marks != self._mark:
                self._known = _read(connection)
                self._mark = marks
            return self._known


class Followed:
    """The APIs in force, read again only when anything about them changed. Safe to share between threads."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._kept = _Kept()

    def look(self) -> tuple[RecordedApi, ...]:
        """Every API in force, by name."""
        return self._kept.look(self._database)


_KEPT: Final[WeakKeyDictionary[Database, _Kept]] = WeakKeyDictionary()
_LOCK: Final = threading.Lock()


def _read(connection: Connection, names: Collection[str] | None = None) -> tuple[RecordedApi, ...]:
    """All that can be read, or those of some names: a damaged row keeps its own API out and no other."""

    def of(query: Select[Any], column: ColumnElement[str]) -> Iterable[Row[Any]]:
        return connection.execute(query if names is None else query.where(column.in_(names)))

    columns = [column for column in api_versions.c if column.name != "openapi"]
    lives: dict[str, dict[str, Any]] = {}
    for row in of(select(*columns), api_versions.c.api):
        lives.setdefault(row.api, {})[row.version] = {name: getattr(row, name) for name in _LIFE}
    bindings: dict[str, list[Row[Any]]] = {}
    for row in of(select(api_bindings), api_bindings.c.api):
        bindings.setdefault(row.api, []).append(row)
    lists = own_policies.rows(connection, names)
    found: list[RecordedApi] = []
    for row in of(select(apis).order_by(apis.c.name), apis.c.name):
        try:
            known = msgspec.convert(lives.get(row.name, {}), dict[str, Life])
            bound = {(b.version, b.environment): _binding(b) for b in bindings.get(row.name, ())}
            said = own_policies.read(lists.get(row.name, ()))
            found.append(RecordedApi(api_of(row.document), known, bound, said))
        except (Broken, msgspec.ValidationError) as exc:
            LOG.warning("API '%s' is left out, as what is recorded of it cannot be read: %s", row.name, exc)
    return tuple(found)


_LIFE: Final = ("status", "deprecated_at", "sunset_at", "successor", "changed_at", "changed_by")


def _binding(row: Row[Any]) -> Binding:
    return Binding(msgspec.convert(row.target, Target), row.reason, row.changed_at, row.changed_by)


# ── what is applied ──────────────────────────────────────────────────────────────────────────────────────


def save(
    connection: Connection,
    product: str,
    loaded: Sequence[Loaded],
    *,
    services: Collection[str] = (),
    actor: str = "",
) -> list[str]:
    """Put the APIs that a product declares in force; the names of those that it has no longer.

    `services` are those it declares: without an API of its name each is an API as it is, which everybody finds.
    """
    in_turn(connection, "apis")
    had = set(connection.execute(select(apis.c.name).where(apis.c.product == product)).scalars())
    for one in loaded:
        _save_one(connection, product, one, actor)
    gone = sorted(had - {one.api.name for one in loaded})
    for name in gone:
        _remove(connection, name, actor)
    there = sorted({one.api.name for one in loaded} | set(services))
    connection.execute(delete(removed_apis).where(removed_apis.c.name.in_(there)))
    return gone


def remove_of(connection: Connection, product: str, *, actor: str = "") -> list[str]:
    """Forget all of a product's APIs; their names."""
    return save(connection, product, (), actor=actor)


def _save_one(connection: Connection, product: str, one: Loaded, actor: str) -> None:
    api = one.api
    values = {
        "product": product,
        "document": as_plain(api),
        "applied_at": now(),
        "revision": revision(),
    }
    known = connection.execute(select(apis.c.document).where(apis.c.name == api.name)).scalar()
    if known is None:
        connection.execute(insert(apis).values(name=api.name, **values))
    else:
        connection.execute(update(apis).where(apis.c.name == api.name).values(**values))
    where = api_versions.c.api == api.name
    there = set(connection.execute(select(api_versions.c.version).where(where)).scalars())
    for version in api.versions:
        text = one.documents.get(version.version)
        if version.version in there:
            chosen = where & (api_versions.c.version == version.version)
            connection.execute(update(api_versions).where(chosen).values(openapi=text, revision=revision()))
            continue
        status = "published" if version.is_published else "draft"
        life = {"status": status, "openapi": text, "successor": "", "changed_at": now(), "changed_by": actor}
        key = {"api": api.name, "version": version.version}
        connection.execute(insert(api_versions).values(**key, **life, revision=revision()))
        _tell(connection, events.API_CHANGED, api.name, {"version": version.version, "status": status}, actor)
    for version_name in sorted(there - {version.version for version in api.versions}):
        for table in (api_bindings, api_policies, api_versions):
            chosen = (table.c.api == api.name) & (table.c.version == version_name)
            connection.execute(delete(table).where(chosen))
        _tell(connection, events.API_CHANGED, api.name, {"version": version_name, "status": "removed"}, actor)


def _remove(connection: Connection, name: str, actor: str) -> None:
    _remember_hidden(connection, name)
    remarks.remove_of(connection, name)
    connection.execute(delete(api_bindings).where(api_bindings.c.api == name))
    connection.execute(delete(api_policies).where(api_policies.c.api == name))
    connection.execute(delete(api_versions).where(api_versions.c.api == name))
    connection.execute(delete(apis).where(apis.c.name == name))
    _tell(connection, events.API_CHANGED, name, {"status": "removed"}, actor)


def _remember_hidden(connection: Connection, name: str) -> None:
    row = connection.execute(select(apis.c.product, apis.c.document).where(apis.c.name == name)).one()
    visibility = str(row.document.get("visibility", "private"))
    if visibility == "public":
        return
    said = {"visibility": visibility, "visible_to": list(row.document.get("visible_to") or ())}
    connection.execute(delete(removed_apis).where(removed_apis.c.name == name))
    connection.execute(insert(removed_apis).values(name=name, product=row.product, removed_at=now(), **said))


# ── the life of a version ────────────────────────────────────────────────────────────────────────────────


def set_life(
    database: Database, api: str, version: str, life: Life, *, before: Life, actor: str = ""
) -> None:
    """Bring a version into another part of its life. Conflict when it is no longer in the one that was looked at."""
    columns = api_versions.c
    where = (columns.api == api) & (columns.version == version)
    values = {
        "status": life.status,
        "deprecated_at": life.deprecated_at,
        "sunset_at": life.sunset_at,
        "successor": life.successor,
    }
    with database.write() as connection:
        unchanged = where & (columns.status == before.status) & (columns.changed_at == before.changed_at)
        stamp = {"changed_at": now(), "changed_by": actor, "revision": revision()}
        done = connection.execute(update(api_versions).where(unchanged).values(**values, **stamp))
        if done.rowcount != 1:
            raise Conflict(
                f"API '{api}' {version} was changed meanwhile", hint="look at it again: `tulle api show`"
            )
        _tell(connection, events.API_CHANGED, api, {"version": version, **values}, actor)


# ── bindings ─────────────────────────────────────────────────────────────────────────────────────────────


def bind(
    database: Database,
    api: str,
    version: str,
    environment: str,
    binding: Binding | None,
    *,
    actor: str = "",
) -> None:
    """Let something else answer an instance than what is declared; None: what is declared."""
    columns = api_bindings.c
    where = (columns.api == api) & (columns.version == version) & (columns.environment == environment)
    with changing(database, api, version) as connection:
        connection.execute(delete(api_bindings).where(where))
        told: dict[str, Any] = {"version": version, "environment": environment, "target": None}
        if binding is not None:
            told |= {"target": str(binding.target), "reason": binding.reason}
            connection.execute(
                insert(api_bindings).values(
                    api=api,
                    version=version,
                    environment=environment,
                    target=msgspec.to_builtins(binding.target),
                    reason=binding.reason,
                    changed_at=now(),
                    changed_by=actor,
                    revision=revision(),
                )
            )
        _tell(connection, events.API_BOUND, api, told, actor)


def _tell(connection: Connection, kind: str, api: str, data: Mapping[str, Any], actor: str) -> None:
    log.append(connection, Event(kind, f"api:{api}", data), actor=actor)
