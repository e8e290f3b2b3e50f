"""Branches for a run of many jobs, on a real lake."""

from __future__ import annotations

import threading

import pytest

from tulle.errors import AlreadyExists, Conflict, Denied, Invalid, NotFound
from tulle.lake.dag import resume_run, run_branch
from tulle.lake.repository import GateCall, Repository


def names(repository: Repository) -> list[str]:
    return [branch.name for branch in repository.branches()]


def test_a_run_is_published_as_one_commit(repository: Repository) -> None:
    before = repository.resolve("main")
    with run_branch(repository, "main", "7", committer="nightly") as run:
        with run.job("orders") as job:
            repository.put(job.branch, "orders/a", b"1")
        assert repository.get(run.branch, "orders/a") == b"1"
        assert not repository.exists("main", "orders/a")
        with run.job("people") as job:
            assert repository.get(job.branch, "orders/a") == b"1"  # a job starts from what is merged
            repository.put(job.branch, "people/a", b"2")
        run.publish("Night of the 7th", metadata={"code": "abc"})
    assert names(repository) == ["main"]
    commit = repository.commit_info("main")
    assert commit.parents[0] == before
    assert (commit.message, commit.committer, commit.metadata) == (
        "Night of the 7th",
        "nightly",
        {"code": "abc"},
    )
    assert [e.path for e in repository.entries("main")] == ["orders/a", "people/a"]


def test_a_failing_job_stops_and_keeps_the_branches(repository: Repository) -> None:
    before = repository.resolve("main")
    with pytest.raises(ZeroDivisionError), run_branch(repository, "main", "8") as run:
        with run.job("orders") as job:
            repository.put(job.branch, "orders/a", b"1")
        with run.job("people") as job:
            repository.put(job.branch, "people/a", b"2")
            raise ZeroDivisionError
    assert repository.resolve("main") == before
    assert names(repository) == ["main", "run-8", "run-8--orders", "run-8--people"]
    assert [change.path for change in repository.status("run-8--people")] == ["people/a"]
    run.discard()
    assert names(repository) == ["main"]
    run.discard()  # again is no harm


def test_a_gate_sees_what_would_be_merged_and_keeps_it_out(repository: Repository) -> None:
    seen = []

    def gate(call: GateCall) -> None:
        seen.append(repository.get(call.commit.id, "orders/a"))
        raise Denied("no")

    with run_branch(repository, "main", "9") as run:
        head = repository.resolve(run.branch)
        with pytest.raises(Denied), run.job("orders", gate=gate) as job:
            repository.put(job.branch, "orders/a", b"1")
        assert seen == [b"1"]
        assert repository.resolve(run.branch) == head
        job.discard()
        with run.job("orders") as job:  # tried again
            repository.put(job.branch, "orders/a", b"2")
    assert repository.get("main", "orders/a") == b"2"


def test_a_run_without_changes_publishes_nothing(repository: Repository) -> None:
    before = repository.resolve("main")
    with run_branch(repository, "main", "10") as run, run.job("idle"):
        pass
    assert repository.resolve("main") == before
    assert names(repository) == ["main"]


def test_jobs_in_other_processes_find_the_run(repository: Repository) -> None:
    """What a task of an orchestrator does: it knows the run's name and nothing else."""
    base = run_branch(repository, "main", "11").base
    repository.put("main", "elsewhere", b"x")
    repository.commit("main", "Somebody else's work")

    def task(name: str) -> None:
        with resume_run(repository, "main", "11").job(name) as job:
            repository.put(job.branch, f"{name}/a", name.encode())

    threads = [threading.Thread(target=task, args=(name,)) for name in ("a", "b", "c")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    run = resume_run(repository, "main", "11")
    assert run.base == base
    run.publish("All three")
    run.discard()
    assert names(repository) == ["main"]
    assert [e.path for e in repository.entries("main")] == ["a/a", "b/a", "c/a", "elsewhere"]


def test_a_job_that_is_ended_by_another_process(repository: Repository) -> None:
    job = run_branch(repository, "main", "12").job("orders")
    repository.put(job.branch, "orders/a", b"1")
    again = resume_run(repository, "main", "12").resume_job("orders")
    with pytest.raises(Conflict, match="not committed"):
        again.merge()
    again.commit("Orders")
    again.merge("Orders are in")
    assert repository.commit_info("run-12").message == "Orders are in"
    with pytest.raises(NotFound):
        resume_run(repository, "main", "12").resume_job("people")


def test_one_run_never_touches_another(repository: Repository) -> None:
    first, second = run_branch(repository, "main", "a"), run_branch(repository, "main", "a-b")
    second.job("c")
    first.discard()
    assert names(repository) == ["main", "run-a-b", "run-a-b--c"]
    with pytest.raises(AlreadyExists):
        run_branch(repository, "main", "a-b")
    with pytest.raises(Invalid, match="cannot be a run's branch"):
        run_branch(repository, "main", "a--b")


def test_a_conflict_publishes_nothing_and_keeps_the_run(repository: Repository) -> None:
    with pytest.raises(Conflict), run_branch(repository, "main", "13") as run:
        with run.job("orders") as job:
            repository.put(job.branch, "orders/a", b"1")
        repository.put("main", "orders/a", b"2")
        repository.commit("main", "Quicker")
    assert repository.get("main", "orders/a") == b"2"
    assert "run-13" in names(repository)
