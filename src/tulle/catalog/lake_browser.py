"""What the pages of a repository show beside its objects: refs, commits, differences, pull requests, hooks, settings.

Reads, never writes, and never more than a page: a repository of a million objects is as quick as a small one.
"""

from __future__ import annotations

import contextlib
import fnmatch
import heapq
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from tulle.catalog.commit_graph import Drawing, draw
from tulle.catalog.comparing import declared_key, for_page
from tulle.catalog.masking import readable_columns
from tulle.catalog.preview import Preview, preview
from tulle.config import Settings, Warehouse
from tulle.engine.compare import Comparison, compare
from tulle.engine.dataset_files import data_set_of, format_of
from tulle.engine.duck import DuckEngine
from tulle.engine.experiment import Experiment, experiments
from tulle.engine.profile import Profile
from tulle.errors import Invalid, LimitExceeded, NotFound, TulleError
from tulle.lake import pulls
from tulle.lake.collect import Collection, collections
from tulle.lake.entry import checked_text
from tulle.lake.hooks import record
from tulle.lake.hooks.record import HookRun
from tulle.lake.hooks.record import Run as HooksRun
from tulle.lake.pulls import Pull
from tulle.lake.repository import (
    Branch,
    Change,
    Commit,
    Entry,
    Lake,
    Move,
    PathConflict,
    Quota,
    Repository,
    Tag,
)
from tulle.spec.product import DataProduct

CHANGES_A_PAGE = 100
REFS_A_PAGE = 100
PULLS_A_PAGE = 50
RUNS_A_PAGE = 50
COMMITS_DRAWN = 60
BRANCHES_DRAWN = 8
BRANCHES_LOOKED_AT = 60  # of which the newest are drawn
CONFLICTS_SHOWN = 100
MOVES_SHOWN = 100
COMPARED_FILES = 1000  # of a side
COMPARED_BYTES = 512 * 1024 * 1024  # of both sides: more is for the command line
COMPARED_PATHS = 10_000
SAMPLE_ROWS = 10


@dataclass(frozen=True, slots=True)
class Head:
    """What stands above every page of a repository."""

    name: str
    is_product: bool
    default_branch: str
    read_only: bool


@dataclass(frozen=True, slots=True)
class BranchLine:
    """A branch in a list."""

    branch: Branch
    commit: Commit
    is_protected: bool


@dataclass(frozen=True, slots=True)
class RefsPage:
    """A page of branches, and the tags; `next` and `next_tag` continue them."""

    head: Head
    branches: tuple[BranchLine, ...]
    next: str
    tags: tuple[tuple[Tag, Commit], ...]
    next_tag: str


@dataclass(frozen=True, slots=True)
class CommitsPage:
    """The history of some branches as a drawing; `names` are the refs on a commit, by its id."""

    head: Head
    ref: str
    drawing: Drawing
    names: dict[str, tuple[str, ...]]
    branches: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Changes:
    """A page of changes, and the data sets among them that rows can be compared of."""

    changes: tuple[Change, ...]
    next: str
    data_sets: tuple[str, ...]
    left: str = ""  # refs to compare rows between
    right: str = ""


@dataclass(frozen=True, slots=True)
class CommitPage:
    """One commit and what it changed against its first parent."""

    head: Head
    commit: Commit
    changes: Changes


@dataclass(frozen=True, slots=True)
class ObjectPage:
    """One object at a ref."""

    head: Head
    ref: str
    commit_id: str
    entry: Entry
    preview: Preview


@dataclass(frozen=True, slots=True)
class DiffPage:
    """What differs between two refs; without refs the form to choose them."""

    head: Head
    left: str
    right: str
    mode: str
    prefix: str
    refs: tuple[str, ...]
    changes: Changes | None


@dataclass(frozen=True, slots=True)
class RowsPage:
    """A data set compared between two refs, without values that may not be shown."""

    head: Head
    left: str
    right: str
    prefix: str
    found: Comparison


@dataclass(frozen=True, slots=True)
class PullsPage:
    """Pull requests, newest first."""

    head: Head
    status: str
    pulls: tuple[Pull, ...]
    next: str


@dataclass(frozen=True, slots=True)
class PullPage:
    """One pull request: what it would change and what stands against it; `note` says why that is not known."""

    head: Head
    pull: Pull
    changes: Changes | None
    conflicts: tuple[PathConflict, ...]
    conflict_count: int
    note: str


@dataclass(frozen=True, slots=True)
class HooksPage:
    """Runs of hooks, newest first."""

    head: Head
    runs: tuple[HooksRun, ...]
    next: str


@dataclass(frozen=True, slots=True)
class HookRunPage:
    """One run of hooks with what each of them said."""

    head: Head
    run: HooksRun
    hooks: tuple[HookRun, ...]


@dataclass(frozen=True, slots=True)
class SettingsPage:
    """How a repository is set up, and its newest collections of garbage."""

    head: Head
    namespace: str
    created_at: float
    metadata: tuple[tuple[str, str], ...]
    protection: tuple[str, ...]
    retention_days: int | None
    retention: tuple[tuple[str, int], ...]
    quota: Quota
    collections: tuple[Collection, ...]


@dataclass(frozen=True, slots=True)
class ReflogPage:
    """Where a branch was."""

    head: Head
    branch: str
    moves: tuple[Move, ...]


@dataclass(frozen=True, slots=True)
class ExperimentsPage:
    """Refs beside a base; none before they are chosen."""

    head: Head
    base: str
    refs: str
    known: tuple[str, ...]
    experiments: tuple[Experiment, ...]


class LakeBrowser:
    """Reads the pages of repositories. Safe to share between threads; every page may raise NotFound and Invalid."""

    def __init__(self, settings: Settings, lake: Lake, product: Callable[[str], DataProduct | None]) -> None:
        bounds = Warehouse(threads=1, memory="512MB", temp_disk="1GB")
        self._engine = DuckEngine(bounds, settings.run_folder / "portal-lake")
        self._lake = lake
        self._product = product

    def refs(self, name: str, *, after: str, after_tag: str) -> RefsPage:
        """Branches and tags, by name."""
        repository, head = self._open(name, after, after_tag)
        branches = repository.branches(after=after, limit=REFS_A_PAGE + 1)
        tags = repository.tags(after=after_tag, limit=REFS_A_PAGE + 1)
        guarded = repository.protection()
        return RefsPage(
            head,
            tuple(
                BranchLine(one, repository.commit_info(one.commit_id), _is_protected(one.name, guarded))
                for one in branches[:REFS_A_PAGE]
            ),
            branches[REFS_A_PAGE - 1].name if len(branches) > REFS_A_PAGE else "",
            tuple((tag, repository.commit_info(tag.commit_id)) for tag in tags[:REFS_A_PAGE]),
            tags[REFS_A_PAGE - 1].name if len(tags) > REFS_A_PAGE else "",
        )

    def commits(self, name: str, *, ref: str) -> CommitsPage:
        """The newest commits of one ref, or of the default branch and those that moved last."""
        repository, head = self._open(name, ref)
        listed = {b.name: b for b in repository.branches(limit=BRANCHES_LOOKED_AT)}
        heads = {ref: repository.resolve(ref)} if ref else _heads(repository, tuple(listed.values()))
        names: dict[str, list[str]] = {}
        for known in dict.fromkeys([*heads, *(() if not ref else listed)]):
            commit_id = heads.get(known) or listed[known].commit_id
            names.setdefault(commit_id, []).append(known)
        for tag in repository.tags(limit=BRANCHES_LOOKED_AT):
            names.setdefault(tag.commit_id, []).append(tag.name)
        walk = itertools.islice(_walk(repository, tuple(heads.values())), COMMITS_DRAWN)
        return CommitsPage(
            head,
            ref,
            draw(list(walk)),
            {commit: tuple(found) for commit, found in names.items()},
            tuple(heads),
        )

    def commit(self, name: str, commit_id: str, *, after: str) -> CommitPage:
        """One commit by its id, or by any ref."""
        repository, head = self._open(name, commit_id, after)
        commit = repository.commit_info(commit_id)
        return CommitPage(head, commit, _changes_by(repository, commit, after))

    def object(self, name: str, *, ref: str, path: str) -> ObjectPage:
        """An object at a ref (empty: the default branch)."""
        repository, head = self._open(name, ref)
        ref = ref or repository.default_branch
        entry = repository.stat(ref, path)
        shown = preview(self._engine, repository, entry, self._product(name))
        return ObjectPage(head, ref, repository.resolve(ref), entry, shown)

    def diff(self, name: str, *, left: str, right: str, mode: str, prefix: str, after: str) -> DiffPage:
        """Two refs beside one another: `two` and `three` dots, or what is `staged` on the branch `right`."""
        repository, head = self._open(name, left, right)
        known = _known(repository)
        left = left or (repository.default_branch if right and mode != "staged" else left)
        if not right:
            return DiffPage(head, left or repository.default_branch, "", mode, prefix, known, None)
        if mode == "staged":
            repository.branch(right)
            found, more = repository.changes_of(right, prefix=prefix, after=after, limit=CHANGES_A_PAGE)
            return DiffPage(head, left, right, mode, prefix, known, _changes(found, more, f"{right}@", right))
        changes = _between(repository, left, right, three_dot=mode == "three", prefix=prefix, after=after)
        return DiffPage(head, left, right, mode, prefix, known, changes)

    def rows(self, name: str, *, left: str, right: str, prefix: str, key: str) -> RowsPage:
        """A data set compared row by row. LimitExceeded for more than a page should read."""
        repository, head = self._open(name, left, right, key)
        if not prefix.strip("/"):
            raise Invalid("no data set was named", hint="add ?prefix= and the data set's folder")
        product = self._product(name)
        for side in (left, right):
            repository.resolve(side)
        _demand_small(repository, (left, right), prefix)
        columns = [c.strip() for c in key.split(",") if c.strip()]
        columns = columns or list(declared_key(product, prefix))
        found = compare(self._engine, repository, left, right, prefix, key=columns or None, limit=SAMPLE_ROWS)
        # Part of a data set is declared by the whole.
        whole = replace(found, prefix=_data_set(prefix))
        return RowsPage(head, left, right, prefix, replace(for_page(whole, product), prefix=prefix))

    def pulls(self, name: str, *, status: str, after: str) -> PullsPage:
        """Pull requests with a status: open, closed (or merged), all."""
        repository, head = self._open(name, after)
        found = pulls.find(repository, status=status, after=after, limit=PULLS_A_PAGE + 1, newest_first=True)
        following = found[PULLS_A_PAGE - 1].id if len(found) > PULLS_A_PAGE else ""
        return PullsPage(head, status, tuple(found[:PULLS_A_PAGE]), following)

    def pull(self, name: str, id_: str, *, after: str) -> PullPage:
        """One pull request."""
        repository, head = self._open(name, id_, after)
        pull = pulls.get(repository, id_)
        conflicts: Sequence[PathConflict] = ()
        changes, note = None, ""
        try:
            if pull.merged_commit_id:
                changes = _changes_by(repository, repository.commit_info(pull.merged_commit_id), after)
            else:
                changes = _between(
                    repository, pull.destination, pull.source, three_dot=True, prefix="", after=after
                )
                conflicts = repository.conflicts(pull.source, pull.destination)
        except NotFound as exc:
            note = exc.message
        return PullPage(head, pull, changes, tuple(conflicts[:CONFLICTS_SHOWN]), len(conflicts), note)

    def hooks(self, name: str, *, after: str) -> HooksPage:
        """Runs of hooks that have ended, newest first."""
        repository, head = self._open(name, after)
        found = record.list_runs(
            self._lake.database, repository.record.id, after=after, limit=RUNS_A_PAGE + 1
        )
        following = found[RUNS_A_PAGE - 1].id if len(found) > RUNS_A_PAGE else ""
        return HooksPage(head, tuple(found[:RUNS_A_PAGE]), following)

    def hook_run(self, name: str, run_id: str) -> HookRunPage:
        """One run of hooks."""
        repository, head = self._open(name, run_id)
        run = record.get_run(self._lake.database, repository.record.id, run_id)
        return HookRunPage(head, run, tuple(record.hooks_of(self._lake.database, run.id)))

    def settings(self, name: str) -> SettingsPage:
        """How a repository is set up."""
        repository, head = self._open(name)
        retention = repository.retention()
        return SettingsPage(
            head,
            repository.storage_namespace,
            repository.created_at,
            tuple(sorted(repository.metadata.items())),
            repository.protection(),
            retention["default_retention_days"] if retention else None,
            tuple(
                (rule["branch_id"], rule["retention_days"])
                for rule in (retention or {}).get("branches") or ()
            ),
            repository.quota(),
            tuple(collections(self._lake, name, limit=20)),
        )

    def reflog(self, name: str, branch: str) -> ReflogPage:
        """Where a branch was, newest first; also of one that was deleted."""
        repository, head = self._open(name, branch)
        moves = repository.reflog(branch, limit=MOVES_SHOWN)
        if not moves:
            repository.branch(branch)
        return ReflogPage(head, branch, tuple(moves))

    def experiments(self, name: str, *, base: str, refs: str) -> ExperimentsPage:
        """Refs (with commas between them) beside a base. LimitExceeded for more than a page should read."""
        repository, head = self._open(name, base, refs)
        base = base or repository.default_branch
        chosen = list(dict.fromkeys(r.strip() for r in refs.split(",") if r.strip()))
        product = self._product(name)
        found: tuple[Experiment, ...] = ()
        if chosen:
            for ref in chosen:
                _demand_few(repository, base, ref)
            found = experiments(self._engine, repository, base, chosen)
        return ExperimentsPage(
            head, base, refs, _known(repository), tuple(_hidden(one, product) for one in found)
        )

    def _open(self, name: str, *texts: str) -> tuple[Repository, Head]:
        """The repository; Invalid for texts of a request that no database could look for."""
        for text in (name, *texts):
            checked_text(text, "the request")
        repository = self._lake.repository(name)
        is_product = self._product(name) is not None
        return repository, Head(name, is_product, repository.default_branch, repository.read_only)


def _is_protected(branch: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(branch, pattern) for pattern in patterns)


def _heads(repository: Repository, branches: Sequence[Branch]) -> dict[str, str]:
    """The default branch and the branches whose heads are newest, by name."""
    heads = {}
    with contextlib.suppress(TulleError):  # a bare repository has none yet
        heads[repository.default_branch] = repository.branch(repository.default_branch).commit_id
    dated = sorted(
        (b for b in branches if b.name not in heads and not b.hidden),
        key=lambda b: -repository.commit_info(b.commit_id).date,
    )
    return heads | {b.name: b.commit_id for b in dated[: BRANCHES_DRAWN - 1]}


def _walk(repository: Repository, starts: Sequence[str]) -> Iterator[Commit]:
    """Commits from several starts, children before their parents, else the newest first."""
    waiting: list[tuple[int, float, str, Commit]] = []
    seen: set[str] = set()

    def add(commit_id: str) -> None:
        if commit_id not in seen:
            seen.add(commit_id)
            commit = repository.reader.commit(commit_id)
            heapq.heappush(waiting, (-commit.generation, -commit.date, commit.id, commit))

    for start in starts:
        add(start)
    while waiting:
        commit = heapq.heappop(waiting)[-1]
        yield commit
        for parent in commit.parents:
            add(parent)


def _known(repository: Repository) -> tuple[str, ...]:
    """Names to choose from."""
    names = [branch.name for branch in repository.branches(limit=200, show_hidden=False)]
    return (*names, *(tag.name for tag in repository.tags(limit=100)))


def _between(
    repository: Repository, left: str, right: str, *, three_dot: bool, prefix: str, after: str
) -> Changes:
    found, more = repository.diff_page(
        left, right, three_dot=three_dot, prefix=prefix, after=after, limit=CHANGES_A_PAGE
    )
    base = repository.merge_base(left, right) if three_dot else repository.resolve(left)
    return _changes(found, more, base, repository.resolve(right))


def _changes_by(repository: Repository, commit: Commit, after: str) -> Changes:
    """What a commit changed against its first parent; of a first commit, everything."""
    if commit.parents:
        return _between(repository, commit.parents[0], commit.id, three_dot=False, prefix="", after=after)
    page = repository.list(commit.id, after=after, limit=CHANGES_A_PAGE)
    added = [Change("added", entry.path, None, entry) for entry in page.entries]
    return Changes(tuple(added), page.next or "", ())


def _changes(found: Sequence[Change], more: bool, left: str, right: str) -> Changes:
    sets = dict.fromkeys(data_set_of(change.path) for change in found if format_of(change.path))
    return Changes(tuple(found), found[-1].path if more else "", tuple(sets), left, right)


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
