"""What a run of a product has its services' definitions do, in a process of its own: answers to rows, training sets.

    python -m tulle.serving.for_run FILE

The file says what is asked (`pipeline/by_service.py` writes it), and where the answer and the rows are to be put.
Nothing is published here: the run does that, or not. What is looked up and followed is taken as it is published now,
whether or not anything serves it. Ends with the run that started it.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from tulle.config import Settings, Warehouse, collector
from tulle.engine.duck import DuckEngine
from tulle.engine.engine import ColumnType, Relation, quoted
from tulle.errors import Invalid, NotFound, TulleError, Unavailable, did_you_mean
from tulle.lake.repository import Lake
from tulle.pipeline.by_service import SCORE
from tulle.serving import live, package
from tulle.serving.keyed_rows import LATEST
from tulle.serving.live import entries_of, finders_of, home_of, say_wanted, wanted_by
from tulle.serving.loaded import Loaded
from tulle.serving.package import Package
from tulle.serving.refresh import live_folder, refresh
from tulle.serving.score_file import score_file
from tulle.serving.training import ENTITIES, relation_of, training_sql
from tulle.serving.training import Asked as TrainingAsked
from tulle.state.db import Database


class Rows(msgspec.Struct):
    """Rows of a data set: their files, and the columns as they are known; of another product's, which one."""

    files: list[str]
    columns: list[tuple[str, str]]
    product: str = ""
    data_set: str = ""

    def relation(self, name: str) -> Relation:
        """The same for the engine."""
        return Relation(name, tuple(self.files), tuple(ColumnType(*pair) for pair in self.columns))


class Asked(msgspec.Struct):
    """What is to be done, for which run's process, and where."""

    kind: str
    mesh: str
    product: str
    parent: int
    answer: str
    scratch: str
    warehouse: Warehouse
    service: str
    endpoint: str
    version: str
    rows: Rows
    target: str
    renamed: dict[str, str] = {}
    keep: list[str] | None = None
    time: str = ""
    known: list[Rows] = []


def carry_out(asked: Asked, settings: Settings, database: Database, lake: Lake) -> Mapping[str, Any]:
    """Do what is asked; what is told of it. NotFound, Invalid, Unavailable."""
    chosen = package.get(database, asked.service, asked.version)
    if chosen.product != asked.product:
        raise Invalid(
            f"service '{asked.service}' is one of product '{chosen.product}'",
            hint="declare an endpoint of your own over what you take in",
        )
    raw = {str(one["name"]): one for one in chosen.manifest.endpoints}
    if asked.endpoint not in raw:
        raise NotFound(
            f"service '{asked.service}' {asked.version} has no endpoint '{asked.endpoint}'",
            hint=did_you_mean(asked.endpoint, raw),
        )
    engine = DuckEngine(asked.warehouse, Path(asked.scratch) / "spill")
    if asked.kind == SCORE:
        return _score(asked, chosen, settings, lake, engine)
    return _training_set(asked, raw[asked.endpoint], engine)


def _score(
    asked: Asked, chosen: Package, settings: Settings, lake: Lake, engine: DuckEngine
) -> Mapping[str, Any]:
    def as_published(loaded: Loaded) -> None:
        for endpoint in loaded.endpoints.values():
            for finder in finders_of(endpoint):
                if finder.entry.source != LATEST:
                    continue
                wanted = wanted_by(finder.entry, loaded.manifest.ref)
                home = home_of(live_folder(settings), wanted)
                say_wanted(home, wanted)
                if (failed := refresh(home, lake, settings).failed) is not None:
                    raise Unavailable(f"what is looked up cannot be taken: {failed.message}")

    scoring, commits = score_file(
        chosen,
        asked.endpoint,
        asked.rows.relation("rows"),
        Path(asked.target),
        engine=engine,
        settings=settings,
        renamed=asked.renamed,
        keep=asked.keep,
        before=as_published,
    )
    told = scoring.told
    return {
        "columns": [[column.name, column.type] for column in scoring.columns],
        "rows": told.rows,
        "failed": told.failed,
        "errors": told.errors,
        "kept": scoring.kept,
        "sent": scoring.sent,
        "commits": dict(commits),
    }


def _training_set(asked: Asked, endpoint: Mapping[str, Any], engine: DuckEngine) -> Mapping[str, Any]:
    look_ups = entries_of(endpoint)
    known = {(one.product, one.data_set): one for one in asked.known}
    relations = [asked.rows.relation(ENTITIES)]
    for number, entry in enumerate(look_ups):
        if (entry.product, entry.data_set) not in known:
            raise Invalid(
                f"endpoint '{asked.service}/{asked.endpoint}' looks up '{entry.data_set}' of product "
                f"'{entry.product}', which the model does not read",
                hint="take it in by an input port where it is another product's, and name it in `inputs`",
            )
        relations.append(known[entry.product, entry.data_set].relation(relation_of(number)))
    found = engine.describe(f"SELECT * FROM {quoted(ENTITIES)}", relations[:1])  # noqa: S608
    wanted = TrainingAsked({c.name: c.type for c in found}, asked.time, endpoint["type"] == "predict")
    written = engine.write(
        training_sql(look_ups, wanted), relations, Path(asked.target), file="the training set"
    )
    (all_rows,) = engine.query(f"SELECT count(*) AS n FROM {quoted(ENTITIES)}", relations[:1]).to_pylist()  # noqa: S608
    return {"rows": written.rows, "left_out": all_rows["n"] - written.rows}


def answer(asked: Asked) -> None:
    """Carry out what is asked, and write down what came of it, also that it could not be done."""
    from tulle.pipeline.mesh_lake import open_mesh_lake  # noqa: PLC0415  heavy
    from tulle.spec.mesh import load_settings  # noqa: PLC0415
    from tulle.state.db import open_database  # noqa: PLC0415

    told: Mapping[str, Any]
    try:
        settings = load_settings(Path(asked.mesh))
        database = open_database(settings.database_url)
        try:
            told = carry_out(asked, settings, database, open_mesh_lake(settings, database))
        finally:
            database.close()
    except TulleError as exc:
        told = {"error": exc.as_dict()}
    finally:
        shutil.rmtree(asked.scratch, ignore_errors=True)
    live.write(Path(asked.answer), told)


def read_asked(file: Path) -> Asked:
    """What a file asks."""
    return msgspec.json.decode(file.read_bytes(), type=Asked)


def main(arguments: Sequence[str] | None = None) -> int:
    """Carry out what a file asks; 0 when an answer was written."""
    (file,) = sys.argv[1:] if arguments is None else arguments
    asked = read_asked(Path(file))
    _end_with(asked.parent)
    answer(asked)
    return 0


def _end_with(parent: int) -> None:
    """A run that is killed leaves nobody behind."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit(1)


if __name__ == "__main__":
    collector.keep()
    sys.exit(main())
