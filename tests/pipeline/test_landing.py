"""Drafts that land together: one commit, nothing told before it, and everybody told when it cannot be."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import pytest
from tests.pipeline.conftest import World

from tulle.errors import Gone, TulleError
from tulle.lake.dag import RunBranch, run_branch
from tulle.pipeline.landing import AT_MOST_SECONDS, Landing


class Told:
    """What became of jobs, in the order in which it was told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    @contextlib.contextmanager
    def reported(self, name: str) -> Iterator[None]:
        try:
            yield
        except TulleError as exc:
            self.lines.append(f"{name} failed: {exc.message}")
            raise


@pytest.fixture
def branches(world: World) -> RunBranch:
    return run_branch(world.lake.repository("sales"), "main", "one")


def add(landing: Landing, branches: RunBranch, name: str, told: Told) -> None:
    draft = branches.draft()
    draft.put(f"{name}/rows", name.encode())

    def tell() -> None:
        on_branch = {entry.path for entry in branches.repository.entries(branches.branch)}
        told.lines.append(f"{name} {'is there' if f'{name}/rows' in on_branch else 'is NOT there'}")

    landing.add(name, draft, f"{name}: 1 row", tell)


def test_all_that_waits_lands_by_one_commit_and_is_told_then(branches: RunBranch) -> None:
    told = Told()
    landing = Landing(branches, told.reported)
    assert landing.left() is None
    landing.land()  # nothing waits: nothing happens
    for name in ("a", "b", "c"):
        add(landing, branches, name, told)
    assert told.lines == []
    assert 0 <= (landing.left() or 0) <= AT_MOST_SECONDS
    landing.land()
    assert told.lines == ["a is there", "b is there", "c is there"]
    assert landing.left() is None
    head, *_ = log = branches.repository.log(branches.branch, stop_at=branches.base)
    assert [commit.id for commit in log if commit.id != branches.base] == [head.id]
    assert head.message == "3 data sets\n\na: 1 row\nb: 1 row\nc: 1 row"
    add(landing, branches, "d", told)
    landing.land()
    assert branches.repository.log(branches.branch)[0].message == "d: 1 row"


def test_each_is_told_when_they_cannot_land(branches: RunBranch, monkeypatch: pytest.MonkeyPatch) -> None:
    told = Told()
    landing = Landing(branches, told.reported)
    add(landing, branches, "a", told)
    add(landing, branches, "b", told)

    def gone(*_: object, **__: object) -> None:
        raise Gone("it took too long")

    monkeypatch.setattr(type(branches.repository), "commit_draft", gone)
    with pytest.raises(Gone):
        landing.land()
    assert sorted(told.lines) == ["a failed: it took too long", "b failed: it took too long"]
    assert branches.repository.resolve(branches.branch) == branches.base
    assert landing.left() is None  # not tried again: the run fails


def test_jobs_of_several_threads_land_once_each(branches: RunBranch) -> None:
    told = Told()
    landing = Landing(branches, told.reported)

    def work(number: int) -> None:
        for each in range(5):
            add(landing, branches, f"t{number}_{each}", told)
            landing.land()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    landing.land()
    assert sorted(told.lines) == sorted(f"t{n}_{e} is there" for n in range(4) for e in range(5))
