"""What was found last replaces what was found before, also when two look at once."""

from __future__ import annotations

import threading

from sqlalchemy import delete, insert

from tulle.state.db import Database, in_turn, now
from tulle.state.drift import Finding, found, found_of, save
from tulle.state.tables import drift as table

DATABASES = ("sqlite", "postgres")
FINDING = Finding("file", "a", "a lies there")


def test_the_last_findings_replace_those_before(database: Database) -> None:
    save(database, {"": [], "sales": [FINDING], "features": []})
    save(database, {"": [FINDING], "sales": []})
    assert [(one.subject, one.findings) for one in found(database)] == [("", (FINDING,)), ("sales", ())]
    assert found_of(database, "features") is None


def test_two_that_look_at_once_both_come_to_their_end(database: Database) -> None:
    second = threading.Thread(target=save, args=(database, {"sales": [FINDING]}))
    with database.write() as cx:
        in_turn(cx, "drift")
        cx.execute(delete(table))
        cx.execute(insert(table).values(subject="sales", looked_at=now(), findings=[]))
        second.start()
        second.join(0.5)  # as far as it comes while the first is not done
    second.join()
    (one,) = found(database)
    assert one.findings == (FINDING,)
