"""Tests of models: read, carried out, and what they say when they fail."""

from __future__ import annotations

from typing import Any

import pytest
from tests.pipeline.conftest import Mesh

from tulle.errors import Broken, Invalid, LimitExceeded
from tulle.pipeline.graph import load_code
from tulle.pipeline.tester import run_tests

TEST = """
tests:
  - name: amounts add up
    model: totals
    given:
      till_rows:
        - {id: 1, customer: ann, amount: 1.5}
        - {id: 2, customer: ann, amount: 2, day: 2020-02-01}
        - {id: 3, customer: bob}
    expect:
      - {customer: ann, total: 3.50}
      - {customer: bob, total: null}
"""


@pytest.fixture
def sales(mesh: Mesh) -> Mesh:
    mesh.sales("transform/totals.sql", "SELECT customer, sum(amount) AS total FROM till_rows GROUP BY ALL")
    mesh.sales("tests/totals.yaml", TEST)
    return mesh


def tried(mesh: Mesh, *models: str) -> list[dict[str, Any]]:
    settings = mesh.spec().settings
    return run_tests(settings, settings.warehouse, "sales", models)


def problems(mesh: Mesh) -> list[str]:
    spec = mesh.spec()
    return [str(problem) for problem in load_code(spec.product("sales"), spec=spec).problems]


def test_given_rows_in_expected_rows_out(sales: Mesh) -> None:
    (one,) = tried(sales)
    assert (one["passed"], one["message"], one["model"]) == (True, "2 rows as expected", "totals")
    assert tried(sales, "sales") == []


def test_rows_that_differ_are_shown_with_the_place(sales: Mesh) -> None:
    sales.sales("tests/totals.yaml", TEST.replace("3.50", "4"))
    (one,) = tried(sales)
    assert not one["passed"]
    assert one["message"] == "rows differ: 1 expected and missing, 1 not expected"
    assert one["missing"] == [{"customer": "ann", "total": "4.00"}]
    assert one["unexpected"] == [{"customer": "ann", "total": "3.50"}]
    assert one["place"].endswith("tests/totals.yaml:2:5")


def test_rows_of_one_test_are_not_seen_by_the_next(sales: Mesh) -> None:
    one = "  - {name: N, model: totals, given: {till_rows: [R]}, expect: [{customer: ann}]}\n"
    rows = "{id: 1, customer: ann}"
    more = ", ".join(f"{{id: {n}, customer: bob{n}}}" for n in range(9))
    text = one.replace("N", "many").replace("R", f"{rows}, {more}") + one.replace("N", "one").replace(
        "R", rows
    )
    sales.sales("tests/totals.yaml", f"tests:\n{text}")
    assert [t["message"] for t in tried(sales)] == ["rows differ: 9 not expected", "1 row as expected"]


def test_order_counts_when_it_is_said(sales: Mesh) -> None:
    sales.sales("transform/totals.sql", "SELECT customer FROM till_rows ORDER BY customer DESC")
    rows = (
        "given: {till_rows: [{customer: ann}, {customer: bob}]}, expect: [{customer: ann}, {customer: bob}]"
    )
    sales.sales("tests/totals.yaml", f"tests: [{{model: totals, {rows}}}]")
    assert tried(sales)[0]["passed"]
    sales.sales("tests/totals.yaml", f"tests: [{{model: totals, ordered: true, {rows}}}]")
    (one,) = tried(sales)
    assert one["message"] == "the rows are as expected, in another order"


def test_windows_this_and_macros(sales: Mesh) -> None:
    sales.sales("macros/m.sql", "CREATE MACRO plus(x) AS x + 1;")
    head = "-- kind: incremental\n-- time_column: day\n-- grain: day\n-- start: 2020-01-01\n"
    sales.sales(
        "transform/totals.sql",
        head + "SELECT day, plus(id) AS id FROM till_rows WHERE day >= window_start() AND day < window_end()",
    )
    sales.sales(
        "tests/totals.yaml",
        """
tests:
  - model: totals
    window: [2020-02-01, 2020-02-02]
    given: {till_rows: [{id: 1, day: 2020-02-01}, {id: 2, day: 2020-02-02}]}
    expect: [{day: 2020-02-01, id: 2}]
""",
    )
    (one,) = tried(sales)
    assert one["passed"], one


def test_a_python_model_is_tested_in_its_own_process(sales: Mesh) -> None:
    sales.sales(
        "transform/totals.py",
        "inputs = ['till_rows']\ndef model(run):\n    print('noise')\n    return run.sql('SELECT customer, "
        "count(*) AS total FROM till_rows GROUP BY ALL')\n",
    )
    (sales.folder / "products/shop/sales/transform/totals.sql").unlink()
    test = "{model: totals, given: {till_rows: [{customer: a}, {customer: a}]}, expect: [{total: 2}]}"
    sales.sales("tests/totals.yaml", f"tests: [{test}]")
    assert tried(sales)[0]["passed"]
    sales.sales(
        "transform/totals.py", "inputs = ['till_rows']\ndef model(run):\n    raise ValueError('no')\n"
    )
    (one,) = tried(sales)
    assert (one["passed"], "no" in one["message"]) == (False, True)
    sales.sales("transform/totals.py", "inputs = []\ndef model(run):\n    import os\n    os._exit(3)\n")
    sales.sales("tests/totals.yaml", "tests: [{model: totals, expect: []}]")
    with pytest.raises(Broken, match="without an answer"):
        tried(sales)


def test_tests_that_never_end_are_ended(sales: Mesh) -> None:
    sales.write("mesh.yaml", "name: test\nwarehouse: {run_timeout_seconds: 3}\n")
    sales.sales("transform/slow.py", "inputs = []\ndef model(run):\n    while True: pass\n")
    sales.sales("tests/totals.yaml", "tests: [{model: slow, expect: []}]")
    with pytest.raises(LimitExceeded, match="longer than 3 s"):
        tried(sales)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("model: totals", "model: total"), "tests/totals.yaml:3:12: there is no model 'total'"),
        (("till_rows:", "till_row:"), "tests/totals.yaml:5:7: model 'totals' does not read 'till_row'"),
        (("expect:", "expects:"), "expect"),
        (("{customer: bob, total: null}", "[bob]"), "tests/totals.yaml"),
    ],
)
def test_what_is_wrong_with_a_file_is_found_when_the_product_is_validated(
    sales: Mesh, change: tuple[str, str], said: str
) -> None:
    sales.sales("tests/totals.yaml", TEST.replace(*change))
    assert any(said in problem for problem in problems(sales)), problems(sales)
    with pytest.raises(Invalid):
        tried(sales)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("amount: 1.5", "amoun: 1.5"), "'till_rows' has no column 'amoun'"),
        (("total: 3.50", "totl: 3.50"), "'expect' names 'totl', which the model does not give"),
        (("amount: 1.5", "amount: much"), "much"),
    ],
)
def test_rows_that_do_not_fit_fail_the_test_alone(sales: Mesh, change: tuple[str, str], said: str) -> None:
    sales.sales("tests/totals.yaml", TEST.replace(*change))
    sales.sales("tests/fine.yaml", "tests: [{model: totals, expect: []}]")
    found = {one["name"]: one for one in tried(sales)}
    assert said in found["amounts add up"]["message"] + " ".join(found["amounts add up"]["problems"])
    assert found["totals"]["passed"]
