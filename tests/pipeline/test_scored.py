"""Files that say which endpoint answers the rows of which data set: what is read, and what is wrong with one."""

from __future__ import annotations

import pytest
from tests.pipeline.conftest import Mesh

from tulle.pipeline.graph import load_code
from tulle.pipeline.scored import Score, read_score

WHOLE = """
endpoint: customer-insights/will-return
version: v3
rows: visitors
map: {customer: id}
keep: [id, country]
"""


def test_a_file_says_endpoint_version_rows_names_and_columns() -> None:
    score, problems = read_score(WHOLE, "transform/expected.yaml")
    assert problems == []
    assert score == Score(
        "customer-insights", "will-return", "v3", "visitors", {"customer": "id"}, ("id", "country")
    )
    assert score.named == "customer-insights/will-return"
    assert score.place is not None
    assert (score.place.line, score.place.file) == (4, "transform/expected.yaml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "does not say which endpoint answers which rows"),
        ("endpoint: a/b\n  version: [", "expected"),
        (WHOLE.replace("rows: visitors", ""), "rows"),
        (WHOLE.replace("version: v3", "version: 3"), "version"),
        (WHOLE.replace("customer-insights/will-return", "will-return"), "a service of this product"),
        (WHOLE.replace("rows: visitors", "rows: ../visitors"), "a data set of the product"),
        (WHOLE + "keeps: [id]", "keeps"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(text: str, message: str) -> None:
    score, problems = read_score(text, "transform/expected.yaml")
    assert score is None
    assert any(message in str(problem) for problem in problems), problems
    assert all(problem.place is not None for problem in problems)


def test_it_is_a_job_that_reads_its_rows(mesh: Mesh) -> None:
    mesh.sales("transform/answered.yaml", "endpoint: of-sales/known\nversion: v1\nrows: sales\n")
    mesh.sales("transform/_apart.py", "X = 1\n")
    code = load_code(mesh.spec().product("sales"), spec=mesh.spec())
    assert code.problems == ()
    job = code.job("answered")
    assert (job.kind, job.inputs) == ("score", ("sales",))
    assert [one.name for one in code.jobs].index("answered") > [one.name for one in code.jobs].index("sales")
    digest = code.digest
    mesh.sales("transform/answered.yaml", "endpoint: of-sales/known\nversion: v2\nrows: sale\n")
    code = load_code(mesh.spec().product("sales"), spec=mesh.spec())
    assert code.digest != digest
    (problem,) = code.problems
    assert str(problem).startswith(
        "products/shop/sales/transform/answered.yaml:3:7: 'rows' names the unknown"
    )
    assert problem.hint == "did you mean 'sales'?"


def test_yaml_of_a_dbt_project_that_lies_there_is_not_read(mesh: Mesh) -> None:
    mesh.sales("transform/schema.yml", "version: 2\nmodels: []\n")
    (problem,) = [
        p for p in load_code(mesh.spec().product("sales"), spec=mesh.spec()).problems if "schema" in str(p)
    ][:1]
    assert "schema.yml" in str(problem)
    mesh.sales("transform/dbt_project.yml", "name: x\n")
    assert load_code(mesh.spec().product("sales"), spec=mesh.spec()).problems == ()
