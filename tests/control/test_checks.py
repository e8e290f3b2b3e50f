"""Checks through the API and the commands: listed with their last result, looked at over time, judged anew."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner, Result
from tests.pipeline.conftest import Mesh

from tulle.cli.main import cli
from tulle.errors import Invalid, NotFound

CHECKS = """checks:
- {data_set: sales, type: row_count, min: 3, tags: [size]}
- {data_set: sales, type: range, column: amount, max: 5, severity: warn}
"""


def tulle(mesh: Mesh, *words: str) -> Result:
    return CliRunner().invoke(cli, ["--mesh", str(mesh.folder), *words])


def test_checks_from_first_to_last(mesh: Mesh) -> None:
    mesh.sales("checks/c.yaml", CHECKS)
    listed = json.loads(tulle(mesh, "checks", "--product", "sales", "--json").output)
    assert {(c["check"], c["state"]) for c in listed} == {
        ("id is part of the key", "waiting"),
        ("customer is required", "waiting"),
        ("id is the key", "waiting"),
        ("the number of rows is at least 3", "waiting"),
        ("amount is at most 5", "waiting"),
    }
    assert tulle(mesh, "apply").exit_code == 0
    assert tulle(mesh, "run", "sales").exit_code == 0
    listed = json.loads(tulle(mesh, "checks", "--product", "sales", "--json").output)
    found = {c["check"]: c for c in listed}
    assert (found["amount is at most 5"]["state"], found["amount is at most 5"]["failing"]) == ("warn", 1)
    assert found["columns are as declared"]["state"] == "passed"
    assert found["the number of rows is at least 3"]["place"].endswith("checks/c.yaml:2:3")

    judged = tulle(mesh, "check", "sales", "--tag", "size")
    assert (judged.exit_code, "1 check on 'main'" in judged.output) == (0, True), judged.output
    mesh.sales("checks/c.yaml", CHECKS.replace("min: 3", "min: 4, name: the number of rows is at least 3"))
    refused = tulle(mesh, "check", "sales")
    assert isinstance(refused.exception, Invalid)
    assert "3 rows, expected at least 4" in refused.exception.message

    told = json.loads(
        tulle(mesh, "checks", "history", "sales", "the number of rows is at least 3", "--json").output
    )
    assert [one["state"] for one in told] == ["failed", "passed", "passed"]
    assert "amount is at most 5" in tulle(mesh, "checks", "history", "sales", "--data-set", "sales").output
    table = tulle(mesh, "checks").output
    assert "features" in table
    assert "not judged yet" in table


def test_a_data_set_judged_by_its_columns_alone_has_its_rows(mesh: Mesh) -> None:
    document = mesh.folder / "products/people/features/product.yaml"
    assert ", key: true" in document.read_text()
    document.write_text(document.read_text().replace(", key: true", ""))
    assert tulle(mesh, "apply").exit_code == 0
    assert tulle(mesh, "run", "sales", "features").exit_code == 0
    told = json.loads(tulle(mesh, "check", "features", "--json").output)
    step = next(step for step in told["steps"] if step["name"] == "features")
    assert (step["rows"], [check["total"] for check in step["checks"]]) == (2, [2])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["checks", "history", "sales", "nothing"], "no results of a check 'nothing'"),
        (["checks", "history", "salez"], "there is no product 'salez'"),
        (["checks", "--product", "salez"], "there is no product 'salez'"),
        (["check", "sales"], "product 'sales'"),
    ],
)
def test_what_is_not_there_is_told(mesh: Mesh, words: list[str], message: str) -> None:
    result = tulle(mesh, *words)
    assert isinstance(result.exception, NotFound)
    assert message in result.exception.message
