"""One row asked at the driver is the row that SQLAlchemy would have read."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import JSON, Boolean, Column, Integer, MetaData, String, Table, bindparam, insert, select

from tulle.errors import Broken
from tulle.state.db import Database
from tulle.state.lookup import Lookup

THINGS = Table(
    "things",
    MetaData(),
    Column("owner", Integer, primary_key=True),
    Column("name", String, primary_key=True),
    Column("hidden", Boolean, nullable=False),
    Column("parts", JSON, nullable=False),
)
STATEMENT = select(THINGS.c.parts, THINGS.c.name, THINGS.c.hidden).where(
    THINGS.c.name == bindparam("of_name"), THINGS.c.owner == bindparam("of_owner")
)


@pytest.fixture
def filled(database: Database) -> Database:
    with database.write() as cx:
        THINGS.create(cx)
        cx.execute(insert(THINGS).values(owner=1, name="é'", hidden=True, parts=[{"a": 1}, "b"]))
        cx.execute(insert(THINGS).values(owner=2, name="é'", hidden=False, parts=[]))
    return database


@pytest.mark.parametrize("owner", [1, 2, 3])
def test_a_row_is_what_sqlalchemy_reads(filled: Database, owner: int) -> None:
    values = {"of_owner": owner, "of_name": "é'"}
    with filled.read() as cx:
        expected = cx.execute(STATEMENT, values).first()
        found = Lookup(STATEMENT).first(cx, values)
    assert found == (None if expected is None else tuple(expected))
    assert (found is None) == (owner == 3)


def test_it_sees_what_its_transaction_wrote_and_no_other(filled: Database) -> None:
    lookup = Lookup(STATEMENT)
    with filled.write() as cx:
        cx.execute(insert(THINGS).values(owner=3, name="new", hidden=False, parts=[1]))
        assert lookup.first(cx, {"of_owner": 3, "of_name": "new"}) == ([1], "new", False)
        with filled.read() as other:
            assert lookup.first(other, {"of_owner": 3, "of_name": "new"}) is None


def test_a_database_that_fails_is_told_as_ever(filled: Database) -> None:
    if not filled.is_sqlite:
        pytest.skip("only the embedded database is asked at its driver")
    path = filled.engine.url.database
    assert path
    filled.close()
    with Path(path).open("r+b") as file:
        file.write(b"not a database, as anybody sees" * 10)
    with pytest.raises(Broken, match="damaged"), filled.read() as cx:
        Lookup(STATEMENT).first(cx, {"of_owner": 1, "of_name": "x"})
