"""Rows of real databases into the lake: exact types, what is new, once and only once."""

# ruff: noqa: DTZ001  timestamps of data sets have no zone: they are in UTC
from __future__ import annotations

import datetime as dt
import json
import sqlite3
from contextlib import closing
from decimal import Decimal
from pathlib import Path

import psycopg
import pytest
from tests.pipeline.sources.conftest import Shop, problems

EVERY_TYPE = """
CREATE TYPE mood AS ENUM ('glad', 'sad');
CREATE TABLE orders (
  id bigint PRIMARY KEY, small smallint, price numeric(12,3), ratio double precision, paid boolean, day date,
  at timestamp, seen timestamptz, raw bytea, note text, who uuid, extra jsonb, tags text[], how mood);
INSERT INTO orders VALUES
 (1, -3, 123456789.125, 0.1, true, '2020-02-29', '2020-02-29 12:30:59.123456', '2020-02-29 12:00:00+02',
  '\\x00ff5c', E'two\\nlines, "quoted" \\\\ and ü', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '{"a": 1}', '{x,y}', 'glad'),
 (9223372036854775807, NULL, -0.001, 'NaN', false, '0001-01-01', '9999-12-31 23:59:59.999999',
  '1969-12-31 23:59:59.999999+00', '', '', NULL, NULL, NULL, NULL);
"""


def change(url: str, text: str) -> None:
    with psycopg.connect(url, autocommit=True) as cx:
        cx.execute(text)


def test_every_type_of_postgresql_is_kept_exactly(shop: Shop, pg: str) -> None:
    change(pg, EVERY_TYPE)
    shop.connect("db", "sql", pg)
    shop.source(type="sql", connection="db", table="public.orders")
    shop.good()
    first, last = shop.rows()
    assert first == {
        "id": 1,
        "small": -3,
        "price": Decimal("123456789.125"),
        "ratio": 0.1,
        "paid": True,
        "day": dt.date(2020, 2, 29),
        "at": dt.datetime(2020, 2, 29, 12, 30, 59, 123456),
        "seen": dt.datetime(2020, 2, 29, 10),
        "raw": b"\x00\xff\\",
        "note": 'two\nlines, "quoted" \\ and ü',
        "who": "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
        "extra": '{"a": 1}',
        "tags": "{x,y}",
        "how": "glad",
    }
    assert last["id"] == 2**63 - 1
    assert last["ratio"] != last["ratio"]
    assert (last["note"], last["raw"], last["who"]) == ("", b"", None)
    assert (last["at"], last["seen"]) == (
        dt.datetime(9999, 12, 31, 23, 59, 59, 999999),
        dt.datetime(1969, 12, 31, 23, 59, 59, 999999),
    )
    assert str(shop.table().schema.field("price").type) == "decimal128(12, 3)"
    # The same rows again are nothing new, though everything was read.
    assert shop.run().status == "unchanged"


def test_only_new_rows_are_read_and_none_twice(shop: Shop, pg: str) -> None:
    change(
        pg,
        "CREATE TABLE orders (id int, at timestamptz); INSERT INTO orders VALUES (1, '2020-01-01'), (2, '2020-01-02')",
    )
    shop.connect("db", "sql", pg)
    shop.source(type="sql", connection="db", table="orders", load="incremental", cursor="at")
    shop.good()
    assert shop.run().status == "unchanged"
    # One of the same moment that came later, one equal in everything, and one that is newer.
    change(
        pg,
        "INSERT INTO orders VALUES (3, '2020-01-02'), (2, '2020-01-02'), (4, '2020-01-03'), (0, '2019-01-01')",
    )
    shop.good()
    assert [row["id"] for row in shop.rows()] == [1, 2, 2, 3, 4]
    assert shop.names() == ["orders/part-0000.parquet", "orders/part-0001.parquet"]
    assert shop.run().status == "unchanged"
    shop.good(full=True)
    assert [row["id"] for row in shop.rows()] == [0, 1, 2, 2, 3, 4]


def test_a_refused_load_is_read_again(shop: Shop, pg: str) -> None:
    change(pg, "CREATE TABLE orders (id int, n int); INSERT INTO orders VALUES (1, 5)")
    shop.connect("db", "sql", pg)
    shop.source(type="sql", connection="db", table="orders", load="incremental", cursor="id")
    shop.check("checks: [{data_set: orders, type: range, column: n, min: 1}]\n")
    shop.good()
    change(pg, "INSERT INTO orders VALUES (2, -1)")
    assert "1 check of 'orders' failed" in problems(shop.run())
    assert [row["id"] for row in shop.rows()] == [1]
    change(pg, "UPDATE orders SET n = 1 WHERE id = 2; INSERT INTO orders VALUES (3, 1)")
    shop.good()
    assert [row["id"] for row in shop.rows()] == [1, 2, 3]


def test_rows_with_the_same_key_are_replaced(shop: Shop, pg: str) -> None:
    change(
        pg,
        "CREATE TABLE orders (id int, at int, state text); INSERT INTO orders VALUES (1, 1, 'open'), (2, 1, 'open')",
    )
    shop.connect("db", "sql", pg)
    shop.source(type="sql", connection="db", table="orders", load="merge", cursor="at", key=["id"])
    shop.good()
    change(
        pg,
        "UPDATE orders SET at = 2, state = 'paid' WHERE id = 1; INSERT INTO orders VALUES (3, 3, 'open'), (3, 2, 'new')",
    )
    shop.good()
    assert [(r["id"], r["state"]) for r in shop.rows()] == [(1, "paid"), (2, "open"), (3, "open")]
    assert shop.names() == ["orders/part-0000.parquet"]
    assert shop.run().status == "unchanged"


def test_a_query_names_what_is_wanted(shop: Shop, pg: str) -> None:
    change(pg, "CREATE TABLE orders (id int, n numeric); INSERT INTO orders VALUES (1, 1.5), (2, 2.5)")
    shop.connect("db", "sql", pg)
    query = "SELECT id, n FROM orders WHERE id > 1 -- the last"
    shop.source(type="sql", connection="db", query=query)
    said = problems(shop.run())
    assert "does not say how exact column 'n'" in said
    assert "decimal(18,4)" in said
    columns = [{"name": "id", "type": "integer"}, {"name": "n", "type": "decimal(5,2)"}]
    shop.source(type="sql", connection="db", query=query, columns=columns)
    shop.good()
    assert shop.rows() == [{"id": 2, "n": Decimal("2.50")}]


def test_rows_that_do_not_fit(shop: Shop, pg: str) -> None:
    change(
        pg,
        "CREATE TABLE orders (id int, day date); INSERT INTO orders VALUES (1, 'infinity'), (2, '2020-01-01'), (3, NULL)",
    )
    shop.connect("db", "sql", pg)
    shop.source(type="sql", connection="db", table="orders")
    said = problems(shop.run())
    assert "column 'day' is 'infinity', expected a date like 1998-06-30" in said
    assert "on_bad_rows: quarantine" in said
    shop.source(type="sql", connection="db", table="orders", on_bad_rows="quarantine")
    run = shop.good()
    assert [row["id"] for row in shop.rows()] == [2, 3]
    (bad,) = shop.rows("orders__rejected")
    assert bad["row"] == '{"id": "1", "day": "infinity"}'
    assert "infinity" in bad["reason"]
    assert (bad["place"], bad["run"]) == ("orders row 1", run.id)
    change(pg, "DELETE FROM orders WHERE id = 1")
    shop.good()
    assert not [name for name in shop.names() if "rejected" in name]


@pytest.mark.parametrize(
    ("address", "table", "says"),
    [
        ("{pg}", "nothing", 'relation "nothing" does not exist'),
        ("postgresql://u:geheim@127.0.0.1:1/db", "orders", "does not answer"),
    ],
)
def test_what_does_not_work_is_told_at_its_place(
    shop: Shop, pg: str, address: str, table: str, says: str
) -> None:
    shop.connect("db", "sql", address.format(pg=pg))
    shop.source(type="sql", connection="db", table=table)
    said = problems(shop.run())
    assert says in said
    assert "geheim" not in said
    assert not shop.names()


def test_a_source_only_reads(shop: Shop, pg: str) -> None:
    change(
        pg,
        "CREATE TABLE orders (id int); CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'DELETE FROM orders RETURNING 1'",
    )
    change(pg, "INSERT INTO orders VALUES (1)")
    shop.connect("db", "sql", pg)
    shop.source(type="sql", connection="db", query="SELECT f() AS id")
    assert "read-only transaction" in problems(shop.run())


def test_a_connection_that_is_missing(shop: Shop) -> None:
    shop.source(type="sql", connection="db", table="orders")
    said = problems(shop.run())
    assert "there is no connection 'db' in environment 'prod'" in said
    assert "tulle connection set db" in said


def test_sqlite_values_are_held_to_their_columns(shop: Shop, sqlite_file: Path) -> None:
    shop.connect("db", "sql", f"sqlite:///{sqlite_file}")
    shop.source(type="sql", connection="db", table="orders", load="incremental", cursor="id")
    shop.good()
    assert shop.rows() == [
        {"id": 1, "name": "a", "amount": Decimal("10.50"), "day": dt.date(2020, 1, 31), "data": b"\x00\xff"},
        {"id": 2, "name": None, "amount": Decimal("3.25"), "day": None, "data": None},
    ]
    with closing(sqlite3.connect(sqlite_file)) as cx:
        cx.execute("INSERT INTO orders (id, day) VALUES (3, 'some day')")
        cx.commit()
    assert "column 'day' is 'some day', expected a date" in problems(shop.run())
    with closing(sqlite3.connect(sqlite_file)) as cx:
        cx.execute("UPDATE orders SET day = '2021-01-01' WHERE id = 3")
        cx.commit()
    shop.good()
    assert [row["id"] for row in shop.rows()] == [1, 2, 3]


def test_a_row_is_put_aside_once_however_often_it_is_read(shop: Shop, sqlite_file: Path) -> None:
    def change(*statements: str) -> None:
        with closing(sqlite3.connect(sqlite_file)) as cx:
            for statement in statements:
                cx.execute(statement)
            cx.commit()

    shop.connect("db", "sql", f"sqlite:///{sqlite_file}")
    says = {"load": "incremental", "cursor": "id", "on_bad_rows": "quarantine"}
    shop.source(type="sql", connection="db", table="orders", **says)
    change("INSERT INTO orders (id, day) VALUES (3, 'some day')")
    shop.good()
    assert shop.run().status == "unchanged"
    change("INSERT INTO orders (id, day) VALUES (4, 'some day')")
    shop.good()
    assert [json.loads(row["row"])["id"] for row in shop.rows("orders__rejected")] == [3, 4]
    assert shop.run().status == "unchanged"
    change("INSERT INTO orders (id) VALUES (5)")
    shop.good()
    assert [row["id"] for row in shop.rows()] == [1, 2, 5]
    assert len(shop.rows("orders__rejected")) == 2
    shop.good(full=True)
    assert len(shop.rows("orders__rejected")) == 2


def test_many_rows_are_put_aside_once_and_equal_ones_as_often_as_they_are_there(
    shop: Shop, sqlite_file: Path
) -> None:
    def change(statement: str) -> None:
        with closing(sqlite3.connect(sqlite_file)) as cx:
            cx.execute(statement)
            cx.commit()

    change("CREATE TABLE log (id INTEGER, day DATE)")
    change("INSERT INTO log VALUES (1, '2020-01-01')")
    numbers = "WITH RECURSIVE n(i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM n WHERE i < 12000)"
    change(f"{numbers} INSERT INTO log SELECT i, 'some day' FROM n")
    change("INSERT INTO log VALUES (12001, 'twice'), (12001, 'twice')")
    shop.connect("db", "sql", f"sqlite:///{sqlite_file}")
    says = {"load": "incremental", "cursor": "id", "on_bad_rows": "quarantine"}
    shop.source(type="sql", connection="db", table="log", **says)
    shop.good()
    assert len(shop.rows("orders__rejected")) == 12_001
    assert shop.run().status == "unchanged"
    change("INSERT INTO log VALUES (12001, 'twice'), (0, 'before')")
    shop.good()
    bad = [row["row"] for row in shop.rows("orders__rejected")]
    assert len(bad) == 12_002
    assert sum("twice" in row for row in bad) == 3
    assert shop.run().status == "unchanged"
    record = shop.lake.repository("orders").get("main", "_tulle/jobs/orders.json")
    assert len(record) < 3000, "what was put aside is known from where it lies"


def test_sqlite_writes_true_and_false_as_numbers(shop: Shop, sqlite_file: Path) -> None:
    with closing(sqlite3.connect(sqlite_file)) as cx:
        cx.execute("CREATE TABLE flags (id INTEGER, is_on BOOLEAN)")
        cx.execute("INSERT INTO flags VALUES (1, 1), (2, 0), (3, NULL), (4, 'yes')")
        cx.commit()
    shop.connect("db", "sql", f"sqlite:///{sqlite_file}")
    shop.source(type="sql", connection="db", table="flags")
    shop.good()
    assert [row["is_on"] for row in shop.rows()] == [True, False, None, True]
    with closing(sqlite3.connect(sqlite_file)) as cx:
        cx.execute("INSERT INTO flags VALUES (5, 2)")
        cx.commit()
    assert "column 'is_on' is '2', expected true or false" in problems(shop.run())


def test_no_row_is_read_twice_when_the_columns_become_wider(shop: Shop, sqlite_file: Path) -> None:
    def becomes(columns: str, *rows: tuple[object, ...]) -> None:
        with closing(sqlite3.connect(sqlite_file)) as cx:
            cx.execute("DROP TABLE orders")
            cx.execute(f"CREATE TABLE orders (id INTEGER, {columns})")
            cx.executemany(f"INSERT INTO orders VALUES ({', '.join('?' * len(rows[0]))})", rows)
            cx.commit()

    shop.connect("db", "sql", f"sqlite:///{sqlite_file}")
    shop.source(
        type="sql", connection="db", table="orders", load="incremental", cursor="id", on_drift="widen"
    )
    becomes("n INTEGER, price DECIMAL(6,1), day DATE", (1, 7, 1.5, "2020-01-01"))
    shop.good()
    wide = "n DOUBLE, price DECIMAL(12,3), day TIMESTAMP, note TEXT"
    becomes(wide, (1, 7, 1.5, "2020-01-01", "new"), (1, 7.5, 1.5, "2020-01-01", "other"))
    shop.good()
    assert [(row["id"], row["n"], row["note"]) for row in shop.rows()] == [(1, 7.0, None), (1, 7.5, "other")]
    assert shop.run().status == "unchanged"
    becomes(wide, (1, 7, 1.5, "2020-01-01", "new"), (2, 0, 0, "2020-01-01", "a"))
    shop.good()
    becomes(wide, (2, 0, 0, "2020-01-01", "a"), (2, 0, 0, "2020-01-01", "b"))
    shop.good()
    assert [row["note"] for row in shop.rows() if row["id"] == 2] == ["a", "b"]


def test_a_query_of_sqlite_has_the_types_of_its_values(shop: Shop, sqlite_file: Path) -> None:
    shop.connect("db", "sql", f"sqlite:///{sqlite_file}")
    shop.source(type="sql", connection="db", query="SELECT id, id + 0.5 AS half, name FROM orders")
    shop.good()
    assert shop.rows() == [{"id": 1, "half": 1.5, "name": "a"}, {"id": 2, "half": 2.5, "name": None}]
