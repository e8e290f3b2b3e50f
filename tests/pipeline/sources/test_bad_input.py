"""Sources that give what they should not: each is told clearly, at its place, and nothing that was there is lost."""

from __future__ import annotations

import gzip
import itertools
import json
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing
from typing import Any

import psycopg
import pytest
from tests.pipeline.sources.conftest import Api, Shop, problems

COLUMNS = [{"name": "id", "type": "integer"}, {"name": "name"}]


def refused(shop: Shop, says: str, *secrets: str) -> None:
    """A run fails saying that, points at the source, and leaves what was published."""
    before = shop.names()
    said = problems(shop.run())
    assert says in said
    assert "Traceback" not in said
    assert not [secret for secret in secrets if secret in said]
    assert shop.names() == before


# ── files ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("name", "data", "says", "told"),
    [
        ("a.csv", b"id,name\n1,M\xfcller\n", {}, "byte 0xfc at position 4 is not UTF-8"),
        ("a.csv", "id,name\n1,ü\n".encode("utf-16"), {}, "is not UTF-8"),
        ("a.csv", b"id,name\n1,a\n", {"encoding": "utf-16"}, "the text is not utf-16"),
        ("a.csv", b"id,name\n1,a,b\n", {}, '"line": 2'),
        ("a.csv", b"id,nam\n1,a\n", {}, "did you mean 'nam'"),
        ("a.csv", b"id,name\none,a\n", {}, "column 'id' is 'one', expected a whole number"),
        ("a.csv", b'id,name\n1,"never closed\n', {}, '"line": 2'),
        ("a.csv", b"", {}, "a.csv"),
        ("a.csv.gz", gzip.compress(b"id,name\n1,a\n", mtime=0)[:-9], {}, "a.csv.gz"),
        ("a.csv.gz", b"not packed", {}, "a.csv.gz"),
        ("a.jsonl", b'{"id": 1}\n{"id": 2,\n', {}, '"line": 2'),
        ("a.jsonl", b'{"id": 1, "name": "\xff"}\n', {}, "not JSON"),
        ("a.jsonl", b"[" * 100_000, {}, "not JSON"),
        ("a.jsonl", b'{"id": ' * 5000, {}, "not JSON"),
        ("a.jsonl", b'{"id": [1]}\n', {}, '"line": 1'),
        ("a.parquet", b"PAR1 not at all", {}, "is not a Parquet file"),
    ],
)
def test_a_file_that_is_not_what_it_should_be(
    shop: Shop, name: str, data: bytes, says: Mapping[str, Any], told: str
) -> None:
    ending = name.partition(".")[2]
    shop.source(type="file", path=f"data/*.{ending}", columns=COLUMNS, load="incremental", **says)
    (shop.product / "data" / name).write_bytes(data)
    refused(shop, told)


def test_a_file_that_cannot_be_opened(shop: Shop) -> None:
    shop.source(type="file", path="data/a.csv", columns=COLUMNS)
    refused(shop, "there is no file 'data/a.csv'")
    (shop.product / "data/a.csv").mkdir()
    refused(shop, "a folder, not a file")
    (shop.product / "data/a.csv").rmdir()
    (shop.product / "data/a.csv").symlink_to("/etc/hostname")
    refused(shop, "which no source of this product may read")
    (shop.product / "data/a.csv").unlink()
    (shop.product / "data/a.csv").symlink_to("a.csv")  # itself
    refused(shop, "there is no file 'data/a.csv'")


# ── HTTP ─────────────────────────────────────────────────────────────────────────────────────────────────

Answers = Callable[[Mapping[str, str]], tuple[int, dict[str, str], bytes]]


def ok(body: bytes, **headers: str) -> Answers:
    return lambda _query: (200, {key.replace("_", "-"): value for key, value in headers.items()}, body)


def endless(page: str) -> Answers:
    """Another page each time, for ever."""
    numbers = itertools.count(1)
    return lambda _query: (
        200,
        {},
        json.dumps({"items": [{"id": next(numbers)}], "next": f"{page}{next(numbers)}"}).encode(),
    )


@pytest.mark.parametrize(
    ("paging", "answers", "told"),
    [
        ({"type": "page"}, ok(b'{"items": [{"id": 1}]}'), "page 2 is the same as the page before it"),
        ({"type": "offset", "size": 1}, ok(b'{"items": [{"id": 1}]}'), "is the same as the page before it"),
        ({"type": "cursor", "next": "next"}, ok(b'{"items": [{"id": 1}], "next": "a"}'), "page"),
        ({"type": "cursor", "next": "next"}, endless("x"), "has more than 5 pages"),
        ({"type": "page"}, endless("x"), "has more than 5 pages"),
        (None, ok(b"<html>Sign in</html>", Content_Type="text/html; charset=utf-8"), "answers text/html, not json"),
        (None, ok(b'{"items": [{"id": 1}, {"id": 2'), "not the JSON it should be"),
        (None, ok(b'{"items": [{"id": 1} {"id": 2}]}'), "byte"),
        (None, ok(b'{"items": {"id": 1}}'), "is no list of rows"),
        (None, ok(b'{"rows": []}'), "has nothing at 'items'"),
        (None, ok(b'{"items": [{"id": "\xff"}]}'), "JSON"),
        (None, ok(b'{"items": [' + b"[" * 5000), "JSON"),
        (None, ok(b'{"items": [{"id": 1}]}' + b" " * 70_000), "answers more than"),
        (None, ok(b'{"items": [', Content_Length="9999"), "does not answer"),
        (None, lambda _query: (302, {"Location": "http://169.254.169.254/"}, b""), "another host"),
        (None, lambda _query: (302, {"Location": "/v1/orders"}, b""), "in a circle"),
        (None, lambda _query: (503, {}, b""), "answers 503, 6 times"),
        (None, lambda _query: (429, {"Retry-After": "86400"}, b""), "asks to wait 86,400 s"),
    ],
)  # fmt: skip
def test_an_api_that_answers_what_it_should_not(
    shop: Shop,
    api: Api,
    monkeypatch: pytest.MonkeyPatch,
    paging: dict[str, Any] | None,
    answers: Answers,
    told: str,
) -> None:
    monkeypatch.setattr("tulle.pipeline.sources.http.time.sleep", lambda _seconds: None)
    monkeypatch.setattr("tulle.pipeline.sources.http.MOST_PAGES", 5)
    monkeypatch.setattr("tulle.pipeline.sources.http.MOST_BYTES", 65_536)
    api.answer = lambda _path, query, _headers: answers(query)
    more = {"paging": paging} if paging else {}
    shop.source(type="http", connection="api", path="orders", records="items", **more)
    refused(shop, told, "s3cret-token")
    assert len(api.asked) <= 8


# ── databases ────────────────────────────────────────────────────────────────────────────────────────────


def test_a_database_that_is_not_what_it_was(shop: Shop, pg: str) -> None:
    with psycopg.connect(pg, autocommit=True) as cx:
        cx.execute("CREATE TABLE orders (id int, at int, note text)")
        cx.execute("INSERT INTO orders VALUES (1, 1, 'a')")
        shop.connect("db", "sql", pg)
        shop.source(type="sql", connection="db", table="orders", load="incremental", cursor="at")
        shop.good()
        cx.execute("INSERT INTO orders VALUES (3, 3, 'c')")
        cx.execute("ALTER TABLE orders RENAME note TO remark")
        refused(shop, "column 'note' is missing")
        cx.execute("ALTER TABLE orders RENAME remark TO note")
        cx.execute("ALTER TABLE orders ALTER note TYPE int USING length(note)")
        refused(shop, "column 'note' is integer and was string")
        cx.execute("ALTER TABLE orders RENAME at TO changed")
        refused(shop, "the cursor 'at' is no column of orders")
        cx.execute("ALTER TABLE orders RENAME TO sales")
        refused(shop, 'relation "orders" does not exist')
    assert [row["id"] for row in shop.rows()] == [1]


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("postgresql://u:geheim-17@no-such-host.invalid/db", "does not answer"),
        ("postgresql://u:geheim-17@127.0.0.1:1/db", "does not answer"),
        ("mysql://u:geheim-17@no-such-host.invalid/db", "does not answer"),
        ("sqlite:////no/such/file.db", "there is no file /no/such/file.db"),
    ],
)
def test_a_database_that_is_not_there(shop: Shop, address: str, told: str) -> None:
    shop.connect("db", "sql", address)
    shop.source(type="sql", connection="db", table="orders")
    refused(shop, told, "geheim-17")


def test_a_file_that_is_no_database(shop: Shop) -> None:
    (shop.folder / "shop.db").write_bytes(b"no database at all" * 100)
    shop.connect("db", "sql", f"sqlite:///{shop.folder}/shop.db")
    shop.source(type="sql", connection="db", table="orders")
    refused(shop, "is no SQLite database")


def test_a_row_that_loses_its_cursor_is_not_passed_over(shop: Shop) -> None:
    with closing(sqlite3.connect(shop.folder / "shop.db")) as cx:
        cx.execute("CREATE TABLE orders (id INTEGER, at INTEGER)")
        cx.execute("INSERT INTO orders VALUES (1, 1)")
        cx.commit()
        shop.connect("db", "sql", f"sqlite:///{shop.folder}/shop.db")
        shop.source(type="sql", connection="db", table="orders", load="incremental", cursor="at")
        shop.good()
        cx.execute("INSERT INTO orders VALUES (2, NULL), (3, 3)")
        cx.commit()
        refused(shop, "have no value in the cursor 'at'")
        cx.execute("UPDATE orders SET at = 2 WHERE id = 2")
        cx.commit()
    shop.good()
    assert [row["id"] for row in shop.rows()] == [1, 2, 3]


@pytest.mark.parametrize("load", ["incremental", "merge"])
def test_rows_that_nothing_tells_apart_or_orders(shop: Shop, load: str) -> None:
    with closing(sqlite3.connect(shop.folder / "shop.db")) as cx:
        cx.execute("CREATE TABLE orders (id INTEGER, at INTEGER)")
        cx.execute(
            "INSERT INTO orders VALUES (NULL, 1)"
            if load == "merge"
            else "INSERT INTO orders VALUES (1, NULL)"
        )
        cx.commit()
    shop.connect("db", "sql", f"sqlite:///{shop.folder}/shop.db")
    more = {"key": ["id"]} if load == "merge" else {}
    shop.source(type="sql", connection="db", table="orders", load=load, cursor="at", **more)
    refused(shop, "have no value in the key 'id'" if load == "merge" else "have no value in the cursor 'at'")


# ── stores ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("status", "body", "told"),
    [
        (404, b"<Error><Code>NoSuchBucket</Code></Error>", "cannot be read"),
        (403, b"<Error><Code>AccessDenied</Code></Error>", "cannot be read"),
        (200, b"this is no listing", "cannot be read"),
        (200, b"<ListBucketResult></ListBucketResult>", "no object fits"),
    ],
)
def test_a_store_that_does_not_give_its_objects(
    shop: Shop, api: Api, status: int, body: bytes, told: str
) -> None:
    api.answer = lambda _path, _query, _headers: (status, {}, body)
    secrets = {"secret_access_key": "geheim-17"}
    shop.connect(
        "lake", "store", "s3://bucket/sales", secrets, access_key_id="AKIA", endpoint=api.url, region="x"
    )
    shop.source(type="store", connection="lake", path="s3://bucket/sales/*.csv", columns=COLUMNS)
    refused(shop, told, "geheim-17")
