"""Models nobody can mean: what is said without running them, and what a run of one leaves as it was."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.bad_input.conftest import ORDERS, Built, tulle, written

SQL = f"{ORDERS}/transform/orders.sql"
PYTHON = f"{ORDERS}/transform/more.py"
MODEL = 'inputs = ["orders"]\n\n\ndef model(run):\n    '

STATEMENTS: dict[str, tuple[str | bytes, str]] = {
    "nothing": ("", ":1: expected one SELECT, found no statement"),
    "a comment": ("-- nothing yet\n", ":1: expected one SELECT, found no statement"),
    "no SQL": ("SELECT order_id FRM orders_raw", ":1:21: this is not SQL that can be read"),
    "two statements": ("SELECT 1 AS a; DROP TABLE orders", ":1: expected one SELECT, found 2 statements"),
    "a table dropped": ("DROP TABLE orders_raw", ":1: expected one SELECT, found DROP"),
    "a file written": ("COPY (SELECT 1) TO '/tmp/hurt'", ":1: expected one SELECT, found COPY"),
    "a database attached": ("ATTACH '/tmp/hurt.db'", ":1: expected one SELECT, found ATTACH"),
    "rows inserted": ("INSERT INTO orders SELECT * FROM orders_raw", ":1: expected one SELECT, found INSERT"),
    "a setting": ("PRAGMA version", ":1: expected one SELECT, found PRAGMA"),
    "a data set nobody makes": ("SELECT * FROM ordrs_raw", "unknown data set 'ordrs_raw'"),
    "a column nobody has": ("SELECT ordr_id FROM orders_raw", 'Referenced column "ordr_id" not found'),
    "itself": ("SELECT * FROM orders", "data sets are made from each other: orders → orders"),
    "a file by a function": ("SELECT * FROM read_csv('/etc/passwd')", "'read_csv' may not be used"),
    "a file by its name": ("SELECT * FROM '/etc/passwd'", "'/etc/passwd' would read a file"),
    "a file as text": ("SELECT content FROM read_text('/etc/passwd')", "'read_text' may not be used"),
    "the environment": ("SELECT getenv('HOME') AS h FROM orders_raw", "getenv does not exist"),
    "a column too few": (
        "SELECT order_id, customer_id, ordered_on FROM orders_raw",
        "data set 'orders' declares column 'amount', but",
    ),
    "another type": (
        "SELECT order_id, customer_id, ordered_on, 'x' AS amount FROM orders_raw",
        "is declared as decimal(10,2), but",
    ),
    "a name twice": ("SELECT order_id, * FROM orders_raw", "two columns are named 'order_id'"),
    "Latin-1": (b"-- caf\xe9\nSELECT * FROM orders_raw", ":1:7: byte 0xe9 is not UTF-8"),
    "too much": (f"SELECT * FROM orders_raw -- {'x' * 1_100_000}", "the file is larger than 1 MB"),
}


@pytest.mark.parametrize("kind", STATEMENTS)
def test_a_statement_that_makes_no_data_set(folder: Path, kind: str) -> None:
    content, said = STATEMENTS[kind]
    written(folder, SQL, content)
    tulle(folder, "validate").refuses("transform/orders.sql" if "column" not in kind else "orders", said)
    assert not Path("/tmp/hurt").exists()
    assert not Path("/tmp/hurt.db").exists()


@pytest.mark.parametrize("kind", ["Latin-1", "too much"])
def test_a_data_set_whose_file_cannot_be_read_is_not_missed_besides(folder: Path, kind: str) -> None:
    written(folder, SQL, STATEMENTS[kind][0])
    tulle(folder, "validate").refuses("1 problem(s) found")


def test_a_mark_at_the_beginning_is_no_problem(folder: Path) -> None:
    path = folder / SQL
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert tulle(folder, "validate").code == 0


FILES: dict[str, tuple[str, str | bytes, str]] = {
    "Python that is none": (PYTHON, "def model(run:\n", ":1:10: not Python: '(' was never closed"),
    "no function": (PYTHON, 'inputs = ["orders"]\n', "there is no function 'model'"),
    "no inputs": (PYTHON, "def model(run): ...\n", "the model does not say what it reads"),
    "inputs as a word": (
        PYTHON,
        'inputs = "orders"\ndef model(run): ...\n',
        "must be a list of names in quotes",
    ),
    "inputs nobody makes": (PYTHON, 'inputs = ["ordrs"]\ndef model(run): ...\n', "did you mean 'orders'?"),
    "a data set made twice": (
        f"{ORDERS}/transform/orders.py",
        f"{MODEL}...\n",
        "data set 'orders' is made twice",
    ),
    "a name that is none": (
        f"{ORDERS}/transform/more rows.sql",
        "SELECT 1 AS a",
        "is no name for a data set",
    ),
    "a macro that is none": (f"{ORDERS}/macros/m.sql", "SELECT 1", "m.sql:1: expected CREATE MACRO"),
    "a macro in Latin-1": (f"{ORDERS}/macros/m.sql", b"-- \xe9", "m.sql:1:4: byte 0xe9 is not UTF-8"),
    "a test of no model": (
        f"{ORDERS}/tests/t.yaml",
        "tests:\n- {name: x, model: ordrs, given: {}, expect: []}\n",
        "t.yaml:2:20: there is no model 'ordrs'",
    ),
    "a test with rows of nothing": (
        f"{ORDERS}/tests/t.yml",
        "tests:\n- {name: x, model: orders, given: {ordrs_raw: []}, expect: []}\n",
        "t.yml:2:36: model 'orders' does not read 'ordrs_raw'",
    ),
    "tests as a number": (f"{ORDERS}/tests/t.yaml", "tests: 3\n", "'tests' is the number 3, expected a list"),
}


@pytest.mark.parametrize("kind", FILES)
def test_a_file_beside_the_models_that_cannot_be_meant(folder: Path, kind: str) -> None:
    file, content, said = FILES[kind]
    written(folder, file, content)
    tulle(folder, "validate").refuses(said)


def test_a_circle_of_models(folder: Path) -> None:
    written(folder, f"{ORDERS}/transform/a.sql", "SELECT * FROM b")
    written(folder, f"{ORDERS}/transform/b.sql", "SELECT * FROM a")
    tulle(folder, "validate").refuses("data sets are made from each other: b → a → b")


ROWS: dict[str, tuple[str, str]] = {
    "a day that is none": (
        "given: {orders_raw: [{order_id: O-1}, {order_id: O-2, ordered_on: never}]}, expect: []",
        "row 2 given of 'orders_raw': column 'ordered_on' is 'never', which is no date",
    ),
    "an amount that is too large": (
        "given: {orders_raw: [{amount: 123456789012.5}]}, expect: []",
        "column 'amount' is 123456789012.5, which is no decimal(10,2)",
    ),
    "an expected amount that is none": (
        "given: {orders_raw: [{order_id: O-1}]}, expect: [{amount: lots}]",
        "row 1 expected: column 'amount' is 'lots', which is no decimal(10,2)",
    ),
    "a column nobody has": ("given: {orders_raw: [{order: O-1}]}, expect: []", "did you mean 'order_id'?"),
}


@pytest.mark.parametrize("kind", ROWS)
def test_rows_of_a_test_that_do_not_fit(built: Built, kind: str) -> None:
    text, said = ROWS[kind]
    with built.spoilt(f"{ORDERS}/tests/t.yaml") as path:
        path.write_text(f"tests:\n- {{name: x, model: orders, {text}}}\n")
        tulle(built.folder, "test", "orders").refuses("products/sales/orders/tests/t.yaml:2:3", said)


RUNS: dict[str, tuple[str, str]] = {
    "a number": ("return 1\n", "model() returned a value of type int"),
    "nothing": ("pass\n", "model() returned nothing"),
    "an error": ('raise ValueError("no")\n', "more.py:5: ValueError: no"),
    "an end": ("import sys; sys.exit(3)\n", "more.py:5: SystemExit: 3"),
    "what is not installed": ("import nobody_has_this\n", "No module named 'nobody_has_this'"),
    "what it does not read": ('return run.read("orders_raw")\n', "which is not among its inputs"),
    "itself": ("return model(run)\n", "RecursionError"),
    "SQL that writes": (
        "return run.sql(\"COPY orders TO '/tmp/hurt'\")\n",
        "expected one SELECT, found COPY",
    ),
}


@pytest.mark.parametrize("kind", RUNS)
def test_a_model_that_gives_no_rows_publishes_nothing(built: Built, kind: str) -> None:
    body, said = RUNS[kind]
    with built.spoilt(PYTHON) as path:
        path.write_text(MODEL + body)
        run = built.run("orders")
    assert run.status == "failed"
    told = [
        run.error["message"],
        *(f"{p['place']['file']}:{p['place']['line']}: {p['message']}" for p in run.error["problems"]),
    ]
    assert said in "\n".join(told)
    assert any("products/sales/orders/transform/more.py" in line for line in told)
    assert "run-ID" not in str(run.error["hint"])
