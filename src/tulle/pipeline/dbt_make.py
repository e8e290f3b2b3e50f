"""A dbt project's part of a run: built as its job's draft, its tables kept where the jobs of its data sets take them.

Everything lies in the repository: the tables, and the database with what dbt goes on from the next time. A run that
fails leaves none of it.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from tulle.engine.engine import ColumnType, Engine, Relation
from tulle.errors import Broken, Invalid, NotFound, Problem
from tulle.lake.draft import Draft
from tulle.lake.repository import Link, Repository
from tulle.pipeline.columns import adjusted
from tulle.pipeline.dbt_lineage import lineage
from tulle.pipeline.dbt_run import DbtAnswer, DbtAsked, build
from tulle.pipeline.dbt_told import MODEL_KINDS, Node, documented, failures, results, rows_of
from tulle.pipeline.job import Job
from tulle.pipeline.judge import FAILING
from tulle.pipeline.table import PARQUET, DataAt
from tulle.quality.verdict import CheckResult
from tulle.spec.dbt_project import DbtProject
from tulle.spec.product import DataProduct

STATE = "_tulle/dbt/"
_ABOUT, _DATABASE, _TABLES = "about.json", "state.duckdb", "tables/"
_RAW = "_raw"
_SCHEMA = pa.schema(
    [
        ("node", pa.string()),
        ("kind", pa.string()),
        ("materialized", pa.string()),
        ("file", pa.string()),
        ("status", pa.string()),
        ("row_count", pa.int64()),
        ("content", pa.string()),
    ]
)


@dataclass(frozen=True, slots=True)
class Project:
    """What is to be built for a run."""

    product: DataProduct
    project: DbtProject
    wanted: tuple[str, ...]
    relations: Mapping[str, Relation]
    engine: Engine
    run: str
    folder: Path
    say: Callable[[str], None]
    full: bool


@dataclass(frozen=True, slots=True)
class Built:
    """A row for each node, and the verdicts of the project's tests."""

    table: pa.Table
    results: tuple[CheckResult, ...]


def build_project(draft: Draft, asked: Project) -> Built:
    """Build a project and draft what came of it. Invalid, naming each model that could not be made."""
    home = f"{STATE}{asked.project.name}/"
    answer = build(
        DbtAsked(
            asked.project,
            asked.wanted,
            asked.relations,
            asked.engine,
            asked.folder,
            asked.say,
            _file_at(draft, f"{home}{_DATABASE}"),
            asked.full,
        )
    )
    if problems := failures(asked.project, answer.nodes):
        first, more = problems[0], f", and {len(problems) - 1} more" if len(problems) > 1 else ""
        message = f"{first.place}: {first.message}{more}"
        raise Invalid(message, hint="what dbt said is in the run's log", problems=problems)
    found = [
        *results(asked.project, answer.nodes, answer.sources),
        *documented(asked.product, answer.nodes),
    ]
    if any(result.stops for result in found):
        found = _keep_failing(draft, asked, answer, found)
        return Built(_table(asked, answer, {}), tuple(found))
    links, digests = _tables(draft, asked, answer, home)
    if answer.state is not None:
        links.append(_kept(draft, answer.state, f"{home}{_DATABASE}"))
    draft.delete_prefix(home)
    if links:
        draft.link_many(links)
    about = {"dbt": answer.version, "lineage": lineage(answer.nodes, answer.sources, asked.wanted)}
    draft.put(f"{home}{_ABOUT}", json.dumps(about, sort_keys=True).encode(), content_type="application/json")
    return Built(_table(asked, answer, digests), tuple(found))


def judge_project(
    repository: Repository,
    commit: str,
    job: Job,
    data: Mapping[str, DataAt],
    engine: Engine,
    folder: Path,
    say: Callable[[str], None],
) -> tuple[CheckResult, ...]:
    """The verdicts of a project's tests on what is published at a commit; what they look at and is kept nowhere is made
    for them. NotFound when something the project reads is not there."""
    project = job.dbt
    assert project is not None
    if missing := [name for name in job.inputs if name not in data]:
        raise NotFound(f"'{missing[0]}', which the dbt project '{job.name}' reads, has no data")
    path = f"{STATE}{project.name}/{_DATABASE}"
    state = next((e for e in repository.entries(commit, path) if e.path == path), None)
    answer = build(
        DbtAsked(
            project,
            (),
            {name: data[name].relation for name in job.inputs},
            engine,
            folder,
            say,
            Path(repository.location(state)) if state else None,
            published={name: data[name].relation.files for name in job.tables if name in data},
        )
    )
    return tuple(results(project, answer.nodes, answer.sources))


def take(draft: Draft, project: str, data_set: str) -> dict[str, list[list[str]]]:
    """Make a project's table the data set that it is; no byte is copied. Gives its column lineage."""
    home = f"{STATE}{project}/"
    path = f"{home}{_TABLES}{data_set}.parquet"
    found = [entry for entry in draft.entries(path) if entry.path == path]
    if not found:
        hint = f"choose the project as well: --select '{project}+', or run all with --full"
        raise NotFound(f"dbt has not made '{data_set}' yet", hint=hint)
    (entry,) = found
    draft.delete_prefix(f"{data_set}/")
    target = f"{data_set}/part-0000.parquet"
    link = Link(target, entry.address, entry.size, entry.checksum, content_type=PARQUET)
    draft.link_many([link])
    try:
        about = json.loads(draft.get(f"{home}{_ABOUT}"))
        return dict(about["lineage"].get(data_set, {}))
    except (NotFound, ValueError, KeyError, TypeError, AttributeError):
        return {}  # a picture for people; the rows are there


def _file_at(draft: Draft, path: str) -> Path | None:
    for entry in draft.entries(path):
        if entry.path == path:
            return Path(draft.location(entry))
    return None


def _tables(draft: Draft, asked: Project, answer: DbtAnswer, home: str) -> tuple[list[Link], dict[str, str]]:
    """The data sets with the mesh's own types, and what tells their rows apart from others."""
    made = {
        str(n["name"]).lower(): n for n in answer.nodes if n["kind"] in MODEL_KINDS and n.get("rows_file")
    }
    if missing := [name for name in asked.wanted if name not in made]:
        raise Invalid(
            "dbt made less than is asked of it", problems=[_unmade(asked, name) for name in missing]
        )
    declared = {data_set.name: data_set for data_set in asked.product.data_sets}
    links, digests = [], {}
    for name in asked.wanted:
        node = made[name]
        raw = Relation(_RAW, (str(node["rows_file"]),))
        file = f"{asked.project.label}/{node['file']}"
        sql = f"SELECT * FROM {_RAW}"  # noqa: S608  a name of our own
        types = _types(asked.engine, sql, raw, file, declared.get(name))
        target = asked.folder / f"{asked.project.name}-{name}.parquet"
        asked.engine.write(sql, [raw], target, file=file, types=types)
        link = _kept(draft, target, f"{home}{_TABLES}{name}.parquet", PARQUET)
        digests[name] = link.checksum
        links.append(link)
    return links, digests


def _types(engine: Engine, sql: str, raw: Relation, file: str, declared: Any) -> dict[str, str]:
    found: Sequence[ColumnType] = adjusted(engine.describe(sql, [raw], file=file), declared)
    return {column.name: column.type for column in found}


def _unmade(asked: Project, name: str) -> Problem:
    file = asked.project.nodes.get(name, "dbt_project.yml")
    node_hint = (
        "is it disabled, ephemeral or left out by `select`? What is a data set has to be a table or a view"
    )
    place = next((d.place for d in asked.product.data_sets if d.name == name), None)
    return Problem(f"dbt made no '{name}' of {asked.project.label}/{file}", place, node_hint)


def _kept(draft: Draft, file: Path, path: str, kind: str = "") -> Link:
    """A file where it stays, to be linked under a path."""
    address, place = _new(draft, file.suffix)
    shutil.move(file, place)
    return Link(path, address, place.stat().st_size, _digest(place), content_type=kind)


def _new(draft: Draft, suffix: str) -> tuple[str, Path]:
    place = draft.new_data_path(suffix)
    if place.path is None:
        raise Broken("data can only be written to a store on this machine so far", hint="use a local storage")
    return place.address, place.path


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _table(asked: Project, answer: DbtAnswer, digests: Mapping[str, str]) -> pa.Table:
    return pa.Table.from_pylist(rows_of(asked.project, answer.nodes, digests), schema=_SCHEMA)


def _keep_failing(
    draft: Draft, asked: Project, answer: DbtAnswer, found: Sequence[CheckResult]
) -> list[CheckResult]:
    """The failing rows of each test, in the draft that is kept; the verdicts then say where."""
    files: dict[str, Node] = {
        str(n["name"]): n for n in answer.nodes if n["kind"] == "test" and n.get("rows_file")
    }
    kept, links = [], []
    for result in found:
        node = files.get(result.name) if result.kind == "dbt" and not result.passed else None
        if node is None:
            kept.append(result)
            continue
        path = f"{FAILING}{asked.run}/dbt-{hashlib.sha256(result.name.encode()).hexdigest()[:16]}.parquet"
        links.append(_kept(draft, Path(node["rows_file"]), path, PARQUET))
        kept.append(replace(result, kept=path))
    if links:
        draft.link_many(links)
    return kept
