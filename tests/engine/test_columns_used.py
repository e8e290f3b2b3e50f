"""Which columns a statement needs: of values, filters and joins; of everything where it cannot be told."""

from __future__ import annotations

import pytest

from tulle.engine.columns_used import columns_used
from tulle.engine.statement import read_statement

KNOWN = {"sold": ["id", "customer", "Amount", "day"], "people": ["customer", "name"]}
ALL = {"id", "customer", "Amount", "day"}


@pytest.mark.parametrize(
    ("sql", "sold"),
    [
        ("SELECT customer, sum(amount) FROM sold WHERE day > '2020-01-01' GROUP BY 1", {"customer", "Amount", "day"}),
        ("SELECT * FROM sold", ALL),
        ("FROM sold", ALL),
        ("SELECT count(*) FROM sold", set()),
        ("SELECT s.* EXCLUDE (day) FROM sold s", ALL),  # what is left out must be there to be left out
        ("WITH a AS (SELECT * FROM sold) SELECT id FROM a", {"id"}),
        ("WITH a AS (SELECT id, day FROM sold) SELECT id FROM a", {"id", "day"}),
        ("SELECT name FROM people JOIN sold USING (customer)", {"customer"}),
        ("SELECT name FROM people NATURAL JOIN sold", ALL),
        ("SELECT id FROM sold UNION ALL SELECT customer FROM people", {"id"}),
        ("SELECT (SELECT max(amount) FROM sold x WHERE x.customer = p.customer) FROM people p", {"Amount", "customer"}),
        ("SELECT columns('i.*') FROM sold", ALL),
        ("SELECT sold FROM sold", ALL),
        ("SELECT id FROM sold QUALIFY row_number() OVER (PARTITION BY customer ORDER BY day) = 1", {"id", "customer", "day"}),
        ("SELECT id FROM sold ORDER BY amount", {"id", "Amount"}),
        ("SELECT elsewhere FROM sold", set()),
    ],
)  # fmt: skip
def test_what_is_needed(sql: str, sold: set[str]) -> None:
    assert columns_used(read_statement(sql), KNOWN)["sold"] == sold


def test_relations_without_known_columns_are_left_out() -> None:
    assert columns_used(read_statement("SELECT a FROM sold, other"), KNOWN).keys() == {"sold"}
    assert columns_used(read_statement("SELECT a FROM other"), KNOWN) == {}


def test_what_cannot_be_followed_needs_everything() -> None:
    statement = read_statement("SELECT * FROM (PIVOT sold ON day USING sum(amount))")
    assert columns_used(statement, KNOWN) in ({"sold": ALL}, {})
    statement = read_statement("SELECT * FROM sold PIVOT (sum(amount) FOR day IN ('a'))")
    assert columns_used(statement, KNOWN) == {"sold": ALL}
