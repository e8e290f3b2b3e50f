"""Pages of a repository as one reader is shown them: what people and programs wrote, without names they do not find.

Names of refs and paths stay as they are, as links lead by them. Pure; who finds what is `gateway.apis.sight`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import singledispatch
from typing import Any

import msgspec

from tulle.catalog.hidden_names import HiddenNames
from tulle.catalog.lake.commits import CommitPage, CommitsPage
from tulle.catalog.lake.objects import FolderPage, ObjectPage
from tulle.catalog.lake.pull_requests import PullPage, PullsPage
from tulle.catalog.lake.record import HookRunPage, SettingsPage, Work, WorkPage
from tulle.catalog.lake.refs import ReflogPage, RefsPage
from tulle.catalog.lake.rows import ExperimentsPage
from tulle.engine.experiment import Experiment
from tulle.lake.hooks.record import HookRun
from tulle.lake.pulls import Pull
from tulle.lake.repository import Commit

Hide = Callable[[str], str]


def masked(page: Any, hidden: HiddenNames) -> Any:
    """A page below /lake/{repository} with `••••` for each name that its reader does not find."""
    if not hidden.names or page.head.name in hidden.products:
        return page

    return _masked(page, hidden.masked)


@singledispatch
def _masked(page: Any, _hide: Hide) -> Any:
    return page  # of rows and differences: values and paths


@_masked.register
def _(page: FolderPage, hide: Hide) -> FolderPage:
    return page if page.commit is None else replace(page, commit=commit_masked(page.commit, hide))


@_masked.register
def _(page: ObjectPage, hide: Hide) -> ObjectPage:
    text, entry = page.preview.text, page.entry
    preview = replace(
        page.preview,
        text=None if text is None else replace(text, text=hide(text.text)),
        note=hide(page.preview.note),
    )
    entry = msgspec.structs.replace(entry, metadata=_values(entry.metadata, hide))
    return replace(page, preview=preview, entry=entry)


@_masked.register
def _(page: CommitsPage, hide: Hide) -> CommitsPage:
    dots = tuple(replace(one, commit=commit_masked(one.commit, hide)) for one in page.drawing.dots)
    return replace(page, drawing=replace(page.drawing, dots=dots))


@_masked.register
def _(page: CommitPage, hide: Hide) -> CommitPage:
    return replace(page, commit=commit_masked(page.commit, hide))


@_masked.register
def _(page: RefsPage, hide: Hide) -> RefsPage:
    branches = tuple(replace(one, commit=commit_masked(one.commit, hide)) for one in page.branches)
    tags = tuple((tag, commit_masked(commit, hide)) for tag, commit in page.tags)
    return replace(page, branches=branches, tags=tags)


@_masked.register
def _(page: ReflogPage, hide: Hide) -> ReflogPage:
    return replace(page, moves=tuple(replace(one, actor=hide(one.actor)) for one in page.moves))


@_masked.register
def _(page: PullsPage, hide: Hide) -> PullsPage:
    return replace(page, pulls=tuple(_pull(one, hide) for one in page.pulls))


@_masked.register
def _(page: PullPage, hide: Hide) -> PullPage:
    return replace(page, pull=_pull(page.pull, hide))  # its note and conflicts name refs and paths alone


@_masked.register
def _(page: HookRunPage, hide: Hide) -> HookRunPage:
    return replace(page, hooks=tuple(_hook(one, hide) for one in page.hooks))


@_masked.register
def _(page: ExperimentsPage, hide: Hide) -> ExperimentsPage:
    return replace(page, experiments=tuple(_experiment(one, hide) for one in page.experiments))


@_masked.register
def _(page: WorkPage, hide: Hide) -> WorkPage:
    return replace(page, work=tuple(_work(one, hide) for one in page.work))


@_masked.register
def _(page: SettingsPage, hide: Hide) -> SettingsPage:
    return replace(page, metadata=tuple((name, hide(value)) for name, value in page.metadata))


def commit_masked(commit: Commit, hide: Hide) -> Commit:
    """A commit with what was written about it looked through."""
    return replace(
        commit,
        message=hide(commit.message),
        committer=hide(commit.committer),
        metadata=_values(commit.metadata, hide),
    )


def _pull(one: Pull, hide: Hide) -> Pull:
    return replace(one, title=hide(one.title), description=hide(one.description), author=hide(one.author))


def _hook(one: HookRun, hide: Hide) -> HookRun:
    return replace(one, action=hide(one.action), hook=hide(one.hook), output=hide(one.output))


def _experiment(one: Experiment, hide: Hide) -> Experiment:
    return replace(one, data_sets=tuple(replace(each, problem=hide(each.problem)) for each in one.data_sets))


def _work(one: Work, hide: Hide) -> Work:
    return replace(one, what=tuple(map(hide, one.what)), error=hide(one.error), actor=hide(one.actor))


def _values(said: Mapping[str, str], hide: Hide) -> Mapping[str, str]:
    return {name: hide(value) for name, value in said.items()}
