"""Bringing the files of an input port in: found, compared with what is declared, typed, written as Parquet.

All or nothing: a file that does not fit stops the ingest with every reason, and nothing is left at the target.
Knows nothing of branches: the target is a path.
"""

from __future__ import annotations

import contextlib
import glob
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tulle.config import STATE_FOLDER
from tulle.engine.engine import Written
from tulle.errors import Denied, Invalid, Place, Problem, nearest
from tulle.pipeline.convert import (
    Misfit,
    columns_of,
    convert,
    expected,
    in_mesh_types,
    schema_of,
)
from tulle.pipeline.delimited import drift_problems, read_delimited
from tulle.pipeline.json_rows import read_json
from tulle.pipeline.sources.fitting import Rejects
from tulle.spec.product import InputPort
from tulle.spec.source import Source, SourceColumn

ROW_GROUP_ROWS = 100_000
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file to read; `label` is what messages call it."""

    path: Path
    label: str


def source_files(
    port: InputPort, folder: Path, label: str, data_folders: Sequence[str] = ()
) -> tuple[SourceFile, ...]:
    """The files of a port's source, sorted by name. Raises Invalid when there is none.

    `folder` is the product's folder, `label` what messages call it. A source reads below that folder and below
    `data_folders` only, symbolic links followed, and never what Tulle itself keeps: Denied otherwise.
    """
    assert port.source is not None
    pattern = port.source.path
    where = Path(pattern) if Path(pattern).is_absolute() else folder / pattern
    if glob.has_magic(pattern):
        found = sorted(Path(name) for name in glob.glob(str(where), recursive=True) if Path(name).is_file())  # noqa: PTH207
    else:
        found = [where] if where.is_file() else []
    if not found:
        raise _no_file(port, where, pattern)
    allowed = [folder.resolve(), *(Path(name).resolve() for name in data_folders)]
    for file in found:
        real = file.resolve()
        if STATE_FOLDER in real.parts or not any(real.is_relative_to(place) for place in allowed):
            raise _outside(port, pattern, real)
    return tuple(SourceFile(file, _label(file, folder, label)) for file in found)


def missing_file(port: InputPort, folder: Path) -> Problem | None:
    """Why a port's source has nothing to read now; None when a file is there. Looks no further than the first."""
    assert port.source is not None
    pattern = port.source.path
    where = Path(pattern) if Path(pattern).is_absolute() else folder / pattern
    names = glob.iglob(str(where), recursive=True) if glob.has_magic(pattern) else [str(where)]  # noqa: PTH207
    if any(Path(name).is_file() for name in names):
        return None
    return _no_file(port, where, pattern).problems[0]


def _no_file(port: InputPort, where: Path, pattern: str) -> Invalid:
    what = "no file fits" if glob.has_magic(pattern) else "there is no file"
    hint = f"put the file there, or change 'path' of the input port '{port.title}'"
    if where.is_dir():
        what = "a folder, not a file, is at"
    elif where.parent.is_dir():
        near = nearest(where.name, [entry.name for entry in where.parent.iterdir() if entry.is_file()])
        if near is not None:
            hint = f"did you mean '{pattern.removesuffix(where.name)}{near}'? Otherwise {hint}"
    problem = Problem(f"{what} '{pattern}'", port.source.place if port.source else port.place, hint)
    return Invalid(f"input port '{port.title}': {what} '{pattern}'", hint=hint, problems=[problem])


def _outside(port: InputPort, pattern: str, real: Path) -> Denied:
    message = f"'{pattern}' leads to {real}, which no source of this product may read"
    hint = "put the file into the product's folder, or name its folder in `data_folders:` of mesh.yaml"
    problem = Problem(message, port.source.place if port.source else port.place, hint)
    return Denied(f"input port '{port.title}': {message}", hint=hint, problems=[problem])


def _label(file: Path, folder: Path, label: str) -> str:
    return f"{label}/{file.relative_to(folder).as_posix()}" if file.is_relative_to(folder) else str(file)


def content_digest(files: Sequence[SourceFile]) -> str:
    """What identifies the bytes of the files, in hex."""
    digest = hashlib.sha256()
    for file in files:
        digest.update(json.dumps([file.label, file.path.stat().st_size]).encode())
        with file.path.open("rb") as stream:
            while chunk := stream.read(_CHUNK_BYTES):
                digest.update(chunk)
    return digest.hexdigest()


def ingest(files: Sequence[SourceFile], source: Source, target: Path) -> Written:
    """Read the files and write their rows as one Parquet file at `target`.

    Raises Invalid with up to 20 problems, each with file and line, and the count of all; nothing is left at
    `target` then. OSError when it cannot be written.
    """
    batches: Iterator[pa.RecordBatch] = chain.from_iterable(read_file(file, source) for file in files)
    return write_batches(batches, target, files[0].label)


def write_batches(
    batches: Iterator[pa.RecordBatch], target: Path, label: str, schema: pa.Schema | None = None
) -> Written:
    """Write record batches of one schema as one Parquet file, or nothing at all.

    No batches at all are written as no rows when `schema` says of which columns, and refused otherwise.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    writer: pq.ParquetWriter | None = None
    rows = 0
    try:
        if schema is not None:
            writer = pq.ParquetWriter(target, schema, compression="zstd")
        for batch in batches:
            if writer is None:
                schema = batch.schema
                writer = pq.ParquetWriter(target, schema, compression="zstd")
            if batch.schema != schema:
                names = ", ".join(f"{f.name} {f.type}" for f in batch.schema)
                raise Invalid(
                    f"'{label}' and the files after it differ in their columns: one has {names}",
                    hint="declare the 'columns' of the input port's source",
                )
            writer.write_batch(batch, row_group_size=ROW_GROUP_ROWS)
            rows += batch.num_rows
        if writer is None or schema is None:
            raise Invalid(f"{label} has no rows", hint="was the file written to its end?")
        writer.close()
    except BaseException:
        if writer is not None:
            _close_quietly(writer)
        target.unlink(missing_ok=True)
        raise
    return Written(rows, columns_of(schema), target.stat().st_size)


def _close_quietly(writer: pq.ParquetWriter) -> None:
    with contextlib.suppress(OSError):  # the disk is full or gone; the first error says so
        writer.close()


def read_file(file: SourceFile, source: Source, rejects: Rejects | None = None) -> Iterator[pa.RecordBatch]:
    """The rows of one file in the mesh's types; what does not fit goes to `rejects`, or stops the reading."""
    try:
        if source.format in {"csv", "whitespace"}:
            yield from read_delimited(file.path, file.label, source, rejects)
        elif source.format == "json":
            yield from read_json(file.path, file.label, source, rejects)
        else:
            yield from _read_parquet(file, source)
    except PermissionError as exc:
        raise Invalid(
            f"{file.label} cannot be read: {exc.strerror}", hint="check who may read the file"
        ) from exc


# ── parquet ──────────────────────────────────────────────────────────────────────────────────────────────


def _read_parquet(file: SourceFile, source: Source) -> Iterator[pa.RecordBatch]:
    place = Place(file.label)
    try:
        parquet = pq.ParquetFile(file.path)
    except pa.ArrowInvalid as exc:
        problem = Problem(f"not a Parquet file: {str(exc).splitlines()[0]}", place)
        raise Invalid(f"{file.label} is not a Parquet file", problems=[problem]) from exc
    with parquet:
        if not parquet.metadata.num_rows:
            raise Invalid(f"{file.label} has no rows", hint="was the file written to its end?")
        declared = [column.name for column in source.columns]
        if declared and (problems := drift_problems(parquet.schema_arrow.names, declared, place)):
            hint = "change 'columns' of the input port's source, or the file"
            raise Invalid(f"{file.label}: the columns are not as declared", hint=hint, problems=problems)
        done = 0
        for batch in parquet.iter_batches(ROW_GROUP_ROWS, columns=declared or None):
            table = in_mesh_types(pa.Table.from_batches([batch]), file.label)
            if declared:
                table = _as_declared(table, source.columns, file.label, done)
            done += batch.num_rows
            yield from table.combine_chunks().to_batches()


def _as_declared(table: pa.Table, columns: Sequence[SourceColumn], label: str, done: int) -> pa.Table:
    schema = schema_of(columns)
    made, problems = [], []
    for column in columns:
        found = table.column(column.name).combine_chunks()
        try:
            if found.type == pa.string():
                made.append(convert(found, column))
            else:
                made.append(found.cast(schema.field(column.name).type))
        except (Misfit, pa.ArrowInvalid, pa.ArrowNotImplementedError) as exc:
            message = f"column '{column.name}' is {found.type} in the file, expected {expected(column)}"
            reason = f": {str(exc).splitlines()[0]}" if str(exc) else ""
            where = f"in rows {done + 1:,} to {done + table.num_rows:,}{reason}"
            problems.append(Problem(message, Place(label), where))
    if problems:
        raise Invalid(f"{label} does not fit the declared types", problems=problems)
    return pa.table(made, schema=schema)
