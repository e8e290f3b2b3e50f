"""Building a dbt project: its inputs laid out for it, dbt in a process of its own, and what came of it.

The project is copied first, so nothing is ever written into it and what is built is what was read. dbt sees no
settings, variables or credentials of this process, and no profile but the one that is made for it here. Knows files,
not branches: what is to be kept is left in a folder.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tulle.config import Warehouse
from tulle.engine.duck import DuckEngine, sql_type
from tulle.engine.engine import Engine, Relation, quoted
from tulle.errors import Broken, Conflict, Invalid, Problem, TulleError, Unavailable
from tulle.pipeline import dbt_child
from tulle.pipeline.dbt_told import placed
from tulle.spec.dbt_project import DbtProject

_MOST_LOGGED = 5_000_000  # characters of what dbt says
_DATABASE = "warehouse"


@dataclass(frozen=True, slots=True)
class DbtAsked:
    """What is to be built: a project, the data sets that are taken from it, what its sources are."""

    project: DbtProject
    wanted: tuple[str, ...]
    relations: Mapping[str, Relation]
    engine: Engine
    folder: Path  # for files that do not stay
    say: Callable[[str], None]
    state: Path | None = None  # what the last run left for incremental models and snapshots
    full: bool = False
    published: Mapping[str, Sequence[str]] | None = (
        None  # files by model: nothing is made but what tests need
    )


@dataclass(frozen=True, slots=True)
class DbtAnswer:
    """What dbt told of every node, of the sources, and where the state for the next time is."""

    nodes: tuple[Mapping[str, Any], ...]
    sources: tuple[Mapping[str, Any], ...]
    version: str
    state: Path | None


def build(asked: DbtAsked) -> DbtAnswer:
    """Build the project, or only carry out its tests on what is published.

    Unavailable without dbt, Invalid for what dbt cannot read, Conflict when files changed.
    """
    home = asked.folder / "dbt" / asked.project.name
    shutil.rmtree(home, ignore_errors=True)
    for name in ("project", "profiles", "out", "target", "log", "tmp", "spill"):
        (home / name).mkdir(parents=True)
    _copy(asked.project, home / "project")
    spec = _spec(asked, home)
    (home / "profiles" / "profiles.yml").write_text(json.dumps(_profile(asked, spec)))
    (home / "spec.json").write_text(json.dumps(spec))
    code = _carried_out(asked, home)
    try:
        answer = json.loads((home / "answer.json").read_bytes())
    except (OSError, ValueError):
        raise Broken(
            f"dbt's process ended with {code} and without an answer",
            hint="its last words are in the run's log; it may have used up its warehouse's memory",
        ) from None
    if "error" in answer:
        raise _refusal(asked.project, answer["stage"], str(answer["error"]))
    kept = Path(spec["kept"])
    return DbtAnswer(
        tuple(answer["nodes"]), tuple(answer["sources"]), answer["version"], kept if kept.exists() else None
    )


def _copy(project: DbtProject, target: Path) -> None:
    """The files as they were read with the code. Conflict when one of them is another by now."""
    for path, digest in project.files:
        try:
            data = (project.folder / path).read_bytes()
        except OSError:
            data = b""
        if hashlib.sha256(data).hexdigest() != digest:
            raise Conflict(f"{project.label}/{path} was changed while the run began", hint="run again")
        place = target / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)


def _warehouse(engine: Engine) -> Warehouse:
    return engine.warehouse if isinstance(engine, DuckEngine) else Warehouse()


def _spec(asked: DbtAsked, home: Path) -> dict[str, Any]:
    project, warehouse = asked.project, _warehouse(asked.engine)
    return {
        "parent": os.getpid(),
        "project": str(home / "project"),
        "profiles": str(home / "profiles"),
        "target_path": str(home / "target"),
        "log_path": str(home / "log"),
        "out": str(home / "out"),
        "database": str(home / f"{_DATABASE}.duckdb"),
        "kept": str(home / "kept.duckdb"),
        "state": str(asked.state) if asked.state else None,
        "settings": {
            "threads": warehouse.threads,
            "memory_limit": warehouse.memory,
            "temp_directory": str(home / "spill"),
            "max_temp_directory_size": warehouse.temp_disk,
        },
        "sources": {
            source.key: {"data_set": source.data_set, **_laid_out(asked, source.data_set, home)}
            for source in project.sources
        },
        "wanted": list(asked.wanted),
        "variables": project.said.get("variables") or {},
        "threads": warehouse.threads,
        "full": asked.full,
        "published": None if asked.published is None else {k: list(v) for k, v in asked.published.items()},
        "select": list(project.said.get("select") or ()),
        "exclude": list(project.said.get("exclude") or ()),
    }


def _laid_out(asked: DbtAsked, name: str, home: Path) -> dict[str, Any]:
    """The files that hold a data set's rows; those of a view are made."""
    relation = asked.relations[name]
    files = list(relation.files)
    if relation.sql:
        file = home / f"{name}.parquet"
        asked.engine.write(f"SELECT * FROM {quoted(name)}", [relation], file)  # noqa: S608
        files = [str(file)]
    return {"files": files, "columns": [[c.name, sql_type(c.type)] for c in relation.columns]}


def _profile(asked: DbtAsked, spec: Mapping[str, Any]) -> dict[str, Any]:
    target = str(asked.project.said.get("target") or "prod")
    output = {
        "type": "duckdb",
        "path": spec["database"],
        "schema": "main",
        "threads": spec["threads"],
        "config_options": spec["settings"],
        "settings": {"TimeZone": "UTC"},
    }
    return {"tulle": {"target": target, "outputs": {target: output}}}


def _carried_out(asked: DbtAsked, home: Path) -> int:
    """dbt's process, which ends with us; what it says goes to the run's log."""
    python = asked.project.python or Path(sys.executable)
    environment = {
        "PATH": f"{python.parent}:/usr/local/bin:/usr/bin:/bin",
        "HOME": str(home / "tmp"),
        "TMPDIR": str(home / "tmp"),
        "LANG": "C.UTF-8",
        "DO_NOT_TRACK": "1",
        "OMP_NUM_THREADS": str(_warehouse(asked.engine).threads),
    }
    try:
        process = subprocess.Popen(  # noqa: S603  our own file, by an interpreter that mesh.yaml names
            [str(python), "-I", str(Path(dbt_child.__file__)), str(home / "spec.json")],
            cwd=home / "project",
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
    except OSError as exc:
        raise Unavailable(
            f"dbt's environment cannot be used: {python}: {exc.strerror}",
            hint="correct `hook_environments:` in mesh.yaml",
        ) from exc
    with process:
        try:
            assert process.stdout is not None
            said = 0
            for line in process.stdout:
                said += len(line)
                if said <= _MOST_LOGGED and line.strip():
                    asked.say(f"dbt: {line.rstrip()[:2000]}")
            return process.wait()
        except BaseException:
            process.kill()
            raise


def _refusal(project: DbtProject, stage: str, text: str) -> TulleError:
    """Why dbt could not even begin, in its own words."""
    place = project.place
    if stage == "import":
        where = project.said.get("environment") or "the one Tulle is installed in"
        return Unavailable(
            f"there is no dbt in the Python environment {where}: {text}",
            hint="pip install 'tulle[dbt]', or name an environment that has dbt-core and dbt-duckdb: "
            "`environment:` of the transformation, `hook_environments:` of mesh.yaml",
        )
    if stage == "state":
        return Invalid(
            f"what dbt left the last time cannot be read by this DuckDB: {text}",
            hint=f"use an environment with a newer duckdb, or remove _tulle/dbt/{project.name}/ and begin anew",
        )
    if stage == "sources":
        hint = f"a package reads it: say under sources: of '{project.name}' which data set it is"
        problem = Problem(f"the project reads the source '{text}', which is no data set", place, hint)
        return Invalid(f"{project.label}: unknown source '{text}'", hint=hint, problems=[problem])
    found = placed(project, text)
    return Invalid(
        f"dbt cannot read the project {project.label}: {found.message}", hint=found.hint, problems=[found]
    )
