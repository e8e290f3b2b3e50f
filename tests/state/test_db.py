"""Opening the control-plane database and its transactions, the same on SQLite and on PostgreSQL."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, insert, select, text, update
from sqlalchemy.exc import IntegrityError
from tests.lake.databases import Postgres

from tulle.errors import Broken, Invalid, Unavailable
from tulle.state.db import Database, in_turn, now, open_database
from tulle.state.tables import lake_branches, lake_repositories, users

DATABASES = ("sqlite", "postgres")


def add(database: Database, *names: str) -> None:
    with database.write() as cx:
        cx.execute(insert(users), [{"id": name, "created_at": now()} for name in names])


def known(database: Database) -> list[str]:
    with database.read() as cx:
        return list(cx.execute(select(users.c.id).order_by(users.c.id)).scalars())


def test_is_the_database_meant(database: Database, database_kind: str) -> None:
    assert database.is_sqlite == (database_kind == "sqlite")
    assert database.engine.dialect.name.startswith(database_kind)


def test_text_is_ordered_by_its_bytes(database: Database) -> None:
    names = ["b", "B", "a-b", "ab", "a_b", "é", "z", "Z", "ä", "a", "日", "A", "\U0001f600"]
    add(database, *names)
    assert known(database) == sorted(names, key=str.encode)


def test_every_column_of_text_is_compared_by_its_bytes(postgres: Postgres) -> None:
    # The order above may be right by chance where the server's own language is C.
    url = postgres.make()
    database = open_database(url)
    with database.read() as cx:
        query = """SELECT table_name, column_name FROM information_schema.columns
            WHERE table_schema = 'public' AND data_type IN ('text', 'character varying')
            AND collation_name IS DISTINCT FROM 'C' AND table_name <> 'alembic_version'"""
        assert cx.execute(text(query)).all() == []
    database.close()
    postgres.drop(url)


def test_a_view_for_reading_is_one_moment(database: Database) -> None:
    add(database, "ana")
    with database.read() as cx:
        query = select(users.c.id)
        assert cx.execute(query).scalars().all() == ["ana"]
        add(database, "ben")
        assert cx.execute(query).scalars().all() == ["ana"]
    assert known(database) == ["ana", "ben"]


def test_what_is_acknowledged_is_seen_by_others_at_once(database: Database, database_url: str) -> None:
    other = open_database(database_url)
    for number in range(20):
        add(database, f"user-{number:02}")
        assert known(other)[-1] == f"user-{number:02}"
    other.close()


def test_a_failed_transaction_changes_nothing(database: Database) -> None:
    add(database, "ana")
    with pytest.raises(IntegrityError):
        add(database, "ben", "ana")
    with pytest.raises(RuntimeError), database.write() as cx:
        cx.execute(insert(users).values(id="cem", created_at=now()))
        raise RuntimeError
    assert known(database) == ["ana"]


def test_defaults_are_those_of_the_tables(database: Database) -> None:
    values = {
        "name": "sales",
        "storage": "sales-1",
        "default_branch": "main",
        "created_at": 1.5,
        "metadata": {"a": "ü"},
    }
    with database.write() as cx:
        cx.execute(insert(lake_repositories).values(values))
        row = cx.execute(select(lake_repositories)).one()
    assert (row.id, row.created_at, row.metadata) == (1, 1.5, {"a": "ü"})
    assert (row.namespace, bool(row.read_only), row.settings, row.used_bytes) == ("", False, {}, 0)


def test_what_belongs_to_a_removed_row_goes_with_it(database: Database) -> None:
    with database.write() as cx:
        values = {
            "name": "sales",
            "storage": "s",
            "default_branch": "main",
            "created_at": 1.5,
            "metadata": {},
        }
        key = cx.execute(insert(lake_repositories).values(values)).inserted_primary_key
        assert key is not None
        branch = {"repository_id": key[0], "name": "main", "commit_id": "0", "staged": [], "created_at": 1.0}
        cx.execute(insert(lake_branches).values(branch))
        cx.execute(lake_repositories.delete())
        assert cx.execute(select(lake_branches)).all() == []


def test_a_value_that_cannot_be_recorded_is_told(database: Database, database_kind: str) -> None:
    if database_kind == "sqlite":
        add(database, "nul \0 inside")  # SQLite keeps it
        assert known(database) == ["nul \0 inside"]
        return
    with pytest.raises(Invalid, match="cannot hold a value"):
        add(database, "nul \0 inside")
    with pytest.raises(Invalid, match="cannot hold a value"):
        add(database, "x" * 256)


def test_whoever_takes_turns_is_alone(database: Database) -> None:
    # Read, wait, write: without turns some of the counts would get lost.
    with database.write() as cx:
        cx.execute(insert(users).values(id="counter", friendly_name="0", created_at=now()))

    def count(_: int) -> None:
        for _ in range(5):
            with database.write() as cx:
                in_turn(cx, "counting")
                value = int(cx.execute(select(users.c.friendly_name)).scalar_one())
                time.sleep(0.002)
                cx.execute(update(users).values(friendly_name=str(value + 1)))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(count, range(4)))
    with database.read() as cx:
        assert cx.execute(select(users.c.friendly_name)).scalar_one() == "20"


def test_of_two_transactions_that_wait_for_one_another_one_ends_with_an_error_that_says_so(
    postgres: Postgres,
) -> None:
    url = postgres.make()
    database = open_database(url)
    add(database, "a", "b")
    meeting = threading.Barrier(2)

    def both(first: str, second: str) -> str:
        try:
            with database.write() as cx:
                cx.execute(update(users).where(users.c.id == first).values(email=first))
                meeting.wait(5)
                cx.execute(update(users).where(users.c.id == second).values(email=first))
        except Unavailable as exc:
            return exc.message
        return "done"

    with ThreadPoolExecutor(2) as pool:
        ends = sorted(pool.map(both, "ab", "ba"))
    database.close()
    postgres.drop(url)
    assert ends[0] == "done"
    assert ends[1].startswith("the control-plane database ended a change that waited for another one (dead")


def test_many_may_open_a_new_database_at_once(database_kind: str, postgres: Postgres, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'new.db'}"
    if database_kind == "postgres":
        url = postgres.make(empty=True)
    with ThreadPoolExecutor(4) as pool:
        opened = list(pool.map(lambda _: open_database(url), range(4)))
    for database in opened:
        assert known(database) == []
        database.close()
    if database_kind == "postgres":
        postgres.drop(url)


def test_a_server_that_is_not_there_is_told() -> None:
    with pytest.raises(
        Unavailable, match=r"postgresql\+psycopg://mesh:\*\*\*@127\.0\.0\.1:1/x cannot be opened"
    ) as told:
        open_database("postgresql://mesh:secret@127.0.0.1:1/x")
    assert "secret" not in str(told.value)


def test_a_server_that_goes_away_is_told_and_found_again(postgres: Postgres) -> None:
    url = postgres.make()
    database = open_database(url)
    kick = text(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    other = open_database(url)
    with pytest.raises(Unavailable, match="cannot be reached"), database.write() as cx:
        cx.execute(insert(users).values(id="lost", created_at=now()))
        with other.write() as killer:
            killer.execute(kick)
        cx.execute(select(users))
    assert known(database) == []
    add(database, "ana")
    assert known(database) == ["ana"]
    other.close()
    database.close()
    postgres.drop(url)


def test_a_database_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    made = open_database(f"sqlite:///{tmp_path / 'state.db'}")

    def read_only(connection: Any, _record: object) -> None:
        connection.execute("PRAGMA query_only = ON")

    made.close()
    event.listen(made.engine, "connect", read_only)
    with pytest.raises(Unavailable, match="cannot be written"), made.write() as cx:
        cx.execute(text("CREATE TABLE x (n INTEGER)"))
    made.close()


def test_a_damaged_database_is_told(tmp_path: Path) -> None:
    file = tmp_path / "state.db"
    made = open_database(f"sqlite:///{file}")
    made.close()
    kept = bytearray(file.read_bytes())
    kept[100:] = b"\xa5" * (len(kept) - 100)
    file.write_bytes(kept)
    with pytest.raises(Broken, match="damaged"), made.read() as cx:
        cx.execute(text("SELECT * FROM lake_repositories"))
    made.close()
