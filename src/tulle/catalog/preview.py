"""The beginning of one object as a page may show it: rows of a table, or text. Bounded in bytes, rows and time.

Rows are read by the sandboxed engine, and only the columns that `masking` lets through ever leave it. Text can
hold anything, so it is shown only where nothing in it can be expected to name a person.
"""

# ruff: noqa: S608  names go through `quoted`, values through `literal`
from __future__ import annotations

import contextlib
import shutil
import uuid
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

from tulle.catalog.masking import has_masked, is_closed, shown_columns
from tulle.catalog.parquet_facts import ParquetFacts, parquet_facts
from tulle.engine.dataset_files import format_of, local_files
from tulle.engine.duck import DuckEngine
from tulle.engine.engine import literal, quoted
from tulle.errors import NotFound, TulleError
from tulle.lake.repository import Entry, Repository
from tulle.spec.product import DataProduct

ROWS = 20
COLUMNS = 200
TEXT_BYTES = 64 * 1024
COPIED_BYTES = 64 * 1024 * 1024  # a larger table in a remote store is not fetched for a page
CELL_CHARACTERS = 300
# Of hooks and models. What the mesh remembers of a source is none of it: where reading goes on is a value of a row.
_OWN_FOLDERS = ("_lakefs_actions/", "models/")
_DOCUMENTS = (".md", ".rst", ".yaml", ".yml", ".toml", ".sql", ".py", ".lua", ".sh", ".ini", ".cfg")
_TEXTS = (".json", ".txt", ".log", ".xml", ".html", ".geojson", ".jsonl", ".ndjson")


@dataclass(frozen=True, slots=True)
class TablePreview:
    """The schema (name, type in the engine's words) and the first rows; cells of masked columns are None."""

    columns: tuple[tuple[str, str], ...]
    masked: frozenset[str]
    rows: tuple[tuple[Any, ...], ...]
    row_count: int | None  # None where counting would mean reading all of it
    more_columns: int
    note: str
    parquet: ParquetFacts | None = None  # with no least and most of masked columns


@dataclass(frozen=True, slots=True)
class TextPreview:
    """The beginning of a text."""

    text: str
    is_cut: bool


@dataclass(frozen=True, slots=True)
class Preview:
    """At most one of the two; `note` says why there is none."""

    table: TablePreview | None = None
    text: TextPreview | None = None
    note: str = ""
    is_unreadable: bool = False  # its data is missing or damaged, or is not what its name says


def preview(engine: DuckEngine, repository: Repository, entry: Entry, product: DataProduct | None) -> Preview:
    """What may be shown of an object. What cannot be read says so instead of failing the page."""
    try:
        if entry.size == 0:
            return Preview(note="The object is empty.")
        if format_of(entry.path):
            return _table(engine, repository, entry, product)
        return _text(repository, entry, product)
    except NotFound:
        return Preview(note="Its data is not in the store: somebody removed or lost it.", is_unreadable=True)
    except (TulleError, OSError) as exc:
        said = exc.message if isinstance(exc, TulleError) else str(exc)
        said = said.replace(repository.location(entry), entry.path)  # where it is stored helps no reader
        return Preview(note=f"It cannot be shown: {said}", is_unreadable=True)


def _table(engine: DuckEngine, repository: Repository, entry: Entry, product: DataProduct | None) -> Preview:
    if not repository.location(entry).startswith("/") and entry.size > COPIED_BYTES:
        return Preview(note="It is too large to be fetched from its store for a preview.")
    copies = engine.temp_folder / f"preview-{uuid.uuid4().hex}"
    engine.temp_folder.mkdir(parents=True, exist_ok=True)
    try:
        (place,) = local_files(repository, [entry], copies).values()
        with engine.reading([place], what=f"the preview of '{entry.path}'") as session:
            is_csv = format_of(entry.path) == "csv"
            source = _source(entry, place)
            columns = [(name, kind) for name, kind, *_ in session.rows(f"DESCRIBE SELECT * FROM {source}")]
            names = [name for name, _ in columns]
            declared = None
            if product:
                folder = entry.path.split("/")[0]
                declared = next((one for one in product.data_sets if one.name == folder), None)
            shown = shown_columns(product, declared, names) if product and declared else frozenset()
            wanted = [name for name in names[:COLUMNS] if name in shown]
            found: list[tuple[Any, ...]] = []
            if wanted:
                chosen = ", ".join(f"left(CAST({quoted(n)} AS VARCHAR), {CELL_CHARACTERS})" for n in wanted)
                found = session.rows(f"SELECT {chosen} FROM {source} LIMIT {ROWS}")
            count = None if is_csv else int(session.row(f"SELECT count(*) FROM {source}")[0])
            facts = None
            if not is_csv:
                with contextlib.suppress(TulleError):  # rows are shown even where the footer is odd
                    facts = _unmasked(parquet_facts(session, place, columns[:COLUMNS]), shown)
    finally:
        shutil.rmtree(copies, ignore_errors=True)
    place_of = {name: i for i, name in enumerate(wanted)}
    rows = tuple(tuple(row[place_of[n]] if n in place_of else None for n in names[:COLUMNS]) for row in found)
    told = columns[:COLUMNS]
    if is_csv:  # without a header line the first row would be the names
        known = {column.name for column in declared.columns} if declared else frozenset()
        told = [(n if n in known else f"column {i}", kind) for i, (n, kind) in enumerate(told, start=1)]
    masked = frozenset(told[i][0] for i, n in enumerate(names[:COLUMNS]) if n not in shown)
    return Preview(
        TablePreview(
            tuple(told),
            masked,
            rows,
            count,
            max(0, len(columns) - COLUMNS),
            _note(product, declared is not None),
            facts,
        )
    )


def _unmasked(facts: ParquetFacts, shown: Collection[str]) -> ParquetFacts:
    columns = (c if c.name in shown else replace(c, least=None, most=None) for c in facts.columns)
    return replace(facts, columns=tuple(columns))


def _source(entry: Entry, place: str) -> str:
    if format_of(entry.path) == "parquet":
        return f"read_parquet([{literal(place)}], hive_partitioning = false)"
    packing = {"gz": "gzip", "zst": "zstd"}.get(entry.path.lower().rpartition(".")[2], "none")
    return (
        f"read_csv([{literal(place)}], compression = '{packing}', header = true, all_varchar = true,"
        " hive_partitioning = false)"
    )


def _note(product: DataProduct | None, is_declared: bool) -> str:
    if product is None:
        return "No product declares what these columns hold, so no values are shown."
    if not is_declared:
        return "The product declares no data set of this name, so no values are shown."
    return ""


def _text(repository: Repository, entry: Entry, product: DataProduct | None) -> Preview:
    name = entry.path.lower()
    kind = entry.content_type.partition(";")[0]
    is_written = is_document(name) or entry.path.startswith(_OWN_FOLDERS)
    is_text = name.endswith(_TEXTS) or kind.startswith("text/") or kind.endswith("json")
    if not (is_written or is_text):
        return Preview(note="There is no preview of this kind of object.")
    if not may_show_text(product, is_document=is_written):
        return Preview(note="Its text may name people, so it is not shown here.")
    data = b"".join(repository.read(entry, 0, min(entry.size, TEXT_BYTES)))[:TEXT_BYTES]
    is_cut = entry.size > len(data)
    try:
        text = data.decode()
    except UnicodeDecodeError as exc:
        if not is_cut or exc.start < len(data) - 3:  # no character is longer than four bytes
            return Preview(note="It is no UTF-8 text.")
        text = data[: exc.start].decode()
    if "\0" in text:
        return Preview(note="It is no text.")
    return Preview(text=TextPreview(text, is_cut))


def is_document(name: str) -> bool:
    """Whether people wrote a file of that name for others to read: no rows are in it."""
    return name.lower().endswith(_DOCUMENTS)


def may_show_text(product: DataProduct | None, *, is_document: bool) -> bool:
    """Whether a text may be shown: documents unless all is restricted, others where nobody is named."""
    if product is None:
        return is_document
    if is_closed(product, None) or any(is_closed(product, one) for one in product.data_sets):
        return False
    return is_document or not has_masked(product)
