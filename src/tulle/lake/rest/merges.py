"""What differs between refs, and bringing it from one to the other."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import msgspec

from tulle.errors import Conflict, Invalid
from tulle.lake.door import Outgoing
from tulle.lake.entry import Change, Entry, encoded_text
from tulle.lake.repository import Repository
from tulle.lake.rest.branches import clean
from tulle.lake.rest.call import Call, cut, decoded, json_answer, page_of
from tulle.lake.rest.failure import Refusal, message_of
from tulle.lake.rest.forms import change_form, prefix_change, stats_form
from tulle.lake.rest.router import Route

MERGE_BYTES = 8 * 1024 * 1024  # choices name paths
NEAR = 64  # changes below a prefix that are stepped over before it is quicker to look for its end
BEYOND = b"\xff"  # comes after every path below a prefix: no UTF-8 has this byte

Changes = Callable[[bytes], Iterator[Change]]  # those after a path


class _Merge(msgspec.Struct):
    message: str | None = None
    metadata: dict[str, str] | None = None
    strategy: Literal["", "source-wins", "dest-wins"] | None = None
    force: bool = False
    allow_empty: bool = False
    squash_merge: bool = False
    choices: dict[str, Literal["source", "dest"]] | None = None
    fast_forward: Literal["never", "allow", "only"] = "never"


def merge(call: Call) -> Outgoing:
    """Merge a ref into a branch."""
    source, branch = call["sourceRef"], call["destinationBranch"]
    call.demand_branch("fs:CreateCommit", branch)
    call.demand_shown(source, branch)
    body = call.request.body(MERGE_BYTES)
    wanted = decoded(body, _Merge) if body.strip() not in {b"", b"null"} else _Merge()
    repository = call.repository(force=wanted.force)
    with _told(repository, branch), clean(repository, branch):
        result = repository.merge(
            source,
            branch,
            message=wanted.message or None,
            metadata=wanted.metadata,
            strategy=wanted.strategy or None,
            choices=wanted.choices,
            squash=wanted.squash_merge,
            fast_forward=wanted.fast_forward,
            allow_empty=wanted.allow_empty,
        )
    if result.unchanged and not wanted.allow_empty and wanted.fast_forward == "never":
        raise Refusal(400, f"no changes: '{branch}' has everything '{source}' has")
    return json_answer({"reference": result.commit.id})


@contextmanager
def _told(repository: Repository, branch: str) -> Iterator[None]:
    # A merge that cannot be made answers with the commit the branch stays on, the document wants it.
    try:
        yield
    except Conflict as exc:
        if not exc.problems:
            raise
        fields = {"reference": repository.resolve(f"{branch}@")}
        raise Refusal(409, message_of(exc), fields=fields) from None


def merge_base(call: Call) -> Outgoing:
    """The nearest commit two refs were built on."""
    call.demand_repository("fs:ListCommits")
    repository = call.repository()
    source = repository.resolve(call["sourceRef"])
    destination = repository.resolve(call["destinationBranch"])
    return json_answer(
        {
            "source_commit_id": source,
            "destination_commit_id": destination,
            "base_commit_id": repository.merge_base(source, destination),
        }
    )


def conflicts(call: Call) -> Outgoing:
    """A page of the paths that stand against a merge, with what each side holds. Ours; lakeFS has none."""
    call.demand_repository("fs:ListObjects")
    repository, amount, after = call.repository(), call.amount(), call.query("after")
    sides = call["sourceRef"], call["destinationBranch"]
    found = repository.conflicts(*sides, after=after, limit=amount + 1)

    def side(entry: Entry | None) -> Any:
        return None if entry is None else stats_form(repository, entry)

    kept, more = cut(found, amount)
    forms = [
        {
            "path": conflict.path,
            "base": side(conflict.base),
            "source": side(conflict.source),
            "destination": side(conflict.destination),
        }
        for conflict in kept
    ]
    return json_answer(page_of(forms, has_more=more, next_offset=kept[-1].path if kept else ""))


def diff_refs(call: Call) -> Outgoing:
    """A page of what differs between two refs."""
    call.demand_repository("fs:ListObjects")
    way = call.query("type") or "three_dot"
    if way not in {"two_dot", "three_dot"}:
        raise Invalid(f"'{way}' is no type of diff", hint="known: two_dot, three_dot")
    repository = call.repository()
    left, right = repository.resolve(call["leftRef"]), repository.resolve(call["rightRef"])
    if way == "three_dot":
        left = repository.merge_base(left, right)
    prefix = encoded_text(call.query("prefix"))
    return _page(
        call,
        lambda after: repository.reader.changes(left, right, prefix, after),
        right_stats=call.flag("include_right_stats"),
    )


def diff_branch(call: Call) -> Outgoing:
    """A page of what is staged on a branch."""
    call.demand_repository("fs:ListObjects")
    repository, branch = call.repository(), call["branch"]
    return _page(call, lambda after: _staged(repository, branch, encoded_text(call.query("prefix")), after))


def _staged(repository: Repository, branch: str, prefix: bytes, after: bytes) -> Iterator[Change]:
    while True:
        found = repository.reader.staged_changes(branch, prefix, after, 1001)
        yield from found
        if len(found) <= 1000:
            return
        after = found[-1].path.encode()


def _page(call: Call, changes: Changes, *, right_stats: bool = False) -> Outgoing:
    amount, after = call.amount(), encoded_text(call.query("after"))
    prefix, delimiter = encoded_text(call.query("prefix")), encoded_text(call.query("delimiter"))
    forms: Iterator[dict[str, Any]]
    if not delimiter:
        forms = (change_form(change, right_stats=right_stats) for change in changes(after))
    else:
        if after.endswith(delimiter) and len(after) > len(prefix):
            after += BEYOND  # a prefix ended the page before: everything below it was told
        forms = _grouped(changes, prefix, delimiter, after, right_stats=right_stats)
    kept, more = cut(list(itertools.islice(forms, amount + 1)), amount)
    return json_answer(page_of(kept, has_more=more, next_offset=kept[-1]["path"] if kept else ""))


def _grouped(
    changes: Changes, prefix: bytes, delimiter: bytes, after: bytes, *, right_stats: bool
) -> Iterator[dict[str, Any]]:
    walk = changes(after)
    group: bytes | None = None
    skipped = 0
    while (change := next(walk, None)) is not None:
        path = change.path.encode()
        if group is not None and path.startswith(group):
            skipped += 1
            if skipped > NEAR:
                walk = changes(group + BEYOND)
            continue
        at = path.find(delimiter, len(prefix))
        if at < 0:
            group = None
            yield change_form(change, right_stats=right_stats)
            continue
        group, skipped = path[: at + len(delimiter)], 0
        yield prefix_change(group.decode())


_R = "/repositories/{repository}"
_MERGE = f"{_R}/refs/{{sourceRef}}/merge/{{destinationBranch}}"

ROUTES = [
    Route("POST", _MERGE, merge, "mergeIntoBranch"),
    Route("GET", _MERGE, merge_base, "findMergeBase"),
    Route("GET", f"{_R}/refs/{{sourceRef}}/conflicts/{{destinationBranch}}", conflicts, "tulle.conflicts"),
    Route("GET", f"{_R}/refs/{{leftRef}}/diff/{{rightRef}}", diff_refs, "diffRefs"),
    Route("GET", f"{_R}/branches/{{branch}}/diff", diff_branch, "diffBranch"),
]
