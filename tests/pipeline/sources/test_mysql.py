"""Rows of a real MariaDB into the lake: exact types, what is new, and what does not work."""

# ruff: noqa: DTZ001  timestamps of data sets have no zone: they are in UTC
from __future__ import annotations

import datetime as dt
import socket
import threading
from decimal import Decimal

import pytest
from tests.pipeline.sources.conftest import Shop, problems
from tests.pipeline.sources.mariadb import PASSWORD, MariaDb

from tulle.errors import Invalid
from tulle.pipeline.sources import sql
from tulle.pipeline.sources.address import made
from tulle.pipeline.sources.fitting import Fitting, Rejects

EVERY_TYPE = """
SET time_zone = '+02:00', sql_mode = '';
CREATE TABLE orders (
  id bigint PRIMARY KEY, tiny tinyint(1), big bigint unsigned, price decimal(12,3), net decimal(9,2) unsigned,
  huge decimal(38,10), ratio double, thin float, day date, at datetime(6), seen timestamp(6) NULL, yr year,
  clock time(3), flag bit(1), bits bit(12), raw blob, fixed binary(3), note text, code char(4), old varchar(9)
  CHARACTER SET latin1, extra json, mood enum('glad','sad'), tags set('x','y'), who uuid, spot point);
INSERT INTO orders VALUES
 (1, 2, 18446744073709551615, 123456789.125, 0.01, 1234567890123456789012345678.0123456789, 0.1, 0.1, '2020-02-29',
  '2020-02-29 12:30:59.123456', '2020-02-29 12:00:00.5', 2020, '-12:30:59.5', b'1', b'100000000001', X'00ff5c', X'01',
  'two\nlines, "quoted" \\\\ and ü', 'ab', 'ü', '{"a": 1}', 'glad', 'x,y', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11',
  ST_PointFromText('POINT(1 2)')),
 (9223372036854775807, NULL, 0, -0.001, NULL, -0.0000000001, -1.7976931348623157e308, 3.4028234e38, '0001-01-01',
  '9999-12-31 23:59:59.999999', NULL, 1901, NULL, b'0', NULL, '', NULL, '', NULL, NULL, NULL, NULL, '', NULL, NULL)
"""


@pytest.fixture
def orders(shop: Shop, my: str) -> Shop:
    """A product whose connection `db` leads to the database."""
    shop.connect("db", "sql", my, {"password": PASSWORD}, user="reader")
    return shop


def test_every_type_is_kept_exactly(orders: Shop, mariadb: MariaDb) -> None:
    mariadb.change("shop", EVERY_TYPE)
    orders.source(type="sql", connection="db", table="orders")
    orders.good()
    first, last = orders.rows()
    assert first.pop("spot")[-16:] == b"\x00\x00\x00\x00\x00\x00\xf0?\x00\x00\x00\x00\x00\x00\x00@"
    assert first == {
        "id": 1,
        "tiny": 2,
        "big": Decimal(2**64 - 1),
        "price": Decimal("123456789.125"),
        "net": Decimal("0.01"),
        "huge": Decimal("1234567890123456789012345678.0123456789"),
        "ratio": 0.1,
        "thin": 0.10000000149011612,  # what a float of four bytes holds
        "day": dt.date(2020, 2, 29),
        "at": dt.datetime(2020, 2, 29, 12, 30, 59, 123456),
        "seen": dt.datetime(2020, 2, 29, 10, 0, 0, 500000),
        "yr": 2020,
        "clock": "-12:30:59.500",
        "flag": True,
        "bits": 2049,
        "raw": b"\x00\xff\\",
        "fixed": b"\x01\x00\x00",
        "note": 'two\nlines, "quoted" \\ and ü',
        "code": "ab",
        "old": "ü",
        "extra": '{"a": 1}',
        "mood": "glad",
        "tags": "x,y",
        "who": "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
    }
    types = {field.name: str(field.type) for field in orders.table().schema}
    assert (types["price"], types["net"], types["big"]) == (
        "decimal128(12, 3)",
        "decimal128(9, 2)",
        "decimal128(20, 0)",
    )
    assert (last["id"], last["tiny"], last["raw"], last["note"], last["tags"]) == (
        2**63 - 1,
        None,
        b"",
        "",
        "",
    )
    assert (last["ratio"], last["huge"]) == (-1.7976931348623157e308, Decimal("-0.0000000001"))
    assert last["at"] == dt.datetime(9999, 12, 31, 23, 59, 59, 999999)
    assert orders.run().status == "unchanged"


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("at", ["'2020-01-01 00:00:00.000001'", "'2020-01-02'", "'2020-01-03'"]),
        ("seen", ["'2020-01-01'", "'2020-01-02 00:00:00.5'", "'2020-01-03'"]),
        ("day", ["'2020-01-01'", "'2020-01-02'", "'2020-01-03'"]),
        ("n", ["1.00", "2.50", "3.00"]),
        ("name", ["'A'", "'a\\t'", "'ü'"]),  # as bytes are ordered, not as a collation does
    ],
)
def test_only_new_rows_are_read_and_none_twice(
    orders: Shop, mariadb: MariaDb, column: str, values: list[str]
) -> None:
    first, same, later = values
    mariadb.change(
        "shop",
        "CREATE TABLE orders (id int, at datetime(6), seen timestamp(6) NULL, day date, n decimal(9,2), name "
        "varchar(9) CHARACTER SET latin1)",
    )

    def insert(*rows: tuple[int, str]) -> None:
        mariadb.change(
            "shop", f"INSERT INTO orders (id, {column}) VALUES " + ", ".join(f"({i}, {v})" for i, v in rows)
        )

    insert((1, first), (2, same))
    orders.source(type="sql", connection="db", table="shop.orders", load="incremental", cursor=column)
    orders.good()
    assert orders.run().status == "unchanged"
    insert((3, same), (2, same), (4, later), (0, first))
    orders.good()
    assert [row["id"] for row in orders.rows()] == [1, 2, 2, 3, 4]
    assert orders.run().status == "unchanged"


def test_rows_with_the_same_key_are_replaced(orders: Shop, mariadb: MariaDb) -> None:
    mariadb.change("shop", "CREATE TABLE orders (id int, at int);\nINSERT INTO orders VALUES (1, 1), (2, 1)")
    orders.source(type="sql", connection="db", table="orders", load="merge", cursor="at", key=["id"])
    orders.good()
    mariadb.change("shop", "UPDATE orders SET at = 2 WHERE id = 1;\nINSERT INTO orders VALUES (3, 3), (3, 2)")
    orders.good()
    assert orders.rows() == [{"id": 1, "at": 2}, {"id": 2, "at": 1}, {"id": 3, "at": 3}]


def test_rows_that_do_not_fit_are_put_aside(orders: Shop, mariadb: MariaDb) -> None:
    mariadb.change(
        "shop",
        "SET sql_mode = '';\nCREATE TABLE orders (id int, day date);\n"
        "INSERT INTO orders VALUES (1, '0000-00-00'), (2, '2020-01-01'), (3, '2020-02-00')",
    )
    orders.source(type="sql", connection="db", table="orders")
    assert "column 'day' is '0000-00-00', expected a date" in problems(orders.run())
    orders.source(type="sql", connection="db", table="orders", on_bad_rows="quarantine")
    orders.good()
    assert [row["id"] for row in orders.rows()] == [2]
    assert len(orders.rows("orders__rejected")) == 2


def test_a_large_table_is_read_row_by_row(my: str, mariadb: MariaDb, tmp_path: object) -> None:
    mariadb.change("shop", "CREATE TABLE big AS SELECT seq AS n, REPEAT('x', 100) AS s FROM seq_1_to_60000")
    connection = made("db", "prod", "sql", my, {"user": "reader"}, {"password": PASSWORD})
    rejects = Rejects(keep=False, run="r", target=tmp_path)
    with sql.session_of(connection) as session:
        rows = session.batches(
            "SELECT * FROM big", Fitting(session.columns("SELECT * FROM big"), "big", rejects)
        )
        assert next(rows).num_rows == 10_000
        rows.close()  # the rest is not waited for
    with sql.session_of(connection) as session:
        assert session.ping().startswith("MariaDB 10.")
        batches = session.batches(
            "SELECT n FROM big", Fitting(session.columns("SELECT n FROM big"), "big", rejects)
        )
        assert sum(sum(batch.column(0).to_pylist()) for batch in batches) == 60_000 * 60_001 // 2


@pytest.mark.parametrize(
    ("address", "password", "says", "asks"),
    [
        ("{my}", PASSWORD, "Table 'shop.orders' doesn't exist", {"table": "orders"}),
        ("{my}", "wrong-secret", "refuses to sign in", {"table": "orders"}),
        ("{my}x", PASSWORD, "refuses to sign in", {"table": "orders"}),
        ("mysql://127.0.0.1:1/shop", "wrong-secret", "does not answer", {"table": "orders"}),
        ("{my}", PASSWORD, "Unknown column 'nothing'", {"query": "SELECT nothing FROM t"}),
        ("{my}", PASSWORD, "There can be only one", {"query": "SELECT n, n AS N FROM t"}),
        ("{my}", PASSWORD, "does not say how exact column 'n'", {"query": "SELECT CAST(1 AS decimal(60,2)) AS n"}),
        ("{my}", PASSWORD, "the database refuses", {"query": "SELECT * FROM mysql.global_priv"}),
        ("{my}", PASSWORD, "the cursor 'nothing' is no column", {"table": "t", "load": "incremental", "cursor": "nothing"}),
    ],
)  # fmt: skip
def test_what_does_not_work_is_told_at_its_place(
    shop: Shop, mariadb: MariaDb, my: str, address: str, password: str, says: str, asks: dict[str, str]
) -> None:
    mariadb.change("shop", "CREATE TABLE t (n int);\nINSERT INTO t VALUES (1)")
    shop.connect("db", "sql", address.format(my=my), {"password": password}, user="reader")
    shop.source(type="sql", connection="db", **asks)
    said = problems(shop.run())
    assert says in said or ("There can" in says and "Duplicate column name" in said)
    assert password not in said
    assert not shop.names()


def test_a_source_only_reads(orders: Shop, mariadb: MariaDb) -> None:
    mariadb.change(
        "shop",
        "CREATE TABLE t (n int);\n"
        "CREATE FUNCTION f() RETURNS int MODIFIES SQL DATA BEGIN DELETE FROM t; RETURN 1; END;\n"
        "GRANT ALL ON shop.* TO reader@'%'",
    )
    orders.source(type="sql", connection="db", query="SELECT f() AS id")
    assert "READ ONLY transaction" in problems(orders.run())


@pytest.mark.parametrize(
    "sends",
    [
        b"",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"\x4a\x00\x00\x00\x0a" + b"5.5.5-10" + b"\x00" * 80,
        b"\x01\x00\x00\x00\xff",
        b"\xff" * 64,
    ],
)
def test_a_server_that_does_not_speak_as_it_should(shop: Shop, sends: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            with server.accept()[0] as client:
                client.sendall(sends)

        thread = threading.Thread(target=answer)
        thread.start()
        shop.connect("db", "sql", f"mysql://127.0.0.1:{server.getsockname()[1]}/shop", user="reader")
        shop.source(type="sql", connection="db", table="orders")
        said = problems(shop.run())
        thread.join()
    assert "the database of connection 'db' does not answer" in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("address", "options", "says"),
    [
        ("mysql://h/shop?local_infile=1", {}, "'local_infile' in it"),
        ("mysql://h/shop", {"sslmode": "requier"}, "there is no sslmode"),
    ],
)
def test_an_address_that_cannot_be(address: str, options: dict[str, str], says: str) -> None:
    with pytest.raises(Invalid, match=says):
        made("db", "prod", "sql", address, options, {})


def test_transport_is_encrypted_where_that_is_demanded(shop: Shop, my: str) -> None:
    shop.connect("db", "sql", my, {"password": PASSWORD}, user="reader", sslmode="require")
    shop.source(type="sql", connection="db", table="orders")
    assert "SSL is required" in problems(shop.run())
