"""What makes one data set: an input port, an SQL or Python model, an endpoint, or a dbt project, by a product's files.

Nothing of the user's is executed: SQL is parsed, Python is read by `ast`. What is wrong comes back as problems.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tulle.engine.statement import Statement, read_statement
from tulle.errors import Invalid, Place, Problem
from tulle.pipeline.model_kind import THIS, VIEW, ModelKind, read_constants, read_header
from tulle.pipeline.scored import Score, read_score
from tulle.spec.dbt_project import DbtProject
from tulle.spec.load import decoded
from tulle.spec.mesh import MeshSpec
from tulle.spec.product import DATA_SET_NAME, DataProduct, InputPort
from tulle.spec.rules import RESERVED_DATA_SETS
from tulle.spec.source import ENDINGS, Source, SourceColumn

INGEST, PORT, SQL, PYTHON, DBT, DBT_MODEL = "ingest", "port", "sql", "python", "dbt", "dbt-model"
SCORE = "score"
RESERVED = {
    **RESERVED_DATA_SETS,
    "publish": "that is the name of a run's last step",
    THIS: "that is what a model calls the rows its data set has already",
}
_MAX_FILE_BYTES = 1_000_000


@dataclass(frozen=True, slots=True)
class Job:
    """What makes one data set. `name` is the data set's name, which tells jobs of a product apart.

    ingest: files of the input port `port` become rows. port: the rows are those of another product, read where
    they are. sql and python: a file in transform/, whose text is `text`. dbt: a whole project, whose tables `tables`
    are taken from it; dbt-model: one of them. score: an endpoint answers the rows of another data set.
    """

    name: str
    kind: str
    inputs: tuple[str, ...] = ()
    text: str = field(default="", repr=False)
    port: InputPort | None = None
    upstream: tuple[str, str] | None = None  # product and data set that a port job reads
    path: Path | None = field(default=None, compare=False)
    place: Place | None = field(default=None, compare=False)
    statement: Statement | None = field(default=None, compare=False, repr=False)
    way: ModelKind = ModelKind()
    dbt: DbtProject | None = field(default=None, compare=False)
    tables: tuple[str, ...] = ()
    score: Score | None = field(default=None, compare=False)

    @property
    def reads_this(self) -> bool:
        """Whether it looks at the rows its data set has already."""
        return self.statement is not None and THIS in self.statement.reads

    @property
    def shown_kind(self) -> str:
        """What people call it: its kind, or that it is a view."""
        return VIEW if self.way.kind == VIEW else self.kind

    @property
    def file(self) -> str:
        """What errors call its file."""
        return self.place.file if self.place else self.name

    def digest_text(self) -> str:
        """All that decides what it does, apart from its inputs."""
        source = self.port.source.digest_text() if self.port and self.port.source else None
        return json.dumps([self.name, self.kind, self.inputs, self.text, source, self.upstream])


# ── input ports ──────────────────────────────────────────────────────────────────────────────────────────


def port_jobs(product: DataProduct, spec: MeshSpec | None) -> Iterator[Job]:
    for port in product.input_ports:
        if not port.data_set:
            continue
        if port.source is not None:
            yield Job(port.data_set, INGEST, port=port, place=port.place)
        elif port.product:
            upstream = spec.source_of(port) if spec is not None else None
            data_set = port.takes or (upstream[1].data_set if upstream else port.data_set)
            yield Job(port.data_set, PORT, port=port, upstream=(port.product, data_set), place=port.place)


def seed_jobs(product: DataProduct, label: str) -> tuple[list[Job], list[Problem]]:
    """Small tables that lie with the code: seeds/<data set>.csv, .json or .parquet, typed as they are declared."""
    jobs: list[Job] = []
    problems: list[Problem] = []
    folder = product.folder / "seeds"
    for file in sorted(folder.iterdir()) if folder.is_dir() else []:
        name, place = file.stem, Place(f"{label}/{file.name}")
        kind = ENDINGS.get(file.suffix.removeprefix("."))
        if kind is None or not file.is_file():
            continue
        if not re.match(DATA_SET_NAME, name):
            hint = "name the file after the data set it is, in snake_case, such as country_codes.csv"
            problems.append(Problem(f"'{name}' is no name for a data set", place, hint))
            continue
        declared = next((d.columns for d in product.data_sets if d.name == name), ())
        columns = tuple(SourceColumn(c.name, c.type, place=c.place) for c in declared)
        delimiter = "\t" if file.suffix == ".tsv" else ","
        source = Source(f"seeds/{file.name}", kind, delimiter=delimiter, columns=columns, place=place)
        port = InputPort(f"seed-{name}", file.name, "a small table that lies with the code", name, source)
        jobs.append(Job(name, INGEST, port=port, place=place))
    return jobs, problems


def dbt_jobs(projects: Sequence[DbtProject], product: DataProduct, others: Sequence[Job]) -> Iterator[Job]:
    """A job for each dbt project, and one for each of its models that is a data set: declared, or read by others."""
    made = {job.name for job in others}
    read = {name for job in others for name in job.inputs}
    declared = {data_set.name for data_set in product.data_sets}
    for project in projects:
        wanted = tuple(sorted(name for name in project.nodes if name in declared or name in read - made))
        text = project.digest_text(wanted)
        yield Job(project.name, DBT, project.inputs, text, place=project.place, dbt=project, tables=wanted)
        for name in wanted:
            place = Place(f"{project.label}/{project.nodes[name]}", 1)
            yield Job(name, DBT_MODEL, (project.name,), place=place)


# ── transformations ──────────────────────────────────────────────────────────────────────────────────────


def transform_jobs(folder: Path, label: str) -> tuple[list[Job], tuple[tuple[str, str], ...], list[Problem]]:
    jobs: list[Job] = []
    shared: list[tuple[str, str]] = []
    problems: list[Problem] = []
    for file in sorted(folder.iterdir()) if folder.is_dir() else []:
        name = f"{label}/{file.name}"
        if file.suffix not in _MAKERS or not file.is_file() or _is_of_dbt(file):
            continue
        text, unread = _text_of(file, name)
        problems += unread
        if file.suffix == ".py" and file.stem.startswith("_"):
            shared.append((file.stem, text))
        elif not re.match(DATA_SET_NAME, file.stem):
            hint = "name the file after the data set it makes, in snake_case, such as customer_features"
            problems.append(Problem(f"'{file.stem}' is no name for a data set", Place(name), hint))
        else:
            job, wrong = _MAKERS[file.suffix](file, name, text)
            jobs.append(job)
            problems += [] if unread else wrong
    return jobs, tuple(shared), problems


def _text_of(file: Path, name: str) -> tuple[str, list[Problem]]:
    """What a file says; or nothing, and why. A data set that it makes is not missed besides."""
    try:
        with file.open("rb") as stream:
            data = stream.read(_MAX_FILE_BYTES + 1)
        if len(data) > _MAX_FILE_BYTES:
            hint = "data that models read belongs into seeds/ or comes in by an input port"
            return "", [
                Problem(f"the file is larger than {_MAX_FILE_BYTES // 1_000_000} MB", Place(name), hint)
            ]
        return decoded(data, name).removeprefix("\ufeff"), []
    except OSError as exc:
        return "", [Problem(f"{file.name} cannot be read: {exc.strerror or exc}", Place(name))]
    except Invalid as exc:
        return "", list(exc.problems)


def _sql_job(file: Path, name: str, text: str) -> tuple[Job, list[Problem]]:
    statement = read_statement(text, name)
    way, problems = read_header(text, name)
    problems += statement.problems
    inputs = statement.reads
    if THIS in inputs and way.grows:
        inputs = tuple(read for read in inputs if read != THIS)
    place = Place(name, 1)
    return Job(file.stem, SQL, inputs, text, path=file, place=place, statement=statement, way=way), problems


def _python_job(file: Path, name: str, text: str) -> tuple[Job, list[Problem]]:
    inputs, way, problems = read_python(text, name)
    return Job(file.stem, PYTHON, inputs, text, path=file, place=Place(name, 1), way=way), problems


def _score_job(file: Path, name: str, text: str) -> tuple[Job, list[Problem]]:
    score, problems = read_score(text, name)
    inputs = (score.rows,) if score else ()
    return Job(file.stem, SCORE, inputs, text, path=file, place=Place(name, 1), score=score), problems


_MAKERS = {".sql": _sql_job, ".py": _python_job, ".yaml": _score_job, ".yml": _score_job}


def _is_of_dbt(file: Path) -> bool:
    """Whether it is YAML that a dbt project has beside its own file: such a project may be called `transform`."""
    return file.suffix in {".yaml", ".yml"} and (file.parent / "dbt_project.yml").exists()


def read_python(text: str, name: str) -> tuple[tuple[str, ...], ModelKind, list[Problem]]:
    """The inputs a Python model names, how its rows are kept, and what is wrong with it; nothing is executed."""
    try:
        tree = ast.parse(text)
    except SyntaxError as exc:
        line = exc.text.rstrip("\n") if exc.text else None
        place = Place(name, exc.lineno or 0, exc.offset or 0)
        return (), ModelKind(), [Problem(f"not Python: {exc.msg}", place, None, line)]
    except (ValueError, RecursionError, MemoryError) as exc:
        problem = Problem(f"not Python: {exc or 'nested too deeply'}", Place(name))
        return (), ModelKind(), [problem]
    problems: list[Problem] = []
    inputs: tuple[str, ...] | None = None
    model: ast.FunctionDef | None = None
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name == "model":
            model = node
        value = _assigned_inputs(node)
        if value is None:
            continue
        try:
            found = ast.literal_eval(value)
        except (ValueError, TypeError):
            found = None
        if isinstance(found, list | tuple) and all(isinstance(item, str) for item in found):
            inputs = tuple(dict.fromkeys(found))
        else:
            hint = 'it is read without running the file: write names only, like inputs = ["purchases"]'
            place = Place(name, value.lineno, value.col_offset + 1)
            problems.append(Problem("'inputs' must be a list of names in quotes", place, hint))
            inputs = ()
    if inputs is None:
        hint = 'write a line like inputs = ["purchases"], or inputs = [] for a model that reads nothing'
        problems.append(Problem("the model does not say what it reads", Place(name, 1), hint))
    if model is None:
        hint = "write def model(run): … that returns a pyarrow.Table"
        problems.append(Problem("there is no function 'model'", Place(name, 1), hint))
    elif len(model.args.posonlyargs) + len(model.args.args) != 1:
        place = Place(name, model.lineno, model.col_offset + 1)
        problems.append(Problem("'model' must take exactly one argument", place, "write def model(run):"))
    way, wrong = read_constants(tree, name)
    if way.kind == VIEW:
        hint = "make it a table, or write it in SQL"
        wrong.append(Problem("a Python model cannot be a view", Place(name, 1), hint))
    return inputs or (), way, [*problems, *wrong]


def _assigned_inputs(node: ast.stmt) -> ast.expr | None:
    match node:
        case ast.Assign(targets=[ast.Name(id="inputs")], value=value):
            return value
        case ast.AnnAssign(target=ast.Name(id="inputs"), value=ast.expr() as value):
            return value
    return None
