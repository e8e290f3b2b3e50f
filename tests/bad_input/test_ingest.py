"""Files that are not what the document says: the run ends at their line, and consumers keep what they had."""

from __future__ import annotations

import contextlib
import gzip
import sqlite3
from collections.abc import Callable

import pyarrow.parquet as pq
import pytest
from tests.bad_input.conftest import ORDERS, Built, tulle

DATA = f"{ORDERS}/data/orders.csv"
DOCUMENT = f"{ORDERS}/product.yaml"

Change = Callable[[str], str | bytes]


def line(text: str) -> Change:
    return lambda data: f"{data}{text}\n"


CONTENTS: dict[str, tuple[Change, str]] = {
    "nothing": (lambda _: "", "orders.csv:1: the file is empty"),
    "a header alone": (
        lambda data: data.splitlines()[0] + "\n",
        "orders.csv:1: the file has a header, but no rows",
    ),
    "Latin-1": (
        lambda data: data.replace("C-01", "C-é").encode("latin-1"),
        ":2:10: byte 0xe9 at position 10",
    ),
    "UTF-16": (lambda data: data.encode("utf-16"), "the file is in UTF-16: set encoding: utf-16"),
    "a compressed file": (
        lambda data: gzip.compress(data.encode()),
        "the file is compressed: let its name end in .gz",
    ),
    "a spreadsheet": (
        lambda _: b"PK\x03\x04\x14\x00\xff\xfe",
        "the file is a ZIP archive, as spreadsheets are",
    ),
    "Parquet": (lambda _: b"PAR1\xff\xfe\x15", "the file is Parquet: set format: parquet"),
    "other bytes": (lambda _: bytes(range(128, 256)) * 50, "is not UTF-8; if the file is in Latin-1"),
    "another delimiter": (lambda data: data.replace(",", ";"), "it would with delimiter: ';'"),
    "another column": (lambda data: data.replace("ordered_on", "day"), ":1: column 'ordered_on' is missing"),
    "a column more": (lambda data: data.replace("\n", ",x\n"), ":1: column 'x' is new: it is not declared"),
    "a column twice": (
        lambda data: data.replace("customer_id", "order_id"),
        ":1: the header names 'order_id' twice",
    ),
    "a short line": (line("O-2,C-1"), ":10: 2 values, expected 4"),
    "a long line": (line("O-2,C-1,2026-01-01,3,4,5"), ":10: 6 values, expected 4"),
    "a day that is none": (line("O-2,C-1,2026-13-01,3"), ":10: column 'ordered_on' is '2026-13-01'"),
    "cents of cents": (
        line("O-2,C-1,2026-01-01,3.999"),
        ":10: column 'amount' is '3.999', expected a number with",
    ),
    "too many digits": (
        line(f"O-2,C-1,2026-01-01,{'9' * 40}"),
        "expected a number with at most 8 digits before",
    ),
    "no number": (line("O-2,C-1,2026-01-01,NaN"), ":10: column 'amount' is 'NaN', expected a number with"),
    "NUL in a number": (line("O-2,C-1,2026-01-01,2\0"), ":10: column 'amount' is '2\0', expected a number"),
    "a quote that stays open": (line('"O-2,C-1,2026-01-01,3\nO-3,C-1,2026-01-01,3'), "orders.csv:10"),
}


def told(built: Built) -> str:
    """What a run says that must fail."""
    run = built.run("orders")
    assert run.status == "failed"
    assert run.error is not None
    problems = [
        f"{':'.join(str(n) for n in (p['place']['file'], p['place']['line'], p['place']['column']) if n)}: "
        f"{p['message']} {p['hint'] or ''}"
        for p in run.error["problems"]
    ]
    return "\n".join([run.error["message"], *problems, str(run.error["hint"])])


@pytest.mark.parametrize("kind", CONTENTS)
def test_a_file_that_does_not_fit(built: Built, kind: str) -> None:
    change, said = CONTENTS[kind]
    with built.spoilt(DATA) as path:
        content = change(path.read_text())
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        found = told(built)
    assert said in found


# What the path becomes, and what is said of it.
PATHS = {
    "of another file": ("data/ordrs.csv", "did you mean 'data/orders.csv'?"),
    "that leads away": (
        "/etc/passwd",
        "'/etc/passwd' leads to /etc/passwd, which no source of this product may read",
    ),
    "that climbs": ("../../../mesh.yaml", "which no source of this product may read"),
    "of a folder": ("data", "a folder, not a file, is at 'data'"),
    "that fits nothing": ("data/*.tsv", "no file fits 'data/*.tsv'"),
}


@pytest.mark.parametrize("kind", PATHS)
def test_a_path(built: Built, kind: str) -> None:
    path, said = PATHS[kind]
    with built.spoilt(DOCUMENT) as document:
        document.write_text(document.read_text().replace("path: data/orders.csv", f"path: {path}"))
        found = told(built)
    assert said in found
    assert f"{DOCUMENT}:" in found
    assert "root:" not in found


def test_a_link_that_leads_away(built: Built) -> None:
    with built.spoilt(DATA) as path:
        path.unlink()
        path.symlink_to("/etc/passwd")
        found = told(built)
    assert "'data/orders.csv' leads to /etc/passwd, which no source of this product may read" in found
    assert "root:" not in found


@pytest.mark.parametrize(
    ("form", "said"), [("json", "orders.csv:1: not JSON"), ("parquet", "orders.csv: not a Parquet file")]
)
def test_another_format(built: Built, form: str, said: str) -> None:
    with built.spoilt(DOCUMENT) as document:
        document.write_text(document.read_text().replace("format: csv", f"format: {form}"))
        assert said in told(built)


COLUMNS = """{name: order_id, type: string}, {name: customer_id, type: string}, {name: ordered_on, type: date},
          {name: amount, type: 'decimal(10,2)'}"""
SOURCES: dict[str, tuple[str, str]] = {
    "a connection nobody made": ("type: sql, connection: shp, table: orders", "there is no connection 'shp'"),
    "a connection to something else": (
        "type: http, connection: shop, path: /orders",
        "connection 'shop' is of kind sql, and the source is of type http",
    ),
    "a table nobody has": (
        "type: sql, connection: shop, table: ordrs",
        "the database says: no such table: ordrs",
    ),
    "a cursor nobody has": (
        "type: sql, connection: shop, table: orders, load: incremental, cursor: nope",
        "the cursor 'nope' is no column of orders",
    ),
    "rows that do not fit": (
        f"type: sql, connection: shop, table: orders, columns: [{COLUMNS}]",
        "column 'amount' is 'x'",
    ),
}


@pytest.mark.parametrize("kind", SOURCES)
def test_a_source_elsewhere(built: Built, kind: str) -> None:
    text, said = SOURCES[kind]
    with built.spoilt("shop.db") as shop, built.spoilt(DOCUMENT) as document:
        shop.unlink(missing_ok=True)
        with contextlib.closing(sqlite3.connect(shop)) as connection, connection:
            connection.execute(
                "CREATE TABLE orders (order_id TEXT, customer_id TEXT, ordered_on TEXT, amount TEXT)"
            )
            connection.execute("INSERT INTO orders VALUES ('O-1', 'C-1', '2026-01-01', 'x')")
        before = shop.read_bytes()
        address = f"sqlite:///{shop}"
        assert (
            tulle(built.folder, "connection", "set", "shop", "--kind", "sql", "--address", address).code == 0
        )
        written = document.read_text()
        old = written[written.index("      source:") : written.index("      data_set: orders_raw")]
        document.write_text(written.replace(old, f"      source: {{{text}}}\n"))
        found = told(built)
        assert shop.read_bytes() == before
    assert said in found
    assert kind == "rows that do not fit" or f"{DOCUMENT}:34:15:" in found


def test_what_is_only_odd_is_read(applied: Built) -> None:
    """Marks, other ends of lines, and values that would be SQL or markup are values."""
    with applied.spoilt(DATA) as path:
        odd = path.read_text() + '"\'); DROP TABLE orders; --",<script>,2026-01-01,3\n'
        path.write_bytes(b"\xef\xbb\xbf" + odd.replace("\n", "\r\n").encode())
        assert applied.run("orders").status == "succeeded"
    files = applied.workspace.lake.repository("orders").files("main", "orders/")
    ids = [value for file in files for value in pq.read_table(file)["order_id"].to_pylist()]
    assert "'); DROP TABLE orders; --" in ids
    assert applied.run("orders").status == "succeeded"  # as it was, for other tests
