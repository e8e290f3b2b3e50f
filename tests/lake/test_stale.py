"""Stale branches are found, and only those nobody may still want are removed."""

import time

import pytest
from sqlalchemy import update

from tulle.errors import Vetoed
from tulle.lake import pulls, stale
from tulle.lake.dag import run_branch
from tulle.lake.hooks.kind import HookKind, Outcome
from tulle.lake.hooks.run import Hooks
from tulle.state.tables import lake_reflog, lake_staged

DATABASES = ("sqlite", "postgres")

DAY = 86_400.0
WEEK = 7 * DAY


@pytest.fixture
def sales(repository):
    repository.put("main", "a", b"1")
    repository.put("main", "b", b"2")
    repository.commit("main", "files")
    return repository


def age(repository, name, days):
    """Move all that happened to a branch, and was put on it, into the past."""
    then = time.time() - days * DAY
    with repository.reader.database.write() as cx:
        cx.execute(update(lake_reflog).where(lake_reflog.c.branch == name).values(at=then))
        for item in stale.refs.get_branch(cx, repository.record.id, name).staged:
            if "token" in item:
                of_token = update(lake_staged).where(
                    lake_staged.c.token == item["token"], ~lake_staged.c.deleted
                )
                cx.execute(of_token.values(modified=round(then * 1_000_000)))


def named(found):
    return {branch.name: branch.kept for branch in found}


def names(repository):
    return {branch.name for branch in repository.branches()}


def test_what_failed_runs_left_is_told_and_removed(sales):
    for name in ("old", "old-2", "new"):
        run_branch(sales, "main", name)
    sales.create_branch("ingest-orders-1")
    sales.create_branch("mine")
    sales.put("run-old", "c", b"3")
    for name in ("run-old", "run-old-2", "ingest-orders-1", "mine"):
        age(sales, name, 8)
    found = stale.find(sales, WEEK)
    assert named(found) == {"ingest-orders-1": "", "run-old": "", "run-old-2": ""}
    assert [branch.uncommitted for branch in found] == [False, True, False]
    assert abs(found[0].moved_at - (time.time() - 8 * DAY)) < 60
    assert found[0].commit_id == sales.resolve("main")
    assert stale.remove(sales, found, WEEK) == found
    assert names(sales) == {"main", "mine", "run-new"}
    assert stale.find(sales, WEEK) == []
    assert named(stale.find(sales, WEEK, ["mi"])) == {"mine": ""}
    assert stale.find(sales, 9 * DAY, ["mi"]) == []


def test_the_default_branch_is_none(lake):
    repository = lake.create_repository("sales", default_branch="run-forever")
    age(repository, "run-forever", 30)
    assert stale.find(repository, WEEK) == []


def test_what_somebody_may_still_want_is_left(sales):
    for name in ("safe", "asked", "into", "staged", "removed", "plain"):
        run_branch(sales, "main", name)
    sales.protect(["run-sa*"])
    pull = pulls.create(sales, "please", "run-asked", "run-into")
    for name in names(sales):
        age(sales, name, 8)
    sales.put("run-staged", "c", b"3")
    sales.delete("run-removed", "a")
    expected = {
        "run-asked": f"pull request {pull.id} is open",
        "run-into": f"pull request {pull.id} is open",
        "run-plain": "",
        "run-removed": "removals of unknown age are staged on it",
        "run-safe": "it is protected (rule 'run-sa*')",
        "run-staged": "something was staged on it since",
    }
    found = stale.find(sales, WEEK)
    assert named(found) == expected
    assert named(stale.remove(sales, found, WEEK)) == expected
    assert names(sales) == {"main", *expected} - {"run-plain"}
    pulls.change(sales, pull.id, status="closed")
    sales.protect([])
    left = {"run-removed", "run-staged"}
    stale.remove(sales, stale.find(sales, WEEK), WEEK)
    assert names(sales) == {"main", *left}


@pytest.mark.parametrize("days", [1, 8])
def test_a_large_batch_is_as_old_as_what_it_was_written_to(sales, days, monkeypatch):
    run_branch(sales, "main", "big")
    age(sales, "run-big", 8)
    sales.put_many("run-big", [(f"many/{number:04}", b"m") for number in range(300)])
    kind = type(sales.reader.blobs)
    real = kind.stat

    def stat(self, path, **kwargs):
        from dataclasses import replace

        return replace(real(self, path, **kwargs), modified=time.time() - days * DAY)

    monkeypatch.setattr(kind, "stat", stat)
    assert named(stale.find(sales, WEEK)) == {
        "run-big": "something was staged on it since" if days < 7 else ""
    }


def test_a_run_stays_while_a_job_of_it_goes_on(sales):
    run = run_branch(sales, "main", "long")
    run.job("done")
    run.job("busy")
    run_branch(sales, "main", "long-er")
    for name in ("run-long", "run-long--done", "run-long-er"):
        age(sales, name, 8)
    assert named(stale.find(sales, WEEK)) == {
        "run-long": "its job on branch 'run-long--busy' goes on",
        "run-long--done": "",
        "run-long-er": "",
    }
    age(sales, "run-long--busy", 8)
    stale.remove(sales, stale.find(sales, WEEK), WEEK)
    assert names(sales) == {"main"}


def test_what_happens_after_the_look_is_seen(sales):
    for name in ("staged", "moved", "asked", "gone"):
        run_branch(sales, "main", name)
        age(sales, f"run-{name}", 8)
    found = stale.find(sales, WEEK)
    sales.put("run-staged", "c", b"3")
    sales.put("run-moved", "c", b"3")
    sales.commit("run-moved", "more")
    pulls.create(sales, "please", "run-asked", "main")
    sales.delete_branch("run-gone")
    done = named(stale.remove(sales, found, WEEK))
    assert done.pop("run-asked").startswith("pull request")
    assert done == {
        "run-staged": "something was staged on it since",
        "run-moved": "it was moved meanwhile",
    }
    assert names(sales) == {"main", "run-staged", "run-moved", "run-asked"}
    assert sales.get("run-staged", "c") == b"3"


def test_a_hook_may_refuse_and_the_others_go(lake, sales):
    lake.hooks = Hooks(
        lake, {"probe": HookKind(lambda _: Outcome(False, "not this one"), {"type": "object"})}
    )
    repository = lake.repository("sales")
    run_branch(repository, "main", "free")
    action = (
        b"name: a\non: {pre-delete-branch: {branches: ['run-guarded']}}\nhooks: [{id: no_way, type: probe}]"
    )
    repository.put("main", "_lakefs_actions/a.yaml", action)
    repository.commit("main", "guard")
    run_branch(repository, "main", "guarded")
    for name in ("run-free", "run-guarded"):
        age(repository, name, 8)
    with pytest.raises(Vetoed):
        repository.delete_branch("run-guarded")
    done = named(stale.remove(repository, stale.find(repository, WEEK), WEEK))
    assert done["run-free"] == ""
    assert "not this one" in done["run-guarded"]
    assert names(repository) == {"main", "run-guarded"}


def test_a_read_only_repository_keeps_all(sales):
    run_branch(sales, "main", "old")
    age(sales, "run-old", 8)
    sales.set_read_only(True)
    (branch,) = stale.remove(sales, stale.find(sales, WEEK), WEEK)
    assert "read-only" in branch.kept
