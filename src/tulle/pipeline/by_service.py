"""What a run has a service's definitions do: answer rows, and put together features as they were at a time.

The work is that of `tulle.serving.for_run`, in a process of its own that ends with the run: it is asked by a file and
answers by one. Which package that is, and what it reads that may change, is read here, as it decides whether a data
set is to be made again. Knows nothing of models or look-ups.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from tulle.config import Warehouse
from tulle.engine.duck import DuckEngine
from tulle.engine.engine import ColumnType, Engine, Relation, quoted
from tulle.errors import Broken, Denied, NotFound, Place, Problem, did_you_mean, from_dict
from tulle.lake.repository import Lake
from tulle.pipeline.table import data_at
from tulle.state.db import Database
from tulle.state.tables import packages

if TYPE_CHECKING:
    from tulle.pipeline.scored import Score

MODULE = "tulle.serving.for_run"
SCORE, TRAINING = "score", "training-set"


@dataclass(frozen=True, slots=True)
class Desk:
    """Where a run asks: its mesh, its product, its engine, and a folder for files that do not stay."""

    mesh: Path
    product: str
    engine: Engine
    folder: Path


def packaged(
    database: Database, lake: Lake, product: str, score: Score, run: str, place: Place | None
) -> dict[str, str]:
    """Which package answers, as the version of something that is read; equal identities, equal answers.

    NotFound for a version or an endpoint that is not there, Denied for a service of another product.
    """
    with database.read() as cx:
        rows = cx.execute(select(packages).where(packages.c.service == score.service)).all()
    found = next((row for row in rows if row.version == score.version), None)
    if found is None:
        known = [row.version for row in rows]
        hint = did_you_mean(score.version, known) or f"`tulle service package {score.service}` builds one"
        what = f"service '{score.service}' has no version '{score.version}'"
        raise NotFound(what, hint=hint, problems=[Problem(what, place, hint)])
    if found.product != product:
        hint = "take its data by an input port, and declare an endpoint of your own"
        what = f"service '{score.service}' is one of product '{found.product}'"
        raise Denied(what, hint=hint, problems=[Problem(what, place, hint)])
    endpoints = {one["name"]: one for one in found.manifest["endpoints"]}
    if score.endpoint not in endpoints:
        hint = did_you_mean(score.endpoint, endpoints) or "package the service again"
        what = f"service '{score.service}' {score.version} has no endpoint '{score.endpoint}'"
        raise NotFound(what, hint=hint, problems=[Problem(what, place, hint)])
    looked_at = [found.digest, *_followed(lake, found.manifest, endpoints, score.endpoint, run)]
    identity = hashlib.sha256(json.dumps(looked_at).encode()).hexdigest()
    return {"identity": identity, "service": score.service, "package": f"{score.version} {found.digest}"}


def _followed(
    lake: Lake, manifest: Mapping[str, Any], endpoints: Mapping[str, Any], endpoint: str, run: str
) -> Iterator[str]:
    """What the answers are of beside the package: data sets that are followed, and what may be other any time."""
    chosen = endpoints[endpoint]
    is_composed = chosen["type"] == "compose"  # it may call every other endpoint
    for one in endpoints.values() if is_composed else (chosen,):
        if one.get("callees") or _asks_outside(one.get("steps", ())):
            yield run
        rows = one.get("rows")
        for entry in (*([rows] if isinstance(rows, dict) else ()), *one.get("enrich", ())):
            if entry.get("store"):
                yield run
            elif entry.get("source") == "latest":
                at = data_at(lake.repository(entry["product"]), manifest["ref"], entry["data_set"])
                yield at.identity if at is not None else ""


def _asks_outside(steps: Any) -> bool:
    """Whether some step of a composition asks an address."""
    if isinstance(steps, Mapping):
        return "http" in steps or any(map(_asks_outside, steps.values()))
    return isinstance(steps, list | tuple) and any(map(_asks_outside, steps))


def score(desk: Desk, name: str, asked: Score, rows: Relation, target: Path) -> Mapping[str, Any]:
    """Have rows answered, into a Parquet file: `columns`, `rows`, `failed`, `errors`, `kept` and `sent`."""
    return _ask(
        desk,
        name,
        {
            "kind": SCORE,
            "service": asked.service,
            "endpoint": asked.endpoint,
            "version": asked.version,
            "rows": _laid_out(desk, name, rows),
            "renamed": dict(asked.renamed),
            "keep": None if asked.keep is None else list(asked.keep),
            "target": str(target),
        },
    )


def training_set(
    desk: Desk,
    name: str,
    endpoint: tuple[str, str, str],
    entities: Relation,
    time: str,
    known: Mapping[tuple[str, str], Relation],
    target: Path,
) -> Mapping[str, Any]:
    """Have entities put together with the features of their times, into a Parquet file: `rows` and `left_out`.

    `endpoint` is service, version and endpoint; `known` are the relations there are, by product and data set.
    """
    service, version, named = endpoint
    return _ask(
        desk,
        name,
        {
            "kind": TRAINING,
            "service": service,
            "endpoint": named,
            "version": version,
            "rows": _laid_out(desk, name, entities),
            "time": time,
            "known": [
                {"product": product, "data_set": data_set, **_laid_out(desk, name, relation)}
                for (product, data_set), relation in known.items()
            ],
            "target": str(target),
        },
    )


def _laid_out(desk: Desk, name: str, relation: Relation) -> dict[str, Any]:
    """The files that hold a relation's rows; those of a view are made."""
    files = list(relation.files)
    columns: Sequence[ColumnType] = relation.columns
    if relation.sql:
        file = desk.folder / f"{name}-reads-{relation.name}.parquet"
        columns = desk.engine.write(f"SELECT * FROM {quoted(relation.name)}", [relation], file).columns  # noqa: S608
        files = [str(file)]
    return {"files": files, "columns": [[c.name, c.type] for c in columns]}


def _ask(desk: Desk, name: str, asked: Mapping[str, Any]) -> Mapping[str, Any]:
    """What the process answers; the TulleError that it met, or Broken when it ended without an answer."""
    desk.folder.mkdir(parents=True, exist_ok=True)
    question, answer = desk.folder / f"{name}.asked.json", desk.folder / f"{name}.answer.json"
    answer.unlink(missing_ok=True)
    warehouse = desk.engine.warehouse if isinstance(desk.engine, DuckEngine) else Warehouse()
    about = {
        "mesh": str(desk.mesh),
        "product": desk.product,
        "parent": os.getpid(),
        "answer": str(answer),
        "scratch": str(desk.folder / f"{name}-scratch"),
        "warehouse": asdict(warehouse),
    }
    question.write_text(json.dumps({**about, **asked}))
    code = _carried_out(question)
    try:
        told: dict[str, Any] = json.loads(answer.read_bytes())
    except (OSError, ValueError):
        raise Broken(
            f"the process that asks endpoint '{asked['service']}/{asked['endpoint']}' ended with {code} "
            "and without an answer",
            hint="its last words are in the run's log; it may have used up its warehouse's memory",
        ) from None
    if "error" in told:
        raise from_dict(told["error"])
    return told


def _carried_out(question: Path) -> int:
    """How the process ended that does what a file asks. What models print goes to the run's log."""
    process = subprocess.Popen(  # noqa: S603  our own module
        [sys.executable, "-m", MODULE, str(question)], stdin=subprocess.DEVNULL, stderr=subprocess.STDOUT
    )
    try:
        return process.wait()
    except BaseException:
        process.kill()
        raise
