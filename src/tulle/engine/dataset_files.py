"""Which files hold a data set at a ref, and which of two refs' files hold the same rows. Reads no row.

A data set is a file, or a folder of Parquet or of CSV files. Knows neither products nor SQL.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tulle.errors import Invalid, NotFound
from tulle.lake.repository import Entry, Repository

Format = Literal["parquet", "csv"]

_PARQUET = (".parquet", ".parq", ".pq")
_CSV = (".csv", ".tsv", ".csv.gz", ".tsv.gz", ".csv.zst", ".tsv.zst")
_PARTITION = re.compile(r"[^/=]+=[^/]*\Z")


@dataclass(frozen=True, slots=True)
class DataSetFiles:
    """The files of one data set at one ref, in path order; none when it is not there."""

    ref: str
    commit_id: str
    format: Format | None
    entries: tuple[Entry, ...]
    others: int  # files in the folder that are neither Parquet nor CSV


@dataclass(frozen=True, slots=True)
class FileChanges:
    """How the files of two sides relate. `shared` are content both sides have, under whatever path."""

    shared: tuple[Entry, ...]
    left_only: tuple[Entry, ...]
    right_only: tuple[Entry, ...]


def format_of(path: str) -> Format | None:
    """What a path's name says about its content."""
    name = path.lower()
    if name.endswith(_PARQUET):
        return "parquet"
    return "csv" if name.endswith(_CSV) else None


def data_set_of(path: str) -> str:
    """The data set a file belongs to: its folder without partitions (`day=…`), or itself at the top."""
    *folders, _ = path.split("/")
    while folders and _PARTITION.match(folders[-1]):
        folders.pop()
    return "/".join(folders) or path


def files_at(repository: Repository, ref: str, prefix: str) -> DataSetFiles:
    """The files of the data set `prefix` names: a file of exactly that path, else what is below that folder.

    Invalid when it holds both formats or several data sets; staged changes count where `ref` is a branch.
    """
    commit_id = repository.resolve(ref)
    found = list(_entries(repository, ref, prefix))
    entries = tuple(e for e in found if format_of(e.path) and e.size)
    formats = {format_of(e.path) for e in entries}
    if len(formats) > 1:
        raise Invalid(
            f"'{prefix}' at '{ref}' holds both Parquet and CSV files",
            hint="compare one file or one folder of a single format",
        )
    sets = sorted({data_set_of(e.path) for e in entries})
    if len(sets) > 1:
        shown = ", ".join(sets[:5]) + (", …" if len(sets) > 5 else "")
        raise Invalid(f"'{prefix}' at '{ref}' holds {len(sets)} data sets", hint=f"compare one of: {shown}")
    return DataSetFiles(
        ref, commit_id, formats.pop() if formats else None, entries, len(found) - len(entries)
    )


def both_sides(
    repository: Repository, left: str, right: str, prefix: str
) -> tuple[DataSetFiles, DataSetFiles]:
    """The files of a data set at two refs. NotFound when neither has it, Invalid when the formats differ."""
    sides = files_at(repository, left, prefix), files_at(repository, right, prefix)
    formats = {side.format for side in sides if side.format}
    if not formats:
        raise NotFound(
            f"there is no Parquet or CSV file at '{prefix}' in repository '{repository.name}',"
            f" neither at '{left}' nor at '{right}'"
        )
    if len(formats) > 1:
        raise Invalid(f"'{prefix}' is {sides[0].format} at '{left}' and {sides[1].format} at '{right}'")
    return sides


def file_changes(left: Sequence[Entry], right: Sequence[Entry]) -> FileChanges:
    """Pair off equal content, each file of one side with at most one of the other."""
    spare = Counter(map(_content, right))
    shared, left_only = [], []
    for entry in left:
        if spare[_content(entry)] > 0:
            spare[_content(entry)] -= 1
            shared.append(entry)
        else:
            left_only.append(entry)
    right_only = []
    for entry in reversed(right):
        if spare[_content(entry)] > 0:
            spare[_content(entry)] -= 1
            right_only.append(entry)
    return FileChanges(tuple(shared), tuple(left_only), tuple(reversed(right_only)))


def local_files(repository: Repository, entries: Sequence[Entry], folder: Path) -> dict[str, str]:
    """A local file for the address of each entry; what is in a remote store is copied into `folder` first."""
    places: dict[str, str] = {}
    for entry in entries:
        if entry.address in places:
            continue
        place = repository.location(entry)
        if not place.startswith("/"):
            folder.mkdir(parents=True, exist_ok=True)
            copy = folder / str(len(places))
            with copy.open("wb") as target:
                for piece in repository.read(entry):
                    target.write(piece)
            place = str(copy)
        places[entry.address] = place
    return places


def changed_data_sets(repository: Repository, left: str, right: str) -> list[str]:
    """The data sets with a file that differs between two refs, staged changes of branches included."""
    return sorted({data_set_of(path) for path in changed_paths(repository, left, right) if format_of(path)})


def changed_paths(repository: Repository, left: str, right: str) -> set[str]:
    """The paths that differ between two refs, staged changes of branches included."""
    paths = {change.path for change in repository.diff(left, right)}
    staged = set()
    for ref in {left, right}:
        if any(branch.name == ref for branch in repository.branches(prefix=ref, limit=1)):
            staged |= {change.path for change in repository.status(ref)}
    for path in staged - paths:
        if _at(repository, left, path) != _at(repository, right, path):
            paths.add(path)
    for path in staged & paths:
        if _at(repository, left, path) == _at(repository, right, path):
            paths.discard(path)
    return paths


def _at(repository: Repository, ref: str, path: str) -> tuple[str, int] | None:
    return _content(repository.stat(ref, path)) if repository.exists(ref, path) else None


def _entries(repository: Repository, ref: str, prefix: str) -> Iterator[Entry]:
    name = prefix.rstrip("/")
    if not name:
        yield from repository.entries(ref)
    elif not prefix.endswith("/") and repository.exists(ref, name):
        yield repository.stat(ref, name)
    else:
        yield from repository.entries(ref, f"{name}/")


def _content(entry: Entry) -> tuple[str, int]:
    return entry.checksum or entry.address, entry.size
