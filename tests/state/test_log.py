"""The event log: order, transactions, and a chain that shows tampering."""

from __future__ import annotations

import threading

import pytest
from sqlalchemy import text

from tulle.events import Event
from tulle.state import log
from tulle.state.db import Database

DATABASES = ("sqlite", "postgres")


def test_entries_come_back_in_order_and_by_subject(database: Database) -> None:
    with database.write() as connection:
        log.append(connection, Event("run.started", "a", {"n": 1}), actor="ana")
        log.append(connection, Event("run.started", "b"))
        log.append(connection, Event("run.finished", "a", {"n": 2}))
    assert [(e.kind, e.data) for e in log.read(database, subject="a")] == [
        ("run.started", {"n": 1}),
        ("run.finished", {"n": 2}),
    ]
    assert [e.subject for e in log.read(database, newest_first=True, limit=2)] == ["a", "b"]


def test_a_failed_transaction_leaves_no_entry(database: Database) -> None:
    with pytest.raises(RuntimeError), database.write() as connection:
        log.append(connection, Event("run.started", "a"))
        raise RuntimeError
    assert log.read(database) == []


@pytest.mark.parametrize(
    "tamper",
    ["UPDATE events SET subject = 'x' WHERE id = 2", "DELETE FROM events WHERE id = 2"],
)
def test_tampering_is_found(database: Database, tamper: str) -> None:
    with database.write() as connection:
        for n in range(4):
            log.append(connection, Event("run.started", str(n)))
    assert log.verify(database) is None
    with database.write() as connection:
        connection.execute(text(tamper))
    assert log.verify(database) in {2, 3}


def test_the_chain_holds_when_many_append_at_once(database: Database) -> None:
    def append(name: str) -> None:
        for number in range(10):
            with database.write() as connection:
                log.append(connection, Event("run.started", f"{name}{number}"))

    threads = [threading.Thread(target=append, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(log.read(database, limit=100)) == 40
    assert log.verify(database) is None
