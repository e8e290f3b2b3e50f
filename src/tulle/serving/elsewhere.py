"""Endpoints whose rows lie in a database: what a request needs is fetched first, then the endpoint answers as ever.

A request's keys are read, their rows are asked for without holding anybody up, and in one step of the loop they take
the place of an index and the endpoint answers. Everything else, policies and errors too, is the endpoint's own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import msgspec
from msgspec import UNSET

from tulle.serving.database_query import DatabaseQuery
from tulle.serving.endpoint import Action, Answer, Endpoint, Headed, Header, Query
from tulle.serving.finder import UNANSWERED, Finder, Held, Stored
from tulle.serving.keyed_rows import CONNECTION, DEFAULT
from tulle.serving.live import bound_again, finders_of
from tulle.serving.loaded import Loaded
from tulle.serving.lookup import Lookup
from tulle.serving.predict import Predict
from tulle.serving.request import RequestError, parse_json
from tulle.serving.store import PostgresStore, demand_driver
from tulle.serving.store_redis import RedisStore
from tulle.serving.store_rows import Looked

if TYPE_CHECKING:
    from tulle.state.connections import Connection

Found = TypeVar("Found")
Wanted = Mapping[
    int, Mapping[bytes, Sequence[Any]]
]  # by the number of a look-up: keys by their place in an index
Fetched = tuple[Mapping[bytes, Stored], str]  # rows by their place in an index, and of which commit they are


class Store(Protocol):
    """Where rows of one look-up are asked for."""

    async def stored(self, keys: Sequence[Sequence[Any]]) -> Looked:
        """What an index would hold for each key. RequestError 503 when it does not answer in time."""

    def abandon(self) -> None:
        """Let go of the connections, at the end of the process."""


class Elsewhere:
    """An endpoint with look-ups in databases; the rest of it is as it was."""

    def __init__(
        self, inner: Lookup | Predict, stores: Mapping[int, Store], changed: Callable[[str], object]
    ) -> None:
        """`stores` are by the number of the look-up. `changed` is told the name when answers are of other commits."""
        self.inner = inner
        self.name, self.kind, self.main, self.record = inner.name, inner.kind, inner.main, inner.record
        self.entry = getattr(inner, "entry", None)
        self.pool = getattr(inner, "pool", None)
        self.finders: Sequence[Finder] = inner.finders
        self.commits = inner.commits  # of what is not in a database
        self._stores = stores
        self._changed = changed
        self._is_filled = any(self.finders[n].entry.is_filled for n in stores)

    def renew(self, commits: Mapping[str, str]) -> None:
        """Answer from other commits, and say so."""
        self.inner.renew(commits)
        self.commits = commits

    @property
    def actions(self) -> Mapping[str, Headed]:
        """The endpoint's own."""
        return {name: self._fetching(action, _of_body) for name, action in self.inner.actions.items()}

    @property
    def queries(self) -> Mapping[str, Headed]:
        """The endpoint's own."""
        return {name: self._fetching(query, self._of_pairs) for name, query in self.inner.queries.items()}

    async def ready(self) -> None:
        """Start what the endpoint needs; a database is asked when a request comes."""
        await self.inner.ready()

    def close(self) -> None:
        """End it, and let go of the database."""
        self.inner.close()
        for store in self._stores.values():
            store.abandon()

    async def among(self, items: Sequence[Any], read: Callable[[], Found]) -> Found:
        """What `read` gives while the rows are here that the features or keys of `items` ask for. RequestError."""
        held = await self._fetched(self._wanted(items))
        self._tell(held)
        for number, (found, _) in held.items():
            self.finders[number].use(Held(found))
        try:
            return read()
        finally:  # what was found is for these items alone
            for number in held:
                self.finders[number].use(Held())

    def _fetching(self, action: Action | Query, read: Callable[[Any], list[Any]]) -> Headed:
        async def call(content: Any, request_id: str, headers: Sequence[Header]) -> Answer:
            held = await self._fetched(self._wanted(read(content)))
            self._tell(held)
            for number, (found, _) in held.items():
                self.finders[number].use(Held(found))
            try:
                # From here to the end of the look-ups nothing is awaited.
                if isinstance(action, Headed):
                    return await action.call(content, request_id, headers)
                given = action(content, request_id)
                commits = self.commits if self._is_filled else None
                if not isinstance(given, bytes):
                    answer = await given
                    return answer if commits is None else msgspec.structs.replace(answer, commits=commits)
                return Answer(given, commits=commits, rows=getattr(self.inner, "seen", None))
            finally:  # what was found is this request's alone
                for number in held:
                    self.finders[number].use(Held())

        return Headed(call)

    def _tell(self, held: Mapping[int, Fetched]) -> None:
        """Say from now on of which commits that is which stores that the lake fills have given."""
        read: dict[str, str] = {}
        for number, (_, commit) in held.items():
            origin = self.finders[number].entry.origin
            if commit and commit not in read.get(origin, "").split("+"):
                read[origin] = f"{read[origin]}+{commit}" if origin in read else commit
        commits = {**self.commits, **read}
        if commits != self.commits:
            self.renew(commits)
            self._changed(self.name)

    async def _fetched(self, wanted: Wanted) -> dict[int, Fetched]:
        async def one(number: int, keys: Mapping[bytes, Sequence[Any]]) -> Fetched:
            store = self.finders[number].entry.store
            takes_default = store is not None and store.unavailable == DEFAULT
            try:
                looked = await self._stores[number].stored(list(keys.values()))
            except RequestError:
                if not takes_default:
                    raise
                return dict.fromkeys(keys, UNANSWERED), ""
            rows = looked.rows
            if takes_default:
                rows = [UNANSWERED if isinstance(row, RequestError) else row for row in rows]
            return dict(zip(keys, rows, strict=True)), looked.commit

        asked = {number: keys for number, keys in wanted.items() if keys}
        found = await asyncio.gather(*(one(number, keys) for number, keys in asked.items()))
        return dict(zip(asked, found, strict=True))

    def _wanted(self, items: Sequence[Any]) -> Wanted:
        """The keys of all items; what is wrong with one is told by the endpoint itself."""
        wanted: dict[int, dict[bytes, Sequence[Any]]] = {number: {} for number in self._stores}
        for item in items:
            try:
                values = self.record.convert(item)
            except RequestError:
                continue
            for number, key in self._keys(values):
                wanted[number][self.finders[number].place(key)] = key
        return wanted

    def _keys(self, values: Sequence[Any]) -> list[tuple[int, Sequence[Any]]]:
        return [(n, key) for n, key in self.inner.keys_of(values) if n in self._stores]

    def _of_pairs(self, pairs: Any) -> list[Any]:
        try:
            values = self.record.from_text(pairs)
        except RequestError:
            return []
        plain = zip((field.name for field in self.record.fields), values, strict=True)
        return [msgspec.to_builtins({name: value for name, value in plain if value is not UNSET})]


def _of_body(body: Any) -> list[Any]:
    """The features or keys of every item of a body."""
    try:
        raw = parse_json(body)
    except RequestError:
        return []
    if not isinstance(raw, dict):
        return []
    items = raw["items"] if isinstance(raw.get("items"), list) else [raw]
    return [item.get("features", item.get("data")) for item in items if isinstance(item, dict)]


def connect(service: Loaded, details: Callable[[str], Connection]) -> bool:
    """Have the look-ups and queries of a service that are in databases ask there; whether there are any. Invalid,
    NotFound.
    """
    for query in _queries_in_databases(service):
        demand_driver()
        query.use(partial(details, query.entry.connection))
    endpoints: dict[str, Endpoint] = dict(service.endpoints)
    for name, endpoint in service.endpoints.items():
        found = [(n, f) for n, f in enumerate(finders_of(endpoint)) if f.entry.source == CONNECTION]
        if not found or not isinstance(endpoint, Lookup | Predict):
            continue
        stores = {n: _opened(f, details) for n, f in found}
        endpoints[name] = Elsewhere(
            endpoint, stores, lambda changed: service.tell(bound_again(service, [changed]))
        )
    if endpoints == service.endpoints:
        return bool(_queries_in_databases(service))
    service.replace(endpoints)
    return True


def _queries_in_databases(service: Loaded) -> list[DatabaseQuery]:
    return [endpoint for endpoint in service.endpoints.values() if isinstance(endpoint, DatabaseQuery)]


def needs_connections(service: Loaded) -> bool:
    """Whether some look-up or query of a service is in a database."""
    finders = (finder for endpoint in service.endpoints.values() for finder in finders_of(endpoint))
    return bool(_queries_in_databases(service)) or any(f.entry.source == CONNECTION for f in finders)


def _opened(finder: Finder, details: Callable[[str], Connection]) -> Store:
    store = finder.entry.store
    if store is not None and store.keys:
        from tulle.pipeline.sources.redis_server import demand_redis  # noqa: PLC0415  only these services need it

        demand_redis()
        return RedisStore(finder.entry, _asking(finder, details))
    demand_driver()
    return PostgresStore(finder.entry, _asking(finder, details))


def _asking(finder: Finder, details: Callable[[str], Connection]) -> Callable[[], Connection]:
    store = finder.entry.store
    assert store is not None
    name = store.connection
    return lambda: details(name)


def connect_in(service: Loaded, mesh: Path) -> None:
    """The same with the connections of the mesh in a folder, of the environment that the package was built for."""
    if not needs_connections(service):
        return
    from tulle.pipeline.sources.address import environment_of  # noqa: PLC0415  only these services need it
    from tulle.spec.mesh import load_settings  # noqa: PLC0415
    from tulle.state.connections import open_connections  # noqa: PLC0415
    from tulle.state.db import open_database  # noqa: PLC0415

    settings = load_settings(mesh)
    known = open_connections(settings, open_database(settings.database_url))
    environment = environment_of(service.manifest.ref)
    connect(service, lambda name: known.get(name, environment))
