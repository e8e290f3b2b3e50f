"""What a source may say, and what is told of one that cannot be."""

from __future__ import annotations

from typing import Any

import pytest

from tulle.spec.source import broken_rules, source_value

SQL = {"type": "sql", "connection": "db"}
HTTP = {"type": "http", "connection": "api", "path": "orders"}


@pytest.mark.parametrize(
    ("says", "message"),
    [
        ({"type": "file"}, "the source misses 'path'"),
        ({"type": "file", "path": "a.csv", "table": "x"}, "'table' has no meaning for a source of type file"),
        ({"type": "store", "path": "data/a.csv"}, "no address of objects in a store"),
        ({"type": "http", "path": "orders"}, "is no URL, and there is no connection"),
        ({"type": "http", "path": "https://me:pw@host/x"}, "has a name or password in it"),
        ({**HTTP, "format": "parquet"}, "cannot be read as parquet"),
        ({**HTTP, "paging": {"type": "cursor"}}, "does not say where the next cursor is"),
        ({**HTTP, "paging": {"type": "offset"}}, "does not say how many rows a page has"),
        ({**HTTP, "cursor_param": "since"}, "no meaning without a cursor"),
        ({**SQL}, "names neither a table nor a query"),
        ({**SQL, "table": "a", "query": "SELECT 1"}, "names both a table and a query"),
        ({**SQL, "table": "a; DROP TABLE b"}, "is no name of a table"),
        ({**SQL, "query": "DELETE FROM a"}, "the query is no SELECT"),
        ({**SQL, "query": "SELECT 1; SELECT 2"}, "has a ';' in it"),
        ({**SQL, "table": "a", "load": "incremental"}, "does not say what tells new rows"),
        ({**SQL, "table": "a", "load": "merge"}, "does not say which rows are the same"),
        ({**SQL, "table": "a", "cursor": "id"}, "'cursor' has no meaning for load: full"),
        ({**SQL, "table": "a", "key": ["id"]}, "'key' has no meaning for load: full"),
        (
            {**SQL, "table": "a", "load": "incremental", "cursor": "idd", "columns": [{"name": "id"}]},
            "'cursor' names 'idd', which is not among the columns",
        ),
    ],
)
def test_rules(says: dict[str, Any], message: str) -> None:
    found = list(broken_rules(says))
    assert any(message in broken.message for broken in found), found
    assert all(broken.hint for broken in found)


@pytest.mark.parametrize(
    "says",
    [
        {"type": "file", "path": "data/*.csv", "load": "incremental"},
        {"type": "store", "path": "s3://bucket/sales/*.parquet", "load": "merge", "key": ["id"]},
        {**HTTP, "load": "incremental", "cursor": "at", "cursor_param": "since"},
        {**SQL, "table": '"Odd schema"."Odd name"'},
        {**SQL, "query": "WITH a AS (SELECT 1 AS x) SELECT * FROM a;"},
    ],
)
def test_sources_that_hold(says: dict[str, Any]) -> None:
    assert list(broken_rules(says)) == []
    assert not source_value(says, (), None).query.endswith(";")
