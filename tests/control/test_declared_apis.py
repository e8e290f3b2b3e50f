"""APIs as products declare them: what a plan says of them, whom it hits, what is refused and where that is said."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.control.conftest import fill, opened
from tests.control.offered import LIMIT, MESH, NEWER, ORDERS, applied, declare, details, offering, tulle
from tests.gateway.apis.conftest import OPENAPI
from tests.pipeline.conftest import Mesh

from tulle.cli.main import cli
from tulle.config import GatewayTls
from tulle.control import destroy
from tulle.control.apply import apply_plan, current_plan, retire
from tulle.control.check_mesh import check_mesh, check_named
from tulle.control.workspace import Workspace
from tulle.errors import Denied, Invalid, Problem
from tulle.gateway import applications as registered
from tulle.gateway.apis import own_policies, records
from tulle.gateway.local_authority import issue, make_authority
from tulle.state.db import now


@pytest.fixture
def mesh(tmp_path: Path) -> Mesh:
    return offering(tmp_path / "mesh")


@pytest.fixture
def plain(mesh: Mesh) -> Iterator[Workspace]:
    """The mesh without a service that answers."""
    made = applied(mesh)
    yield made
    made.database.close()


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
