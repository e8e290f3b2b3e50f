"""Ends that come sooner than consumers were promised, and agreements that are taken back."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.control.released import Team, sales_at

from tulle.control import apply, product_release, promotion, retirement
from tulle.control.check_mesh import check_mesh
from tulle.errors import Denied, Problem

AGREEMENT = """
  - name: Access
    type: data-sharing-agreement
    properties:
      description: ask
      notice_period: 3 months
      consumers: [ann, 'product:features']
"""


@pytest.fixture
def team(tmp_path: Path) -> Iterator[Team]:
    team = Team(tmp_path)
    team.mesh.sales("product.yaml", _sales())
    apply.apply_plan(team.workspace)
    yield team
    team.workspace.database.close()


def _sales(sunset: str = "", version: str = "1.0.0", agreement: str = AGREEMENT) -> str:
    text = sales_at(version).rstrip() + agreement
    ends = f", sunset: {sunset}" if sunset else ""
    return text.replace("definition: what was sold", f"definition: what was sold{ends}")


def _day(days: int) -> str:
    return str(dt.datetime.now(dt.UTC).date() + dt.timedelta(days=days))


def _refused(team: Team) -> tuple[Problem, ...]:
    """What plan and validate refuse, which is the same; and apply does not do it."""
    refused = apply.current_plan(team.workspace)[0].refusals
    assert check_mesh(team.workspace).problems == refused
    if refused:
        with pytest.raises(Denied):
            apply.apply_plan(team.workspace)
    return refused


def test_an_end_before_the_promised_notice_is_refused_at_its_line(team: Team) -> None:
    team.mesh.sales("product.yaml", _sales(_day(92)))
    (problem,) = _refused(team)
    assert problem.message == f"product 'sales' cannot end on {_day(92)}: they must be told longer before"
    assert problem.hint == f"the first day is {_day(93)}"
    assert problem.place is not None
    assert problem.source_line is not None
    assert problem.source_line[problem.place.column - 1 :].startswith(_day(92))
    team.mesh.sales("product.yaml", _sales(_day(93)))
    assert _refused(team) == ()


def test_an_end_that_was_agreed_comes_nearer_and_is_never_brought_forward(team: Team) -> None:
    team.mesh.sales("product.yaml", _sales(_day(200)))
    apply.apply_plan(team.workspace)
    team.mesh.sales("product.yaml", _sales(_day(199)))
    (problem,) = _refused(team)
    assert f"its consumers were told {_day(200)}" in problem.message
    team.mesh.sales("product.yaml", _sales(_day(201)))
    assert _refused(team) == ()


def test_an_end_that_was_told_by_the_command_counts(team: Team) -> None:
    retirement.deprecate(team.workspace, "sales", sunset=_day(300), reason="moved", by="ann")
    team.mesh.sales("product.yaml", _sales(_day(299)))
    (problem,) = _refused(team)
    assert f"its consumers were told {_day(300)}" in problem.message
    team.mesh.sales("product.yaml", _sales(_day(300)))
    assert _refused(team) == ()


def test_a_notice_is_not_shortened_to_end_sooner(team: Team) -> None:
    team.mesh.sales("product.yaml", _sales(_day(40), "2.0.0", AGREEMENT.replace("3 months", "1 month")))
    (problem,) = _refused(team)
    assert problem.hint == f"the first day is {_day(93)}"


def test_of_a_product_that_is_new_here_nobody_was_promised_anything(team: Team) -> None:
    text = _sales(_day(1)).replace("name: sales, type: data-product", "name: other, type: data-product")
    team.mesh.write("products/shop/other/product.yaml", text)
    plan = apply.current_plan(team.workspace)[0]
    assert "other" in {step.subject for step in plan.steps}
    assert plan.refusals == ()


def test_an_output_port_that_ends_too_soon_is_refused(team: Team) -> None:
    text = _sales()
    assert "type: output-port" in text
    at = text.index("type: output-port")
    ending = text[:at] + text[at:].replace("description:", f"sunset: {_day(5)}, description:", 1)
    team.mesh.sales("product.yaml", ending)
    (problem,) = _refused(team)
    assert "output-port" in problem.message
    assert f"cannot end on {_day(5)}" in problem.message


def test_an_agreement_taken_back_needs_a_new_version_and_names_its_consumers(team: Team) -> None:
    team.mesh.sales("product.yaml", _sales(agreement="\n"))
    plan = apply.current_plan(team.workspace)[0]
    (step,) = [s for s in plan.steps if s.operation == "update"]
    (detail,) = step.details
    assert detail.breaking
    assert detail.sentence == "data-sharing-agreement 'access' is removed"
    assert detail.hits == (
        "user 'ann' is a consumer by this agreement",
        "product 'features' is a consumer by this agreement",
    )
    (problem,) = plan.refusals
    assert "version: 2.0.0" in str(problem.hint)
    team.mesh.sales("product.yaml", _sales(version="2.0.0", agreement="\n"))
    assert apply.current_plan(team.workspace)[0].refusals == ()


def test_a_promotion_that_takes_an_agreement_back_names_whom_it_was_made_with(team: Team) -> None:
    workspace = team.workspace
    assert team.run("dev").status == "succeeded"
    product_release.make(workspace, "sales", by="ann")
    team.wait(promotion.promote(workspace, "sales", "1.0.0", to="test", by="ann"))
    team.mesh.sales("product.yaml", _sales(version="2.0.0", agreement="\n"))
    assert team.run("dev").status == "unchanged"  # its terms are others, its data is not
    product_release.make(workspace, "sales", by="ann")
    with pytest.raises(Denied) as refused:
        promotion.promote(workspace, "sales", "2.0.0", to="test", by="ann")
    told = [problem.message for problem in refused.value.problems]
    assert "data-sharing-agreement 'access' is removed" in told
    assert "user 'ann' is a consumer by this agreement" in told
