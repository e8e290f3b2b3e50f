"""Quality rules of data contracts: carried out as checks, and nothing is lost on the way there and back."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from open_data_contract_standard.model import OpenDataContractStandard
from tests.quality.conftest import Relations
from tests.spec.pruned import pruned

from tulle.engine.duck import DuckEngine
from tulle.quality.check import Check, parse_checks
from tulle.quality.contract_rules import FILE, take_rules, with_rules
from tulle.quality.verdict import evaluate
from tulle.spec import odcs
from tulle.spec.capability import builtin_registry
from tulle.spec.load import load_document
from tulle.spec.overlay import difference
from tulle.spec.validate import validate
from tulle.spec.write import dump

REGISTRY = builtin_registry()
FOREIGN = load_document(Path(__file__).parents[1] / "spec" / "full_contract.yaml").value
IBAN = "^[A-Z]{2}[0-9]{2,}$"


def contract(*rules: dict[str, Any], **columns: list[dict[str, Any]]) -> dict[str, Any]:
    properties = [
        {"name": "id", "logicalType": "integer"},
        {"name": "Code!", "logicalType": "string"},
        {"name": "n", "logicalType": "number"},
    ]
    named = {"id": properties[0], "code": properties[1], "n": properties[2]}
    for name, listed in columns.items():
        named[name]["quality"] = listed
    orders = {"name": "orders", "physicalName": "tab_orders", "properties": properties}
    return {
        "apiVersion": "v3.2.0",
        "kind": "DataContract",
        "id": "x",
        "version": "1.0.0",
        "status": "active",
        "schema": [{**orders, **({"quality": list(rules)} if rules else {})}],
    }


def checks_of(given: dict[str, Any]) -> tuple[list[Check], tuple[str, ...]]:
    assert validate(load_document(dump(given), name="c"), odcs.contract_schema()) == []
    taken = take_rules(given)
    found, problems = parse_checks(taken.text(), FILE)
    assert problems == []
    return found, taken.left


def there_and_back(given: dict[str, Any]) -> dict[str, Any]:
    taken = take_rules(given)
    found, _ = parse_checks(taken.text(), FILE) if taken.checks else ([], [])
    _, product = odcs.read_contract(load_document(dump(taken.contract), name="c"), REGISTRY)
    return with_rules(odcs.contract(product, product.output_ports[0].name, REGISTRY), found)


ROWS = {
    "id": [1, 2, 2, 4, None],
    "code": ["DE12", "xx", "", "n/a", None],
    "n": [1.0, 2.0, 3.0, 4.0, 100.0],
}
NULLS, MISSING, INVALID = "nullValues", "missingValues", "invalidValues"
CODES = {"missingValues": [None, "", "n/a"]}
LIBRARY = [
    ("id", {"metric": NULLS, "mustBe": 0}, False),
    ("id", {"metric": NULLS, "mustBeLessThan": 2}, True),
    ("id", {"metric": NULLS, "mustBeLessThan": 1}, False),
    ("id", {"metric": NULLS, "mustBeLessOrEqualTo": 20, "unit": "percent"}, True),
    ("id", {"metric": NULLS, "mustBeLessThan": 20, "unit": "percent"}, False),
    ("id", {"metric": NULLS, "mustBeGreaterThan": 0}, True),
    ("id", {"metric": NULLS, "mustNotBe": 1}, False),
    ("id", {"metric": NULLS, "mustBeBetween": [1, 3]}, True),
    ("id", {"metric": NULLS, "mustNotBeBetween": [1, 3], "unit": "rows"}, False),
    ("code", {"metric": MISSING, "arguments": CODES, "mustBe": 3}, True),
    ("code", {"metric": MISSING, "arguments": CODES, "mustBeLessOrEqualTo": 2}, False),
    ("code", {"metric": MISSING, "arguments": CODES, "mustBeLessOrEqualTo": 60, "unit": "percent"}, True),
    ("n", {"metric": MISSING, "arguments": {"missingValues": [100.0]}, "mustBe": 0}, False),
    (
        "code",
        {"metric": INVALID, "arguments": {"validValues": ["DE12", "xx", ""]}, "mustBeLessThan": 2},
        True,
    ),
    ("code", {"metric": INVALID, "arguments": {"pattern": IBAN}, "mustBe": 0}, False),
    ("code", {"metric": INVALID, "arguments": {"pattern": IBAN}, "mustBe": 3}, True),
    ("code", {"metric": INVALID, "arguments": {"pattern": "x|E|/"}, "mustBe": 1}, True),
    ("code", {"metric": INVALID, "arguments": {"pattern": ".", "validValues": ["xx"]}, "mustBe": 3}, True),
    ("id", {"metric": "duplicateValues", "mustBe": 0}, False),
    ("id", {"metric": "duplicateValues", "mustBeLessThan": 2}, True),
    ("", {"metric": "duplicateValues", "arguments": {"properties": ["id", "Code!"]}, "mustBe": 0}, True),
    (
        "",
        {"metric": "duplicateValues", "arguments": {"properties": ["id", "n"]}, "mustBeGreaterThan": 0},
        False,
    ),
    ("", {"metric": "rowCount", "mustBe": 5}, True),
    ("", {"metric": "rowCount", "mustBeGreaterThan": 5}, False),
    ("", {"metric": "rowCount", "mustBeLessThan": 5.5}, True),
    ("", {"metric": "rowCount", "mustBeBetween": [1, 4]}, False),
    ("", {"metric": "rowCount", "mustNotBe": 5}, False),
    ("", {"type": "sql", "query": "SELECT max(n) FROM ${table}", "mustBeLessThan": 101}, True),
    ("n", {"type": "sql", "query": "SELECT max(${column}) FROM {object} -- all", "mustBe": 1}, False),
    ("", {"type": "sql", "query": "SELECT max(n) FROM tab_orders WHERE false", "mustBe": 1}, False),
]


@pytest.mark.parametrize(("column", "rule", "holds"), LIBRARY)
def test_a_rule_is_carried_out_and_told_again(
    engine: DuckEngine, relations: Relations, column: str, rule: dict[str, Any], *, holds: bool
) -> None:
    given = contract(**{column: [rule]}) if column else contract(rule)
    checks, left = checks_of(given)
    assert left == ()
    data = relations(tab_orders=ROWS)
    (result,) = evaluate(engine, checks, data)
    assert "cannot be carried out" not in result.message
    assert result.passed is holds, result.message
    assert difference(there_and_back(given), given) == []


LEFT = [
    ({"type": "text", "description": "good"}, "written for people"),
    ({"type": "custom", "engine": "soda", "implementation": "checks"}, "one for soda"),
    ({"type": "custom", "engine": "tulle", "implementation": "row_count"}, "one for tulle"),
    ({"type": "custom", "engine": "tulle", "implementation": {"type": "row_count", "mim": 1}}, "mim"),
    (
        {"type": "custom", "engine": "tulle", "implementation": {"type": "suite", "suite": "suites/x.py"}},
        "program",
    ),
    ({"type": "custom", "engine": "tulle", "implementation": {"type": "python", "code": "1"}}, "python"),
    (
        {
            "type": "custom",
            "engine": "tulle",
            "implementation": {"type": "row_count", "min": 1, "data_set": "x"},
        },
        "program",
    ),
    ({"type": "sql", "query": "DROP TABLE x", "mustBe": 0}, "not SQL that can be read"),
    ({"type": "sql", "query": "SELECT 1 FROM elsewhere", "mustBe": 0}, "unknown data set 'elsewhere'"),
    ({"type": "sql", "query": "SELECT ${column} FROM ${table}", "mustBe": 0}, "names a column"),
    ({"type": "sql", "query": "SELECT 1", "mustBe": {"a": 1}}, "no plain value"),
    ({"metric": "nullValues", "mustBe": 0}, "which column"),
    ({"metric": "rowCount", "mustBe": "many"}, "a number of rows"),
    ({"metric": "rowCount", "mustBeLessThan": 0}, "at least 0"),
    ({"metric": "rowCount", "mustBe": 1, "unit": "percent"}, "no share"),
    ({"metric": "rowCount", "mustBe": 1, "unit": "miles"}, "'miles' is not known"),
    (
        {"metric": "duplicateValues", "mustBe": 0, "arguments": {"properties": ["nowhere"]}},
        "no column 'nowhere'",
    ),
    ({"metric": "duplicateValues", "mustBe": 0, "arguments": {"within": "day"}}, "'within' is not known"),
]


@pytest.mark.parametrize(("rule", "why"), LEFT)
def test_what_cannot_be_carried_out_stays_in_the_contract(rule: dict[str, Any], why: str) -> None:
    given = contract(rule, {"metric": "rowCount", "mustBe": 1, "name": "one"})
    checks, (left,) = checks_of(given)
    assert why in left
    assert left.startswith("tab_orders: ")
    assert [check.name for check in checks] == ["one"]
    assert difference(there_and_back(given), given) == []


@pytest.mark.parametrize("pattern", ["(", "(?=x)", "\\1"])
def test_a_pattern_that_is_none_stays(pattern: str) -> None:
    given = contract(code=[{"metric": INVALID, "arguments": {"pattern": pattern}, "mustBe": 0}])
    checks, (left,) = checks_of(given)
    assert (checks, "cannot be used" in left) == ([], True)
    assert difference(there_and_back(given), given) == []


def test_a_number_that_is_none_stays() -> None:
    given = contract({"metric": "rowCount", "mustBeLessThan": float("inf")})
    assert "no plain value" in take_rules(given).left[0]


def test_rules_of_one_name_are_told_apart() -> None:
    named = {"metric": NULLS, "mustBe": 0, "name": "there", "tags": ["ok", "Not Ours"], "severity": "info"}
    checks, _ = checks_of(contract({**named, "metric": "rowCount"}, id=[named], n=[named]))
    assert [check.name for check in checks] == ["there", "there (2)", "there (3)"]
    assert {(check.severity, check.tags) for check in checks} == {("warn", ("ok",))}


def test_whoever_changes_the_check_changes_the_rule() -> None:
    rule = {"metric": NULLS, "mustBeLessThan": 5, "dimension": "completeness", "id": "r1", "unit": "rows"}
    text = take_rules(contract(id=[{"type": "text", "description": "x"}, rule])).text()
    found, _ = parse_checks(text.replace("allow: 4", "allow: 9"), FILE)
    told = with_rules(contract(), found)["schema"][0]["properties"][0]["quality"]
    said = {"name": "id is never null", "type": "library", "metric": "nullValues", "mustBeLessOrEqualTo": 9}
    assert told == [{**said, "dimension": "completeness", "id": "r1"}]


def test_to_begin_with_they_only_warn() -> None:
    taken = take_rules(contract({"metric": "rowCount", "mustBe": 1}, id=[{"metric": NULLS, "mustBe": 0}]))
    found, _ = parse_checks(taken.text(to_begin_with=True), FILE)
    assert [check.severity for check in found] == ["warn", "warn"]
    assert [check.severity for check in parse_checks(taken.text(), FILE)[0]] == ["error", "error"]


OURS = """checks:
- {data_set: tab_orders, type: not_null, columns: [id], allow: 3}
- {data_set: tab_orders, type: not_null, columns: [id, n], severity: warn}
- {data_set: tab_orders, type: not_null, columns: [id], where: n > 1, name: of many}
- {data_set: tab_orders, type: unique, columns: [id], allow: 0.5%}
- {data_set: tab_orders, type: unique, columns: [id, n], description: both, tags: [night]}
- {data_set: tab_orders, type: accepted_values, column: code, values: [a, b]}
- {data_set: tab_orders, type: pattern, column: code, pattern: 'a|b'}
- {data_set: tab_orders, type: range, column: n, min: 1}
- {data_set: tab_orders, type: row_count, min: 1}
- {data_set: tab_orders, type: row_count, min: 1, max: 9}
- {data_set: tab_orders, type: freshness, column: n, max_age: 2d}
- {data_set: tab_orders, type: distribution, column: n, measure: ks}
- {data_set: tab_orders, type: sql, name: mine, sql: "SELECT * FROM tab_orders -- all"}
"""


def test_ours_travel_and_come_back() -> None:
    found, problems = parse_checks(OURS, "c.yaml")
    assert problems == []
    given = contract()
    given["schema"][0]["properties"][1]["name"] = "code"
    told = with_rules(given, found)
    assert validate(load_document(dump(told), name="c"), odcs.contract_schema()) == []
    OpenDataContractStandard.from_string(dump(told))
    again, left = checks_of(told)
    assert left == ()
    assert sorted(again, key=lambda one: one.name) == sorted(found, key=lambda one: one.name)
    metrics = {rule.get("metric") for p in told["schema"][0]["properties"] for rule in p.get("quality", ())}
    assert metrics == {"nullValues", "duplicateValues", "invalidValues"}


def test_a_program_is_told_in_words() -> None:
    program = Check("odd", "python", "tab_orders", settings={"code": "secret = 1"})
    (rule,) = with_rules(contract(), [program])["schema"][0]["quality"]
    assert rule == {"name": "odd", "type": "text", "description": "odd: judged by a program"}


@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(pruned(FOREIGN))
def test_nothing_is_lost(given: dict[str, Any]) -> None:
    if validate(load_document(dump(given), name="c"), odcs.contract_schema()):
        return
    before = copy.deepcopy(given)
    assert difference(there_and_back(given), given) == []
    assert given == before
