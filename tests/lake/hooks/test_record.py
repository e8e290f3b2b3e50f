"""Runs of hooks are kept for a while, the last of every repository for good."""

import pytest
from sqlalchemy import func, select, update

from tulle.errors import NotFound
from tulle.lake.hooks import record
from tulle.lake.hooks.kind import HookKind, Outcome
from tulle.lake.hooks.run import TASK, Hooks
from tulle.state import tasks
from tulle.state.db import now
from tulle.state.tables import lake_action_runs, lake_hook_runs

DAY = 86_400.0


def begin(database, repository, days, status="completed"):
    id_ = record.new_run_id()
    about = {"event_type": "pre-commit", "branch_id": "main"}
    with database.write() as cx:
        record.begin(cx, id_, repository.record.id, about, [("0000_0000", "a", "h")], ends_by=now() + 3600)
        record.hook_ends(cx, id_, "0000_0000", "completed", "what it wrote")
        cx.execute(
            update(lake_action_runs)
            .where(lake_action_runs.c.id == id_)
            .values(started_at=now() - days * DAY, status=status)
        )
    return id_


def ids(database, repository):
    return [run.id for run in record.list_runs(database, repository.record.id, limit=10_000)]


def count(database, table):
    with database.read() as cx:
        return cx.execute(select(func.count()).select_from(table)).scalar()


def test_old_ones_go_but_the_last_of_every_repository(database, lake, repository, monkeypatch):
    monkeypatch.setattr(record, "AT_A_TIME", 4)
    other = lake.create_repository("other")
    old = [begin(database, repository, 40) for _ in range(11)]
    young = [begin(database, repository, 20) for _ in range(3)]
    few = [begin(database, other, 400) for _ in range(5)]
    assert record.prune(database, now() - 30 * DAY, keep=5) == 9
    assert ids(database, repository) == [*young[::-1], *old[:-3:-1]]
    assert ids(database, other) == few[::-1]
    assert count(database, lake_hook_runs) == count(database, lake_action_runs) == 10
    assert record.prune(database, now() - 30 * DAY, keep=5) == 0
    assert record.prune(database, now() - 10 * DAY, keep=1) == 8
    assert [record.hooks_of(database, id_)[0].output for id_ in ids(database, repository)] == [
        "what it wrote"
    ]


def test_a_hundred_are_kept_unless_said_otherwise(database, repository):
    made = [begin(database, repository, 400) for _ in range(103)]
    assert record.prune(database, now()) == 3
    assert ids(database, repository) == made[:2:-1]


def test_what_goes_on_is_no_past(database, repository):
    under_way = begin(database, repository, 40, status="running")
    begin(database, repository, 1)
    assert record.prune(database, now() - 30 * DAY, keep=1) == 0
    assert record.get_run(database, repository.record.id, under_way).status == "running"


def test_one_that_is_gone_is_told_so(database, repository):
    gone = begin(database, repository, 40)
    begin(database, repository, 1)
    record.prune(database, now() - 30 * DAY, keep=1)
    with pytest.raises(NotFound, match="no run") as told:
        record.get_run(database, repository.record.id, gone)
    assert "hook_run_days" in str(told.value.hint)
    assert record.hooks_of(database, gone) == []
    assert record.list_runs(database, repository.record.id, after=gone) == []


def test_tasks_of_hooks_after_the_fact_go_with_them(lake, repository):
    lake.hooks = hooks = Hooks(lake, {"probe": HookKind(lambda _: Outcome(True, ""), {"type": "object"})})
    sales = lake.repository("sales")
    sales.put(
        "main", "_lakefs_actions/a.yaml", b"name: a\non: {post-commit: {}}\nhooks: [{id: it, type: probe}]"
    )
    for number in range(3):
        sales.put("main", "a", str(number).encode())
        sales.commit("main", "c")
        if number < 2:
            assert tasks.run_one(lake.database, hooks.handlers(), "me")
    assert [task.status for task in tasks.recent(lake.database, TASK)] == ["waiting", "done", "done"]
    assert hooks.prune(DAY) == 0
    assert len(tasks.recent(lake.database, TASK)) == 3
    hooks.prune(0)
    assert [task.status for task in tasks.recent(lake.database, TASK)] == ["waiting"]
    assert len(record.list_runs(lake.database, sales.record.id)) == 2  # of the last hundred
