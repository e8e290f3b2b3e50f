"""What a statement is, reads and derives, without running it."""

from __future__ import annotations

import re

import pytest

from tulle.engine.engine import ColumnType
from tulle.engine.statement import (
    Source,
    _followed,
    _of_one_relation,
    bare,
    column_sources,
    read_statement,
)

COLUMNS = {
    "p": [ColumnType("a", "string"), ColumnType("b", "integer")],
    "q": [ColumnType("a", "string"), ColumnType("c", "double")],
}


@pytest.mark.parametrize(
    ("sql", "reads"),
    [
        ("SELECT 1", ()),
        ("SELECT * FROM p, q", ("p", "q")),
        ("FROM Purchases", ("purchases",)),
        ("SELECT * FROM p UNION ALL SELECT * FROM q;  -- done", ("p", "q")),
        ("SELECT (SELECT max(c) FROM q) FROM p WHERE a IN (SELECT a FROM r)", ("q", "p", "r")),
        ("WITH p AS (SELECT * FROM p) SELECT * FROM p JOIN q USING (a)", ("p", "q")),
        ("WITH x AS (SELECT 1), y AS (SELECT * FROM x) SELECT * FROM y, x", ()),
        ("WITH y AS (SELECT * FROM x), x AS (SELECT 1) SELECT * FROM y", ("x",)),
        ("WITH RECURSIVE r AS (SELECT 1 n UNION ALL SELECT n + 1 FROM r) SELECT * FROM r", ()),
        ("SELECT * FROM range(3) t(x), (VALUES (1)) v(y), unnest([1]) u(z)", ()),
        ("SELECT * FROM (SELECT * FROM p) AS z", ("p",)),
    ],
)
def test_reads(sql: str, reads: tuple[str, ...]) -> None:
    statement = read_statement(sql)
    assert statement.problems == ()
    assert statement.reads == reads


@pytest.mark.parametrize(
    ("sql", "message", "place"),
    [
        ("", "found no statement", "m.sql:1"),
        ("-- nothing", "found no statement", "m.sql:1"),
        ("SELECT 1; SELECT 2", "found 2 statements", "m.sql:1"),
        ("SELECT 1; DROP TABLE p", "found 2 statements", "m.sql:1"),
        ("DROP TABLE p", "found DROP", "m.sql:1"),
        ("COPY p TO 'x'", "found COPY", "m.sql:1"),
        ("INSERT INTO p SELECT 1", "found INSERT", "m.sql:1"),
        ("CREATE TABLE p AS SELECT 1", "found CREATE", "m.sql:1"),
        ("CALL pragma_version()", "found CALL", "m.sql:1"),
        ("EXPLAIN SELECT 1", "found EXPLAIN", "m.sql:1"),
        ("SET threads = 1", "found SET", "m.sql:1"),
        ("ATTACH 'x'", "found ATTACH", "m.sql:1"),
        ("SELECT *\nFROM read_csv('x')", "'read_csv' may not be used", "m.sql:2:6"),
        ("SELECT * FROM read_parquet(['x'])", "'read_parquet' may not be used", "m.sql:1:15"),
        ("SELECT * FROM glob('x')", "'glob' may not be used", "m.sql:1:15"),
        ("SELECT * FROM query('SELECT 1')", "'query' may not be used", "m.sql:1:15"),
        ("SELECT * FROM duckdb_settings()", "'duckdb_settings' may not be used", "m.sql:1:15"),
        ("SELECT * FROM 'a/b.parquet'", "would read a file", "m.sql:1:15"),
        ('SELECT * FROM "s3://x/y"', "would read a file", "m.sql:1:15"),
        ("SELECT * FROM other.p", "'other.p' is not the name of a data set", "m.sql:1:21"),
        ("SELECT * INTO t FROM p", "only reads", "m.sql:1:15"),
        ("SELECT a,\n  b c d FROM p", "cannot|can be read.*near 'd'", "m.sql:2:7"),
        ("SELECT a FROM p WHERE", "something is missing", "m.sql:1:17"),
        ("SELECT 'abc", "tokeniz", "m.sql:1"),
        ("SELECT " + "(" * 3000 + "1" + ")" * 3000, "nested too deeply", "m.sql:1"),
    ],
)
def test_what_is_not_one_reading_select_is_refused(sql: str, message: str, place: str) -> None:
    problems = read_statement(sql, "m.sql").problems
    assert problems
    assert problems[0].place is not None
    assert str(problems[0].place) == place
    assert re.search(message, problems[0].message)


def test_places_count_from_the_line_the_statement_starts_on() -> None:
    (problem,) = read_statement("SELECT *\nFROM glob('x')", "checks.yaml", first_line=10).problems
    assert str(problem.place) == "checks.yaml:11:6"
    assert problem.source_line == "FROM glob('x')"


def test_a_huge_statement_is_not_read() -> None:
    assert "characters" in read_statement("SELECT 1 -- " + "x" * 300_000).problems[0].message


def test_an_unknown_name_is_placed_and_the_nearest_is_named() -> None:
    statement = read_statement("SELECT 1\nFROM purchase", "m.sql")
    (problem,) = statement.check_names({"purchases", "customers"})
    assert str(problem) == "m.sql:2:6: unknown data set 'purchase' (did you mean 'purchases'?)"
    assert read_statement("FROM p").check_names({"p"}) == ()


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT * FROM p", {"a": [("p", "a")], "b": [("p", "b")]}),
        ("SELECT a || b AS k FROM p", {"k": [("p", "a"), ("p", "b")]}),
        ("SELECT a FROM p UNION ALL SELECT c FROM q", {"a": [("p", "a"), ("q", "c")]}),
        (
            """WITH x AS (SELECT a, b + 1 AS d FROM p), y AS (SELECT a, sum(c) AS s FROM q GROUP BY 1)
            SELECT x.a, d * s AS z, count(*) AS n, (SELECT max(c) FROM q) AS m FROM x JOIN y USING (a)""",
            {"a": [("p", "a")], "z": [("p", "b"), ("q", "c")], "n": [], "m": [("q", "c")]},
        ),
        (
            "WITH RECURSIVE r AS (SELECT b AS n FROM p UNION ALL SELECT n + 1 FROM r) SELECT n FROM r",
            {"n": [("p", "b")]},
        ),
    ],
)
def test_columns_are_traced_to_where_their_values_come_from(
    sql: str, expected: dict[str, list[object]]
) -> None:
    found = column_sources(read_statement(sql), COLUMNS)
    assert found == {name: tuple(Source(*pair) for pair in pairs) for name, pairs in expected.items()}  # type: ignore[misc]


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT a, b AS c, count(*) AS n, max(b) FILTER (WHERE a > 1) AS m FROM p GROUP BY ALL",
        "SELECT x.a, a + x.b AS d, sum(b) OVER (PARTITION BY a ORDER BY b) AS s FROM p AS x",
        "SELECT b AS a, a AS b FROM p QUALIFY row_number() OVER (PARTITION BY a) = 1",
        "FROM p SELECT CASE WHEN a THEN b END AS d, 1 AS one, {'x': a} AS s WHERE a IN (SELECT c FROM q)",
        "SELECT DISTINCT ON (a) a, b FROM p ORDER BY b",
    ],
)
def test_what_reads_one_relation_plainly_is_traced_without_scopes_and_as_with_them(sql: str) -> None:
    tree = read_statement(sql).tree
    assert tree is not None
    plain = _of_one_relation(tree, COLUMNS)
    assert plain is not None
    assert plain == _followed(tree, COLUMNS)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT a AS k, k + 1 AS m FROM p",
        "SELECT a, A FROM p",
        "SELECT p.* FROM p",
        "SELECT s.f AS g FROM p",
        "SELECT (SELECT max(c) FROM q) AS m FROM p",
        "SELECT list_transform(a, v -> v + b) AS m FROM p",
        "SELECT [v + 1 FOR v IN a] AS m FROM p",
        "SELECT a FROM p, LATERAL (SELECT 1) AS l",
        "SELECT a FROM p JOIN q USING (a)",
        "WITH x AS (SELECT a FROM p) SELECT a FROM x",
        "SELECT a FROM range(3) AS t(a)",
        "SELECT a + 1 FROM p",
    ],
)
def test_what_brings_in_more_names_is_left_to_scopes(sql: str) -> None:
    tree = read_statement(sql).tree
    assert tree is not None
    assert _of_one_relation(tree, COLUMNS) is None


def test_a_statement_that_was_refused_has_no_sources() -> None:
    assert column_sources(read_statement("DROP TABLE p"), COLUMNS) == {}


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT 1", "SELECT 1"),
        ("SELECT 1; -- done; really", "SELECT 1"),
        ("SELECT 1 ;\n;/* ; */", "SELECT 1 "),
        ("SELECT 'x''; --'", "SELECT 'x''; --'"),
        ("SELECT 1; SELECT 2;", "SELECT 1; SELECT 2"),
        ("SELECT ';", "SELECT ';"),
    ],
)
def test_bare(sql: str, expected: str) -> None:
    assert bare(sql) == expected
