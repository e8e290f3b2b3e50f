"""The pages of comparisons: a data set's rows between two refs, and experiments beside a base.

Bounded in bytes and files: what is too large says with which command it is compared instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from tulle.catalog.comparing import declared_key, for_page
from tulle.catalog.lake.opened import Head, Opened
from tulle.catalog.masking import readable_columns
from tulle.engine.compare import Comparison, compare
from tulle.engine.dataset_files import format_of
from tulle.engine.experiment import Experiment, experiments
from tulle.engine.profile import Profile
from tulle.errors import Invalid, LimitExceeded
from tulle.lake.repository import Repository
from tulle.spec.product import DataProduct

COMPARED_FILES = 1000  # of a side
COMPARED_BYTES = 512 * 1024 * 1024  # of both sides: more is for the command line
COMPARED_PATHS = 10_000
SAMPLE_ROWS = 10


@dataclass(frozen=True, slots=True)
class RowsPage:
    """A data set compared between two refs, without values that may not be shown; `key` as it was asked for."""

    head: Head
    left: str
    right: str
    prefix: str
    key: str
    columns: tuple[str, ...]
    found: Comparison


@dataclass(frozen=True, slots=True)
class ExperimentsPage:
    """Refs beside a base; none before they are chosen."""

    head: Head
    base: str
    refs: str
    known: tuple[str, ...]
    experiments: tuple[Experiment, ...]


def rows_page(opened: Opened, *, left: str, right: str, prefix: str, key: str) -> RowsPage:
    """A data set compared row by row. LimitExceeded for more than a page should read."""
    if not prefix.strip("/"):
        raise Invalid("no data set was named", hint="add ?prefix= and the data set's folder")
    repository, product = opened.repository, opened.product
    for side in (left, right):
        repository.resolve(side)
    _demand_small(repository, (left, right), prefix)
    columns = [c.strip() for c in key.split(",") if c.strip()]
    columns = columns or list(declared_key(product, prefix))
    found = compare(opened.engine, repository, left, right, prefix, key=columns or None, limit=SAMPLE_ROWS)
    # Part of a data set is declared by the whole.
    whole = replace(found, prefix=_data_set(prefix))
    shown = replace(for_page(whole, product), prefix=prefix)
    names = tuple(dict.fromkeys(change.name for change in found.profile))
    return RowsPage(opened.head, left, right, prefix, key, names, shown)


def experiments_page(opened: Opened, *, base: str, refs: str) -> ExperimentsPage:
    """Refs (with commas between them) beside a base. LimitExceeded for more than a page should read."""
    repository = opened.repository
    base = base or repository.default_branch
    chosen = list(dict.fromkeys(r.strip() for r in refs.split(",") if r.strip()))
    found: tuple[Experiment, ...] = ()
    if chosen:
        for ref in chosen:
            _demand_few(repository, base, ref)
        found = experiments(opened.engine, repository, base, chosen)
    shown = tuple(_hidden(one, opened.product) for one in found)
    return ExperimentsPage(opened.head, base, refs, opened.known(), shown)


def _data_set(prefix: str) -> str:
    """The data set a prefix lies in, as products name theirs."""
    return prefix.strip("/").split("/")[0]


def _demand_small(repository: Repository, refs: Sequence[str], prefix: str) -> None:
    """LimitExceeded when a data set is too large to be read for a page."""
    total = 0
    for ref in refs:
        if not prefix.endswith("/") and repository.exists(ref, prefix):
            total += repository.stat(ref, prefix).size
            continue
        page = repository.list(ref, f"{prefix.rstrip('/')}/", limit=COMPARED_FILES)
        total += sum(entry.size for entry in page.entries)
        if page.next:
            total = COMPARED_BYTES + 1
    if total > COMPARED_BYTES:
        raise LimitExceeded(
            f"'{prefix}' is too large to be compared for a page",
            hint=f"use: tulle compare {repository.name} {refs[0]} {refs[1]} {prefix}",
        )


def _demand_few(repository: Repository, base: str, ref: str) -> None:
    found, more = repository.diff_page(base, ref, limit=COMPARED_PATHS)
    size = sum(side.size for c in found for side in (c.left, c.right) if side and format_of(side.path))
    if more or size > COMPARED_BYTES:
        raise LimitExceeded(
            f"'{ref}' differs too much from '{base}' to be compared for a page",
            hint="compare it on the command line: tulle compare --help",
        )


def _hidden(one: Experiment, product: DataProduct | None) -> Experiment:
    """An experiment with no value of a column that may name a person."""

    def bare(profile: Profile | None) -> Profile | None:
        return profile and replace(profile, least=None, most=None, mean=None, deviation=None, quantiles=None)

    sets = []
    for data_set in one.data_sets:
        shown = readable_columns(product, _data_set(data_set.name), [p.name for p in data_set.profile])
        profile = tuple(
            p if p.name in shown else replace(p, left=bare(p.left), right=bare(p.right))
            for p in data_set.profile
        )
        sets.append(replace(data_set, profile=profile))
    return replace(one, data_sets=tuple(sets))
