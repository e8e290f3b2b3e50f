"""Group commit: many writers, few transactions, each writer with its own outcome."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from sqlalchemy import Connection, event, text

from tulle.errors import NotFound
from tulle.lake.grouping import GroupCommit
from tulle.state.db import Database


@pytest.fixture
def group(database: Database) -> GroupCommit:
    with database.write() as cx:
        cx.execute(text("CREATE TABLE numbers (n INTEGER PRIMARY KEY)"))
    return GroupCommit(database)


def insert(number: int) -> Callable[[Connection], None]:
    return lambda cx: cx.execute(text("INSERT INTO numbers VALUES (:n)"), {"n": number}) and None


def numbers(database: Database) -> list[int]:
    with database.read() as cx:
        return list(cx.execute(text("SELECT n FROM numbers ORDER BY n")).scalars())


def run_all(works: list[Callable[[], None]]) -> None:
    threads = [threading.Thread(target=work) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()


def test_those_who_come_together_share_a_transaction(group: GroupCommit, database: Database) -> None:
    commits = 0

    def count(_connection: Connection) -> None:
        nonlocal commits
        commits += 1

    event.listen(database.engine, "commit", count)
    started, release = threading.Event(), threading.Event()

    def slow(cx: Connection) -> None:
        started.set()
        release.wait(10)
        insert(0)(cx)

    first = threading.Thread(target=group.run, args=(slow,))
    first.start()
    started.wait(10)
    others = [threading.Thread(target=group.run, args=(insert(number),)) for number in range(1, 20)]
    for thread in others:
        thread.start()
    while len(group._waiting) < len(others):
        pass
    release.set()
    for thread in (first, *others):
        thread.join(10)
    assert numbers(database) == list(range(20))
    assert commits == 2


def test_one_who_fails_fails_alone(group: GroupCommit, database: Database) -> None:
    failures: list[int] = []

    def work(number: int) -> Callable[[], None]:
        def half_then_fail(cx: Connection) -> None:
            insert(number + 1000)(cx)
            raise NotFound("no such branch")

        def run() -> None:
            try:
                group.run(half_then_fail if number % 5 == 0 else insert(number))
            except NotFound:
                failures.append(number)

        return run

    run_all([work(number) for number in range(60)])
    assert sorted(failures) == list(range(0, 60, 5))
    assert numbers(database) == [number for number in range(60) if number % 5]


def test_a_transaction_that_fails_fails_all_and_the_next_works(
    group: GroupCommit, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> None:
        raise OSError("no disk")

    with monkeypatch.context() as patched:
        patched.setattr(database, "write", broken)
        with pytest.raises(OSError, match="no disk"):
            group.run(insert(1))
    group.run(insert(2))
    assert numbers(database) == [2]
