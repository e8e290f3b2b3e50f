"""What is remembered with each data set about its making, in the repository itself: `_tulle/jobs/<job>.json`.

Because the record lies beside the data, every branch and every commit has the record of its own data.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from tulle.engine.engine import ColumnType
from tulle.errors import NotFound
from tulle.lake.draft import Draft
from tulle.lake.repository import Repository
from tulle.pipeline.graph import ProductCode
from tulle.pipeline.job import PYTHON, SQL, Job
from tulle.pipeline.table import DataAt
from tulle.quality.check import Check

if TYPE_CHECKING:
    from tulle.pipeline.make import Making

RECORDS = "_tulle/jobs/"
_FORMAT = 1  # raise it when data must be made again because we make it differently


@dataclass(frozen=True, slots=True)
class Record:
    """How a data set was made and found good.

    `made` and `checked` are fingerprints of all that decided it, `identity` is that of the rows that were made.
    """

    made: str
    checked: str
    identity: str
    run: str
    rows: int
    columns: tuple[tuple[str, str], ...]
    lineage: Mapping[str, Sequence[Sequence[str]]] = field(default_factory=dict)
    inputs: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    metrics: tuple[tuple[str, float], ...] = ()
    models: tuple[str, ...] = ()
    code: str = ""  # the fingerprint of what makes it, without what it is made from
    remembered: Mapping[str, Any] = field(default_factory=dict)  # where the next making goes on

    def types(self) -> tuple[ColumnType, ...]:
        """The columns as the engine knows them."""
        return tuple(ColumnType(name, kind) for name, kind in self.columns)

    def to_json(self) -> bytes:
        """The record as it is stored."""
        return json.dumps({"format": _FORMAT, **asdict(self)}, indent=1, sort_keys=True).encode()


def record_path(job: str) -> str:
    """Where the record of a job lies."""
    return f"{RECORDS}{job}.json"


def read_record(repository: Repository, ref: str, job: str) -> Record | None:
    """The record of a job's data at a ref; None when there is none that we understand."""
    try:
        return _understood(repository.get(ref, record_path(job)))
    except NotFound:
        return None


def record_of(draft: Draft, job: str) -> Record | None:
    """The record of a job's data as a draft has it; None when there is none that we understand."""
    try:
        return _understood(draft.get(record_path(job)))
    except NotFound:
        return None


def _understood(data: bytes) -> Record | None:
    try:
        value = json.loads(data)
        if value.pop("format") != _FORMAT:
            return None
        value["columns"] = tuple((name, kind) for name, kind in value["columns"])
        value["metrics"] = tuple((name, number) for name, number in value["metrics"])
        value["models"] = tuple(value["models"])
        return Record(**value)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None  # somebody else's file, or a damaged one: the data is simply made again


def code_fingerprint(job: Job, code: ProductCode) -> str:
    """Equal when the same rows would be made of the same inputs."""
    declared = [[c.name, c.type] for d in code.product.data_sets if d.name == job.name for c in d.columns]
    parts = [job.digest_text(), declared]
    if job.kind == PYTHON:
        parts.append(code.shared)
    if job.kind == SQL and code.macros:
        parts.append(code.macros)
    return _fingerprint(parts)


def made_fingerprint(job: Job, code: ProductCode, making: Making) -> str:
    """Equal when making the data set again would give the same rows."""
    inputs = {name: v.get("identity") for name, v in sorted(making.versions.items())}
    return _fingerprint([code_fingerprint(job, code), inputs])


def checked_fingerprint(
    job: Job, code: ProductCode, checks: Sequence[Check], data: Mapping[str, DataAt]
) -> str:
    """Equal when the checks that guard the data set would look at the same again."""
    declared = [[c.name, c.type] for d in code.product.data_sets if d.name == job.name for c in d.columns]
    looked_at = sorted(
        {name for check in checks for name in (job.name, check.data_set, *check.others)} | {job.name}
    )
    identities = {name: data[name].identity for name in looked_at if name in data}
    macros = code.macros if any(check.kind == "sql" for check in checks) else ()
    return _fingerprint([declared, [check.digest_text() for check in checks], identities, macros])


def _fingerprint(parts: object) -> str:
    return hashlib.sha256(json.dumps([_FORMAT, parts], sort_keys=True).encode()).hexdigest()
