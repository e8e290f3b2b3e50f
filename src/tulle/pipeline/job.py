"""What makes one data set: an input port, an SQL model or a Python model, read from a product's files.

Nothing of the user's is executed: SQL is parsed, Python is read by `ast`. What is wrong comes back as problems.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tulle.engine.statement import Statement, read_statement
from tulle.errors import Place, Problem
from tulle.spec.mesh import MeshSpec
from tulle.spec.product import DATA_SET_NAME, DataProduct, InputPort
from tulle.spec.rules import RESERVED_DATA_SETS

INGEST, PORT, SQL, PYTHON = "ingest", "port", "sql", "python"
RESERVED = {**RESERVED_DATA_SETS, "publish": "that is the name of a run's last step"}
_MAX_FILE_BYTES = 1_000_000


@dataclass(frozen=True, slots=True)
class Job:
    """What makes one data set. `name` is the data set's name, which tells jobs of a product apart.

    ingest: files of the input port `port` become rows. port: the rows are those of another product, read where
    they are. sql and python: a file in transform/, whose text is `text`.
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
            data_set = upstream[1].data_set if upstream else port.data_set
            yield Job(port.data_set, PORT, port=port, upstream=(port.product, data_set), place=port.place)


# ── transformations ──────────────────────────────────────────────────────────────────────────────────────


def transform_jobs(folder: Path, label: str) -> tuple[list[Job], tuple[tuple[str, str], ...], list[Problem]]:
    jobs: list[Job] = []
    shared: list[tuple[str, str]] = []
    problems: list[Problem] = []
    for file in sorted(folder.iterdir()) if folder.is_dir() else []:
        name = f"{label}/{file.name}"
        if file.suffix not in {".sql", ".py"} or not file.is_file():
            continue
        try:
            text = _text_of(file)
        except (OSError, ValueError) as exc:
            problems.append(Problem(f"{file.name} cannot be read: {exc}", Place(name)))
            continue
        if file.suffix == ".py" and file.stem.startswith("_"):
            shared.append((file.stem, text))
        elif not re.match(DATA_SET_NAME, file.stem):
            hint = "name the file after the data set it makes, in snake_case, such as customer_features"
            problems.append(Problem(f"'{file.stem}' is no name for a data set", Place(name), hint))
        else:
            job, wrong = (
                _sql_job(file, name, text) if file.suffix == ".sql" else _python_job(file, name, text)
            )
            jobs.append(job)
            problems += wrong
    return jobs, tuple(shared), problems


def _text_of(file: Path) -> str:
    with file.open("rb") as stream:
        data = stream.read(_MAX_FILE_BYTES + 1)
    if len(data) > _MAX_FILE_BYTES:
        raise ValueError(f"it is larger than {_MAX_FILE_BYTES // 1_000_000} MB")
    return data.decode()


def _sql_job(file: Path, name: str, text: str) -> tuple[Job, list[Problem]]:
    statement = read_statement(text, name)
    job = Job(file.stem, SQL, statement.reads, text, path=file, place=Place(name, 1), statement=statement)
    return job, list(statement.problems)


def _python_job(file: Path, name: str, text: str) -> tuple[Job, list[Problem]]:
    inputs, problems = read_python(text, name)
    return Job(file.stem, PYTHON, inputs, text, path=file, place=Place(name, 1)), problems


def read_python(text: str, name: str) -> tuple[tuple[str, ...], list[Problem]]:
    """The inputs a Python model names, and what is wrong with it; nothing is executed."""
    try:
        tree = ast.parse(text)
    except SyntaxError as exc:
        line = exc.text.rstrip("\n") if exc.text else None
        return (), [
            Problem(f"not Python: {exc.msg}", Place(name, exc.lineno or 0, exc.offset or 0), None, line)
        ]
    except (ValueError, RecursionError, MemoryError) as exc:
        return (), [Problem(f"not Python: {exc or 'nested too deeply'}", Place(name))]
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
    return inputs or (), problems


def _assigned_inputs(node: ast.stmt) -> ast.expr | None:
    match node:
        case ast.Assign(targets=[ast.Name(id="inputs")], value=value):
            return value
        case ast.AnnAssign(target=ast.Name(id="inputs"), value=ast.expr() as value):
            return value
    return None
