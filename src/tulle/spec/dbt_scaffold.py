"""New products made of a whole dbt project: its files as they are, and a product.yaml that runs them.

Each source becomes an input port over a file with one row to begin with, in whose place the team puts its own; each
model that the project describes and does not call a step (`stg_…`) becomes a data set. Returns texts by path.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from tulle.errors import Invalid
from tulle.spec.capability import Registry
from tulle.spec.dbt_project import SOURCE, DbtProject, read_project
from tulle.spec.mesh import PRODUCT_FILE
from tulle.spec.odcs_tables import column_type
from tulle.spec.product import Component, DataProduct, snake
from tulle.spec.scaffold import SAMPLE, data_set_of, properties_of
from tulle.spec.skeleton import check_new
from tulle.spec.transformation import BASE
from tulle.spec.translate import Plain, checked, document_text, filled

HOME = "dbt"
PROJECT_FILE = "dbt_project.yml"
_STEP = re.compile(r"^(stg|int|base|tmp|prep)_")
_COLUMN = re.compile(r"^[A-Za-z_][A-Za-z0-9_]{0,62}$")
_PLAIN = re.compile(r"\{%.*?%\}|\{\{.*?\}\}|--[^\n]*|'[^']*'", re.DOTALL)
_ALIAS = re.compile(r"\s*-?\}\}\s*(?:as\s+)?([A-Za-z_][A-Za-z0-9_]*)\b", re.IGNORECASE)
_WORD = re.compile(r"\b[a-z_][a-z0-9_]*\b(?!\s*\()", re.IGNORECASE)
_SQL = frozenset(
    """
    all and as asc between bigint boolean by case cast date decimal desc distinct double else end false float from full
    group having in inner int integer interval is join left like limit not null numeric on or order outer over partition
    right select text then timestamp true union using varchar when where with
    """.split()  # noqa: SIM905  words, as they are read
)
_NAMES = (
    (re.compile(r"_at$|timestamp|datetime"), "timestamp"),
    (re.compile(r"_on$|date$|^day$|^date"), "date"),
    (re.compile(r"cents|count|quantity|^number_|_number$|^n_"), "integer"),
    (re.compile(r"amount|price|total|cost|revenue|tax|rate|spend|spent"), "double"),
)
_VALUES = {"date": "2026-01-01", "timestamp": "2026-01-01T00:00:00", "boolean": "true"}  # else: 1


def from_dbt_project(
    folder: Path, registry: Registry, *, name: str, domain: str, environment: str = ""
) -> dict[str, str]:
    """The product.yaml that runs the dbt project in `folder`, with a file for each of its sources.

    The project itself goes to `dbt/` beside it (`project_texts`). Raises Invalid with every problem of the project.
    """
    check_new(name, domain, "source-aligned", None)
    project = _read(folder)
    says = list(_documents(project))
    models = _models(project, says)
    title = name.replace("-", " ")
    mapped = _mapped(project)
    sources = dict(_sources(project, says, mapped))
    run: Plain = {"project": HOME, **({"environment": environment} if environment else {})}
    if other := {s.key: mapped[s.key] for s in project.sources if mapped[s.key] != s.data_set}:
        run["sources"] = other
    components: list[Plain] = [
        {"name": domain, "type": "domain", "properties": {}},
        {
            "name": title,
            "type": "data-product",
            "properties": {"definition": f"The models of the dbt project in {HOME}/", "version": "0.1.0"},
        },
        {"name": _run_name(project, title), "type": BASE, "properties": run},
        *models,
    ]
    for data_set, columns in sources.items():
        source = {"type": "file", "path": f"data/{data_set}.csv", "format": "csv", "columns": columns}
        port = {
            "description": f"Rows of {data_set}. {SAMPLE}",
            "source": source,
            "data_set": data_set,
        }
        name_ = f"Source of {data_set.replace('_', ' ')}"
        components.append({"name": name_, "type": "input-port", "properties": port})
    for model in models:
        port = {"description": "Parquet files in the product's repository", "data_set": snake(model["name"])}
        components.append({"name": f"Files of {model['name']}", "type": "output-port", "properties": port})
    view: Plain = {"metadata": {"name": name}, "components": components}
    view, _ = checked(view, registry, PROJECT_FILE)
    files = {PRODUCT_FILE: document_text(view)}
    known = _known_values(says)
    for data_set, columns in sources.items():
        text = io.StringIO()
        lines = csv.writer(text, lineterminator="\n")
        lines.writerow([column["name"] for column in columns])
        lines.writerow([known.get(c["name"].lower()) or _VALUES.get(c["type"], "1") for c in columns])
        files[f"data/{data_set}.csv"] = text.getvalue()
    return files


def project_texts(folder: Path) -> dict[str, str]:
    """The files of a project by where they go in the product's folder. Invalid for one that is no text."""
    texts = {}
    for path, _ in _read(folder).files:
        try:
            texts[f"{HOME}/{path}"] = (folder / path).read_text("utf-8")
        except (OSError, UnicodeDecodeError) as exc:
            hint = "copy the project yourself, without what is no text"
            raise Invalid(f"{path} cannot be taken over: {exc}", hint=hint) from exc
    return texts


def _read(folder: Path) -> DbtProject:
    folder = folder.resolve()
    trial = DataProduct("trial", "trial", "trial", "", folder=folder.parent)
    component = Component("trial of the scaffold", BASE, {"project": folder.name}, BASE)
    project, problems = read_project(trial, component, str(folder.parent))
    if problems or project is None:
        raise Invalid(f"the dbt project in {folder} cannot be taken over", problems=problems)
    return project


def _run_name(project: DbtProject, title: str) -> str:
    name = f"{title} models"
    return f"{name} in dbt" if snake(name) in project.nodes else name


def _documents(project: DbtProject) -> Iterator[Mapping[str, Any]]:
    """The properties files of the project's own folders."""
    for path, _ in project.files:
        if path.endswith((".yml", ".yaml")) and not path.startswith(("dbt_packages/", "dbt_project")):
            try:
                value = yaml.load((project.folder / path).read_bytes(), Loader=yaml.CSafeLoader)
            except yaml.YAMLError as exc:
                raise Invalid(f"{path} is not YAML that can be read: {str(exc)[:300]}") from exc
            if isinstance(value, Mapping):
                yield value


def _models(project: DbtProject, says: list[Mapping[str, Any]]) -> list[Plain]:
    """The data sets: what is described and no step; what has no type in dbt is promised without columns."""
    described: dict[str, Plain] = {}
    for value in says:
        for model, columns, tests in properties_of(value):
            typed = [column for column in columns if column.get("data_type")]
            described[str(model["name"])] = data_set_of(model, typed, tests)
    names = [n for n in described if n.lower() in project.nodes and not _STEP.match(n)] or [
        name for name in project.nodes if not _STEP.match(name)
    ]
    models = [described.get(name) or data_set_of({"name": name}, [], {}) for name in names]
    taken = {model["name"] for model in models}
    for model in models:
        for column in model["properties"].get("columns", ()):
            if column.get("foreign_key", {}).get("data_set") not in taken:
                column.pop("foreign_key", None)
    return models


def _mapped(project: DbtProject) -> dict[str, str]:
    """The data set each source is; one that is called like what dbt makes gets another name."""
    return {
        s.key: f"{s.data_set}_source"[:63] if s.data_set in project.nodes else s.data_set
        for s in project.sources
    }


def _sources(
    project: DbtProject, says: list[Mapping[str, Any]], mapped: Mapping[str, str]
) -> Iterator[tuple[str, list[Plain]]]:
    """Each data set the project reads, with the columns it documents or its models name."""
    told: dict[str, list[Plain]] = {}
    for value in says:
        for source in _entries(value, "sources"):
            for table in _entries(source, "tables"):
                told[f"{source.get('name')}.{table.get('name')}"] = [
                    filled({"name": c.get("name"), "type": column_type("", str(c.get("data_type") or ""))})
                    for c in _entries(table, "columns")
                    if _COLUMN.match(str(c.get("name")))
                ]
    for data_set in dict.fromkeys(mapped.values()):
        columns: dict[str, Plain] = {}
        for read in project.sources:
            if mapped[read.key] == data_set:
                for column in (*told.get(read.key, ()), *_named(project, read.key)):
                    columns.setdefault(column["name"].lower(), column)
        yield data_set, list(columns.values()) or [{"name": "id", "type": "string"}]


def _named(project: DbtProject, key: str) -> Iterator[Plain]:
    """Words that may be columns of a source: after its alias, and all of a model that reads nothing else."""
    for path, _ in project.files:
        if not path.endswith(".sql"):
            continue
        text = (project.folder / path).read_text("utf-8", "replace")
        calls = list(SOURCE.finditer(text))
        read = {f"{match[2]}.{match[4]}" for match in calls}
        if key not in read:
            continue
        words = [
            word
            for call in calls
            if f"{call[2]}.{call[4]}" == key and (alias := _ALIAS.match(text, call.end()))
            for word in re.findall(rf"\b{alias[1]}\.([A-Za-z_][A-Za-z0-9_]*)", text)
        ]
        if read == {key} and "ref(" not in text:
            words += _WORD.findall(_PLAIN.sub(" ", text))
        found = dict.fromkeys(word.lower() for word in words)
        yield from ({"name": word, "type": _guessed(word)} for word in found if word not in _SQL)


def _guessed(word: str) -> str:
    """What a column may be, by its name; who knows better says so in product.yaml."""
    return next((kind for pattern, kind in _NAMES if pattern.search(word)), "string")


def _known_values(says: list[Mapping[str, Any]]) -> dict[str, str]:
    """A value that the project's tests accept, by column."""
    found: dict[str, str] = {}
    for value in says:
        for model, columns, tests in properties_of(value):
            for column in data_set_of(model, columns, tests)["properties"].get("columns", ()):
                for accepted in column.get("enum", ())[:1]:
                    found.setdefault(column["name"].lower(), str(accepted))
    return found


def _entries(value: Any, name: str) -> list[Mapping[str, Any]]:
    listed = value.get(name) if isinstance(value, Mapping) else None
    return [entry for entry in listed if isinstance(entry, Mapping)] if isinstance(listed, list) else []
