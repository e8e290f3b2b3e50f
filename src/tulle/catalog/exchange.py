"""The Exchange's read model: what there is to be used, APIs and products, as far as who looks may see it.

A deployed service that no file declares is an API as it is. Whoever may not see an API meets it as what is not there.
Changes nothing and knows nothing of HTML.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tulle.catalog.called_by import CalledBy
from tulle.catalog.exchange_search import Entry, Found, Wanted, find
from tulle.catalog.known import KnownProducts
from tulle.catalog.service import ServiceView
from tulle.config import Settings
from tulle.errors import NotFound, TulleError, did_you_mean
from tulle.gateway.apis import records, remarks
from tulle.gateway.apis.records import Followed, Life, RecordedApi
from tulle.gateway.apis.sight import Sight, View
from tulle.gateway.in_force import InForce
from tulle.serving.access import Access
from tulle.spec.product import DataProduct
from tulle.state.db import Database

_MOST_DETAIL: Final = 40_000  # characters of a document that it is found by
_DEEPEST: Final = 30


@dataclass(frozen=True, slots=True)
class Services:
    """What is asked about services: all of them, the document of one, by which ways it is called, what holds for it."""

    all: Callable[[], Sequence[ServiceView]]
    document: Callable[[str], Mapping[str, Any]]
    access: Callable[[str], Access]
    in_force: Callable[[str], InForce]


class Exchange:
    """What is on the shelf of one mesh. Safe to share between threads."""

    def __init__(
        self, settings: Settings, database: Database, known: KnownProducts, sight: Sight, services: Services
    ) -> None:
        self.settings = settings
        self.database = database
        self.sight = sight
        self.services = services
        self._known = known
        self._apis = Followed(database)
        self._called_by = CalledBy(database)
        self._lock = threading.Lock()
        self._details: dict[tuple[str, str], tuple[str, str]] = {}  # by API and version: digest and words

    def search(self, wanted: Wanted, user: str | None) -> Found:
        """What somebody may see of what they look for; None sees all."""
        return find(tuple(self._entries(user, with_detail=bool(wanted.query.strip()))), wanted)

    def entries(self, user: str) -> tuple[Entry, ...]:
        """All that somebody may see, without what else it is found by."""
        return tuple(self._entries(user, with_detail=False))

    def declared(self, user: str) -> tuple[Entry, ...]:
        """The APIs of files that somebody may see: what is declared of them, and no more."""
        return tuple(_of_api(api, None, {}, "", ()) for api in self._seen(user))

    def api(self, name: str, user: str) -> RecordedApi | ServiceView:
        """An API as it was applied, or the service that is one. NotFound, with the nearest that `user` may see."""
        for api in self._apis.look():
            if api.name == name:
                if self.sees(user, api):
                    return api
                break
        else:
            for service in self.services.all():
                if service.name == name and name not in self.hidden(user):
                    return service
        known = [one.name for one in self.entries(user) if one.kind == "API"]
        raise NotFound(
            f"there is no API '{name}'", hint=did_you_mean(name, known) or "/exchange has all there are"
        )

    def sees(self, user: str | None, api: RecordedApi) -> bool:
        """Whether somebody finds an API."""
        return _is_seen(self.sight.of(user), api)

    def names(self) -> frozenset[str]:
        """The names of all APIs."""
        return frozenset(api.name for api in self._apis.look())

    def hidden(self, user: str) -> frozenset[str]:
        """The names of APIs that somebody does not find, also of those that are there no longer."""
        return self.sight.hidden(user)

    def _seen(self, user: str | None) -> Iterator[RecordedApi]:
        view = self.sight.of(user)
        return (api for api in self._apis.look() if _is_seen(view, api))

    def product(self, name: str) -> DataProduct | None:
        """A product, where it is applied."""
        found = self._known.all().get(name)
        return found.product if found is not None else None

    def _entries(self, user: str | None, *, with_detail: bool) -> Iterator[Entry]:
        rated = remarks.means(self.database)
        applied = {name: one.product for name, one in self._known.all().items()}
        seen = tuple(self._seen(user))
        if with_detail:
            self._read_words(seen)
        called = self._called_by.words(self.settings, seen, applied)
        for api in seen:
            detail = self._detail(api) if with_detail else ""
            yield _of_api(api, applied.get(api.declared.product), rated, detail, called[api.name])
        named = {api.name for api in self._apis.look()} | self.sight.hidden(user)
        for service in self.services.all():
            if service.deployment is not None and service.name not in named:
                yield _of_service(service, applied.get(service.product), rated)
        for product in applied.values():
            yield _of_product(product)

    def _detail(self, api: RecordedApi) -> str:
        with self._lock:
            kept = [
                (self._details.get((api.name, one.version), ("", "")), one.openapi_digest)
                for one in api.declared.versions
            ]
        return " ".join(words for (of, words), digest in kept if of == digest)

    def _read_words(self, apis: Iterable[RecordedApi]) -> None:
        """Keep what documents are found by, of those that are others than were read last."""
        documents = {
            (api.name, one.version): one.openapi_digest
            for api in apis
            for one in api.declared.versions
            if one.openapi_digest
        }
        with self._lock:
            missing = {key for key, digest in documents.items() if self._details.get(key, ("",))[0] != digest}
        by_digest = {documents[key]: key for key in missing}
        texts = records.openapi_texts(self.database, by_digest.values()) if missing else {}
        words: dict[str, str] = {}
        for digest, key in by_digest.items():
            try:
                words[digest] = words_of(json.loads(texts[key])) if key in texts else ""
            except (ValueError, RecursionError):
                words[digest] = ""
        with self._lock:
            self._details |= {key: (documents[key], words[documents[key]]) for key in missing}


def _is_seen(view: View, api: RecordedApi) -> bool:
    said = api.declared
    return view.sees(said.product, said.visibility, said.visible_to)


def words_of(document: Mapping[str, Any]) -> str:
    """What an OpenAPI document is found by: paths, ids, summaries, names and descriptions of parameters and fields."""
    found: list[str] = []
    size = 0
    for text in _texts(document, 0):
        size += len(text) + 1
        if size > _MOST_DETAIL:
            break
        found.append(text)
    return " ".join(dict.fromkeys(found)).casefold()


def _texts(value: Any, depth: int) -> Iterator[str]:
    if depth > _DEEPEST:
        return
    if isinstance(value, list):
        for item in value:
            yield from _texts(item, depth + 1)
    elif isinstance(value, dict):
        for key, item in value.items():
            if key in {"properties", "paths"} and isinstance(item, dict):
                yield from (str(name) for name in item)
            if key in {"operationId", "summary", "description", "title", "name"} and isinstance(item, str):
                yield item
            elif key not in {"example", "examples", "default", "enum"}:
                yield from _texts(item, depth + 1)


def _of_api(
    api: RecordedApi,
    product: DataProduct | None,
    rated: Mapping[str, tuple[float, int]],
    detail: str,
    ways: tuple[str, ...],
) -> Entry:
    said = api.declared
    lives = {one.version: api.lives.get(one.version, Life()) for one in said.versions}
    stars, count = rated.get(api.name, (None, 0))
    return Entry(
        "API",
        api.name,
        said.title or api.name,
        f"/exchange/apis/{api.name}",
        said.summary,
        said.product,
        product.domain if product else "",
        product.owner if product else "",
        said.tags,
        tuple((name, life.status) for name, life in lives.items()),
        tuple(dict.fromkeys(life.status for life in lives.values())),
        ways,
        said.visibility,
        any(one.target.mock for one in said.versions),
        stars,
        count,
        detail,
    )


def _of_service(
    service: ServiceView, product: DataProduct | None, rated: Mapping[str, tuple[float, int]]
) -> Entry:
    status = {"ended": "retired", "active": "published"}.get(service.state, "draft")
    if status == "published" and service.deployment is not None and service.deployment.ending is not None:
        status = "deprecated"
    stars, count = rated.get(service.name, (None, 0))
    detail = " ".join(f"{one.name} {one.kind} {one.description}" for one in service.endpoints)
    version = service.active.version if service.active else ""
    return Entry(
        "API",
        service.name,
        service.name,
        f"/exchange/apis/{service.name}",
        service.description,
        service.product,
        service.domain,
        product.owner if product else "",
        product.tags if product else (),
        ((version, status),),
        (status,),
        service.called_by,
        "public",
        False,
        stars,
        count,
        detail.casefold(),
    )


def _of_product(product: DataProduct) -> Entry:
    columns = (f"{one.name} {one.description}" for data_set in product.data_sets for one in data_set.columns)
    sets = (f"{one.name} {one.title} {one.description}" for one in product.data_sets)
    ports = (f"{one.title} {one.description}" for one in product.output_ports)
    return Entry(
        "product",
        product.name,
        product.title or product.name,
        f"/products/{product.name}",
        product.description,
        product.name,
        product.domain,
        product.owner,
        product.tags,
        statuses=(product.status,) if product.status else (),
        detail=" ".join([product.purpose, *sets, *ports, *columns])[:_MOST_DETAIL].casefold(),
    )


def problem_of(exc: TulleError) -> str:
    """Why something is not there, for the page it belongs on."""
    return f"{exc.message} ({exc.hint})" if exc.hint else exc.message
