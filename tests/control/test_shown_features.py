"""Features in answers: what the documents classify is not told, and who declares it is told where."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.control.released import Team, sales_at

from tulle.control import apply
from tulle.control.check_mesh import check_mesh
from tulle.control.release import build_package
from tulle.control.shown_features import demand_showable
from tulle.errors import Invalid
from tulle.serving.service import load_service

SERVICE = """
service: chances
endpoints:
- name: it
  type: predict
  model: returns
  enrich:
  - {product: sales, data_set: sales, key: id, columns: {spent: amount, when: day}}
  show_features: {features: [spent, sent]}
"""
KIND = "type: 'decimal(10,2)'"


@pytest.mark.parametrize("more", ["pii: direct", "classification: restricted"])
def test_a_column_that_is_classified_is_refused_with_its_place(tmp_path: Path, more: str) -> None:
    team = Team(tmp_path)
    team.mesh.features("services/chances.yaml", SERVICE)
    assert check_mesh(team.workspace).problems == ()
    (tmp_path / "products/people/features/services/chances.yaml").unlink()
    text = sales_at("1.0.0")
    assert KIND in text
    team.mesh.sales(
        "product.yaml", text.replace(KIND, f"{KIND}, {more}", 1)
    )  # of the data set, not of its source
    if not more.startswith("pii"):  # which applying would refuse: consumers rely on the column
        apply.apply_plan(team.workspace)
    team.mesh.features("services/chances.yaml", SERVICE)
    (problem,) = check_mesh(team.workspace).problems
    assert problem.message == (
        "endpoint 'it' shows 'spent', whose values in 'sales' of product 'sales' are classified or unknown"
    )
    assert "services/chances.yaml:8" in str(problem.place)
    if not more.startswith("pii"):
        with pytest.raises(Invalid) as caught:
            build_package(team.workspace, "chances")
        assert caught.value.problems[0].message == problem.message
    team.mesh.features("services/chances.yaml", SERVICE.replace("[spent, sent]", "[when, sent]"))
    assert check_mesh(team.workspace).problems == ()


def test_of_what_is_declared_nowhere_nothing_is_told() -> None:
    service = load_service(SERVICE, name="s.yaml")
    with pytest.raises(Invalid, match="classified or unknown"):
        demand_showable(service, "features", lambda _: None)
    sent = load_service(SERVICE.replace("[spent, sent]", "[sent]"), name="s.yaml")
    demand_showable(sent, "features", lambda _: None)  # what callers send themselves
