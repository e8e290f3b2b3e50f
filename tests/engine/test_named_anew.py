"""Where the columns of a check's rows come from; a doubt says nothing."""

from __future__ import annotations

import pytest

from tulle.engine.engine import ColumnType
from tulle.engine.named_anew import certain_sources

COLUMNS = {
    "people": tuple(ColumnType(name, "string") for name in ("id", "email", "town")),
    "sales": tuple(ColumnType(name, "string") for name in ("id", "person", "amount")),
}
MASKED = ("people", "email")


def told(sql: str) -> dict[str, set[tuple[str, str]]]:
    return {
        name: {(s.relation, s.column) for s in sources}
        for name, sources in certain_sources(sql, COLUMNS).items()
    }


@pytest.mark.parametrize(
    ("sql", "sources"),
    [
        ("SELECT * FROM people", {c: {("people", c)} for c in ("id", "email", "town")}),
        ("SELECT id, email AS town FROM people WHERE id = 'x'", {"id": {("people", "id")}, "town": {MASKED}}),
        (
            "SELECT p.town AS t, s.amount FROM people p JOIN sales s ON p.id = s.person",
            {"t": {("people", "town")}, "amount": {("sales", "amount")}},
        ),
        ("WITH a AS (SELECT email AS id FROM people) SELECT id FROM a", {"id": {MASKED}}),
        ("SELECT id FROM (SELECT email AS id FROM people) q", {"id": {MASKED}}),
        ("SELECT id FROM people UNION ALL SELECT email FROM people", {"id": {("people", "id"), MASKED}}),
        ("SELECT id || email AS id FROM people", {"id": {("people", "id"), MASKED}}),
        ("SELECT max(email) AS id FROM people", {"id": {MASKED}}),
        ("SELECT {'a': email} AS id FROM people", {"id": {MASKED}}),
        ("SELECT EMAIL AS id FROM People", {"id": {MASKED}}),
        ("SELECT unnest([email]) AS id FROM people", {"id": {MASKED}}),
        ("FROM people SELECT email AS id", {"id": {MASKED}}),
        (
            "SELECT * REPLACE (email AS id) FROM people",
            {"id": {MASKED}, "email": {MASKED}, "town": {("people", "town")}},
        ),
        (
            "SELECT *, amount || 'x' AS more FROM sales",
            {c: {("sales", c)} for c in ("id", "person", "amount")} | {"more": {("sales", "amount")}},
        ),
    ],
)
def test_where_a_column_comes_from(sql: str, sources: dict[str, set[tuple[str, str]]]) -> None:
    assert told(sql) == sources


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT id FROM people AS p(town, id, email)",
        "WITH a(id) AS (SELECT email FROM people) SELECT id FROM a",
        "SELECT (SELECT max(email) FROM people) AS id FROM sales",
        "SELECT id || (SELECT max(email) FROM people) AS id FROM sales",
        "SELECT my_macro(id) AS id FROM people",
        "SELECT id FROM my_macro('x')",
        "SELECT people AS id FROM people",
        "SELECT p AS id FROM people p",
        "SELECT COLUMNS('em.*') AS id FROM people",
        "UNPIVOT people ON email INTO NAME n VALUE id",
        "SELECT id FROM people UNPIVOT (id FOR n IN (email))",
        "SELECT id FROM people NATURAL JOIN sales",
        "SELECT id FROM people JOIN sales USING (id)",
        "SELECT id FROM people, LATERAL (SELECT email AS id) l",
        "SELECT id FROM (SELECT email FROM people) q(id)",
        "SELECT id FROM elsewhere",
        "SELECT * RENAME (email AS town) FROM people",
        "SELECT email AS id, id FROM people",
        "SELECT email AS id, ID FROM people",
        "SELECT email AS id, * FROM people",
        "SELECT id FROM (SELECT email AS id, * FROM people)",
        "SELECT p.email AS id, p.* FROM people p",
        "SELECT * FROM sales s JOIN people p ON p.id = s.person",
        "SELECT * FROM sales, people",
        "SELECT 'x' AS id FROM people",
        "SELEC id",
        "",
    ],
)
def test_a_doubt_says_nothing(sql: str) -> None:
    assert told(sql) == {}
