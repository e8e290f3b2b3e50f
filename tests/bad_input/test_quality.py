"""Checks nobody can mean: told before anything runs, at the line of the file."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.bad_input.conftest import ORDERS, Built, tulle, written

CHECKS = f"{ORDERS}/checks/orders.yaml"

# One check as it is written after `data_set: orders`, and what is said of it.
WRITTEN: dict[str, tuple[str, str]] = {
    "a type nobody knows": ("type: notnull, columns: [order_id]", "did you mean 'not_null'?"),
    "no type": ("columns: [order_id]", ":2:3: 'type' is missing"),
    "a column nobody has": ("type: not_null, columns: [order_i]", "did you mean 'order_id'?"),
    "columns as a word": ("type: not_null, columns: order_id", "is the text 'order_id', expected a list"),
    "a setting nobody knows": ("type: not_null, column: order_id", "did you mean 'columns'?"),
    "a severity nobody knows": (
        "type: not_null, columns: [order_id], severity: fatal",
        "is the text 'fatal', expected one of 'error', 'warn'",
    ),
    "no bound": ("type: range, column: amount", "a check 'range' needs 'min', 'max' or both"),
    "bounds turned round": (
        "type: range, column: amount, min: 5, max: 1",
        "'min' is 5, which is more than 'max', 1",
    ),
    "a number for a text": (
        "type: range, column: order_id, min: 1",
        "check 'order_id is at least 1' cannot be carried out: Cannot compare values of type VARCHAR",
    ),
    "an age of a text": (
        "type: freshness, column: order_id, max_age: 2d",
        "column 'order_id' is string, and 'freshness' is for date or timestamp",
    ),
    "a pattern for a number": (
        "type: pattern, column: amount, pattern: 'a'",
        "column 'amount' is decimal(10,2), and 'pattern' is for string",
    ),
    "a pattern that is none": (
        "type: pattern, column: order_id, pattern: '[a'",
        "'pattern' cannot be used: missing ]",
    ),
    "an age that is none": (
        "type: freshness, column: ordered_on, max_age: soon",
        "expected an age like 20d, 36h or 90m",
    ),
    "more than all rows": (
        "type: not_null, columns: [order_id], allow: 300%",
        "'allow' is '300%', more than all rows",
    ),
    "fewer than no rows": ("type: row_count, min: -5", "is the number -5, expected at least 0"),
    "a number that is a word": ("type: row_count, min: many", "is the text 'many', expected a whole number"),
    "a share that is none": ("type: volume, max_change: lots", "expected a share like 0.2 or 20%"),
    "no values": ("type: accepted_values, column: order_id, values: []", "expected at least 1 entry"),
    "no SQL": ("type: sql, name: x, sql: 'SELEC 1'", "this is not SQL that can be read"),
    "SQL that drops": ("type: sql, name: x, sql: 'DROP TABLE orders'", "expected one SELECT, found DROP"),
    "SQL of a data set nobody makes": (
        "type: sql, name: x, sql: 'SELECT * FROM ordrs'",
        "did you mean 'orders'?",
    ),
    "SQL of a column nobody has": (
        "type: sql, name: x, sql: 'SELECT nope FROM orders'",
        "check 'x' cannot be carried out: Referenced column \"nope\" not found in FROM clause!",
    ),
    "half a condition": (
        "type: expression, expression: 'amount >'",
        "can be read: something is missing near ')'",
    ),
    "a condition that breaks out": (
        "type: expression, expression: '1=1) OR (SELECT 1'",
        "is not a condition",
    ),
    "a condition and more": ("type: expression, expression: 'true; DROP TABLE orders'", "is not a condition"),
    "a condition of other types": (
        "type: expression, expression: 'order_id > 3'",
        "check 'order_id > 3' cannot be carried out: Cannot compare values",
    ),
    "rows of no column": ("type: not_null, columns: [order_id], where: 'nope = 1'", "has no column 'nope'"),
    "a product nobody has": (
        "type: references, column: customer_id, to: {product: nope, data_set: x, column: x}",
        "there is no product 'nope'",
    ),
    "keys of another type": (
        "type: references, column: customer_id, to: {data_set: orders_raw, column: amount}",
        "check 'customer_id is known in orders_raw.amount' cannot be carried out",
    ),
}


@pytest.mark.parametrize("kind", WRITTEN)
def test_a_check_that_cannot_be_meant(folder: Path, kind: str) -> None:
    text, said = WRITTEN[kind]
    written(folder, CHECKS, f"checks:\n- {{data_set: orders, {text}}}\n")
    told = tulle(folder, "validate")
    told.refuses(f"{CHECKS}:2", said)
    assert "sqlglot" not in told.text


def test_checks_that_can_be_carried_out_are_left_alone(folder: Path) -> None:
    texts = (
        'type: sql, name: a, sql: "WITH a AS (SELECT * FROM orders) SELECT * FROM a ORDER BY 1 -- the worst first"',
        'type: sql, name: b, sql: "SELECT [order_id] AS list FROM orders"',
        "type: expression, expression: amount >= 0",
        "type: range, column: ordered_on, min: '2020-01-01'",
        "type: unique, columns: [order_id], where: amount > 0",
        "type: distribution, column: amount",
        "type: references, column: order_id, to: {data_set: orders_raw, column: order_id}",
    )
    written(folder, CHECKS, "checks:\n" + "".join(f"- {{data_set: orders, {text}}}\n" for text in texts))
    done = tulle(folder, "validate")
    assert done.code == 0, done.text


FILES: dict[str, tuple[str, str | bytes, str]] = {
    "a number": ("checks/orders.yaml", "checks: 3\n", ":1:9: 'checks' is the number 3, expected a list"),
    "a list": ("checks/orders.yaml", "- {}\n", ":1:1: the document is a list of 1 entry, expected a mapping"),
    "another key": ("checks/orders.yaml", "chekcs: []\n", "did you mean 'checks'?"),
    "a name twice": (
        "checks/orders.yaml",
        "checks:\n" + "- {data_set: orders, type: row_count, min: 1, name: a}\n" * 2,
        ":3:3: data set 'orders' has two checks 'a'",
    ),
    "SQL of nothing": (
        "checks/x.sql",
        "SELECT * FROM orders\n",
        "begin the file with a line like '-- data_set:",
    ),
    "SQL alone in its head": (
        "checks/x.sql",
        "-- data_set: orders\n",
        "expected one SELECT, found no statement",
    ),
    "SQL in Latin-1": (
        "checks/x.sql",
        b"-- data_set: orders\n-- \xe9\n",
        "x.sql:2:4: byte 0xe9 is not UTF-8",
    ),
    "Python that is none": ("checks/x.py", "def check(:\n", "x.py:1:11: not Python"),
    "Python of nothing": ("checks/x.py", "import os\n", "there is no function 'check'"),
    "Python in Latin-1": ("checks/x.py", b"# \xe9\n", "x.py:1:3: byte 0xe9 is not UTF-8"),
}


@pytest.mark.parametrize("kind", FILES)
def test_a_file_of_checks_that_cannot_be_meant(folder: Path, kind: str) -> None:
    file, content, said = FILES[kind]
    written(folder, f"{ORDERS}/{file}", content)
    tulle(folder, "validate").refuses(f"{ORDERS}/{file}", said)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("check ordrs", "did you mean 'orders'?"),
        ("checks --product nope", "there is no product 'nope'"),
        ("checks history nope", "there is no product 'nope'"),
        ("profile orders nope", "known: orders"),
        ("profile orders orders --environment nope", "known: dev, main"),
    ],
)
def test_a_word_that_names_nothing(built: Built, words: str, said: str) -> None:
    tulle(built.folder, *words.split()).refuses(said)


def test_rows_that_break_a_rule_are_not_published(built: Built) -> None:
    with built.spoilt(f"{ORDERS}/data/orders.csv") as path:
        path.write_text(path.read_text() + "O-1001,C-09,2026-01-01,3\n,C-09,2026-01-01,3\n")
        run = built.run("orders")
    assert run.status == "failed"
    found = {check.name: check for step in run.steps for check in step.checks if check.stops}
    assert set(found) == {"order_id is the key", "order_id is required"}
    assert found["order_id is the key"].failing_count == 1
    assert {row["order_id"] for row in found["order_id is the key"].failing_rows} == {"O-1001"}
