"""Work on whole data sets by the definitions of a service, in a process of its own: training sets, batch forms, stores.

    python -m tulle.serving.batch --mesh FOLDER --batch ID

What is asked and what came of it is one file in `.tulle/batches/`. The rows are published by one commit at the end,
which names what they were made from: who is killed on the way has published nothing, and is simply asked again. Package
and look-ups are those that answer requests. Runs within the bounds of the mesh's warehouse and gives way to services.
"""

from __future__ import annotations

import argparse
import json
import secrets
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pyarrow.parquet as pq

from tulle.config import Settings, collector
from tulle.engine.duck import DuckEngine
from tulle.engine.engine import Relation, quoted
from tulle.errors import Broken, Invalid, NotFound, TulleError, did_you_mean
from tulle.lake.repository import Lake
from tulle.pipeline.data_files import data_files
from tulle.pipeline.record import read_record
from tulle.serving import package
from tulle.serving.fill import Fill, Filling, all_told, fills_of
from tulle.serving.keyed_rows import BUNDLED
from tulle.serving.live import entries_of, write
from tulle.serving.package import LakeSource, Package
from tulle.serving.score_file import score_file
from tulle.serving.training import ENTITIES, Asked, parts_of, relation_of, training_sql
from tulle.spec.rules import RESERVED_DATA_SETS
from tulle.state.db import Database

BATCHES = "batches"
TRAINING, SCORE, PUBLISH = "training-set", "score", "publish"
RUNNING, SUCCEEDED, FAILED = "running", "succeeded", "failed"
_START_SECONDS = 600.0  # that a process has until it says that it is there
_TOLD_SECONDS = 0.5  # between two times that it is written down how far publishing is
ROWS_AT_ONCE = 4_000_000  # of entities and look-ups together, that are joined at a time


@dataclass(frozen=True, slots=True)
class Batch:
    """One piece of work, and how far it is. Data sets are (product, data set); times are seconds since 1970."""

    id: str
    kind: str
    service: str
    endpoint: str
    version: str
    source: tuple[str, str]  # the rows: entities, or what is scored
    target: tuple[str, str]
    ref: str
    time: str = ""  # of a training set: the column of the entities that tells it
    commit: str = ""  # of publishing: what of, where it is not what is published
    renamed: Mapping[str, str] = field(default_factory=dict)  # of scoring: {name sent: column}
    keep: tuple[str, ...] | None = None  # of scoring: the columns that stay
    actor: str = ""
    status: str = RUNNING
    message: str = ""
    hint: str | None = None
    progress: tuple[int, int] | None = None  # of publishing: rows done, of how many
    result: Mapping[str, Any] = field(default_factory=dict)
    created_at: float = 0.0
    ended_at: float | None = None
    pid: int | None = None
    pid_created: float | None = None


_LEFT = {PUBLISH: "stores hold what they held, and publishing again goes on from there"}


def new_id() -> str:
    """A name for a batch; later ones come later in the alphabet."""
    return f"{int(time.time()):x}-{secrets.token_hex(4)}"


def file_of(settings: Settings, batch: str) -> Path:
    """Where a batch is written down."""
    return settings.state_folder / BATCHES / f"{batch}.json"


def log_of(settings: Settings, batch: str) -> Path:
    """What its process wrote."""
    return settings.log_folder / f"batch-{batch}.log"


def read(settings: Settings, batch: str) -> Batch:
    """One batch; one whose process is gone has failed. NotFound."""
    try:
        found = msgspec.json.decode(file_of(settings, batch).read_bytes(), type=Batch)
    except OSError as exc:
        raise NotFound(
            f"there is no batch '{batch[:60]}'", hint="a batch is kept until 100 came later"
        ) from exc
    except msgspec.MsgspecError as exc:
        raise Broken(f"what is recorded of batch '{batch}' cannot be read: {exc}") from exc
    is_late = found.pid is None and time.time() - found.created_at > _START_SECONDS
    if found.status == RUNNING and (is_late or (found.pid is not None and not _lives(found))):
        again = msgspec.json.decode(file_of(settings, batch).read_bytes(), type=Batch)
        if again.status != RUNNING:  # it ended while we looked
            return again
        message = "its process ended before it was done; " + _LEFT.get(found.kind, "nothing was published")
        return replace(found, status=FAILED, message=message, hint=f"its log: {log_of(settings, batch)}")
    return found


def _lives(batch: Batch) -> bool:
    try:
        process = psutil.Process(batch.pid)
        return process.status() != psutil.STATUS_ZOMBIE and process.create_time() == batch.pid_created
    except psutil.Error:
        return False


def demand(batch: Batch, lake: Lake, chosen: Package) -> Mapping[str, Any]:
    """What the package says of the endpoint. NotFound, or Invalid, for what can be told before any work."""
    names = [str(one["name"]) for one in chosen.manifest.endpoints]
    if batch.endpoint not in names:
        raise _unknown_endpoint(batch, names)
    if batch.source == batch.target:
        raise Invalid(f"data set '{batch.target[1]}' cannot be read and written at once")
    if batch.target[1] in RESERVED_DATA_SETS:
        raise Invalid(
            f"a data set cannot be named '{batch.target[1]}': {RESERVED_DATA_SETS[batch.target[1]]}",
            hint="choose another name",
        )
    source = LakeSource(lake, batch.ref)
    product, data_set = batch.source
    known = source.names(product)
    if data_set not in known:
        raise NotFound(
            f"product '{product}' publishes no data set '{data_set}'", hint=did_you_mean(data_set, known)
        )
    if read_record(lake.repository(batch.target[0]), batch.ref, batch.target[1]) is not None:
        raise Invalid(
            f"data set '{batch.target[1]}' is made by a job of product '{batch.target[0]}'",
            hint="choose another name: the next run would make it anew",
        )
    return next(one for one in chosen.manifest.endpoints if one["name"] == batch.endpoint)


def carry_out(batch: Batch, settings: Settings, database: Database, lake: Lake) -> Mapping[str, Any]:
    """Do it, and publish what comes of it by one commit; what is told of it."""
    chosen = package.get(database, batch.service, batch.version)
    if batch.kind == PUBLISH:
        return _published_to_stores(batch, chosen, settings, database, lake)
    endpoint = demand(batch, lake, chosen)
    scratch = settings.state_folder / BATCHES / f".{batch.id}"
    scratch.mkdir(parents=True, exist_ok=True)
    try:
        work = _Work(batch, chosen, endpoint, settings, database, lake, scratch)
        return work.training_set() if batch.kind == TRAINING else work.score()
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def demand_fills(batch: Batch, chosen: Package) -> Sequence[Fill]:
    """The stores that are to be filled. NotFound, or Invalid, for what can be told before any work."""
    names = [str(one["name"]) for one in chosen.manifest.endpoints]
    if batch.endpoint and batch.endpoint not in names:
        raise _unknown_endpoint(batch, names)
    found = fills_of(chosen, batch.endpoint)
    if not found:
        what = f"endpoint '{batch.endpoint}'" if batch.endpoint else f"service '{batch.service}'"
        raise Invalid(
            f"{what} {batch.version} looks nothing up in a store that the lake fills",
            hint="say `fill: asked` or `fill: published` with the connection in its `source`",
        )
    return found


def _published_to_stores(
    batch: Batch, chosen: Package, settings: Settings, database: Database, lake: Lake
) -> Mapping[str, Any]:
    """Fill the stores that the package wants filled; those before one that fails stay filled."""
    from tulle.state.connections import open_connections  # noqa: PLC0415  only this needs it

    told_at = 0.0

    def told(done: int, of: int) -> None:
        nonlocal told_at
        if done >= of or time.monotonic() - told_at > _TOLD_SECONDS:
            told_at = time.monotonic()
            write(file_of(settings, batch.id), replace(batch, progress=(done, of)))

    filling = Filling(settings, lake, open_connections(settings, database).get, told)
    found = [(fill, filling.fill(fill, batch.commit)) for fill in demand_fills(batch, chosen)]
    stores = all_told(found)
    return {
        "stores": stores,
        "rows": sum(one["rows"] for one in stores),
        "written": sum(one["written"] for one in stores),
    }


def _unknown_endpoint(batch: Batch, names: Sequence[str]) -> NotFound:
    return NotFound(
        f"service '{batch.service}' {batch.version} has no endpoint '{batch.endpoint}'",
        hint=did_you_mean(batch.endpoint, names) or "it has: " + ", ".join(names),
    )


@dataclass(frozen=True, slots=True)
class _Work:
    batch: Batch
    chosen: Package
    endpoint: Mapping[str, Any]
    settings: Settings
    database: Database
    lake: Lake
    scratch: Path

    def _engine(self) -> DuckEngine:
        return DuckEngine(self.settings.warehouse, self.scratch / "spill")

    def _rows(self, source: LakeSource) -> tuple[Relation, str]:
        product, data_set = self.batch.source
        relation = source.relation(product, data_set, self.scratch / "rows")
        return replace(relation, name=ENTITIES), source.commit(product)

    def training_set(self) -> Mapping[str, Any]:
        """Entities with the features that the endpoint would have had then."""
        source, engine = LakeSource(self.lake, self.batch.ref, self.database), self._engine()
        entities, commit = self._rows(source)
        look_ups, commits = entries_of(self.endpoint), dict(self.endpoint.get("commits", {}))
        relations = [entities]
        for number, entry in enumerate(look_ups):
            if entry.source != BUNDLED:  # what follows, and what is in a database: its history is in the lake
                commits[entry.origin] = source.commit(entry.product)
            at = commits[entry.origin]
            folder = self.scratch / f"look-up-{number}"
            relation = source.relation(entry.product, entry.data_set, folder, at)
            relations.append(replace(relation, name=relation_of(number)))
        asked = Asked(_types(engine, entities), self.batch.time, self.endpoint["type"] == "predict")
        sql = training_sql(look_ups, asked)
        draft = self.lake.repository(self.batch.target[0]).draft(self.batch.ref)
        sizes = [sum(pq.read_metadata(file).num_rows for file in one.files) for one in relations]
        rows = 0
        with data_files(draft, self.batch.target[1]) as files:
            for number, part in enumerate(
                parts_of(look_ups, asked, relations, -(-sum(sizes) // ROWS_AT_ONCE))
            ):
                target = files.new(f"part-{number:04}.parquet")
                written = engine.write(sql, part, target, file="the training set")
                if not written.rows and number:
                    files.drop(target)
                rows += written.rows
            files.settle()
        columns = [column.name for column in written.columns]
        told = {"rows": rows, "left_out": sizes[0] - rows, "columns": columns}
        read = {origin: commits[origin] for origin in {entry.origin for entry in look_ups}}
        return self._published(draft, told, {**read, "/".join(self.batch.source): commit})

    def score(self) -> Mapping[str, Any]:
        """The rows with what the endpoint answers to each."""
        rows, commit = self._rows(LakeSource(self.lake, self.batch.ref))
        draft = self.lake.repository(self.batch.target[0]).draft(self.batch.ref)
        with data_files(draft, self.batch.target[1]) as files:
            scoring, answered = score_file(
                self.chosen,
                self.batch.endpoint,
                rows,
                files.new("part-0000.parquet"),
                engine=self._engine(),
                settings=self.settings,
                renamed=self.batch.renamed,
                keep=self.batch.keep,
            )
            files.settle()
        told = scoring.told
        said = {"rows": told.rows, "failed": told.failed, "errors": told.errors}
        commits = {**answered, "/".join(self.batch.source): commit}
        return self._published(draft, {**said, "columns": [c.name for c in scoring.columns]}, commits)

    def _published(
        self, draft: Any, told: Mapping[str, Any], commits: Mapping[str, str]
    ) -> Mapping[str, Any]:
        batch = self.batch
        what = "training set" if batch.kind == TRAINING else "answers"
        made = self.lake.repository(batch.target[0]).commit_draft(
            batch.ref,
            draft,
            f"{what} of {batch.service}/{batch.endpoint}",
            committer=batch.actor,
            metadata={
                f"tulle.{batch.kind}": f"{batch.service}/{batch.endpoint}",
                "tulle.package": f"{batch.version} {self.chosen.digest}",
                "tulle.read": json.dumps(dict(sorted(commits.items()))),
            },
        )
        return {**told, "commit": made.id, "read": dict(sorted(commits.items()))}


def _types(engine: DuckEngine, relation: Relation) -> dict[str, str]:
    found = engine.describe(f"SELECT * FROM {quoted(relation.name)}", [relation])  # noqa: S608
    return {column.name: column.type for column in found}


def main(arguments: Sequence[str] | None = None) -> int:
    """Carry out one batch; 0 when that is done."""
    parser = argparse.ArgumentParser(prog="tulle.serving.batch", description="Work on a whole data set.")
    parser.add_argument("--mesh", type=Path, required=True, help="the mesh folder")
    parser.add_argument("--batch", required=True, help="its id")
    options = parser.parse_args(arguments)
    from tulle.pipeline.mesh_lake import open_mesh_lake  # noqa: PLC0415  heavy, and the control plane has one
    from tulle.pipeline.worker import bound  # noqa: PLC0415
    from tulle.spec.mesh import load_settings  # noqa: PLC0415
    from tulle.state.db import open_database  # noqa: PLC0415

    settings = load_settings(options.mesh)
    me = psutil.Process()
    batch = replace(read(settings, options.batch), pid=me.pid, pid_created=me.create_time())
    write(file_of(settings, batch.id), batch)
    bound(settings.warehouse)
    database = open_database(settings.database_url)
    try:
        result = carry_out(batch, settings, database, open_mesh_lake(settings, database))
        batch = replace(batch, status=SUCCEEDED, result=result)
    except TulleError as exc:
        batch = replace(batch, status=FAILED, message=exc.message, hint=exc.hint)
    except Exception as exc:
        name = type(exc).__name__
        batch = replace(batch, status=FAILED, message=f"it could not be done: {name}: {exc}"[:500])
        raise
    finally:
        write(file_of(settings, batch.id), replace(batch, ended_at=time.time()))
        database.close()
    return 0 if batch.status == SUCCEEDED else 1


if __name__ == "__main__":
    collector.keep()
    sys.exit(main())
