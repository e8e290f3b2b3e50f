"""Roles of products in the lake: made by apply, decided by the document alone, gone with the product."""

from __future__ import annotations

import pytest
from tests.control.conftest import opened
from tests.pipeline.conftest import FEATURES, SALES, Mesh

from tulle.control import grants
from tulle.control.apply import apply_plan, current_plan
from tulle.control.destroy import destroy, preview
from tulle.control.drift import look
from tulle.control.plan_file import document_of
from tulle.control.workspace import Workspace
from tulle.errors import Conflict, Denied, Invalid
from tulle.events import ACCESS_ROLES_CHANGED
from tulle.lake.access import open_access, people
from tulle.lake.access.decide import Access
from tulle.state import log
from tulle.state.drift import Finding

AGREED = """  - name: terms
    type: data-sharing-agreement
    properties:
      description: ask
      expires: 2099-12-31
      consumers: [cem, 'group:analysts', 'product:features', nobody]
"""
OWNED = SALES.replace(
    "definition: what was sold", "definition: what was sold, data_product_owner: ann@acme.example"
)
FEATURES_OWNED = FEATURES.replace(
    "type: data-product, properties: {",
    "type: data-product, properties: {contacts: [{username: dev, role: data engineer}], ",
)


@pytest.fixture
def access(workspace: Workspace) -> Access:
    """The lake's permissions, with people and a group of theirs."""
    made = open_access(workspace.database, workspace.settings.state_folder / "secret.key")
    with workspace.database.write() as cx:
        people.add_user(cx, "ann", email="Ann@acme.example")
        for user in ("cem", "dev", "eve", "ute"):
            people.add_user(cx, user)
        people.add_group(cx, "analysts")
        people.add_member(cx, "analysts", "ute")
    return made


@pytest.fixture
def agreed(mesh: Mesh, workspace: Workspace, access: Access) -> Workspace:
    """Two products with people, and an agreement, applied."""
    assert FEATURES_OWNED != FEATURES
    assert OWNED != SALES
    mesh.sales("product.yaml", OWNED + AGREED)
    mesh.features("product.yaml", FEATURES_OWNED)
    apply_plan(workspace)
    access.forget()
    return workspace


def steps(workspace: Workspace) -> list[str]:
    return [d.sentence for s in current_plan(workspace)[0].steps if s.operation == "grant" for d in s.details]


def role_findings(workspace: Workspace) -> list[Finding]:
    return [f for item in look(workspace) for f in item.findings if f.kind == "role"]


def may(access: Access, user: str, action: str, *resources: str) -> bool:
    access.forget()
    return access.decide(user, action, *resources).allowed


def objects(branch: str, path: str) -> tuple[str, ...]:
    return Access.resource_object("sales", branch, path)


def test_a_plan_says_what_the_roles_become_and_apply_makes_them(agreed: Workspace) -> None:
    assert steps(agreed) == []
    found = grants.as_plain(agreed, agreed.spec().product("sales"), agreed.spec().products)
    assert [(r["name"], r["users"], r["groups"]) for r in found["roles"]] == [
        ("sales-owner", ["ann"], []),
        ("sales-developer", [], []),
        ("sales-consumer", ["cem", "dev"], ["analysts"]),
    ]
    assert found["waiting"] == [
        "role 'sales-consumer' waits for 'nobody': no user of the lake is called that"
    ]
    assert (found["differs"], role_findings(agreed)) == ([], [])
    events = [e for e in log.read(agreed.database) if e.kind == ACCESS_ROLES_CHANGED]
    assert "give role 'sales-consumer' to group 'analysts'" in events[0].data["changes"]


def test_what_each_role_may_is_decided_by_the_lake(agreed: Workspace, access: Access) -> None:
    published, other = objects("main", "sales/a.parquet"), objects("main", "till_rows/a.parquet")
    for user in ("cem", "dev", "ute"):  # by name, by product, by group
        assert may(access, user, "fs:ReadObject", *published)
        assert not may(access, user, "fs:ReadObject", *other)
        assert not may(access, user, "fs:ReadObject", *objects("work", "sales/a.parquet"))
        assert not may(access, user, "fs:WriteObject", *published)
    assert not may(access, "eve", "fs:ReadObject", *published)
    assert may(access, "ann", "fs:WriteObject", *published)
    assert may(access, "dev", "fs:WriteObject", *Access.resource_object("features", "work", "x"))
    assert not may(access, "dev", "fs:WriteObject", *Access.resource_object("features", "main", "x"))
    features = "arn:lakefs:fs:::repository/features/branch/"
    assert may(access, "dev", "fs:CreateCommit", f"{features}work")
    assert not may(access, "dev", "fs:CreateCommit", f"{features}main")


def test_who_was_let_in_by_hand_is_drift_and_goes_with_the_next_apply(agreed: Workspace) -> None:
    with agreed.database.write() as cx:
        people.add_member(cx, "sales-owner", "eve")
        people.attach(cx, "sales-consumer", "user", "eve")
        people.attach(cx, "FSFullAccess", "group", "sales-consumer")
        people.remove_member(cx, "sales-consumer", "cem")
        people.set_policy(cx, "sales-developer", [{"effect": "allow", "action": ["*"], "resource": "*"}])
    told = [
        "take role 'sales-owner' from user 'eve'",
        "role 'sales-developer' may now read, branch and write in repository 'sales', its branch 'main' excepted",
        "role 'sales-consumer' has policy 'FSFullAccess' no longer",
        "give role 'sales-consumer' to user 'cem'",
        "take role 'sales-consumer' from user 'eve'",
    ]
    assert steps(agreed) == told
    assert [f.sentence for f in role_findings(agreed)] == [f"not as it was applied: {line}" for line in told]
    apply_plan(agreed)
    assert (steps(agreed), role_findings(agreed)) == ([], [])


def test_roles_end_with_the_product(agreed: Workspace) -> None:
    destroy(agreed, "sales", force=True, notice="over")
    there = grants.look(agreed)
    assert not [name for name in (*there.groups, *there.policies) if name.startswith("sales-")]
    assert "features-owner" in there.groups
    apply_plan(agreed)
    assert "sales-owner" in grants.look(agreed).groups


def test_a_products_people_lose_what_agreements_gave_them_as_such(agreed: Workspace, access: Access) -> None:
    assert may(access, "dev", "fs:ReadObject", *objects("main", "sales/a"))
    (told,) = [s for s in preview(agreed, "features").steps if s.operation == "take-grants"]
    assert told.subject == "sales"
    assert "names the people of 'features': dev lose the role it gives" in told.sentence
    assert "a product that is called so again would be given it by the next apply" in told.sentence
    destroy(agreed, "features", actor="ann")
    assert not may(access, "dev", "fs:ReadObject", *objects("main", "sales/a"))
    assert may(access, "cem", "fs:ReadObject", *objects("main", "sales/a"))
    changed = [
        e for e in log.read(agreed.database) if e.kind == ACCESS_ROLES_CHANGED and e.subject == "sales"
    ]
    assert (changed[-1].actor, changed[-1].data["changes"]) == (
        "ann",
        ["take role 'sales-consumer' from user 'dev', one of the people of 'features', which ends"],
    )
    assert "give role 'sales-consumer' to user 'dev'" in steps(agreed)  # for all to see, should it come again


def test_a_group_that_somebody_made_does_not_become_a_role(workspace: Workspace, access: Access) -> None:
    with workspace.database.write() as cx:
        people.add_group(cx, "sales-owner", "whoever may sell")
        people.add_member(cx, "sales-owner", "eve")
    told = "group 'sales-owner' of the lake was made by somebody, and a role of product 'sales' would be called so"
    assert [problem.message for problem in current_plan(workspace)[0].refusals] == [told]
    with pytest.raises(Denied, match="the plan is refused"):
        apply_plan(workspace)
    assert not may(access, "eve", "fs:ReadObject", *objects("main", "sales/a"))
    with workspace.database.write() as cx:
        people.delete_group(cx, "sales-owner")
    apply_plan(workspace)
    apply_plan(workspace)  # its own roles are in nobody's way
    assert current_plan(workspace)[0].refusals == ()


def test_access_ends_on_the_day_that_was_agreed(
    agreed: Workspace, access: Access, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert grants.end_what_ended(agreed) == 0
    with agreed.database.write() as cx:
        people.add_member(
            cx, "sales-consumer", "eve"
        )  # nobody agreed to it: told, and left to the next apply
    monkeypatch.setattr(grants, "today", lambda: "2100-01-01")
    assert grants.end_what_ended(agreed) == 3
    assert not may(access, "cem", "fs:ReadObject", *objects("main", "sales/a"))
    assert not may(access, "ute", "fs:ReadObject", *objects("main", "sales/a"))
    assert steps(agreed) == ["take role 'sales-consumer' from user 'eve'"]
    assert grants.end_what_ended(agreed) == 0


def test_a_user_that_comes_later_is_given_the_role_then(agreed: Workspace) -> None:
    shown = document_of(current_plan(agreed)[0], "test")
    with agreed.database.write() as cx:
        people.add_user(cx, "nobody")
    assert steps(agreed) == ["give role 'sales-consumer' to user 'nobody'"]
    with pytest.raises(Conflict, match="no longer the plan"):
        apply_plan(agreed, document=shown)
    apply_plan(agreed)
    assert steps(agreed) == []


def test_an_address_of_two_users_is_nobodys(agreed: Workspace) -> None:
    with agreed.database.write() as cx:
        people.add_user(cx, "ann2", email="ann@acme.example")
    assert steps(agreed) == ["take role 'sales-owner' from user 'ann'"]


def test_built_in_policies_are_made_before_the_first_role(mesh: Mesh) -> None:
    workspace = opened(mesh)
    apply_plan(workspace)
    assert {"Admins", "Viewers", "sales-owner"} <= grants.look(workspace).groups
    workspace.database.close()


@pytest.mark.parametrize(
    ("consumer", "told"),
    [
        ("product:featurs", "an agreement is made with product 'featurs', which does not exist"),
        ("product:sales", "an agreement is made with product 'sales', the product itself"),
        (":", "expected a user's name or address, group:NAME or product:NAME"),
    ],
)
def test_an_agreement_with_nobody_is_told_at_its_place(
    mesh: Mesh, workspace: Workspace, consumer: str, told: str
) -> None:
    mesh.sales("product.yaml", SALES + AGREED.replace("nobody", f"'{consumer}'"))
    with pytest.raises(Invalid) as failure:
        current_plan(workspace)
    (problem,) = failure.value.problems
    assert told in problem.message
    assert problem.place is not None
    lines = (mesh.folder / "products/shop/sales/product.yaml").read_text().splitlines()
    assert problem.place.file == "products/shop/sales/product.yaml"
    assert f"'{consumer}'" in lines[problem.place.line - 1]
