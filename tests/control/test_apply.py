"""Plan and apply on a real mesh: whom a change hits, what is refused, exactly the plan that was shown."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.control.conftest import opened
from tests.pipeline.conftest import SALES, Mesh
from tests.pipeline.crash_points import stride

from tulle.control import plan_file
from tulle.control.apply import apply_plan, current_plan
from tulle.control.plan import Detail
from tulle.control.workspace import Workspace
from tulle.errors import Broken, Conflict, Denied, Invalid
from tulle.gateway import applications, service_keys
from tulle.gateway.policy import RateLimit
from tulle.spec.capability import Capability
from tulle.spec.product import Component, DataProduct
from tulle.state import log, plans, products

PRICES = """
service: sold
endpoints:
- {name: by-id, type: lookup, data_set: sales, key: id, columns: [customer, amount]}
"""
FEATURES_SQL = "products/people/features/transform/features.sql"
WITHOUT_DAY = SALES.replace("      - {name: day, type: date}\n", "")
WITHOUT_AMOUNT = SALES.replace("      - {name: amount, type: 'decimal(10,2)'}\n  - name", "  - name")


def details(workspace: Workspace) -> dict[str, Detail]:
    plan, _ = current_plan(workspace)
    return {detail.sentence: detail for step in plan.steps for detail in step.details}


def test_applying_twice_changes_nothing(workspace: Workspace) -> None:
    with pytest.raises(Conflict, match="the plan is no longer ''"):
        apply_plan(workspace, "")  # a variable that was empty: nobody agreed to anything
    done = apply_plan(workspace, actor="ann")
    assert [s.operation for s in done.plan.steps] == ["create-repository", "register", "grant"] * 2
    (record,) = plans.recent(workspace.database)
    assert (record.id, record.status, record.actor, record.done) == (done.record, "succeeded", "ann", 6)
    events = len(log.read(workspace.database))
    again = apply_plan(workspace)
    assert (again.plan.steps, again.record) == ((), "")
    assert len(log.read(workspace.database)) == events
    assert len(plans.recent(workspace.database)) == 1


def test_whom_a_removed_column_hits_depends_on_who_uses_it(mesh: Mesh, workspace: Workspace) -> None:
    mesh.sales("services/sold.yaml", PRICES)
    apply_plan(workspace)
    applications.register(workspace.database, "shop-app", services={"sold": RateLimit(1, 1000)})
    service_keys.create(workspace.database, "sold", label="web shop")
    assert WITHOUT_DAY != SALES != WITHOUT_AMOUNT
    mesh.sales("product.yaml", WITHOUT_DAY)
    day = details(workspace)["data-set sales: column 'day' is removed"]
    assert (day.breaking, day.hits) == (True, ())
    mesh.sales("product.yaml", WITHOUT_AMOUNT)
    amount = details(workspace)["data-set sales: column 'amount' is removed"]
    assert amount.hits == (
        f"product 'features' reads it by input port 'from-sales' and uses the column in {FEATURES_SQL}",
        "service 'sold' answers from it (endpoint 'by-id')",
        "applications with a contract on 'sold': shop-app, web shop (API key)",
    )


def test_a_model_that_reads_its_own_rows_uses_only_the_columns_it_names(
    mesh: Mesh, workspace: Workspace
) -> None:
    grown = "SELECT coalesce(max(customer), '') FROM this"
    text = f"SELECT customer, sum(amount) AS total FROM sold WHERE customer >= ({grown}) GROUP BY customer\n"
    mesh.features("transform/features.sql", f"-- kind: incremental\n-- key: customer\n{text}")
    apply_plan(workspace)
    mesh.sales("product.yaml", WITHOUT_DAY)
    assert details(workspace)["data-set sales: column 'day' is removed"].hits == ()


def test_a_breaking_change_without_a_new_major_version_is_refused(mesh: Mesh, workspace: Workspace) -> None:
    apply_plan(workspace)
    mesh.sales("product.yaml", WITHOUT_DAY)
    with pytest.raises(Denied) as refused:
        apply_plan(workspace)
    (problem,) = refused.value.problems
    assert problem.place is not None
    assert problem.place.file == "products/shop/sales/product.yaml"
    assert "`version: 1.0.0`" in str(problem.hint)
    assert products.applied_product(workspace.database, "sales").product.data_set("sales").column("day")
    mesh.sales("product.yaml", WITHOUT_DAY.replace("what was sold", "what was sold, version: '1.0.0'"))
    apply_plan(workspace)
    assert products.applied_product(workspace.database, "sales").product.version == "1.0.0"


def test_changed_files_and_services_are_told(mesh: Mesh, workspace: Workspace) -> None:
    mesh.sales("services/sold.yaml", PRICES)
    apply_plan(workspace)
    mesh.sales("transform/sales.sql", "SELECT id, customer, day, amount FROM till_rows WHERE id > 0\n")
    mesh.sales("services/sold.yaml", PRICES.replace("[customer, amount]", "[customer]"))
    found = details(workspace)
    assert set(found) == {
        "transform/sales.sql changed",
        "services/sold.yaml changed",
        "service sold: endpoint by-id: of 'sales' it gives no longer amount",
    }
    assert [s for s, d in found.items() if d.breaking] == [
        "service sold: endpoint by-id: of 'sales' it gives no longer amount"
    ]


def test_a_plan_file_is_carried_out_exactly_and_only_once(mesh: Mesh, workspace: Workspace) -> None:
    text = plan_file.canonical(plan_file.document_of(current_plan(workspace)[0], "test"))
    document = plan_file.read_plan(text, "plan.json")
    assert apply_plan(workspace, document=document).plan.digest == document["digest"]
    again = apply_plan(workspace, document=document)
    assert again.plan.steps == ()
    assert "was carried out already" in again.note
    mesh.sales("product.yaml", SALES.replace("one row a sale", "one row a till slip"))
    with pytest.raises(Conflict, match="the document of product 'sales' changed"):
        apply_plan(workspace, document=document)


def test_what_moved_since_a_plan_was_made_is_named(mesh: Mesh, workspace: Workspace) -> None:
    document = plan_file.document_of(current_plan(workspace)[0], "test")
    apply_plan(workspace)
    mesh.sales("transform/sales.sql", "SELECT * FROM till_rows\n")
    with pytest.raises(Conflict) as moved:
        apply_plan(workspace, document=document)
    assert "the code of product 'sales' changed" in moved.value.message
    elsewhere = {**document, "mesh": "other"}
    with pytest.raises(Conflict, match="was made for the mesh 'other'"):
        apply_plan(workspace, document=elsewhere)


def test_a_plan_made_before_somebody_else_applied_is_not_carried_out(
    mesh: Mesh, workspace: Workspace
) -> None:
    apply_plan(workspace)
    mesh.sales("product.yaml", SALES.replace("one row a sale", "second"))
    document = plan_file.document_of(current_plan(workspace)[0], "test")
    mesh.sales("product.yaml", SALES.replace("one row a sale", "third"))
    apply_plan(workspace)
    mesh.sales("product.yaml", SALES.replace("one row a sale", "second"))
    with pytest.raises(Conflict, match="product 'sales' was applied meanwhile"):
        apply_plan(workspace, document=document)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "plan.json:1:2 is not JSON"),
        ("[]", "plan.json is not a plan"),
        ('{"kind": "tulle-plan", "format": 9}', "is a plan of format 9, this version reads 1"),
        ('{"kind": "tulle-plan", "format": 1, "steps": 1}', "is not a whole plan"),
        ('{"kind": "tulle-plan", "format": 1, "steps": [], "basis": {}, "digest": "0"}', "was changed after"),
        ("[" * 100_000, "is not JSON"),
    ],
)
def test_a_file_that_is_no_plan_is_told_so(text: str, told: str) -> None:
    with pytest.raises(Invalid) as failure:
        plan_file.read_plan(text, "plan.json")
    assert told in failure.value.message


def test_a_mesh_with_problems_is_not_applied(mesh: Mesh, workspace: Workspace) -> None:
    mesh.sales("transform/sales.sql", "SELECT nothing FROM nowhere\n")
    with pytest.raises(Invalid, match="the mesh has problems"):
        apply_plan(workspace)
    assert products.applied(workspace.database) == ()


def test_a_repository_that_belongs_to_nobody_is_not_taken_over(workspace: Workspace) -> None:
    workspace.lake.create_repository("sales")
    with pytest.raises(Denied) as refused:
        apply_plan(workspace)
    assert "belongs to no product" in refused.value.problems[0].message


def test_a_second_apply_at_the_same_moment_is_told_to_wait(mesh: Mesh, workspace: Workspace) -> None:
    other = opened(mesh)
    met: list[str] = []

    def meanwhile(_position: int, _of: int, _sentence: str) -> None:
        with pytest.raises(Conflict) as failure:
            apply_plan(other)
        met.append(failure.value.message)

    apply_plan(workspace, progress=meanwhile)
    other.database.close()
    assert met == ["a plan is being carried out at this moment"] * 6


# ── what capabilities do ─────────────────────────────────────────────────────────────────────────────────

TOPIC = "  - {name: news, type: topic, properties: {description: what happened}}\n"


class Topics:
    """A capability that provides something outside of the mesh."""

    def __init__(self, workspace: Workspace) -> None:
        self.there: set[str] = set()
        self.fails = False
        schema = {"type": "object", "properties": {"description": {"type": "string"}}}
        workspace.registry.add(Capability("topic", "Topic", "a topic", schema, "", ""))
        workspace.registry.hook("topic", "plan", lambda component, *_: [f"make topic {component.name}"])
        workspace.registry.hook("topic", "provision", self.provision)
        workspace.registry.hook("topic", "destroy", self.destroy)

    def provision(self, component: Component, product: DataProduct) -> None:
        if self.fails:
            raise RuntimeError("no broker")
        self.there.add(f"{product.name}/{component.name}")

    def destroy(self, component: Component, product: DataProduct) -> None:
        self.there.discard(f"{product.name}/{component.name}")


def test_capabilities_provide_and_take_away(mesh: Mesh, workspace: Workspace) -> None:
    topics = Topics(workspace)
    mesh.sales("product.yaml", SALES + TOPIC)
    assert "make topic news" in details(workspace)
    apply_plan(workspace)
    assert topics.there == {"sales/news"}
    assert details(workspace) == {}
    mesh.sales("product.yaml", SALES)
    assert "take away topic 'news'" in details(workspace)
    apply_plan(workspace)
    assert topics.there == set()


def test_a_capability_that_fails_is_named_and_what_is_left_follows_later(
    mesh: Mesh, workspace: Workspace
) -> None:
    topics = Topics(workspace)
    topics.fails = True
    mesh.sales("product.yaml", SALES + TOPIC)
    with pytest.raises(Broken, match="could not provision topic 'news': RuntimeError"):
        apply_plan(workspace)
    (record,) = plans.recent(workspace.database)
    assert (record.status, [s.status for s in record.steps]) == (
        "failed",
        ["succeeded", "failed", *["waiting"] * 5],
    )
    topics.fails = False
    apply_plan(workspace)
    (record,) = plans.recent(workspace.database)
    assert (record.status, record.done) == ("succeeded", 7)
    assert topics.there == {"sales/news"}


# ── crashes ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.system
@pytest.mark.timeout(600)
def test_an_apply_killed_anywhere_is_carried_on_and_does_nothing_twice(tmp_path: Path) -> None:
    """Every 11th of some 120 points, of destroying too; all of them where TULLE_TEST_CRASHES is set."""
    script = Path(__file__).with_name("crash_apply.py")
    root = script.parents[2]
    paths = os.pathsep.join([str(root), str(root / "src")])
    made = subprocess.run(
        [sys.executable, str(script), str(tmp_path), "0", stride(11)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": paths},
    )
    points = [json.loads(line) for line in made.stdout.splitlines()]
    assert {point["part"] for point in points} == {"first", "second", "destroy"}
    assert sum(point["ended"] is None for point in points) >= 6
    first = ["product.applied sales", "product.applied features"]
    for point in points:
        if point["part"] == "destroy":
            assert (point["products"], point["repositories"], point["roles"]) == (["sales"], ["sales"], [])
            assert (point["open"], point["events"], point["chain"]) == ([], ["features"], None)
            continue
        assert point["done"] == point["left"]
        assert point["nothing_more"]
        assert (point["open"], point["steps_open"], point["chain"]) == ([], [], None)
        assert point["repositories"] == ["features", "sales"]
        if point["part"] == "first":
            assert (point["products"], point["topics"]) == (["features", "sales"], ["sales-news.topic"])
            assert point["events"] == first
        else:
            assert (point["products"], point["topics"]) == (["sales"], [])
            assert point["events"] == [*first, "product.applied sales", "product.destroyed features"]
