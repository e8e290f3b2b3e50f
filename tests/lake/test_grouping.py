"""Group commit: many writers, few transactions, each writer with its own outcome."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

import psycopg
import pytest
from sqlalchemy import Connection, event, text
from sqlalchemy.exc import IntegrityError, OperationalError
from tests.lake.databases import Postgres

from tulle.errors import NotFound, Unavailable
from tulle.lake.grouping import GroupCommit, Joint
from tulle.state.db import RETRIES, Database, in_turn, open_database

DATABASES = ("sqlite", "postgres")


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
    assert commits == 2
    assert numbers(database) == list(range(20))


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


def test_who_was_ended_for_the_sake_of_another_is_tried_again(group: GroupCommit, database: Database) -> None:
    tries: list[int] = []

    def unlucky(number: int, times: int) -> Callable[[Connection], None]:
        def work(cx: Connection) -> None:
            insert(number)(cx)
            tries.append(number)
            if tries.count(number) <= times:
                raise deadlock()

        return work

    group.run(unlucky(1, 2))  # alone
    started, release = threading.Event(), threading.Event()

    def slow(_: Connection) -> None:
        started.set()
        release.wait(10)

    works = [lambda: group.run(slow), lambda: group.run(unlucky(2, 1)), lambda: group.run(insert(3))]
    threads = [threading.Thread(target=work) for work in works]
    threads[0].start()
    started.wait(10)
    for thread in threads[1:]:
        thread.start()
    while len(group._waiting) < 2:
        pass
    release.set()
    for thread in threads:
        thread.join(10)
    with pytest.raises(Unavailable, match="ended a change"):
        group.run(unlucky(4, 99))  # there is an end to it
    assert numbers(database) == [1, 2, 3]
    assert (tries.count(1), tries.count(2), tries.count(4)) == (3, 2, RETRIES + 1)


def deadlock() -> OperationalError:
    return OperationalError("UPDATE", {}, psycopg.errors.DeadlockDetected("deadlock detected"))


def test_shared_transactions_of_two_processes_do_not_wait_for_one_another(postgres: Postgres) -> None:
    """Two groups, as two processes have them, write to the same places in opposite order."""
    url = postgres.make()
    databases = [open_database(url), open_database(url)]
    with databases[0].write() as cx:
        cx.execute(text("CREATE TABLE numbers (n INTEGER PRIMARY KEY)"))
    taken: list[tuple[int, str]] = []

    def take(cx: Connection, place: tuple[int, str]) -> None:
        taken.append(place)
        in_turn(cx, str(place))

    ended: list[object] = []

    def upsert(number: int) -> Callable[[Connection], None]:
        query = text("INSERT INTO numbers VALUES (:n) ON CONFLICT (n) DO UPDATE SET n = excluded.n")

        def work(cx: Connection) -> None:
            cx.execute(query, {"n": number})
            time.sleep(0.002)

        return work

    def write(group: GroupCommit, number: int) -> Callable[[], None]:
        def work() -> None:
            for _ in range(8):
                group.run(upsert(number), (1, f"branch {number % 2}"))

        return work

    for database in databases:
        event.listen(
            database.engine, "handle_error", lambda context: ended.append(context.original_exception)
        )
    groups = [GroupCommit(database, take) for database in databases]
    run_all(
        [
            write(group, n)
            for group, order in zip(groups, (range(8), range(7, -1, -1)), strict=True)
            for n in order
        ]
    )
    assert numbers(databases[0]) == list(range(8))
    assert ended == []
    assert len(taken) > 2
    for database in databases:
        database.close()
    postgres.drop(url)


def test_joint_works_are_done_at_once_and_each_has_its_own_outcome(
    group: GroupCommit, database: Database
) -> None:
    calls: list[list[int]] = []

    def insert_all(cx: Connection, several: Sequence[int]) -> None:
        calls.append(list(several))
        for number in several:
            insert(number)(cx)

    started, release = threading.Event(), threading.Event()

    def slow(cx: Connection) -> None:
        started.set()
        release.wait(10)
        insert(0)(cx)

    failed: list[int] = []

    def join(number: int, key: str) -> None:
        try:
            group.run(Joint(key, number, insert_all))
        except IntegrityError:
            failed.append(number)

    threads = [threading.Thread(target=group.run, args=(slow,))]
    threads[0].start()
    assert started.wait(10)
    for number, key in ((1, "a"), (2, "a"), (3, "b"), (4, "b"), (0, "b")):
        threads.append(threading.Thread(target=join, args=(number, key)))
        threads[-1].start()
    while len(group._waiting) < 5:
        time.sleep(0.01)
    release.set()
    for thread in threads:
        thread.join(30)
    assert (numbers(database), failed) == ([0, 1, 2, 3, 4], [0])
    assert sorted(calls[0]) == [1, 2] or sorted(calls[0]) == [0, 3, 4]
    assert sorted(map(len, calls)) == [1, 1, 1, 2, 3]  # b fails together, then each of its three is alone
