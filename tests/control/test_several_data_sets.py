"""An output port that offers several data sets: each can be taken, and whoever takes one is told of its end."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.control.released import Team
from tests.pipeline.conftest import SALES

from tulle.catalog.flow import Flow, flow_of, graph
from tulle.control import apply
from tulle.control.check_mesh import check_mesh
from tulle.control.plan import Detail
from tulle.errors import Problem
from tulle.pipeline.graph import load_code

SEVERAL = (
    SALES.replace("data_set: sales}", "data_sets: [sales, refunds]}")
    + """
  - name: refunds
    type: data-set
    properties:
      description: one row a refund
      columns:
      - {name: id, type: integer, key: true}
      - {name: back, type: 'decimal(10,2)'}
"""
)
TAKING = """
apiVersion: core.oam.dev/v1beta1
kind: DataProduct
spec:
  components:
  - {name: people, type: domain, properties: {description: all about people}}
  - {name: features, type: data-product, properties: {definition: what is known, version: 2.0.0}}
  - {name: features, type: data-set, properties: {description: one row a refund}}
  - name: from sales
    type: input-port
    properties: {description: refunds, product: sales, associated_output_port: sales files, takes: refunds}
"""


@pytest.fixture
def team(tmp_path: Path) -> Team:
    """`sales` offers two data sets by one port, and `features` takes the second."""
    made = Team(tmp_path)
    made.mesh.sales("product.yaml", SEVERAL)
    made.mesh.sales("transform/refunds.sql", "SELECT id, -amount AS back FROM sales WHERE amount < 3\n")
    made.mesh.features("product.yaml", TAKING)
    made.mesh.features("transform/features.sql", "SELECT id, back FROM refunds\n")
    return made


def _refused(team: Team) -> Problem:
    (found,) = check_mesh(team.workspace).problems
    return found


def test_the_second_is_read_checked_and_shown_where_it_comes_from(team: Team) -> None:
    assert check_mesh(team.workspace).problems == ()
    apply.apply_plan(team.workspace)
    assert team.run("main", "sales").status == "succeeded"
    run = team.run("main", "features")
    assert {s.name: s.rows for s in run.steps if s.rows is not None} == {"refunds": 1, "features": 1}
    spec = team.workspace.spec()
    (port,) = spec.product("features").input_ports
    assert (port.data_set, port.takes) == ("refunds", "refunds")
    features = spec.product("features")
    flows: dict[str, Flow] = {"features": flow_of(features)}
    drawn = {(edge.source, edge.target) for edge in graph(spec.products, flows, (), {}).edges}
    assert ("data:sales:refunds", "data:features:features") in drawn
    team.mesh.features("transform/features.sql", "SELECT id, bak FROM refunds\n")
    assert "bak" in _refused(team).message


def test_what_it_does_not_offer_cannot_be_taken(team: Team) -> None:
    team.mesh.features("product.yaml", TAKING.replace("takes: refunds", "takes: refund, data_set: refunds"))
    found = _refused(team)
    assert found.message == "the output port 'sales files' of 'sales' does not offer 'refund'"
    assert found.hint == "did you mean 'refunds'?"
    assert found.place is not None
    assert found.source_line is not None
    assert found.source_line[found.place.column - 1 :].startswith("refund,")
    alone = "{description: x, takes: refunds}"
    at = TAKING.index("{description: refunds")
    team.mesh.features("product.yaml", TAKING[:at] + alone + "\n")
    assert "names a data set to take, but no output port" in _refused(team).message


HIT = ("product 'features' reads it by input port 'from-sales'",)


def _changed(team: Team, text: str) -> dict[str, Detail]:
    """What the plan tells of the output ports of `sales`."""
    team.mesh.sales("product.yaml", text)
    plan = apply.current_plan(team.workspace)[0]
    return {d.sentence: d for s in plan.steps for d in s.details if "output-port" in d.sentence}


def test_a_data_set_that_is_withdrawn_hits_who_takes_it_and_nobody_else(team: Team) -> None:
    apply.apply_plan(team.workspace)
    other = TAKING.replace(", takes: refunds", ", data_set: refunds").replace(
        "name: features", "name: others"
    )
    team.mesh.write("products/people/others/product.yaml", other)
    team.mesh.write("products/people/others/transform/features.sql", "SELECT id, amount FROM refunds\n")
    # Both are offered by another port too, so that the mesh holds without the one.
    more = (
        "\n  - {name: more, type: output-port, properties: {description: x, data_sets: [sales, refunds]}}\n"
    )
    team.mesh.features("product.yaml", TAKING.replace("sales files", "more"))
    found = _changed(team, SEVERAL.replace("data_sets: [sales, refunds]", "data_sets: [sales]") + more)
    gone = found["output-port sales-files: the data_sets are sales (were sales, refunds)"]
    assert (gone.breaking, gone.hits) == (True, HIT)


def test_a_port_that_is_removed_hits_who_takes_any_of_it(team: Team) -> None:
    apply.apply_plan(team.workspace)
    team.mesh.features("product.yaml", TAKING.replace("sales files", "more files"))
    found = _changed(team, SEVERAL.replace("name: sales files", "name: more files"))
    gone = found["output-port 'sales-files' is removed"]
    assert (gone.breaking, gone.hits) == (True, HIT)


def test_none_of_them_may_be_a_view(team: Team) -> None:
    team.mesh.sales("transform/refunds.sql", "-- kind: view\nSELECT id, -amount AS back FROM sales\n")
    spec = team.workspace.spec()
    assert [p.message for p in load_code(spec.product("sales"), spec=spec).problems] == [
        "output port 'sales files' hands out 'refunds', a view, which keeps no rows"
    ]
