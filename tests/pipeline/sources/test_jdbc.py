"""Rows through a real JDBC driver: PostgreSQL's own, from Debian, on a Java machine."""

# ruff: noqa: DTZ001  timestamps of data sets have no zone: they are in UTC
from __future__ import annotations

import datetime as dt
import socket
import zipfile
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import psycopg
import pytest
from tests.lake import databases
from tests.lake.databases import Postgres
from tests.pipeline.sources.conftest import Shop, problems

from tulle.pipeline.sources.address import made
from tulle.pipeline.sources.describe import described
from tulle.pipeline.sources.jdbc import session

JAR = Path("/usr/share/java/postgresql.jar")


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Host, port and database of a PostgreSQL server that listens on loopback, as Java knows no Unix sockets."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(databases.SETTINGS, "listen_addresses", "127.0.0.1")
        patched.setitem(databases.SETTINGS, "port", str(port))
        patched.setenv("PGPORT", str(port))
        server = Postgres()
        with psycopg.connect(f"host={server.folder} user=postgres dbname=postgres", autocommit=True) as cx:
            cx.execute(
                "CREATE TABLE orders (id bigint, price numeric(12,3), ratio float8, paid boolean, day date, at timestamp, "
                "seen timestamptz, raw bytea, note text, who uuid);"
                "INSERT INTO orders VALUES (1, 10.125, 0.1, true, '2020-02-29', '2020-02-29 12:30:59.123456', "
                "'2020-02-29 12:00:00+02', '\\x00ff', 'ü', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'), "
                "(2, NULL, NULL, NULL, NULL, NULL, '2020-03-01', NULL, NULL, NULL)"
            )
        yield f"127.0.0.1:{port}/postgres"
        server.stop()


def test_types_are_kept_and_only_new_rows_are_read(shop: Shop, address: str) -> None:
    shop.connect("db", "sql", f"jdbc:postgresql://{address}", user="postgres", jar=str(JAR))
    shop.source(type="sql", connection="db", table="orders", load="incremental", cursor="seen")
    shop.good()
    first, second = shop.rows()
    assert first == {
        "id": 1,
        "price": Decimal("10.125"),
        "ratio": 0.1,
        "paid": True,
        "day": dt.date(2020, 2, 29),
        "at": dt.datetime(2020, 2, 29, 12, 30, 59, 123456),
        "seen": dt.datetime(2020, 2, 29, 10),
        "raw": b"\x00\xff",
        "note": "ü",
        "who": "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
    }
    assert (second["id"], second["price"], second["raw"]) == (2, None, None)
    assert shop.run().status == "unchanged"
    with psycopg.connect(f"postgresql://postgres@{address}", autocommit=True) as cx:
        cx.execute("INSERT INTO orders (id, seen) VALUES (3, '2020-03-01'), (4, '2020-03-02')")
    shop.good()
    assert [row["id"] for row in shop.rows()] == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("url", "jar", "table", "says"),
    [
        ("jdbc:postgresql://{address}", str(JAR), "nothing", 'relation "nothing" does not exist'),
        ("jdbc:oracle:thin:@h:1521/x", str(JAR), "orders", "knows the address of connection 'db'"),
        ("jdbc:postgresql://{address}", "/nowhere.jar", "orders", "there is no driver at /nowhere.jar"),
        ("jdbc:postgresql://127.0.0.1:1/x", str(JAR), "orders", "does not answer"),
    ],
)
def test_what_does_not_work(shop: Shop, address: str, url: str, jar: str, table: str, says: str) -> None:
    shop.connect("db", "sql", url.format(address=address), user="postgres", jar=jar)
    shop.source(type="sql", connection="db", table=table)
    assert says in problems(shop.run())


def test_every_secret_is_handed_to_the_driver_and_none_is_shown(shop: Shop, address: str) -> None:
    secrets = {"password": "geheim-1", "sslpassword": "geheim-2", "socketFactoryArg": "geheim-3"}
    url = f"jdbc:postgresql://{address}?socketFactory=org.postgresql.ssl.SingleCertValidatingFactory$Nothing"
    shop.connect("db", "sql", url, secrets, user="postgres", jar=str(JAR))
    shop.source(type="sql", connection="db", table="orders")
    said = problems(shop.run())
    assert "geheim" not in said
    ssl = f"jdbc:postgresql://{address}?sslmode=geheim-2"  # what a driver complains of is what it was given
    shop.connect("db", "sql", ssl, secrets, user="postgres", jar=str(JAR))
    assert "Invalid sslmode value: …" in problems(shop.run())
    shop.connect(
        "db",
        "sql",
        f"jdbc:postgresql://{address}",
        secrets | {"ApplicationName": "x"},
        user="postgres",
        jar=str(JAR),
    )
    with session(shop.connections.get("db", "prod")) as opened:
        assert str(opened._opened.getClientInfo("ApplicationName")) == "x"  # type: ignore[attr-defined]
    shop.good()


@pytest.mark.parametrize(
    ("driver", "says"),
    [
        ("org.postgresql.Nothing", "the jar has no driver 'org.postgresql.Nothing'"),
        ("java.lang.String", "the jar has no driver 'java.lang.String'"),
    ],
)
def test_what_is_no_driver(shop: Shop, address: str, driver: str, says: str) -> None:
    shop.connect("db", "sql", f"jdbc:postgresql://{address}", jar=str(JAR), driver=driver)
    shop.source(type="sql", connection="db", table="orders")
    assert says in problems(shop.run())


def test_whatever_a_driver_throws_is_told(shop: Shop, address: str, tmp_path: Path) -> None:
    jar = tmp_path / "broken.jar"
    with zipfile.ZipFile(jar, "w") as file:
        file.writestr("META-INF/services/java.sql.Driver", "org.example.geheim.Driver\n")
    shop.connect("db", "sql", f"jdbc:postgresql://{address}", {"password": "geheim"}, jar=str(jar))
    shop.source(type="sql", connection="db", table="orders")
    said = problems(shop.run())
    assert "the driver of connection 'db' fails: java.util.ServiceConfigurationError" in said
    assert "geheim" not in said


def test_what_a_driver_says_of_a_table(address: str) -> None:
    with psycopg.connect(f"postgresql://postgres@{address}", autocommit=True) as cx:
        cx.execute("CREATE TABLE a_b (id bigint PRIMARY KEY, n int); COMMENT ON COLUMN a_b.n IS 'How many'")
        cx.execute("CREATE TABLE axb (other int); COMMENT ON TABLE a_b IS 'All of it'")
    url = f"jdbc:postgresql://{address}"
    found = described(made("db", "prod", "sql", url, {"user": "postgres", "jar": str(JAR)}, {}), "a_b")
    assert (found["comment"], found["key"]) == ("All of it", ["id"])
    assert [list(column.values()) for column in found["columns"]] == [
        ["id", "integer", "int8", True, ""],
        ["n", "integer", "int4", False, "How many"],
    ]
