"""The event log: order, transactions, and a chain that shows tampering."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from tulle.events import Event
from tulle.state import log
from tulle.state.db import Database


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
