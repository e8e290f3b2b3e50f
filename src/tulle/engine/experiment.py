"""Several refs beside one base: how far each went, which paths and data sets it changed, and how its values moved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tulle.engine.columns_compared import ColumnChange
from tulle.engine.compare import compare
from tulle.engine.dataset_files import changed_paths, data_set_of, format_of
from tulle.engine.duck import DuckEngine
from tulle.engine.profile import ProfileChange
from tulle.errors import Invalid, Problem, TulleError
from tulle.lake.repository import Repository

MOST_REFS = 20


@dataclass(frozen=True, slots=True)
class DataSetChange:
    """One data set that an experiment has otherwise than the base: rows and bytes on both sides, what moved.

    `problem` says why it could not be compared; then the rest is empty.
    """

    name: str
    left_rows: int = 0
    right_rows: int = 0
    left_bytes: int = 0
    right_bytes: int = 0
    columns: tuple[ColumnChange, ...] = ()
    profile: tuple[ProfileChange, ...] = ()  # of the columns whose values look different
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Experiment:
    """One ref beside the base: commits only it has, commits only the base has, and what differs now.

    Staged changes of a branch count. Paths and data sets are those that differ from the base as it is.
    """

    ref: str
    commit_id: str
    ahead: int
    behind: int
    changed_paths: int
    data_sets: tuple[DataSetChange, ...]


def experiments(
    engine: DuckEngine, repository: Repository, base: str, refs: Sequence[str], *, profile: bool = True
) -> tuple[Experiment, ...]:
    """Each ref beside `base`, in the order given. NotFound for an unknown ref; Invalid for more than 20."""
    if not 1 <= len(refs) <= MOST_REFS:
        raise Invalid(f"{len(refs)} experiments were asked for", hint=f"name 1 to {MOST_REFS} refs")
    for ref in (base, *refs):
        repository.resolve(ref)  # before anything is read
    return tuple(_experiment(engine, repository, base, ref, profile=profile) for ref in refs)


def _experiment(
    engine: DuckEngine, repository: Repository, base: str, ref: str, *, profile: bool
) -> Experiment:
    paths = changed_paths(repository, base, ref)
    names = sorted({data_set_of(path) for path in paths if format_of(path)})
    ahead, behind = _commits_apart(repository, base, ref)
    data_sets = tuple(_change(engine, repository, base, ref, name, profile=profile) for name in names)
    return Experiment(ref, repository.resolve(ref), ahead, behind, len(paths), data_sets)


def _change(
    engine: DuckEngine, repository: Repository, base: str, ref: str, name: str, *, profile: bool
) -> DataSetChange:
    try:
        found = compare(engine, repository, base, ref, name, rows=False, profile=profile)
    except TulleError as exc:  # one file that cannot be read hides nothing of the others
        return DataSetChange(name, problem=str(Problem(exc.message)))
    return DataSetChange(
        name,
        found.left_rows,
        found.right_rows,
        found.files.left_bytes,
        found.files.right_bytes,
        found.columns,
        tuple(change for change in found.profile if change.changed),
    )


def _commits_apart(repository: Repository, base: str, ref: str) -> tuple[int, int]:
    """How many commits only `ref` has, and only `base`."""
    shared = repository.merge_base(base, ref)
    ours = {commit.id for commit in repository.log_iter(ref, stop_at=shared)}
    theirs = {commit.id for commit in repository.log_iter(base, stop_at=shared)}
    return len(ours - theirs), len(theirs - ours)
