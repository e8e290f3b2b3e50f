"""Managed APIs through the doors: published, bound, ended; who sees them and who may change them."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from sqlalchemy import Connection, update
from tests.control.offered import LIMIT, MESH, ORDERS, applied, declare, details, offering, tulle
from tests.control.test_approvals import Office
from tests.control.test_deployments import active, with_versions
from tests.control.test_switchboard import Board
from tests.pipeline.conftest import Mesh

from tulle.cli.main import cli
from tulle.control import (
    access_requests,
    api_bindings,
    api_documents,
    api_lives,
    api_policies,
    apis,
    applications,
    deployment,
)
from tulle.control.apply import apply_plan, current_plan
from tulle.control.workspace import Workspace
from tulle.errors import Conflict, Denied, Invalid, NotFound
from tulle.gateway import applications as registered
from tulle.gateway.admitted import policy_of
from tulle.gateway.apis import own_policies, records
from tulle.gateway.apis.instance import instances, managed_instances
from tulle.gateway.apis.sight import Sight
from tulle.lake.access import Access, people
from tulle.server.lake_doors import lake_access
from tulle.serving.traffic import single, split
from tulle.state import log
from tulle.state.db import now
from tulle.state.tables import api_versions


@pytest.fixture
def mesh(tmp_path: Path) -> Mesh:
    return offering(tmp_path / "mesh")


@pytest.fixture
def calc(mesh: Mesh) -> Iterator[Workspace]:
    """The mesh with two versions of a service, whose first answers consumers, and an API over it."""
    made = with_versions(mesh, 2)
    active(made, single("v1"))
    yield made
    made.database.close()


@pytest.fixture
def plain(mesh: Mesh) -> Iterator[Workspace]:
    """The mesh without a service that answers."""
    made = applied(mesh)
    yield made
    made.database.close()


def seeing(workspace: Workspace) -> Access:
    return lake_access(workspace.settings, workspace.database)


# ── contracts ────────────────────────────────────────────────────────────────────────────────────────────


def test_contracts_are_made_for_apis_that_take_them(plain: Workspace) -> None:
    applications.create(plain, "shop-app", owner="ann", services={"orders": "5/1s"})
    with pytest.raises(NotFound, match="'ordres'"):
        applications.create(plain, "other-app", owner="ann", services={"ordres": None})
    records.set_life(
        plain.database,
        "orders",
        "v1",
        records.Life("deprecated", 1.0, 2.0),
        before=records.find(plain.database, "orders").lives["v1"],
    )
    with pytest.raises(Conflict, match="takes no new contracts"):
        applications.create(plain, "other-app", owner="ann", services={"orders": None})
    applications.change_contract(plain, "shop-app", "orders", LIMIT)  # one that there is may change
    applications.create(plain, "calc-app", owner="ann", services={"calc": None})


# ── the life of a version ────────────────────────────────────────────────────────────────────────────────


def status(workspace: Workspace, version: str) -> str:
    return records.find(workspace.database, "orders").lives[version].status


def test_a_version_lives_and_ends(plain: Workspace) -> None:
    assert status(plain, "v2") == "draft"
    with pytest.raises(Conflict, match="is a draft, so there is nobody to tell"):
        api_lives.deprecate(plain, "orders", "v2")
    found = api_lives.publish(plain, "orders", "v2", actor="ann")
    assert found["versions"][1]["status"] == "published"
    tomorrow = dt.datetime.now(dt.UTC).date() + dt.timedelta(days=2)
    with pytest.raises(Invalid, match="is not in the future"):
        api_lives.deprecate(plain, "orders", "v1", sunset=dt.date(2020, 1, 1))
    with pytest.raises(Invalid, match="cannot come after itself"):
        api_lives.deprecate(plain, "orders", "v1", successor="v1")
    with pytest.raises(NotFound, match="no version 'v3'"):
        api_lives.deprecate(plain, "orders", "v1", successor="v3")
    api_lives.deprecate(plain, "orders", "v1", sunset=tomorrow, successor="v2")
    since = records.find(plain.database, "orders").lives["v1"].deprecated_at
    api_lives.deprecate(plain, "orders", "v1", sunset=tomorrow + dt.timedelta(days=1))
    life = records.find(plain.database, "orders").lives["v1"]
    assert (life.deprecated_at, life.successor) == (since, "")
    registered.register(plain.database, "shop-app", services={"orders": LIMIT})
    with pytest.raises(Denied, match="is not retired before its sunset") as caught:
        api_lives.retire(plain, "orders", "v1")
    assert [p.message for p in caught.value.problems] == ["application 'shop-app' has a contract on it"]
    with plain.database.write() as connection:
        passed = update(api_versions).where(api_versions.c.version == "v1").values(sunset_at=now() - 1)
        connection.execute(passed)
    assert not records.find(plain.database, "orders").lives["v1"].takes_contracts(now())
    api_lives.retire(plain, "orders", "v1")
    api_lives.retire(plain, "orders", "v1")  # a second time changes nothing
    assert status(plain, "v1") == "retired"
    api_lives.publish(plain, "orders", "v1")
    assert records.find(plain.database, "orders").lives["v1"].sunset_at is None
    api_lives.retire(plain, "orders", "v1", force=True)
    kinds = [e.data["status"] for e in log.read(plain.database, subject="api:orders")]
    assert kinds == [
        "published",
        "draft",
        "published",
        "deprecated",
        "deprecated",
        "retired",
        "published",
        "retired",
    ]


# ── what answers ─────────────────────────────────────────────────────────────────────────────────────────


def test_an_instance_is_bound_to_a_running_service_and_back(
    calc: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    board = Board(calc, monkeypatch)
    board.refused = single("v9")  # nothing of what is here
    board.it.settle()

    def served() -> dict[str, tuple[str, str]]:
        fronts = {s.path: (s.front, s.traffic) for s in board.published[-1].services}
        return {
            path: (front.serves, str(traffic))
            for path, (front, traffic) in fronts.items()
            if front is not None
        }

    assert served() == {"orders@v1": ("calc", "v1"), "test/orders@v1": ("", "None")}
    with pytest.raises(Conflict, match="generation 'v2' of 'calc' does not run"):
        api_bindings.bind(calc, "orders", "v1", "service:calc@v2")
    active(calc, split({"v1": 0.9, "v2": 0.1}))
    api_bindings.bind(calc, "orders", "v1", "service:calc@v2", actor="ann")
    board.it.settle()
    assert served()["orders@v1"] == ("calc", "v2")
    shown = apis.shown(calc, "orders")["versions"][0]["instances"][0]
    assert (shown["target"], shown["declared_target"], shown["bound_by"]) == (
        "service:calc@v2",
        "service:calc",
        "ann",
    )
    api_bindings.unbind(calc, "orders", "v1", reason="mended")
    board.it.settle()
    assert served()["orders@v1"] == ("", "None")
    api_bindings.bind(calc, "orders", "v1", "https://calc.example.com")
    board.it.settle()
    (one,) = [s for s in board.published[-1].services if s.path == "orders@v1"]
    assert one.front is not None
    assert one.front.external is not None
    assert [u.url for u in one.front.external.upstreams] == ["https://calc.example.com"]
    few = [{"policy": "concurrency-limit", "requests": 5}]  # holds for an external service alone
    own_policies.set_policies(calc.database, "orders", "v1", "", few)
    for to in (None, "service:calc@v2"):
        with pytest.raises(Conflict, match="'concurrency-limit' is of the workers of 'calc'") as caught:
            api_bindings.bind(calc, "orders", "v1", to)
        assert caught.value.hint == "take it from the policies of orders v1 first"
    own_policies.set_policies(calc.database, "orders", "v1", "", None)
    api_bindings.bind(calc, "orders", "v1", None)
    with pytest.raises(Invalid) as wrong:
        api_policies.set_policies(calc, "orders", "v1", json.dumps(few))
    assert [one.message for one in wrong.value.problems] == [
        "'concurrency-limit' is of the workers of 'calc', not of an API over them"
    ]
    board.it.settle()
    assert served()["orders@v1"] == ("calc", "v1 90%, v2 10%")
    with pytest.raises(Conflict, match="does not answer in 'test'"):
        api_bindings.bind(calc, "orders", "v1", "service:calc", environment="test")
    with pytest.raises(NotFound, match="is not in the environment 'test'"):
        api_bindings.unbind(calc, "orders", "v2", environment="test")
    with pytest.raises(Denied, match=r"may not reach 127\.0\.0\.1"):
        api_bindings.bind(calc, "orders", "v1", "https://127.0.0.1:8080")
    with pytest.raises(Invalid, match="no address of an HTTP service"):
        api_bindings.bind(calc, "orders", "v1", "calc")
    calc.database.close()


def test_operations_and_documents_are_those_of_who_answers(mesh: Mesh, calc: Workspace) -> None:
    assert [(one["method"], one["path"]) for one in api_documents.operations(calc, "orders", "v2")] == [
        ("GET", "/items"),
        ("POST", "/items"),
        ("GET", "/items/{id}"),
    ]
    document = api_documents.openapi(calc, "orders", "v2")
    assert document["servers"] == [{"url": "http://127.0.0.1:8000/orders/v2"}]
    assert list(document["components"]["securitySchemes"]) == ["clientId", "clientSecret", "apiKey", "basic"]
    assert ("POST", "/who/run") in [
        (one["method"], one["path"]) for one in api_documents.operations(calc, "orders", "v1")
    ]
    assert api_documents.openapi(calc, "orders", "v1", "test")["servers"][0]["url"].endswith(
        "/test/orders/v1"
    )
    found = [change.sentence for change in api_documents.diff(calc, "orders", "v2", "v1")]
    assert found[0] == "GET /items is removed"
    assert "POST /who/run is added" in found


# ── the doors ────────────────────────────────────────────────────────────────────────────────────────────


def test_the_commands_show_and_change(mesh: Mesh, calc: Workspace) -> None:
    listed = tulle(mesh, "list")
    assert "orders  sales" in listed
    assert "v1 published, v2 draft" in listed
    assert [one["name"] for one in json.loads(tulle(mesh, "list", "--json"))] == ["calc", "orders"]
    assert json.loads(tulle(mesh, "list", "--tag", "shop", "--json"))[0]["name"] == "orders"
    shown = tulle(mesh, "show", "orders")
    assert "prod: /orders/v1 → service:calc" in shown
    assert "test: /test/orders/v1 → service:calc" in shown
    assert "calc" in tulle(mesh, "show", "calc")
    assert "v2       draft" in tulle(mesh, "versions", "orders")
    assert "GET     /items/{id}" in tulle(mesh, "operations", "orders", "v2")
    assert json.loads(tulle(mesh, "openapi", "orders", "v2"))["openapi"] == "3.1.0"
    assert "breaking: GET /items is removed" in tulle(mesh, "diff", "orders", "v2", "v1")
    assert "the same to their callers" in tulle(mesh, "diff", "orders", "v2", "v2")
    done = CliRunner().invoke(
        cli, ["--mesh", str(mesh.folder), "api", "diff", "orders", "v2", "v1", "--exit-code"]
    )
    assert done.exit_code == 2
    assert "orders v2 is published" in tulle(mesh, "publish", "orders", "v2")
    assert "ends on 2999-01-31" in tulle(
        mesh, "deprecate", "orders", "v1", "--sunset", "2999-01-31", "--successor", "v2"
    )
    assert "deprecated, ends on 2999-01-31, v2 comes after it" in tulle(mesh, "show", "orders")
    assert "is no date" in tulle(mesh, "deprecate", "orders", "v1", "--sunset", "soon", fails=True)
    assert "not retired before its sunset" in tulle(mesh, "retire", "orders", "v1", fails=True)
    assert "is retired" in tulle(mesh, "retire", "orders", "v1", "--force")
    assert "is bound to nothing" in tulle(mesh, "unbind", "orders", "v2", "--reason", "mended")
    assert "bound by hand" in tulle(mesh, "show", "orders")
    assert "is bound to https://b.example" in tulle(mesh, "bind", "orders", "v2", "--to", "https://b.example")
    bound = json.loads(tulle(mesh, "bind", "orders", "v2", "--json"))
    assert bound["versions"][1]["instances"][0]["bound_by_hand"] is False
    assert "there is no API 'order'" in tulle(mesh, "show", "order", fails=True)
    assert "no version 'v7'" in tulle(mesh, "operations", "orders", "v7", fails=True)


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    made = Office(tmp_path / "office")
    yield made
    made.close()


def test_who_may_see_and_who_may_change(office: Office) -> None:
    file = office.team.mesh.folder / "products/shop/sales/apis/orders.yaml"
    file.parent.mkdir()

    def offer(visibility: str) -> None:
        file.write_text(
            f"api: orders\nvisibility: {visibility}\n"
            "versions: [{version: v1, upstream: 'https://a.example', undeclared: allow}]\n"
        )
        apply_plan(office.workspace)

    def sees(name: str) -> bool:
        found = office.call("GET", "/apis", credential=office.basic(name)).json()["apis"]
        answer = office.call("GET", "/apis/orders", credential=office.basic(name))
        assert (answer.status_code == 200) == (found != [])
        return bool(found)

    offer("public")
    assert sees("vic")
    body = {"to": "https://b.example"}
    path = "/apis/orders/versions/v1"
    assert office.call("PUT", f"{path}/binding", body, credential=office.basic("vic")).status_code == 403
    assert office.call("POST", f"{path}/publish", credential=office.basic("vic")).status_code == 403
    assert office.call("PUT", f"{path}/binding", body, credential=office.basic("ann")).status_code == 200
    assert (
        office.call("PUT", f"{path}/binding", {"to": "x", "odd": 1}, credential=office.mesh()).status_code
        == 422
    )
    assert office.call("GET", "/apis-schema", credential=office.mesh()).json()["required"] == [
        "api",
        "versions",
    ]
    answer = office.call("POST", f"{path}/unbind", {"reason": "x" * 501}, credential=office.mesh())
    assert answer.status_code == 422
    assert "the reason has 501 characters" in answer.text


def test_who_has_no_part_in_a_product_sees_what_is_offered_to_them(office: Office) -> None:
    def stranger(cx: Connection) -> None:
        people.add_user(cx, "kim")
        people.add_group(cx, "Analysts")
        people.add_member(cx, "Analysts", "kim")

    office.access.change("", "access.user.created", "user/kim", stranger)
    office.keys["kim"] = office.access.create_key("", "kim")
    file = office.team.mesh.folder / "products/shop/sales/apis/orders.yaml"
    file.parent.mkdir()
    for visibility, expected in [
        ("public", True),
        ("private", False),
        ("{domains: [shop]}", False),
        ("{roles: [Analysts]}", True),
        ("{roles: [Others]}", False),
    ]:
        file.write_text(
            f"api: orders\nvisibility: {visibility}\n"
            "versions: [{version: v1, upstream: 'https://a.example', undeclared: allow}]\n"
        )
        apply_plan(office.workspace)
        answers = [
            office.call("GET", f"/apis/orders{path}", credential=office.basic("kim"))
            for path in ("", "/versions/v1/operations", "/diff?before=v1&after=v1")
        ]
        # what is hidden is as what is not there; it has no OpenAPI document, of which those who see it are told
        told = [answer.text for answer in answers]
        assert ("there is no API 'orders'" in told[0]) is not expected, visibility
        assert ["has no OpenAPI document" in one for one in told[1:]] == [expected] * 2, visibility
        found = office.call("GET", "/apis", credential=office.basic("kim")).json()["apis"]
        assert bool(found) == expected, visibility


def test_a_hidden_api_is_asked_for_as_one_that_is_not_there(office: Office) -> None:
    office.access.change("", "access.user.created", "user/kim", lambda cx: people.add_user(cx, "kim"))
    office.keys["kim"] = office.access.create_key("", "kim")
    file = office.team.mesh.folder / "products/shop/sales/apis/secretly.yaml"
    file.parent.mkdir()
    tiers = "tiers: [{name: free, limits: [5/1s], approval: automatic}]"
    version = "{version: v1, upstream: 'https://a.example', undeclared: allow, publish: true}"
    file.write_text(f"api: secretly\nvisibility: private\n{tiers}\nversions: [{version}]\n")
    apply_plan(office.workspace)
    for who in ("kim", "ann"):
        made = office.call("POST", "/applications", {"name": f"{who}-app"}, credential=office.basic(who))
        assert made.status_code == 201

    def told(name: str, who: str) -> list[tuple[int, str]]:
        asked = {"application": f"{who}-app", "api": name, "purpose": "to see"}
        answers = (
            office.call("POST", "/contracts", asked, credential=office.basic(who)),
            office.call("GET", f"/services/{name}/offer", credential=office.basic(who)),
            office.call("GET", f"/access?service={name}", credential=office.basic(who)),
            office.call("GET", f"/apis/{name}", credential=office.basic(who)),
        )
        return [(one.status_code, one.text.replace(name, "…").partition("requestId")[0]) for one in answers]

    assert told("secretly", "kim") == told("somewhat", "kim")
    assert [status for status, _ in told("secretly", "kim")] == [404] * 4
    assert "secretly" not in office.call("GET", "/apis/secretl", credential=office.basic("kim")).text
    assert [status for status, _ in told("secretly", "ann")] == [201, 200, 200, 200]


def test_a_contract_for_a_product_opens_no_hidden_api(mesh: Mesh, plain: Workspace) -> None:
    registered.register(plain.database, "shop-app")
    of_product = access_requests.Asked("shop-app", "sales", "product", purpose="all of it")
    made = access_requests.ask(plain, seeing(plain), of_product, by="ann")
    access_requests.decide(plain, seeing(plain), made.id, "approve")

    def opened() -> list[str]:
        found = list(instances(records.recorded(plain.database), {"prod": ""}))
        deployed = managed_instances(found, {}, {}, largest_request=1, usual_limit="1/1s")
        return [one.service for one in policy_of(plain.database, deployed).contracts]

    assert opened() == ["orders"]
    declare(mesh, ORDERS.replace("tags: [shop]", "visibility: private"))
    apply_plan(plain)
    assert opened() == []


def test_an_api_is_what_it_is_told_to_be(plain: Workspace) -> None:
    found, next_ = apis.listed(plain, Sight(plain.database, seeing(plain)).of(None))
    (one,) = found
    assert next_ is None
    assert (one["title"], one["summary"], one["declared"]) == ("Orders", "What was ordered.", True)
    assert apis.shown(plain, "orders")["pages"] == [{"file": "guide.md", "text": "# How\n"}]


def test_policies_of_the_mesh_hold_for_apis_by_their_tags(
    mesh: Mesh, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = "policies:\n  small: {tags: [shop], policies: [{policy: body-limit, max_bytes: 100}]}\n"
    mesh.write("mesh.yaml", MESH + told)
    workspace = with_versions(mesh, 1)
    active(workspace, single("v1"))
    board = Board(workspace, monkeypatch)
    board.refused = single("v9")
    board.it.settle()
    found = {s.path: [p.kind for p in s.policies] for s in board.published[-1].services}
    assert found["orders@v1"] == ["body-limit"]
    assert found["calc"] == []
    workspace.database.close()


def test_access_is_asked_for_under_a_tier_as_long_as_the_api_takes_contracts(
    mesh: Mesh, plain: Workspace
) -> None:
    tiers = "tiers: [{name: free, limits: [5/1s, 100/1d], approval: automatic}, {name: gold, limits: [9/1s]}]\n    terms: {version: '1', text: Be kind.}"
    declare(mesh, ORDERS.replace("tags: [shop]", f"tags: [shop]\n    {tiers}"))
    found = details(plain)
    assert found["API orders: tier 'free' is offered: 5/1s + 100/1d"] == (False, ())
    apply_plan(plain)
    registered.register(plain.database, "shop-app")
    asked = access_requests.Asked("shop-app", "orders", tier="free", purpose="to sell", terms="1")
    registered.register(plain.database, "gold-app")
    waits = access_requests.Asked("gold-app", "orders", tier="gold", purpose="to sell", terms="1")
    waiting = access_requests.ask(plain, seeing(plain), waits)
    made = access_requests.ask(plain, seeing(plain), asked, by="ann")
    assert (made.state, made.tier) == ("approved", "free")
    deployed = managed_instances(
        list(instances(records.recorded(plain.database), {"prod": ""})),
        {},
        {},
        largest_request=1,
        usual_limit="1/1s",
    )
    (held,) = policy_of(plain.database, deployed).contracts
    assert (held.service, [str(limit) for limit in held.windows]) == ("orders", ["5/1s", "100/1d"])
    declare(mesh)
    plan, _ = current_plan(plain)
    assert "tier 'free' of API 'orders' is taken out, and 1 contract is under it" in plan.refusals[0].message
    api_lives.retire(plain, "orders", "v1", force=True)
    registered.register(plain.database, "late-app")
    late = access_requests.Asked("late-app", "orders", tier="free", purpose="to sell", terms="1")
    with pytest.raises(Conflict, match="takes no new contracts"):
        access_requests.ask(plain, seeing(plain), late)
    with pytest.raises(Conflict, match="takes no new contracts"):
        access_requests.decide(plain, seeing(plain), waiting.id, "approve")
    access_requests.decide(plain, seeing(plain), made.id, "revoke")
    with pytest.raises(Conflict, match="takes no new contracts"):
        access_requests.decide(plain, seeing(plain), made.id, "restore")
    said = access_requests.Said(reason="it ends")
    assert access_requests.decide(plain, seeing(plain), waiting.id, "reject", said).state == "rejected"


def test_a_service_past_its_sunset_takes_nobody_new(calc: Workspace) -> None:
    applications.create(calc, "early-app", owner="ann", services={"calc": None})
    deployment.end(calc, "calc")
    applications.create(calc, "warned-app", owner="ann", services={"calc": None})  # it has no date yet
    deployment.end(calc, "calc", sunset_at=86_400.0, successor="calc")
    assert apis.shown(calc, "calc")["versions"][0]["takes_contracts"] is False
    with pytest.raises(Conflict, match="takes no new contracts: it ended on 1970-01-02") as refused:
        applications.create(calc, "late-app", owner="ann", services={"calc": None})
    assert refused.value.hint == "'calc' comes after it"
    applications.change_contract(calc, "early-app", "calc", [LIMIT])  # one that there is may change
    asked = access_requests.Asked("early-app", "calc", tier="standard", purpose="to try", environment="test")
    assert access_requests.ask(calc, seeing(calc), asked).state == "pending"  # where it has not ended
    deployment.go_on(calc, "calc")
    applications.create(calc, "late-app", owner="ann", services={"calc": None})


def test_how_an_api_is_and_what_it_promises(mesh: Mesh, plain: Workspace) -> None:
    declare(
        mesh, ORDERS.replace("tags: [shop]", "tags: [shop]\n    objectives: {availability: 99.5, p95: 250}")
    )
    apply_plan(plain)
    shown = tulle(mesh, "status", "orders")
    assert "availability 99.5%: not known yet" in shown
    assert "last hour: nobody asked" in shown
    told = json.loads(tulle(mesh, "status", "orders", "--json"))
    assert [(one["measure"], one["promised"]) for one in told["objectives"]] == [
        ("availability", 99.5),
        ("p95", 250.0),
    ]
