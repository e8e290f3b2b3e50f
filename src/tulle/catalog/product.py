"""One product as its page shows it: what was promised, and what is really there at `main`.

Rows are read through the engine, at a commit, and only the columns that may be shown ever leave it. What a
commit holds never changes, so it is read once.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tulle.catalog.masking import is_closed, shown_columns
from tulle.config import Settings, Warehouse
from tulle.engine.duck import DuckEngine
from tulle.engine.engine import ColumnType, Engine, Relation, quoted
from tulle.errors import TulleError
from tulle.lake.repository import Lake, Repository
from tulle.quality.verdict import plain
from tulle.spec.product import Column, DataProduct, DataSet, ServiceLevelAsset, ServiceLevelIndicator

SAMPLE_ROWS = 8
REMEMBERED = 256  # data sets at a commit whose sample is kept
PUBLISHED = "main"


@dataclass(frozen=True, slots=True)
class ColumnView:
    """A column as declared, as it is, or both; the type that is there where the two differ is `actual`."""

    name: str
    type: str
    description: str = ""
    key: bool = False
    required: bool = False
    pii: str = "none"
    tags: tuple[str, ...] = ()
    semantics: str = ""
    is_declared: bool = True
    actual: str = ""


@dataclass(frozen=True, slots=True)
class Sample:
    """The first rows at a commit; a masked column's cells are None. `note` says why rows are missing."""

    commit: str
    row_count: int
    bytes: int
    files: int
    columns: tuple[ColumnType, ...]
    masked: frozenset[str]
    rows: tuple[tuple[Any, ...], ...]
    note: str = ""


@dataclass(frozen=True, slots=True)
class End:
    """That a data set, or a port by which it is read, is there no longer than `sunset`, if a day is named."""

    what: str
    sunset: str
    instead: str
    data_set: str = ""  # of the same product, where `instead` is read


@dataclass(frozen=True, slots=True)
class DataSetView:
    """A data set: its schema and what is published of it; `sample` is None before the first publish."""

    name: str
    title: str
    description: str
    table: str
    columns: tuple[ColumnView, ...]
    sample: Sample | None
    problem: str = ""
    ends: tuple[End, ...] = ()

    @property
    def key(self) -> tuple[str, ...]:
        """The names of the key columns."""
        return tuple(column.name for column in self.columns if column.key)


@dataclass(frozen=True, slots=True)
class ServiceLevel:
    """A guarantee and how it is measured."""

    asset: ServiceLevelAsset | None
    indicators: tuple[ServiceLevelIndicator, ...]


class Shelf:
    """Reads data sets as they are published, and remembers them by commit. Safe to share between threads."""

    def __init__(self, settings: Settings, lake: Lake, *, engine: Engine | None = None) -> None:
        bounds = Warehouse(threads=1, memory="512MB", temp_disk="1GB")
        self._engine: Engine = engine or DuckEngine(bounds, settings.run_folder / "portal")
        self._lake = lake
        self._kept: OrderedDict[tuple[str, str, str, str], DataSetView] = OrderedDict()
        self._lock = threading.Lock()

    def data_sets(self, product: DataProduct) -> tuple[DataSetView, ...]:
        """All declared data sets of a product. One that cannot be read says so instead of failing the page."""
        repository, commit = self._at(product.name, PUBLISHED)
        return tuple(self._data_set(product, one, repository, commit) for one in product.data_sets)

    def data_set(self, product: DataProduct, declared: DataSet, ref: str = PUBLISHED) -> DataSetView:
        """One data set of a product at a ref; of one that is not declared nothing but its schema is told."""
        return self._data_set(product, declared, *self._at(product.name, ref))

    def _at(self, product: str, ref: str) -> tuple[Repository | None, str]:
        try:
            repository = self._lake.repository(product)
            return repository, repository.resolve(ref)
        except TulleError:
            return None, ""

    def _data_set(
        self, product: DataProduct, declared: DataSet, repository: Repository | None, commit: str
    ) -> DataSetView:
        if repository is None:
            return _view(product, declared, None)
        key = (product.name, product.digest, commit, declared.name)
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        try:
            view = _view(product, declared, self._sample(product, declared, repository, commit))
        except (TulleError, OSError) as exc:
            return _view(product, declared, None, problem=str(exc))  # it may be readable again the next time
        with self._lock:
            self._kept[key] = view
            while len(self._kept) > REMEMBERED:
                self._kept.popitem(last=False)
        return view

    def _sample(
        self, product: DataProduct, declared: DataSet, repository: Repository, commit: str
    ) -> Sample | None:
        entries = [e for e in repository.entries(commit, f"{declared.name}/") if e.path.endswith(".parquet")]
        if not entries:
            return None
        relation = Relation(declared.name, tuple(repository.location(entry) for entry in entries))
        name = quoted(declared.name)
        columns = self._engine.describe(f"SELECT * FROM {name}", [relation])  # noqa: S608  a quoted name
        counted = self._engine.query(f"SELECT count(*) AS n FROM {name}", [relation])  # noqa: S608  a quoted name
        shown = shown_columns(product, declared, [column.name for column in columns])
        rows: Sequence[dict[str, Any]] = []
        if shown:
            wanted = ", ".join(quoted(column.name) for column in columns if column.name in shown)
            query = f"SELECT {wanted} FROM {name} LIMIT {SAMPLE_ROWS}"  # noqa: S608  quoted names
            rows = self._engine.query(query, [relation]).to_pylist()
        return Sample(
            commit=commit,
            row_count=int(counted.column("n")[0].as_py()),
            bytes=sum(entry.size for entry in entries),
            files=len(entries),
            columns=columns,
            masked=frozenset(column.name for column in columns) - shown,
            rows=tuple(tuple(plain(row.get(column.name)) for column in columns) for row in rows),
            note=_note(product, declared, shown),
        )


def service_levels(product: DataProduct) -> tuple[ServiceLevel, ...]:
    """Every guarantee with its indicators, then indicators of none."""
    indicators = product.service_level_indicators
    found = [
        ServiceLevel(asset, tuple(i for i in indicators if i.service_level_name == asset.name))
        for asset in product.service_level_assets
    ]
    known = {asset.name for asset in product.service_level_assets}
    loose = tuple(i for i in indicators if i.service_level_name not in known)
    return (*found, *([ServiceLevel(None, loose)] if loose else []))


def _note(product: DataProduct, declared: DataSet, shown: frozenset[str]) -> str:
    if is_closed(product, declared):
        return "Rows of restricted data are not shown."
    if not shown and not declared.columns:
        return "No columns are declared, so no rows are shown: declare them in product.yaml."
    return ""


def endings(product: DataProduct, data_set: DataSet) -> tuple[End, ...]:
    """What of a data set is deprecated: itself, and the ports that offer it."""
    found = [("This data set", "", data_set.replaced_by)] if data_set.deprecated else []
    found += [
        (f"The output port {port.title}", port.sunset, port.replaced_by)
        for port in product.output_ports
        if port.deprecated and data_set.name in port.offers
    ]
    read_at = {name: one.name for one in product.data_sets for name in (one.name, one.title)}
    read_at |= {name: port.data_set for port in product.output_ports for name in (port.name, port.title)}
    return tuple(End(what, sunset, instead, read_at.get(instead, "")) for what, sunset, instead in found)


def _view(
    product: DataProduct, declared: DataSet, sample: Sample | None, *, problem: str = ""
) -> DataSetView:
    actual = {column.name: column.type for column in sample.columns} if sample else {}
    columns = [_column(column, actual, is_there=sample is not None) for column in declared.columns]
    names = {column.name for column in declared.columns}
    columns += [ColumnView(n, kind, is_declared=False) for n, kind in actual.items() if n not in names]
    return DataSetView(
        declared.name,
        declared.title,
        declared.description,
        declared.table,
        tuple(columns),
        sample,
        problem,
        endings(product, declared),
    )


def _column(column: Column, actual: dict[str, str], *, is_there: bool) -> ColumnView:
    found = actual.get(column.name, "missing" if is_there else column.type)
    return ColumnView(
        column.name,
        column.type,
        column.description,
        column.key,
        column.required,
        column.pii,
        column.tags,
        column.semantics,
        actual="" if found == column.type else found,
    )
