"""What a repository of the lake must hold, said in dictionaries.

Contents are values: an operation makes new ones and never changes a commit's. Knows nothing of the library but the
values it hands out, and decides nothing by commit ids but ties.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from tulle.lake.entry import Commit, Entry
from tulle.lake.uploads import Part, Upload


@dataclass(frozen=True)
class Thing:
    """What a path holds: its bytes, and all that an entry says of them but when they were put there."""

    data: bytes
    address: str
    etag: str
    checksum: str
    content_type: str = ""
    metadata: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, entry: Entry, data: bytes) -> Thing:
        """An entry of the library with the bytes it stands for."""
        assert entry.size == len(data)
        metadata = tuple(sorted(entry.metadata.items()))
        return cls(data, entry.address, entry.etag, entry.checksum, entry.content_type, metadata)

    @property
    def tag(self) -> str:
        """What a condition names it by."""
        return self.etag or f"{self.checksum or self.address.rpartition('/')[2]}-{len(self.data):x}"

    def says_the_same(self, other: Thing) -> bool:
        """Whether an import leaves it alone: an unknown checksum equals any."""
        told = (self.address, self.data, self.etag, self.content_type, self.metadata)
        others = (other.address, other.data, other.etag, other.content_type, other.metadata)
        return told == others and (self.checksum == other.checksum or not (self.checksum and other.checksum))


Content = Mapping[str, Thing]
Writes = Mapping[str, Thing | None]


@dataclass(frozen=True)
class Plan:
    """What a three-way merge does: its writes, the paths in conflict, those of them nothing decided."""

    writes: dict[str, Thing | None]
    conflicts: list[str]
    undecided: list[str]


@dataclass(frozen=True)
class Committed:
    """A commit: what the library said of it when it was made, and what it holds.

    `named` are the paths its delta may name, None where that is not known.
    """

    info: Commit
    content: Content
    named: frozenset[str] | None


@dataclass
class PullRequest:
    """A pull request as it must be told."""

    title: str
    description: str
    source: str
    destination: str
    status: str = "open"
    merged: str | None = None


@dataclass
class Uploading:
    """An upload under way with its parts and their bytes."""

    upload: Upload
    parts: dict[int, tuple[Part, bytes]] = field(default_factory=dict)


@dataclass(frozen=True)
class Issued:
    """An address that was issued, with the bytes that were written there."""

    address: str
    url: str
    data: bytes


@dataclass(frozen=True)
class Step:
    """A line of a branch's reflog."""

    operation: str
    before: str | None
    after: str | None
    actor: str


class RepositoryModel:
    """One repository: commits, what is staged on each branch, and everything else that has a name."""

    def __init__(self, root: Commit, default_branch: str, actor: str) -> None:
        self.commits: dict[str, Committed] = {root.id: Committed(root, {}, frozenset())}
        self.heads: dict[str, str] = {default_branch: root.id}
        self.staged: dict[str, dict[str, Thing | None]] = {default_branch: {}}
        self.hidden: set[str] = set()
        self.tags: dict[str, str] = {}
        self.steps: dict[str, list[Step]] = {default_branch: [Step("create", None, root.id, actor)]}
        self.pulls: dict[str, PullRequest] = {}
        self.uploads: dict[str, Uploading] = {}
        self.issued: list[Issued] = []

    # ── reading ──────────────────────────────────────────────────────────────────────────────────────────

    def refs(self) -> list[str]:
        """Expressions for all there is to read."""
        heads = sorted(self.heads)
        return [*heads, *(f"{name}@" for name in heads), *sorted(self.tags), *self.commits]

    def target(self, ref: str) -> str | None:
        """The id of the commit a ref of `refs` names; None when it names nothing."""
        if ref in self.commits:
            return ref
        name = ref.removesuffix("@")
        return self.heads.get(name) or self.tags.get(name)

    def at(self, id_: str) -> Content:
        """What a commit holds."""
        return self.commits[id_].content

    def seen(self, ref: str) -> Content:
        """What is read at a ref of `refs`: of a branch, staged over committed."""
        if ref in self.heads:
            return applied(self.at(self.heads[ref]), self.staged[ref])
        id_ = self.target(ref)
        assert id_ is not None
        return self.at(id_)

    def is_dirty(self, branch: str) -> bool:
        """Whether a commit would change anything."""
        return bool(differences(self.at(self.heads[branch]), self.seen(branch)))

    # ── the graph ────────────────────────────────────────────────────────────────────────────────────────

    def parents(self, id_: str) -> tuple[str, ...]:
        """The parents of a commit."""
        return self.commits[id_].info.parents

    def ancestors(self, id_: str) -> set[str]:
        """A commit and all it was built on."""
        found: set[str] = set()
        waiting = [id_]
        while waiting:
            if (each := waiting.pop()) not in found:
                found.add(each)
                waiting += self.parents(each)
        return found

    def line(self, id_: str) -> list[str]:
        """A commit and its first parents."""
        found = [id_]
        while parents := self.parents(found[-1]):
            found.append(parents[0])
        return found

    def newest_first(self, ids: Iterable[str]) -> list[str]:
        """Commits by generation, then date."""

        def rank(id_: str) -> tuple[int, float, str]:
            info = self.commits[id_].info
            return -info.generation, -info.date, id_

        return sorted(ids, key=rank)

    def base(self, left: str, right: str) -> str:
        """The nearest commit both sides were built on."""
        return self.newest_first(self.ancestors(left) & self.ancestors(right))[0]

    # ── changing ─────────────────────────────────────────────────────────────────────────────────────────

    def move(self, branch: str, after: str | None, operation: str, actor: str) -> None:
        """Put a branch elsewhere, make it or remove it; nothing is staged on it then."""
        before = self.heads.pop(branch, None)
        self.staged.pop(branch, None)
        self.steps.setdefault(branch, []).append(Step(operation, before, after, actor))
        if after is not None:
            self.heads[branch] = after
            self.staged[branch] = {}
        else:
            self.hidden.discard(branch)


def same(left: Thing | None, right: Thing | None) -> bool:
    """Whether a reader could not tell two things apart; without a checksum the address and etag must be equal."""
    if left is None or right is None:
        return left is right
    if (left.content_type, left.metadata) != (right.content_type, right.metadata):
        return False
    if left.checksum and right.checksum:
        return left.data == right.data
    return (len(left.data), left.address, left.etag) == (len(right.data), right.address, right.etag)


def in_order(paths: Iterable[str]) -> list[str]:
    """Paths in the order of the lake: by their bytes."""
    return sorted(paths, key=str.encode)


def applied(content: Content, writes: Writes) -> Content:
    """A content with writes over it."""
    found: dict[str, Thing | None] = {**content, **writes}
    return {path: thing for path, thing in found.items() if thing is not None}


def differences(
    left: Content, right: Content, prefix: str = ""
) -> list[tuple[str, str, Thing | None, Thing | None]]:
    """What differs, in path order: kind, path, and what each side holds."""
    found = []
    for path in in_order({*left, *right}):
        sides = left.get(path), right.get(path)
        if path.startswith(prefix) and not same(*sides):
            kind = "added" if sides[0] is None else "removed" if sides[1] is None else "changed"
            found.append((kind, path, *sides))
    return found


def three_way(
    base: Content,
    source: Content,
    destination: Content,
    strategy: str | None = None,
    choices: Mapping[str, str] | None = None,
) -> Plan:
    """What a merge of source into destination writes there."""
    plan = Plan({}, [], [])
    for path in in_order({*base, *source, *destination}):
        old, theirs, ours = base.get(path), source.get(path), destination.get(path)
        if same(old, theirs):
            continue
        way = "source"
        if not same(old, ours):
            if same(ours, theirs):
                continue
            plan.conflicts.append(path)
            way = (choices or {}).get(path) or {"source-wins": "source", "dest-wins": "dest"}.get(
                strategy or "", ""
            )
        if way == "source":
            plan.writes[path] = theirs
        elif not way:
            plan.undecided.append(path)
    return plan


def listed(content: Content, prefix: str, after: str, delimiter: str) -> list[str]:
    """A whole listing: paths, and folders in place of what lies below them."""
    told_before = after if delimiter and after.endswith(delimiter) and len(after) > len(prefix) else None
    found: dict[str, None] = {}
    for path in in_order(content):
        if not path.startswith(prefix) or path.encode() <= after.encode():
            continue
        if told_before is not None and path.startswith(told_before):
            continue
        cut = path.find(delimiter, len(prefix)) if delimiter else -1
        found[path if cut < 0 else path[: cut + len(delimiter)]] = None
    return list(found)
