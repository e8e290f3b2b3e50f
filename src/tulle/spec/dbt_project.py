"""A dbt project as it lies in a product's folder: what it makes and reads, as far as its files say that unread.

Nothing of the project is executed and no Jinja is expanded: names of models are names of files, sources are what
`source('…', '…')` says literally. What dbt makes of it is known when it has run.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tulle.config import Settings
from tulle.errors import Place, Problem, did_you_mean
from tulle.spec.product import Component, DataProduct, snake
from tulle.spec.transformation import BASE, DBT

MOST_FILES, MOST_BYTES = 5000, 64_000_000
_LEFT_OUT = frozenset({"target", "logs", "__pycache__", "node_modules"})
SOURCE = re.compile(r"""\bsource\(\s*(['"])([^'"\n]+)\1\s*,\s*(['"])([^'"\n]+)\3\s*\)""")
_SNAPSHOT = re.compile(r"\{%-?\s*snapshot\s+([A-Za-z_][A-Za-z0-9_]*)\s*-?%\}")
_COMMENT = re.compile(r"\{#.*?#\}", re.DOTALL)
_PLACES = {
    "model-paths": "models",
    "seed-paths": "seeds",
    "snapshot-paths": "snapshots",
    "test-paths": "tests",
}
_TEXTS = frozenset({".sql", ".py", ".yml", ".yaml"})


@dataclass(frozen=True, slots=True)
class DbtSource:
    """A source as the project names it, the data set it is, and where it is read first."""

    key: str
    data_set: str
    place: Place
    line: str = ""


@dataclass(frozen=True, slots=True)
class DbtProject:
    """One project. `files` are all it consists of with their digests, `nodes` what it makes and in which file."""

    name: str  # of its job
    folder: Path = field(compare=False)
    label: str  # what errors call the folder
    files: tuple[tuple[str, str], ...]
    nodes: Mapping[str, str] = field(hash=False)
    sources: tuple[DbtSource, ...] = ()
    said: Mapping[str, Any] = field(default_factory=dict, hash=False)  # the component's properties
    python: Path | None = field(default=None, compare=False)
    place: Place | None = field(default=None, compare=False)

    @property
    def inputs(self) -> tuple[str, ...]:
        """The data sets it reads."""
        return tuple(dict.fromkeys(source.data_set for source in self.sources))

    def digest_text(self, wanted: Sequence[str]) -> str:
        """All that decides what a run makes of it, apart from its inputs."""
        told = {
            name: value for name, value in self.said.items() if name not in {"description", "environment"}
        }
        return json.dumps([self.files, told, sorted(wanted)], sort_keys=True)

    def unknown_sources(self, known: Collection[str]) -> Iterator[Problem]:
        """Sources that are no data set of the product."""
        for source in self.sources:
            if source.data_set not in known:
                near = did_you_mean(source.data_set, known)
                hint = f"bring it in with an input port whose data_set is '{source.data_set}', or say under "
                hint += f"sources: of '{self.name}' which one it is"
                if near and "mean" in near:
                    hint = f"{near} Otherwise {hint}"
                message = f"the project reads the source '{source.key}', which is no data set of the product"
                yield Problem(message, source.place, hint, source.line or None)


def dbt_projects(
    product: DataProduct, label: str, settings: Settings | None
) -> tuple[list[DbtProject], list[Problem]]:
    """The dbt projects of a product, and what is wrong with them. `settings` name Python environments."""
    projects: list[DbtProject] = []
    problems: list[Problem] = []
    for component in product.components:
        if component.base == BASE and component.properties.get("type", DBT) == DBT:
            project, wrong = read_project(product, component, label, settings)
            problems += wrong
            projects += [project] if project is not None else []
    return projects, problems


def read_project(
    product: DataProduct, component: Component, label: str, settings: Settings | None = None
) -> tuple[DbtProject | None, list[Problem]]:
    """The project one component names, None when it cannot be read, and what is wrong with it."""
    reader = _Reader(product, component, label, settings)
    return reader.read(), reader.problems


class _Reader:
    def __init__(
        self, product: DataProduct, component: Component, label: str, settings: Settings | None
    ) -> None:
        self.said = component.properties
        self.name = snake(component.name)
        self.place = component.place
        relative = str(self.said["project"]).rstrip("/")
        self.home, self.folder = product.folder, product.folder / relative
        self.label = f"{label}/{relative}"
        self.settings = settings
        self.problems: list[Problem] = []

    def _wrong(self, message: str, hint: str | None = None, place: Place | None = None) -> None:
        self.problems.append(Problem(message, place or self.place, hint))

    def read(self) -> DbtProject | None:
        file = self.folder / "dbt_project.yml"
        if not self.folder.resolve().is_relative_to(self.home.resolve()):
            self._wrong(
                f"the project '{self.label}' is outside of the product's folder", "put it beside product.yaml"
            )
            return None
        if not file.is_file():
            near = sorted(
                f.parent.relative_to(self.home).as_posix() for f in self.home.glob("*/dbt_project.yml")
            )
            hint = did_you_mean(str(self.said["project"]), near) if near else None
            self._wrong(
                f"there is no dbt project in {self.label}: dbt_project.yml is missing",
                hint or "`project` names the folder that holds it, from the folder of product.yaml",
            )
            return None
        told = self._yaml("dbt_project.yml")
        files = self._files()
        if told is None or files is None:
            return None
        self._packages(told)
        nodes = self._nodes(told, files)
        if self.name in nodes:
            self._wrong(
                f"the transformation '{self.name}' is called like what {nodes[self.name]} makes",
                "name the component differently: the run tells under its name what dbt did",
            )
        return DbtProject(
            self.name,
            self.folder,
            self.label,
            tuple(sorted((path, hashlib.sha256(data).hexdigest()) for path, data in files.items())),
            nodes,
            tuple(self._sources(told, files)),
            dict(self.said),
            self._python(),
            Place(f"{self.label}/dbt_project.yml", 1),
        )

    def _python(self) -> Path | None:
        """The interpreter of the environment that is named."""
        wanted = str(self.said.get("environment") or "")
        if not wanted or self.settings is None:
            return None
        known = self.settings.hook_environments
        if wanted not in known:
            hint = did_you_mean(wanted, known) if known else None
            self._wrong(
                f"this mesh has no Python environment '{wanted}'",
                hint
                or f"name the folder of one with dbt in mesh.yaml: hook_environments: {{{wanted}: /opt/{wanted}}}",
            )
            return None
        return Path(known[wanted]) / "bin" / "python"

    # ── files ────────────────────────────────────────────────────────────────────────────────────────────

    def _files(self) -> dict[str, bytes] | None:
        """Every file of the project, by path."""
        found: dict[str, bytes] = {}
        size = 0
        for where, folders, names in os.walk(self.folder, followlinks=False):
            here = Path(where)
            folders[:] = sorted(f for f in folders if f not in _LEFT_OUT and not f.startswith("."))
            for name in sorted(names):
                path = here / name
                relative = path.relative_to(self.folder).as_posix()
                if name.startswith("."):
                    continue
                if not path.resolve().is_relative_to(self.home.resolve()):
                    self._wrong(f"{relative} leads out of the product's folder", "put the file itself there")
                    return None
                if not path.is_file():
                    continue
                size += path.stat().st_size
                if len(found) >= MOST_FILES or size > MOST_BYTES:
                    hint = "what is larger is data: bring it in with an input port"
                    self._wrong(
                        f"the project in {self.label} has more than {MOST_FILES:,} files "
                        f"or {MOST_BYTES // 1_000_000} MB",
                        hint,
                    )
                    return None
                try:
                    found[relative] = path.read_bytes()
                except OSError as exc:
                    self._wrong(
                        f"{relative} cannot be read: {exc.strerror}", place=Place(f"{self.label}/{relative}")
                    )
                    return None
        return found

    def _yaml(self, relative: str) -> Mapping[str, Any] | None:
        """A YAML file of the project as dbt reads it."""
        place = Place(f"{self.label}/{relative}")
        try:
            value = yaml.load((self.folder / relative).read_bytes()[:1_000_000], Loader=yaml.CSafeLoader)
        except yaml.MarkedYAMLError as exc:
            mark = exc.problem_mark
            where = Place(place.file, mark.line + 1, mark.column + 1) if mark else place
            self._wrong(f"this is not YAML that can be read: {exc.problem or exc.context}", place=where)
            return None
        except (yaml.YAMLError, OSError, RecursionError, ValueError) as exc:
            self._wrong(f"{relative} cannot be read: {str(exc)[:200]}", place=place)
            return None
        if not isinstance(value, Mapping):
            self._wrong(f"{relative} is no mapping of names to values", place=place)
            return None
        return value

    def _packages(self, told: Mapping[str, Any]) -> None:
        installed = str(told.get("packages-install-path") or "dbt_packages")
        for name in ("packages.yml", "dependencies.yml"):
            if not (self.folder / name).is_file():
                continue
            wanted = (self._yaml(name) or {}).get("packages")
            there = list((self.folder / installed).glob("*/dbt_project.yml"))
            if isinstance(wanted, list) and len(there) < len(wanted):
                self._wrong(
                    f"the project needs {len(wanted)} packages of {name}, {len(there)} are in {installed}/",
                    f"nothing is downloaded by a run: call `dbt deps` in {self.label} and keep what it brings "
                    "under version control",
                    Place(f"{self.label}/{name}", 1),
                )

    # ── what it makes and reads ──────────────────────────────────────────────────────────────────────────

    @staticmethod
    def _below(told: Mapping[str, Any], kind: str) -> tuple[str, ...]:
        given = told.get(kind)
        folders = [str(each).strip("./") for each in given] if isinstance(given, list) else [_PLACES[kind]]
        return tuple(f"{folder}/" for folder in folders if folder)

    def _nodes(self, told: Mapping[str, Any], files: Mapping[str, bytes]) -> dict[str, str]:
        """What dbt makes and in which file, by its name in lower case."""
        models, seeds, snapshots = (
            self._below(told, kind) for kind in ("model-paths", "seed-paths", "snapshot-paths")
        )
        found: dict[str, str] = {}
        for path, data in files.items():
            name, ending = os.path.splitext(os.path.basename(path))  # noqa: PTH119, PTH122
            if (path.startswith(models) and ending in {".sql", ".py"}) or (
                path.startswith(seeds) and ending == ".csv"
            ):
                self._note(found, name, path)
            if path.startswith(snapshots) and ending == ".sql":
                for match in _SNAPSHOT.finditer(_text(data)):
                    self._note(found, match[1], path)
            if (
                path.startswith((*models, *snapshots))
                and ending in {".yml", ".yaml"}
                and b"snapshots:" in data
            ):
                value = self._yaml(path) or {}
                for entry in value.get("snapshots") or ():
                    if isinstance(entry, Mapping) and "relation" in entry and entry.get("name"):
                        self._note(found, str(entry["name"]), path)
        return found

    def _note(self, found: dict[str, str], name: str, path: str) -> None:
        first = found.setdefault(name.lower(), path)
        if first != path:
            self._wrong(
                f"dbt makes '{name}' twice: {first} makes it already",
                "names are one a project: rename one of the files",
                Place(f"{self.label}/{path}", 1),
            )

    def _sources(self, told: Mapping[str, Any], files: Mapping[str, bytes]) -> Iterator[DbtSource]:
        places = tuple(part for kind in _PLACES if kind != "seed-paths" for part in self._below(told, kind))
        mapped: Mapping[str, str] = self.said.get("sources") or {}
        seen: set[str] = set()
        for path, data in sorted(files.items()):
            if not path.startswith(places) or os.path.splitext(path)[1] not in _TEXTS:  # noqa: PTH122
                continue
            text = _text(data)
            for match in SOURCE.finditer(text):
                key = f"{match[2]}.{match[4]}"
                if key in seen:
                    continue
                seen.add(key)
                start = text.rfind("\n", 0, match.start()) + 1
                line = text[start:].partition("\n")[0]
                place = Place(
                    f"{self.label}/{path}", text.count("\n", 0, match.start()) + 1, match.start() - start + 1
                )
                yield DbtSource(key, mapped.get(key) or snake(match[4]), place, line)
        for key in mapped:
            if key not in seen:
                hint = did_you_mean(key, seen) if seen else None
                self._wrong(f"'sources' names '{key}', which the project does not read", hint)


def _text(data: bytes) -> str:
    """A file's text without Jinja's comments, every line where it was."""
    text = data.decode("utf-8", "replace")
    return _COMMENT.sub(lambda found: re.sub(r"[^\n]", " ", found[0]), text)
