"""Managed APIs through the doors: declared and applied, published, bound, ended; who sees them and who may change them."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from sqlalchemy import Connection, update
from tests.control.conftest import fill, opened
from tests.control.test_approvals import Office
from tests.control.test_deployments import active, with_versions
from tests.control.test_switchboard import Board
from tests.gateway.apis.conftest import OPENAPI
from tests.pipeline.conftest import Mesh

from tulle.cli.main import cli
from tulle.config import GatewayTls
from tulle.control import (
    access_requests,
    api_bindings,
    api_documents,
    api_lives,
    api_policies,
    apis,
    applications,
    deployment,
    destroy,
)
from tulle.control.apply import apply_plan, current_plan, retire
from tulle.control.check_mesh import check_mesh, check_named
from tulle.control.workspace import Workspace
from tulle.errors import Conflict, Denied, Invalid, NotFound, Problem
from tulle.gateway import applications as registered
from tulle.gateway.admitted import policy_of
from tulle.gateway.apis import own_policies, records
from tulle.gateway.apis.instance import instances, managed_instances
from tulle.gateway.apis.sight import Sight
from tulle.gateway.local_authority import issue, make_authority
from tulle.gateway.policy import RateLimit
from tulle.lake.access import Access, people
from tulle.server.lake_doors import lake_access
from tulle.serving.traffic import single, split
from tulle.state import log
from tulle.state.db import now
from tulle.state.tables import api_versions

ORDERS = """
    api: orders
    title: Orders
    summary: What was ordered.
    docs: [guide.md]
    tags: [shop]
    versions:
    - {version: v1, service: calc, publish: true, environments: {test: }}
    - version: v2
      upstream: https://orders.example.com/base
      openapi: orders.openapi.yaml
"""
NEWER = OPENAPI.replace("/items/{id}", "/things/{id}")
MESH = (
    "name: test\nwarehouse: {threads: 1, memory: 256MB}\nenvironments: {test: {fallback: prod}, prod: {}}\n"
)
LIMIT = RateLimit(1, 1000)


def declare(mesh: Mesh, text: str = ORDERS) -> None:
    mesh.sales("apis/orders.yaml", text)
    mesh.sales("apis/guide.md", "# How\n")
    mesh.sales("apis/orders.openapi.yaml", OPENAPI)


@pytest.fixture
def mesh(tmp_path: Path) -> Mesh:
    made = Mesh(tmp_path / "mesh")
    made.write("mesh.yaml", MESH)
    declare(made)
    return made


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
    fill(mesh)
    mesh.sales(
        "services/calc.yaml", "service: calc\nendpoints:\n- {name: who, type: function, file: who.py}\n"
    )
    mesh.sales("functions/who.py", "def who() -> dict:\n    return {}\n")
    made = opened(mesh)
    apply_plan(made)
    yield made
    made.database.close()


def tulle(mesh: Mesh, *args: str, fails: bool = False) -> str:
    done = CliRunner().invoke(cli, ["--mesh", str(mesh.folder), "api", *args])
    assert (done.exit_code != 0) == fails, (done.output, done.exception)
    return done.output if done.exception is None else str(done.exception)


def seeing(workspace: Workspace) -> Access:
    return lake_access(workspace.settings, workspace.database)


def details(workspace: Workspace) -> dict[str, tuple[bool, tuple[str, ...]]]:
    plan, _ = current_plan(workspace)
    return {d.sentence: (d.breaking, d.hits) for step in plan.steps for d in step.details}


# ── declared, planned, applied ───────────────────────────────────────────────────────────────────────────


def test_a_plan_tells_what_becomes_of_apis_and_whom_it_hits(mesh: Mesh, plain: Workspace) -> None:
    assert current_plan(plain)[0].steps == ()
    registered.register(plain.database, "shop-app", services={"orders": LIMIT})
    mesh.sales("apis/orders.openapi.yaml", NEWER)
    found = details(plain)
    assert found["API orders v2: GET /items/{id} is removed"] == (
        True,
        ("applications with a contract on 'orders': shop-app",),
    )
    assert found["API orders v2: GET /things/{id} is added"] == (False, ())
    apply_plan(plain)
    assert json.loads(records.openapi_text(plain.database, "orders", "v2") or "")["paths"].keys() == {
        "/items",
        "/things/{id}",
    }
    (mesh.folder / "products/shop/sales/apis/orders.yaml").unlink()
    assert details(plain)["API 'orders' is removed: its contracts end"][1] == (
        "applications with a contract on 'orders': shop-app",
    )
    apply_plan(plain)
    assert records.recorded(plain.database) == ()
    (application,) = registered.applications(plain.database)
    assert application.contracts == ()


def test_a_plan_tells_what_differs_within_operations(mesh: Mesh, plain: Workspace) -> None:
    registered.register(plain.database, "shop-app", services={"orders": LIMIT})
    needed = "{get: {parameters: [{name: shop, in: query, required: true}], responses: {}}}"
    mesh.sales(
        "apis/orders.openapi.yaml",
        OPENAPI.replace("/items/{id}: {get: {responses: {}}}", f"/items/{{id}}: {needed}"),
    )
    told = "API orders v2: GET /items/{id}: query parameter 'shop' is taken, and needed"
    assert details(plain)[told] == (True, ("applications with a contract on 'orders': shop-app",))
    many = ", ".join(f"{{name: p{n}, in: query}}" for n in range(40))
    more = f"{{get: {{parameters: [{many}], responses: {{}}}}}}"
    mesh.sales(
        "apis/orders.openapi.yaml",
        OPENAPI.replace("/items/{id}: {get: {responses: {}}}", f"/items/{{id}}: {more}"),
    )
    assert details(plain)["API orders v2: 10 further differences of its operations"] == (False, ())


def test_a_plan_tells_where_policies_set_by_hand_hide_those_of_the_file(mesh: Mesh, plain: Workspace) -> None:
    for place in ("", "test"):
        own_policies.set_policies(plain.database, "orders", "v1", place, [{"policy": "basic-auth"}])
    limited = "service: calc, policies: [{policy: ip-deny, addresses: [192.0.2.1]}]"
    declare(mesh, ORDERS.replace("service: calc", limited))
    told = "API orders v1: those set by hand in '{0}' hold there all the same (`tulle api policies orders v1 --env {0} --reset` takes the file's)"
    found = details(plain)
    assert "API orders v1: its policies changed (now ip-deny)" in found
    assert {told.format("prod"), told.format("test")} <= found.keys()
    own_policies.set_policies(plain.database, "orders", "v1", "test", None)
    assert {told.format("prod")} == {one for one in details(plain) if "by hand" in one}
    declare(mesh, ORDERS.replace("title: Orders", "title: Others"))
    assert list(details(plain)) == ["API orders: its title changed", "apis/orders.yaml changed"]


def test_validate_tells_which_hosts_the_certificate_is_not_for(mesh: Mesh, plain: Workspace) -> None:
    hosts = "{version: v1, hosts: [api.shop.example, x.else.example], service: calc, publish: true, environments: {test: {hosts: [t.else.example]}}}"
    declare(
        mesh,
        ORDERS.replace("{version: v1, service: calc, publish: true, environments: {test: }}", hosts),
    )

    def told(tls: GatewayTls | None) -> list[tuple[int, str, str | None]]:
        plain.settings = replace(plain.settings, gateway_tls=tls)
        verdict = check_mesh(plain)
        assert verdict.problems == ()
        return [(one.place.column if one.place else 0, one.message, one.hint) for one in verdict.warnings]

    text = (mesh.folder / "products/shop/sales/apis/orders.yaml").read_text()
    (line,) = (one for one in text.splitlines() if "version: v1" in one)
    at = {name: line.index(name) + 1 for name in ("api.shop.example", "x.else.example", "t.else.example")}

    def lacks(name: str, hint: str) -> tuple[int, str, str]:
        return at[name], f"the gateway's certificate is not for {name}", hint

    assert told(None) == []
    added = "name it in gateway_tls.names, and give callers .tulle/tls/authority.pem anew"
    assert told(GatewayTls(self_signed=True, names=("shop.example",))) == [
        lacks("x.else.example", added),
        lacks("t.else.example", added),
    ]
    own = GatewayTls(certificate="mesh.pem", key="mesh.key")
    ((_, message, _),) = told(own)
    assert message.startswith("whether callers believe the gateway at api.shop.example is not known: ")
    assert message.endswith("mesh.pem cannot be read: No such file or directory")
    authority = make_authority("somebody", ("shop.example", "else.example"), now())
    pair = issue(authority, ("*.shop.example", "x.else.example"), now(), 86_400.0)
    mesh.write("mesh.pem", pair.certificate)  # the key is not asked for: whoever checks may not have it
    assert told(own) == [lacks("t.else.example", "put a certificate in place that is for it")]
    mesh.write("mesh.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    ((_, message, hint),) = told(own)
    assert (message.endswith("mesh.pem holds no certificate"), hint) == (True, "expected PEM")


def test_a_product_that_is_new_tells_of_its_apis(mesh: Mesh) -> None:
    workspace = opened(fill(mesh))
    assert "API 'orders' is added, with v1, v2" in details(workspace)
    workspace.database.close()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (ORDERS.replace("service: calc", "service: clac"), "there is no service 'clac'"),
        (ORDERS.replace("test: }", "tset: }"), "there is no environment 'tset'"),
        (ORDERS.replace("https://orders", "http://orders"), "is spoken to without TLS"),
        (ORDERS.replace("orders.example.com", "10.0.0.7"), "APIs may not reach 10.0.0.7:443"),
        (ORDERS.replace("orders.example.com", "localhost"), "APIs may not reach localhost:443"),
        (
            ORDERS.replace("version: v2", "version: v2\n      path: /orders/v1"),
            "would both be at '/orders/v1'",
        ),
    ],
)
def test_what_cannot_be_is_refused_before_it_is_applied(
    mesh: Mesh, plain: Workspace, text: str, told: str
) -> None:
    declare(mesh, text)
    found = [str(problem) for problem in check_mesh(plain).problems]
    assert len(found) == 1
    assert told in found[0]
    assert found[0].startswith("products/shop/sales/apis/orders.yaml:")
    with pytest.raises((Invalid, Denied)):
        apply_plan(plain)
    assert records.find(plain.database, "orders").lives["v1"].status == "published"


def test_private_addresses_are_led_to_where_the_mesh_names_them(mesh: Mesh) -> None:
    mesh.write("mesh.yaml", MESH + "source_addresses: ['10.0.0.0/8', 'erp.internal:8080']\n")
    declare(mesh, ORDERS.replace("https://orders.example.com/base", "http://10.0.0.7"))
    mesh.sales(
        "apis/erp.yaml",
        "api: erp\nversions: [{version: v1, upstream: 'http://erp.internal:8080', undeclared: allow}]\n",
    )
    workspace = opened(fill(mesh))
    told = [str(problem) for problem in check_mesh(workspace).problems]
    assert len(told) == 1  # the service that ORDERS names is not declared here
    assert "there is no service 'calc'" in told[0]
    workspace.database.close()


def test_two_products_cannot_have_one_api(mesh: Mesh, plain: Workspace) -> None:
    mesh.features("apis/orders.yaml", "api: orders\nversions: [{version: v9, path: /elsewhere}]\n")
    told = [str(problem) for problem in check_mesh(plain).problems]
    assert len(told) == 1
    assert "is also declared by product" in told[0]


def test_nobody_takes_the_name_or_the_address_of_an_api_in_force(mesh: Mesh, plain: Workspace) -> None:
    """Though the other's file is not looked at, as nothing in it changed."""
    mesh.features("apis/aaa.yaml", "api: aaa\nversions: [{version: v1, path: /orders/v1}]\n")
    mesh.features("apis/orders.yaml", "api: orders\nversions: [{version: v9, path: /elsewhere}]\n")
    expected = ["would both be at '/orders/v1'", "is also declared by product 'sales'"]

    def are_told(problems: Sequence[Problem]) -> None:
        told = sorted(str(problem) for problem in problems)
        assert len(told) == 2
        for one, what, name in zip(told, expected, ("aaa", "orders"), strict=True):
            assert what in one
            assert one.startswith(f"products/people/features/apis/{name}.yaml:")

    are_told(current_plan(plain)[0].refusals)
    are_told(check_named(plain, ["features"]).problems)
    with pytest.raises(Denied) as refused:
        apply_plan(plain)
    are_told(refused.value.problems)
    mesh.sales("apis/orders.yaml", "api: [broken\n")  # which gives up nothing
    found = [str(one) for one in check_named(plain, ["features"]).problems]
    assert len(found) == 2
    assert "would both be at '/orders/v1'" in " ".join(found)
    declare(mesh, ORDERS.replace("service: calc", "service: calc, path: /new"))
    (mesh.folder / "products/people/features/apis/orders.yaml").unlink()
    apply_plan(plain)  # its owner has given the address up
    assert {one.name for one in records.recorded(plain.database)} == {"aaa", "orders"}


def test_what_a_retired_or_destroyed_product_offered_ends(mesh: Mesh, plain: Workspace) -> None:
    registered.register(plain.database, "shop-app", services={"orders": LIMIT})
    found = destroy.preview(plain, "sales")
    assert "API 'orders' ends, and the contracts of applications shop-app" in [
        s.sentence for s in found.steps
    ]
    assert "application shop-app" in found.affected
    retire(plain, "sales")
    assert records.recorded(plain.database) == ()
    assert registered.applications(plain.database)[0].contracts == ()


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


def test_a_host_that_the_certificate_is_not_for_is_told_where_it_is_said(mesh: Mesh) -> None:
    fill(mesh)
    mesh.sales(
        "services/calc.yaml", "service: calc\nendpoints:\n- {name: who, type: function, file: who.py}\n"
    )
    mesh.sales("functions/who.py", "def who() -> dict:\n    return {}\n")
    mesh.write("mesh.yaml", MESH + "gateway_tls: {self_signed: true, names: [example.com]}\n")
    declare(mesh, ORDERS.replace("service: calc,", "service: calc, hosts: [a.example.com, a.example.org],"))
    lacking = "the gateway's certificate is not for a.example.org: name it in gateway_tls.names"
    done = CliRunner().invoke(cli, ["--mesh", str(mesh.folder), "apply"])
    assert done.exit_code == 0, (done.output, done.exception)
    assert "✓ applied" in done.output
    assert f"! {lacking}" in done.output
    assert lacking in tulle(mesh, "show", "orders")
