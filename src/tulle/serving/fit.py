"""What services declare against the data sets there will be: names and types, before any package is made.

Models are known when a run has saved them, rows when they are published; the package looks at those.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path as FilePath
from typing import Any

from tulle.engine.statement import read_statement
from tulle.errors import Invalid, NotFound, Problem, TulleError, did_you_mean
from tulle.serving.compose_declared import ComposeSpec
from tulle.serving.database_sql import read_sql
from tulle.serving.declared import FunctionSpec, LookupSpec, rows_of
from tulle.serving.function_code import FUNCTIONS, signature_of
from tulle.serving.index import KEY_TYPES
from tulle.serving.key_form import check_keys
from tulle.serving.keyed_rows import KeyedRows, clash, columns_beside
from tulle.serving.query_declared import QuerySpec, only_of_files
from tulle.serving.service import Service
from tulle.spec.document import Document, Path
from tulle.spec.load import load_document

# The columns of a data set with their types; None where they are not known. Product "" is the service's own.
Columns = Mapping[str, str] | None
ColumnsOf = Callable[[str, str], Columns]


class NoSuchProduct(NotFound):
    """The product that is named does not exist; else it is the data set."""


def misfits(services: Sequence[Service], columns_of: ColumnsOf) -> Iterator[Problem]:
    """A problem for every product, data set, key and column that is not there, each at its place.

    `columns_of` raises NoSuchProduct, or NotFound for a data set.
    """
    for service in services:
        told = _Telling(service)
        for position, endpoint in enumerate(service.endpoints):
            at: Path = ("endpoints", position)
            for rows in rows_of(endpoint):
                yield from _one(told, rows, (*at, *rows.path), columns_of)
            if isinstance(endpoint, LookupSpec) and endpoint.joined:
                yield from _clashes(told, endpoint, at, columns_of)
            if isinstance(endpoint, QuerySpec):
                yield from _query(told, endpoint, at, columns_of)
            if isinstance(endpoint, ComposeSpec):
                before = service.endpoints[:position]
                others = (e for e in service.endpoints if not isinstance(e, ComposeSpec) or e in before)
                yield from endpoint.problems([other.name for other in others], service.uses)
            if isinstance(endpoint, FunctionSpec):
                yield from _function(told, endpoint, at, service.file.parent.parent / FUNCTIONS)


def _one(told: _Telling, said: KeyedRows, at: Path, columns_of: ColumnsOf) -> Iterator[Problem]:
    if said.store is not None and not said.store.keys:  # a database is asked when the service is packaged
        return
    try:
        if said.store is not None:
            check_keys(said)
        known = said.store.types if said.store is not None else columns_of(said.product, said.data_set)
    except Invalid as exc:
        yield told.problem(exc.message, (*at, "source"), exc.hint)
        return
    except NotFound as exc:
        wrong = "product" if isinstance(exc, NoSuchProduct) else "data_set"
        yield told.problem(exc.message, (*at, wrong), exc.hint)
        return
    if known is None:
        return
    ordered = tuple((name, name.removeprefix("-")) for name in said.order_by)
    times = ((said.event_time, said.event_time),) if said.event_time else ()
    for prop, pairs in (
        ("key", said.key),
        ("columns", said.columns),
        ("order_by", ordered),
        ("event_time", times),
    ):
        for number, (sent, name) in enumerate(pairs):
            if name not in known:
                message = f"data set '{said.data_set}' has no column '{name}'"
                yield told.problem(message, told.at(at, prop, number, sent), did_you_mean(name, known))
            elif prop == "key" and known[name].partition("(")[0] not in KEY_TYPES:
                message = f"column '{name}' of '{said.data_set}' is {known[name]}, which cannot be a key"
                hint = "a key is " + ", ".join(KEY_TYPES[:-1]) + f" or {KEY_TYPES[-1]}"
                yield told.problem(message, told.at(at, prop, number, sent), hint)


def _clashes(told: _Telling, said: LookupSpec, at: Path, columns_of: ColumnsOf) -> Iterator[Problem]:
    """Columns of several data sets that one answer would have under one name; those of databases are not known yet."""
    taken: dict[str, str] = {}
    for rows in rows_of(said):
        try:
            known = rows.store.types if rows.store is not None else columns_of(rows.product, rows.data_set)
        except NotFound:  # told already
            known = None
        for name, _ in columns_beside(rows, known or (), taken):
            if name in taken:
                message, hint = clash(name, taken[name], rows)
                path = (*at, *rows.path, "columns") if rows.columns else (*at, *rows.path)
                yield told.problem(message, path, hint)
            taken.setdefault(name, rows.data_set)


def _query(told: _Telling, said: QuerySpec, at: Path, columns_of: ColumnsOf) -> Iterator[Problem]:
    """What is wrong with the SQL as such, and data sets that are not there."""
    if said.connection:
        if other := only_of_files(said.places):
            message = f"'{other}' has no meaning where connection '{said.connection}' answers"
            yield told.problem(message, (*at, other), f"leave `{other}` out")
        try:
            read_sql(said.sql)
        except Invalid as exc:
            yield told.problem(exc.message, (*at, "sql"), exc.hint)
        return
    for problem in read_statement(said.sql).problems:
        yield told.problem(problem.message, (*at, "sql"), problem.hint)
    for product, data_set in said.reads(""):
        try:
            columns_of(product, data_set)
        except NotFound as exc:
            yield told.problem(exc.message, (*at, "sql"), exc.hint)


def _function(told: _Telling, said: FunctionSpec, at: Path, folder: FilePath) -> Iterator[Problem]:
    """A file or a function in it that is not there, or that callers cannot call."""
    known = sorted(file.name for file in folder.glob("*.py"))
    if said.file not in known:
        hint = did_you_mean(said.file, known) or f"put it into {FUNCTIONS}/ of the product"
        yield told.problem(f"there is no file {FUNCTIONS}/{said.file}", (*at, "file"), hint)
        return
    prop = "function" if "function" in said.places else "file"
    try:
        text = (folder / said.file).read_text()
        signature_of(text, f"{FUNCTIONS}/{said.file}", said.function, said.places.get(prop))
    except Invalid as exc:
        yield from exc.problems
    except (OSError, UnicodeDecodeError) as exc:
        yield told.problem(f"{FUNCTIONS}/{said.file} cannot be read: {exc}", (*at, "file"), None)


class _Telling:
    """Problems of one service's file, which is read again when there is one."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._document: Document | None = None

    def problem(self, message: str, path: Path, hint: str | None) -> Problem:
        document = self._read()
        if document is None:
            return Problem(message, self._service.place, hint)
        return document.problem(message, path, hint=hint)

    def at(self, endpoint: Path, prop: str, number: int, sent: str) -> Path:
        """The path of a name in a list, of what a name sent stands for, or of the one name that is alone."""
        document = self._read()
        value: Any = document.at((*endpoint, prop)) if document else None
        if isinstance(value, Mapping):
            return (*endpoint, prop, sent)
        return (*endpoint, prop, number) if isinstance(value, list) else (*endpoint, prop)

    def _read(self) -> Document | None:
        if self._document is None:
            place = self._service.place
            try:
                self._document = load_document(self._service.file, name=place.file if place else "")
            except TulleError:  # it is gone or broken by now
                return None
        return self._document
