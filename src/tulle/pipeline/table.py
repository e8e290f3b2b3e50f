"""A data set at a ref: its files, and an identity that changes exactly when its rows may have."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import pyarrow.parquet as pq

from tulle.engine.engine import ColumnType, Relation
from tulle.lake.draft import Draft
from tulle.lake.repository import Entry, Repository
from tulle.pipeline.convert import columns_of

PARQUET = "application/vnd.apache.parquet"


@dataclass(frozen=True, slots=True)
class DataAt:
    """A data set as it is at one commit. `version` says which one, for people and for records."""

    name: str
    relation: Relation
    identity: str
    version: Mapping[str, str] = field(default_factory=dict)

    def with_columns(self, columns: Sequence[ColumnType] | Sequence[tuple[str, str]]) -> DataAt:
        """The same with its columns known."""
        types = tuple(c if isinstance(c, ColumnType) else ColumnType(*c) for c in columns)
        return replace(self, relation=replace(self.relation, columns=types))


def data_at(repository: Repository, ref: str, name: str, *, product: str = "") -> DataAt | None:
    """A data set at a ref, None when there is none. `product`: whose it is, when it is not our own."""
    found = data_in(repository, repository.entries(ref, f"{name}/"), name)
    if found is None or not product:
        return found
    version = {"product": product, "data_set": name, "commit": repository.resolve(ref)}
    return replace(found, version={**found.version, **version})


def data_in(store: Repository | Draft, found: Iterable[Entry], name: str) -> DataAt | None:
    """The data set that entries under its name are, None when they are none."""
    entries = [e for e in found if e.path.endswith(".parquet")]
    if not entries:
        return None
    files = tuple(store.location(entry) for entry in entries)
    content = [[e.path.removeprefix(f"{name}/"), e.size, e.checksum or e.address] for e in entries]
    identity = hashlib.sha256(json.dumps(content).encode()).hexdigest()
    return DataAt(name, Relation(name, files), identity, {"identity": identity})


def data_of(draft: Draft, name: str) -> DataAt | None:
    """A data set as a draft has it, None when it has none."""
    return data_in(draft, draft.entries(f"{name}/"), name)


def columns_in(relation: Relation) -> tuple[ColumnType, ...]:
    """The columns of a relation, from the foot of its first file."""
    return columns_of(pq.read_schema(relation.files[0]))
