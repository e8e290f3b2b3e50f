"""Queries over a connection: what the database has then, read and nothing else, and clear words when it cannot be asked."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import pytest
from tests.lake.databases import Postgres
from tests.serving.conftest import Mesh

from tulle.errors import Invalid
from tulle.pipeline.sources.address import made
from tulle.serving.database_query import DatabaseQuery
from tulle.serving.database_sql import read_sql
from tulle.serving.elsewhere import connect
from tulle.serving.fit import misfits
from tulle.serving.loaded import Loaded, load
from tulle.serving.request import RequestError
from tulle.serving.service import load_service
from tulle.state.connections import open_connections

SECRET = "geheimnis-17"
TABLE = """
CREATE TABLE orders (number bigint, customer text, total numeric(10,2), rate real, paid boolean, made date, seen timestamptz,
  id uuid, tags text[], raw bytea, "a %s" int);
INSERT INTO orders VALUES
  (1, 'ann', 10.50, 0.5, true, '2024-01-02', '2024-01-02T03:04:05+01:00', '6f1e2a30-0000-4000-8000-000000000001', '{a,b}', 'x', 1),
  (2, 'ann', 7.25, 'NaN', false, '2024-01-03', NULL, NULL, NULL, NULL, 2),
  (9007199254740993, 'bob', 1.00, 1, true, '2024-01-04', '2024-01-04', NULL, '{}', NULL, 3);
CREATE FUNCTION meddle() RETURNS int LANGUAGE sql AS 'DELETE FROM orders; SELECT 1';
"""
TEXT = """
service: till
endpoints:
- name: orders
  type: query
  connection: till-db
  sql: |
    SELECT * FROM orders WHERE customer = $customer AND total >= $least AND made < $before AND 'a%$x' <> '' -- $y
    ORDER BY number DESC;
  parameters:
    least: {type: decimal, default: 0}
    before: {type: date, default: 2100-01-01}
  most_rows: 2
  timeout: 2
  connections: 2
- {name: by-id, type: query, connection: till-db, sql: SELECT number FROM orders WHERE id = $id}
- {name: slow, type: query, connection: till-db, sql: SELECT pg_sleep($seconds)::text AS slept, parameters: {seconds: {type: double}}, timeout: 0.5}
- {name: meddle, type: query, connection: till-db, sql: SELECT meddle() AS done}
- name: meddle-twice
  type: query
  connection: till-db
  sql: SELECT set_config('default_transaction_read_only', 'off', false) AS a, set_config('transaction_read_only', 'off', false) AS b
- {name: share, type: query, connection: till-db, sql: SELECT 1 / $by AS share, parameters: {by: {type: integer}}}
- {name: wide, type: query, connection: till-db, sql: "SELECT repeat('x', 1000000) AS x FROM generate_series(1, $n)", parameters: {n: {type: integer}}}
- name: last
  type: compose
  input: {who: {}}
  steps: [{name: rows, call: orders, with: {customer: $input.who}}]
  output: $rows.0.number
"""


@pytest.fixture
def pg(postgres: Postgres) -> Iterator[str]:
    url = postgres.make(empty=True)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(TABLE)
    yield url
    postgres.drop(url)


@pytest.fixture
def built(mesh: Mesh, pg: str) -> Path:
    open_connections(mesh.settings, mesh.database).save(
        made("till-db", "prod", "sql", pg, {}, {"password": SECRET})
    )
    return mesh.unpacked(mesh.build(TEXT))


@pytest.fixture
def till(mesh: Mesh, built: Path) -> Iterator[Loaded]:
    known = open_connections(mesh.settings, mesh.database)
    loaded = load(built)
    assert connect(loaded, lambda name: known.get(name, "prod"))
    yield loaded
    loaded.close()


async def ask(service: Loaded, endpoint: str, action: str = "rows", **body: Any) -> tuple[int, Any]:
    try:
        answer = await service.endpoints[endpoint].actions[action].call(msgspec.json.encode(body), "r-1", ())  # type: ignore[union-attr]
    except RequestError as error:
        assert SECRET not in str(error)
        return error.status, (error.error_type, error.message)
    return answer.status, json.loads(answer.body)


def test_the_database_answers_with_what_it_has_then(till: Loaded, pg: str) -> None:
    async def work() -> None:
        _, found = await ask(till, "orders", customer="ann")
        assert [c["type"] for c in found["columns"]] == [
            *("integer", "string", "decimal(10,2)", "double", "boolean", "date", "timestamp"),
            *("string", "string", "binary", "integer"),
        ]
        assert found["rows"] == [
            [2, "ann", 7.25, None, False, "2024-01-03", None, None, None, None, 2],
            [
                *(1, "ann", 10.5, 0.5, True, "2024-01-02", "2024-01-02T02:04:05Z"),
                *("6f1e2a30-0000-4000-8000-000000000001", "{a,b}", "eA==", 1),
            ],
        ]
        assert found["apiContext"]["dataCommits"] == {}
        assert "truncated" not in found
        assert (await ask(till, "orders", customer="ann", least="8"))[1]["rows"][0][0] == 1
        assert (await ask(till, "orders", customer="ann", before="2024-01-03"))[1]["rows"][0][0] == 1
        text = (await ask(till, "orders", "query", customer="bob"))[1]["rows"][0]
        assert text[:7] == [
            "9007199254740993",
            "bob",
            "1.00",
            "1.0",
            "true",
            "2024-01-04",
            "2024-01-04T00:00:00Z",
        ]
        with psycopg.connect(pg, autocommit=True) as connection:
            connection.execute(
                "INSERT INTO orders (number, customer, total, made) VALUES (3, 'ann', 1, '2024-01-05')"
            )
        found = (await ask(till, "orders", customer="ann"))[1]
        assert ([row[0] for row in found["rows"]], found["truncated"]) == ([3, 2], True)
        status, answer = await till.ask("last", {"who": "ann"})
        assert (status, json.loads(answer)["response"]) == (200, 3)
        found = (await ask(till, "by-id", id="6f1e2a30-0000-4000-8000-000000000001"))[1]
        assert found["rows"] == [[1]]

    asyncio.run(work())


def test_what_is_sent_is_a_value_and_never_sql(till: Loaded) -> None:
    async def work() -> None:
        for text in ("'; DROP TABLE orders --", "%s", "$customer", "\\", "%(customer)s", "x" * 100_000):
            assert (await ask(till, "orders", customer=text))[1]["rows"] == []
        assert await ask(till, "orders", customer="a\0b") == (
            422,
            ("QueryFailed", "the query does not run with these parameters"),
        )
        assert (await ask(till, "by-id", id="no uuid"))[0] == 422
        assert await ask(till, "orders") == (400, ("MissingParameters", "parameters are missing: customer"))
        assert (await ask(till, "orders", customer=1))[0] == 400
        assert (await ask(till, "orders", customer="ann", most="x"))[0] == 400
        assert (await ask(till, "orders", customer="ann"))[0] == 200

    asyncio.run(work())


def test_it_only_reads_whatever_the_statement_calls(till: Loaded, pg: str) -> None:
    async def work() -> None:
        for _ in range(2):
            assert (await ask(till, "meddle"))[0] == 503
            await ask(till, "meddle-twice")
        assert (await ask(till, "meddle"))[1][1] == "what query 'meddle' reads cannot be asked for now"

    asyncio.run(work())
    with psycopg.connect(pg) as connection:
        assert connection.execute("SELECT count(*) FROM orders").fetchone() == (3,)


def test_what_takes_too_long_or_is_too_much_is_given_up_and_the_connection_is_kept(
    till: Loaded, pg: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tulle.serving.database_query.MOST_REPLY", 5_000_000)

    async def work() -> None:
        assert (await ask(till, "slow", seconds=0))[0] == 200
        assert await ask(till, "slow", seconds=30) == (
            504,
            ("TookTooLong", "the query took longer than 0.5 seconds"),
        )
        assert await ask(till, "share", by=0) == (
            422,
            ("QueryFailed", "the query does not run with these parameters"),
        )
        kept = till.endpoints["share"]
        assert isinstance(kept, DatabaseQuery)
        ((_, before),) = kept._connections._idle
        assert (await ask(till, "share", by=1))[1]["rows"] == [[1]]
        ((_, after),) = kept._connections._idle
        assert before is after
        assert (await ask(till, "wide", n=3))[0] == 200
        assert (await ask(till, "wide", n=500))[1] == ("QueryFailed", "the rows are larger than 4 MB")
        assert (await ask(till, "wide", n=3))[0] == 200

    asyncio.run(work())
    with psycopg.connect(pg) as connection:
        running = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%pg_sleep(%'"
        assert connection.execute(running + " AND pid <> pg_backend_pid()").fetchone() == (0,)


def test_a_lost_database_is_told_and_comes_back_by_itself(till: Loaded, pg: str) -> None:
    def kill() -> None:
        with psycopg.connect(pg, autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )

    async def work() -> None:
        assert (await ask(till, "orders", customer="ann"))[0] == 200
        kill()
        assert (await ask(till, "orders", customer="ann"))[0] == 200
        with psycopg.connect(pg, autocommit=True) as connection:
            connection.execute("ALTER TABLE orders RENAME TO gone")
        assert await ask(till, "orders", customer="ann") == (
            503,
            ("StoreUnavailable", "what query 'orders' reads cannot be asked for now"),
        )
        with psycopg.connect(pg, autocommit=True) as connection:
            connection.execute("ALTER TABLE gone RENAME TO orders")
        assert (await ask(till, "orders", customer="ann"))[0] == 200
        waiting = asyncio.create_task(ask(till, "slow", seconds=0.3))
        await asyncio.sleep(0.1)
        kill()
        assert (await waiting)[0] in {200, 503}
        assert await till.probe() == {}

    asyncio.run(work())


def test_without_the_mesh_nothing_can_be_asked(built: Path) -> None:
    async def work() -> None:
        loaded = load(built)
        assert (await ask(loaded, "orders", customer="ann"))[0] == 503
        paths = json.loads(loaded.openapi)["paths"]
        assert "503" in next(v for k, v in paths.items() if k.endswith("/orders/rows"))["post"]["responses"]
        loaded.close()

    asyncio.run(work())


@pytest.mark.parametrize(
    ("sql", "told"),
    [
        ("DELETE FROM orders", "expected one SELECT, found DELETE"),
        ("SELECT 1 AS a; SELECT 2 AS b", "expected one SELECT, found 2 statements"),
        (
            "WITH x AS (DELETE FROM orders RETURNING *) SELECT * FROM x",
            "a query only reads: DELETE is not taken",
        ),
        ("SELECT * INTO other FROM orders", "a query only reads: INTO is not taken"),
        ("SELECT * FROM orders FOR UPDATE", "a query only reads: LOCK is not taken"),
        ("COPY orders TO '/tmp/x'", "expected one SELECT"),
        ("EXPLAIN SELECT 1", "expected one SELECT"),
        ("SELECT $1 AS a", "'$1' stands for nothing"),
        ("SELECT $$a$$ AS a", "text between $$ is not taken here"),
        ("SELECT $x$a$x$ AS a", "text between $x$ is not taken here"),
        ("SELECT FROM WHERE (", "the SQL is not understood"),
        ("", "expected one SELECT, found 0 statements"),
        ("(" * 5000, "the SQL is not understood"),
    ],
)
def test_anything_but_one_select_is_refused(sql: str, told: str) -> None:
    with pytest.raises(Invalid) as caught:
        read_sql(sql)
    assert told in caught.value.message


@pytest.mark.parametrize(
    ("sql", "text", "names"),
    [
        ("SELECT $a, $b, $a ;", "SELECT %(a)s, %(b)s, %(a)s", ("a", "b")),
        ("SELECT '$a', \"$b\", E'\\'$c', 'it''s $d' -- $e\n/* $f */", None, ()),
        ("SELECT a$b, 5 % $c", "SELECT a$b, 5 %% %(c)s", ("c",)),
        ("SELECT name LIKE 'a%' AS b", "SELECT name LIKE 'a%%' AS b", ()),
        ("SELECT $a::int[] @> ARRAY[1]", "SELECT %(a)s::int[] @> ARRAY[1]", ("a",)),
    ],
)
def test_parameters_are_what_stands_outside_of_texts(
    sql: str, text: str | None, names: tuple[str, ...]
) -> None:
    found = read_sql(sql)
    assert (found.text, found.parameters) == (sql if text is None else text, names)


@pytest.mark.parametrize(
    ("endpoint", "told"),
    [
        ("connection: nobody, sql: SELECT 1 AS a", "nobody"),
        ("connection: till-db, sql: SELECT 1", "column 1 has no name"),
        ("connection: till-db, sql: 'SELECT 1 AS a, 2 AS a'", "two columns are called 'a'"),
        ("connection: till-db, sql: SELECT * FROM nothing", 'relation "nothing" does not exist'),
        ("connection: till-db, sql: SELECT nme FROM orders", 'column "nme" does not exist'),
        ("connection: till-db, sql: SELECT 1 AS a, parameters: {b: {}}", "the SQL has no parameter 'b'"),
        ("connection: till-db, sql: SELECT 1 AS a, memory: 1GB", "'memory' has no meaning"),
        ("connection: file-db, sql: SELECT 1 AS a", "file-db"),
    ],
)
def test_what_is_wrong_is_told_when_the_service_is_packaged(
    mesh: Mesh, pg: str, endpoint: str, told: str
) -> None:
    known = open_connections(mesh.settings, mesh.database)
    known.save(made("till-db", "prod", "sql", pg, {}, {}))
    known.save(made("file-db", "prod", "sql", "sqlite:////x.db", {}, {}))
    with pytest.raises(Invalid) as caught:
        mesh.build(f"service: till\nendpoints:\n- {{name: q, type: query, {endpoint}}}\n")
    assert told in caught.value.message
    assert caught.value.problems[0].place is not None


def test_the_sql_is_judged_without_a_database(tmp_path: Path) -> None:
    file = tmp_path / "services/till.yaml"
    file.parent.mkdir()
    file.write_text(
        "service: till\nendpoints:\n"
        "- {name: a, type: query, connection: db, sql: DELETE FROM x}\n"
        "- {name: b, type: query, connection: db, sql: SELECT now() AS a, data_sets: {x: {data_set: y}}}\n"
        "- {name: c, type: query, connection: db, sql: \"SELECT a::jsonb -> 'b' AS c FROM x WHERE y = $y\"}\n"
    )

    def nothing(_product: str, _data_set: str) -> None:
        raise AssertionError("no data set is asked for")

    found = [(str(one.place), one.message) for one in misfits([load_service(file)], nothing)]
    assert [message for _, message in found] == [
        "expected one SELECT, found DELETE",
        "'data_sets' has no meaning where connection 'db' answers",
    ]
    assert all("till.yaml" in place for place, _ in found)
