"""A service as it is declared, at a glance: endpoints, where their rows and features are looked up, their test queries.

Reads the text of a services file by the parser that packages are built with; writes nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tulle.catalog.annotation_form import AnnotationsView, read_annotations
from tulle.catalog.look import plural
from tulle.catalog.service import SavedQuery, pretty
from tulle.errors import Invalid, NotFound, Problem
from tulle.serving.declared import rows_of
from tulle.serving.keyed_rows import KeyedRows
from tulle.serving.kinds import KINDS
from tulle.serving.overlay import SUFFIX
from tulle.serving.service import Service, load_service
from tulle.spec.load import decoded
from tulle.spec.product import DataProduct

MOST_CHARACTERS = 500_000
MOST_SUGGESTED = 1000


@dataclass(frozen=True, slots=True)
class LookUpView:
    """Where rows are found: pairs of what a request calls it and the column, and what happens when they are not."""

    data_set: str
    source: str
    key: tuple[tuple[str, str], ...]
    columns: tuple[tuple[str, str], ...]
    policies: tuple[tuple[str, str], ...]
    defaults: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class DesignedEndpoint:
    """One endpoint as it is declared."""

    name: str
    kind: str
    description: str
    of: str  # what it answers by: a model, a file
    look_ups: tuple[LookUpView, ...]
    queries: tuple[SavedQuery, ...]
    takes_more: bool = False  # whether it may have one more look-up


@dataclass(frozen=True, slots=True)
class Design:
    """A services file as it was read, or what is wrong with it."""

    description: str
    endpoints: tuple[DesignedEndpoint, ...]
    problems: tuple[Problem, ...]


@dataclass(frozen=True, slots=True)
class DesignPage:
    """What the page shows; `digest` is of the text, as the file had it."""

    service: str
    product: str
    path: str
    text: str
    digest: str
    design: Design
    kinds: tuple[str, ...]
    annotations: str = ""  # the text of the overlay of its API document, where there is one
    annotations_digest: str = ""
    said: AnnotationsView = AnnotationsView(())

    @property
    def overlay(self) -> str:
        """The path of that."""
        return f"services/{self.service}{SUFFIX}"


@dataclass(frozen=True, slots=True)
class Suggested:
    """What may be meant by a look-up: the products there are, the data sets of one, the columns of one of these."""

    products: tuple[str, ...]
    data_sets: tuple[str, ...]
    columns: tuple[str, ...]


def suggested(products: Iterable[DataProduct], product: str, data_set: str) -> Suggested:
    """What is declared; models may make more."""
    known = {one.name: one for one in products}
    data_sets = known[product].data_sets if product in known else ()
    return Suggested(
        tuple(sorted(known))[:MOST_SUGGESTED],
        tuple(one.name for one in data_sets)[:MOST_SUGGESTED],
        tuple(column.name for one in data_sets if one.name == data_set for column in one.columns)[
            :MOST_SUGGESTED
        ],
    )


def design_page(name: str, product: str, folder: Path, file: Path) -> DesignPage:
    """The page of a declared service. NotFound when its file is gone, Invalid when it is no text."""
    path = str(file.relative_to(folder))
    try:
        data = file.read_bytes()
    except OSError as exc:
        raise NotFound(f"{path} of product '{product}' cannot be read: {exc.strerror}") from exc
    text = decoded(data, path)
    digest = hashlib.sha256(data).hexdigest()
    overlay = file.parent / f"{name}{SUFFIX}"
    above = overlay.read_bytes() if overlay.is_file() else b""
    annotations = above.decode(errors="replace")
    return DesignPage(
        name,
        product,
        path,
        text,
        digest,
        read_design(text, path),
        tuple(KINDS),
        annotations,
        hashlib.sha256(above).hexdigest() if overlay.is_file() else "",
        read_annotations(annotations, f"services/{overlay.name}"),
    )


def read_design(text: str, path: str) -> Design:
    """What a text declares; what is wrong with it is told, not raised."""
    try:
        service: Service = load_service(text, name=path)
    except Invalid as exc:
        return Design("", (), tuple(exc.problems) or (Problem(exc.message, None, exc.hint),))
    return Design(service.description, tuple(_endpoint(spec) for spec in service.endpoints), ())


def _endpoint(spec: Any) -> DesignedEndpoint:
    return DesignedEndpoint(
        spec.name,
        spec.type,
        spec.description,
        str(getattr(spec, "model", "") or getattr(spec, "file", "") or getattr(spec, "sql", "")),
        tuple(_look_up(rows) for rows in rows_of(spec)),
        tuple(SavedQuery(query.name, pretty(query.body)) for query in spec.test_queries),
        takes_more=spec.type == "predict" or any(rows.path for rows in rows_of(spec)),
    )


def _look_up(rows: KeyedRows) -> LookUpView:
    return LookUpView(
        f"{rows.product}/{rows.data_set}" if rows.product else rows.data_set,
        _source(rows),
        tuple(rows.key),
        tuple(rows.columns),
        tuple(_policies(rows)),
        tuple((name, str(value)) for name, value in rows.defaults.items()),
    )


def _source(rows: KeyedRows) -> str:
    """Where the rows come from, in words."""
    if rows.store is not None:
        return f"{rows.store.connection}: {rows.store.place}"
    return f"{rows.source}, pinned to {rows.version}" if rows.version else rows.source


def _policies(rows: KeyedRows) -> Iterator[tuple[str, str]]:
    yield "a key is missing", str(rows.missing_key)
    yield "no row is found", str(rows.no_match)
    yield "several are", str(rows.several)
    if rows.max_age_seconds:
        yield f"older than {_span(rows.max_age_seconds)} by {rows.event_time}", str(rows.too_old)


def _span(seconds: int) -> str:
    """A span of time in the largest unit that says it exactly."""
    for length, unit in ((86_400, "day"), (3_600, "hour"), (60, "minute")):
        if seconds % length == 0:
            return plural(seconds // length, unit)
    return plural(seconds, "second")
