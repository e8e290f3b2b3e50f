"""Default deny: what names a person is never shown, what nobody declared only where nobody is named."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.catalog.conftest import Browser, World

from tulle.catalog.masking import readable_columns, readable_of_check, shown_columns, unquoted, untold
from tulle.catalog.preview import may_show_text
from tulle.errors import Place
from tulle.quality.verdict import CheckResult
from tulle.spec.product import Column, DataProduct, DataSet, InputPort

PEOPLE = DataSet(
    "people",
    "people",
    "",
    columns=(
        Column("id", "string"),
        Column("email", "string", pii="direct"),
        Column("age", "integer", pii="indirect"),
    ),
)
SALES = DataSet("sales", "sales", "", columns=(Column("id", "string"), Column("amount", "double")))
BARE = DataSet("bare", "bare", "")


def product(*data_sets: DataSet, classification: str = "internal") -> DataProduct:
    return DataProduct("shop", "shop", "retail", "", data_sets=data_sets, classification=classification)


def test_a_column_that_names_a_person_is_masked_and_so_is_one_nobody_declared() -> None:
    assert shown_columns(product(PEOPLE), PEOPLE, ["id", "email", "age", "new"]) == {"id", "age"}


def _result(kind: str, **made_of: list[list[str]]) -> CheckResult:
    return CheckResult("c", kind, "people", "error", False, 1, 1, "", made_of=made_of)


def test_a_check_does_not_unmask_a_column_by_giving_it_another_name() -> None:
    one = product(PEOPLE, SALES)
    columns = ["id", "age"]
    assert readable_of_check(one, _result("not_null"), columns) == {
        "id",
        "age",
    }  # rows of the data set itself
    for kind in ("sql", "python", "suite", "dbt"):  # of which nobody knows what they are made of
        assert readable_of_check(one, _result(kind), columns) == frozenset()
    honest = _result("sql", id=[["people", "id"]], age=[["people", "age"], ["sales", "amount"]])
    assert readable_of_check(one, honest, columns) == {"id", "age"}
    renamed = _result("sql", id=[["people", "email"]], age=[["people", "age"], ["people", "email"]])
    assert readable_of_check(one, renamed, columns) == frozenset()
    assert readable_of_check(one, _result("sql", id=[["elsewhere", "id"]]), columns) == frozenset()


def test_a_check_does_not_show_rows_of_closed_data_or_of_other_products() -> None:
    closed = DataSet("closed", "", "", columns=(Column("id", "string"),), classification="restricted")
    one = product(SALES, closed)
    sql = CheckResult("c", "sql", "sales", "error", False, 1, 1, "", made_of={"id": [["closed", "id"]]})
    assert readable_of_check(one, sql, ["id"]) == frozenset()
    assert readable_of_check(one, replace(sql, made_of={}), ["id"]) == frozenset()
    assert readable_of_check(one, replace(sql, made_of={"id": [["sales", "id"]]}), ["id"]) == {"id"}
    taken = InputPort("in", "in", "", data_set="theirs", product="other")
    taking = replace(product(SALES), input_ports=(taken,))
    assert readable_of_check(taking, replace(sql, made_of={"id": [["theirs", "id"]]}), ["id"]) == frozenset()
    assert readable_of_check(product(SALES), replace(sql, made_of={}), ["id", "n"]) == {"id", "n"}


def test_nothing_is_shown_of_a_data_set_that_declares_no_column() -> None:
    assert shown_columns(product(BARE), BARE, ["a", "b"]) == frozenset()


def test_a_restricted_column_is_masked_like_one_that_names_a_person() -> None:
    columns = (Column("id", "string"), Column("diagnosis", "string", classification="restricted"))
    claims = DataSet("claims", "claims", "", columns=columns)
    one = product(claims)
    assert shown_columns(one, claims, ["id", "diagnosis"]) == {"id"}
    assert readable_columns(one, "claims", ["id", "diagnosis", "d"]) == {"id"}
    assert not may_show_text(one, is_document=False)


@pytest.mark.parametrize("where", ["product", "data set"])
def test_rows_of_restricted_data_are_never_shown(where: str) -> None:
    data_set = (
        SALES
        if where == "product"
        else DataSet("sales", "", "", columns=SALES.columns, classification="restricted")
    )
    one = product(data_set, classification="restricted" if where == "product" else "internal")
    assert shown_columns(one, data_set, ["id", "amount"]) == frozenset()
    assert readable_columns(one, "sales", ["id", "amount"]) == frozenset()


def test_failing_rows_show_what_sql_names_anew_only_where_no_person_is_named() -> None:
    assert readable_columns(product(SALES), "sales", ["id", "n"]) == {"id", "n"}
    assert readable_columns(product(SALES), "raw", ["line"]) == {"line"}
    assert readable_columns(product(SALES, PEOPLE), "people", ["id", "email", "e"]) == {"id"}
    assert readable_columns(product(SALES, PEOPLE), "raw", ["line"]) == frozenset()


def test_rows_of_another_product_are_its_own_to_show() -> None:
    port = InputPort("people", "people", "", data_set="taken", product="crm")
    one = replace(product(SALES), input_ports=(port,))
    assert readable_columns(one, "taken", ["email"]) == frozenset()
    assert readable_columns(one, "_tulle", ["email"]) == frozenset()  # where its failing rows are kept
    assert readable_columns(one, "sales", ["id"]) == {"id"}


@pytest.mark.parametrize(
    "message",
    [
        "column 'born' is 'ann@x.org', expected a date like 1998-06-30",
        "column 'born' is \"ann@x.org\", expected a date",
        "column 'a' is 'x, expected ann@x.org', expected a number; column 'b' is 'ann@x.org', expected a number",
        "column 'age' is 'ann@x.org', which is no integer as before",
        "Conversion Error: Could not convert string 'ann@x.org' to INT32",
    ],
)
def test_a_message_says_what_is_wrong_without_the_value(message: str) -> None:
    assert "ann@x.org" not in unquoted(message)
    assert unquoted(message).startswith(message[:12])


@pytest.mark.parametrize(
    ("message", "told"),
    [
        (
            "products/a/transform/m.py:12: ValueError: no such day: 12 May\nof ann",
            "products/a/transform/m.py:12: ValueError",
        ),
        (
            "1 check of 'm' failed: c: checks/c.py:3 KeyError: ann",
            "1 check of 'm' failed: c: checks/c.py:3 KeyError",
        ),
        ("transform/m.py:2: the model reads 'x', which is not among its inputs", None),
        ("transform/m.py:2: AssertionError", None),
        ("2 rows, expected at least 4", None),
    ],
)
def test_of_an_exception_its_kind_and_line_are_told(message: str, told: str | None) -> None:
    assert untold(message) == (told or message)
    assert untold("ValueError: ann", Place("transform/m.py", 3)) == "ValueError"
    assert untold("ValueError: ann", Place("transform/m.sql", 3)) == "ValueError: ann"


def test_failing_rows_of_a_product_that_is_gone_are_masked() -> None:
    assert readable_columns(None, "sales", ["id"]) == frozenset()


def test_a_page_of_a_run_shows_no_masked_column_under_another_name(world: World, browser: Browser) -> None:
    world.write(
        "products/shop/sales/checks/renamed.sql",
        "-- data_set: sales\nSELECT id, email AS customer FROM sales\n",
    )
    world.write(
        "products/shop/sales/checks/honest.sql", "-- data_set: sales\nSELECT id, customer FROM sales\n"
    )
    run = world.run("sales")
    assert run.status == "failed"
    checks = {c.name: c for step in run.steps for c in step.checks if c.kind == "sql"}
    assert "ann@x.org" in str(checks["renamed"].failing_rows)
    assert checks["renamed"].made_of == {"id": [["sales", "id"]], "customer": [["sales", "email"]]}
    html = browser.get(f"/runs/{run.id}")
    assert "@x.org" not in html
    assert ">ann<" in html  # of the check that gives the column as it is
