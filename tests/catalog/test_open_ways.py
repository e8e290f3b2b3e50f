"""Whom services and APIs let in beside applications and keys, and why; a page at a time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.control.test_deployments import active, with_versions
from tests.pipeline.conftest import Mesh

from tulle.catalog.open_ways import open_ways
from tulle.catalog.uses import Wanted, one_page, uses
from tulle.control import access_overview, deployment, service_access, service_policies
from tulle.control.workspace import Workspace
from tulle.errors import Invalid
from tulle.gateway.faults import Fault, write_faults
from tulle.server.lake_doors import lake_access
from tulle.serving.traffic import single
from tulle.state import products
from tulle.state.tables import service_access as said_rows

KEYS = '{"keys": [{"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "kid": "a", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}'
MESH = """
name: test
warehouse: {threads: 1, memory: 256MB}
environments: {test: {fallback: prod}, prod: {}}
policies:
  shut: {services: [orders], environments: [test], policies: [{policy: basic-auth}]}
"""
ORDERS = """
    api: orders
    versions:
    - version: v1
      service: calc
      publish: true
      access: {contracts: true, public: {limit: 5/1s, by: address}}
      environments: {test: }
    - version: v2
      service: calc
      publish: true
      policies:
      - {policy: basic-auth, groups: [Developers, Viewers], limit: 9/1s}
    - version: v3
      service: calc
      publish: true
      policies:
      - {policy: oauth2-introspection, connection: login, issuer: us, scopes: [a, b], contract: true}
    - version: v4
      service: calc
      publish: true
      policies:
      - {policy: ldap, connection: staff, base: 'dc=x', groups: [analysts], group_base: 'dc=x', operations: [{path: /who/run}]}
    - {version: v5, service: calc, access: {public: {limit: 5/1s}}}
"""


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    mesh = Mesh(Path(tmp_path_factory.mktemp("ways")) / "mesh")
    mesh.write("mesh.yaml", MESH)
    mesh.sales("apis/orders.yaml", ORDERS)
    made = with_versions(mesh, 2)
    active(made, single("v1"))
    yield made
    made.database.close()


def found(workspace: Workspace, name: str) -> set[tuple[str, str, str, str, str]]:
    documents = {item.product.name: item.product for item in products.applied(workspace.database)}
    return {
        (f"{way.by} {way.who}", way.environment, way.limits, *way.why.partition(", ")[::2])
        for way in open_ways(workspace.settings, workspace.database, documents)
        if way.service == name
    }


def test_each_way_into_an_api_is_told_with_who_says_so(workspace: Workspace) -> None:
    connection = "that connection login finds good of us with scope a, b"
    assert found(workspace, "orders") == {
        (
            "everybody without credentials",
            "prod",
            "5/1s for each address",
            "its access",
            "as version v1 says",
        ),
        (
            "everybody with a password of the mesh",
            "test",
            "the mesh's, each",
            "policy basic-auth",
            "as the mesh's set shut says",
        ),
        ("group Developers", "prod", "9/1s each", "policy basic-auth", "as version v2 says"),
        ("group Viewers", "prod", "9/1s each", "policy basic-auth", "as version v2 says"),
        (
            f"tokens {connection}",
            "prod",
            "of their contracts",
            "policy oauth2-introspection",
            "as version v3 says",
        ),
        (
            "directory staff, group analysts",
            "prod",
            "the mesh's, each",
            "policy ldap for /who/run",
            "as version v4 says",
        ),
    }


def test_a_service_is_as_its_deployment_says(workspace: Workspace) -> None:
    assert found(workspace, "calc") == set()  # applications and keys alone
    token = f"{{contracts: false, jwt: {{issuer: 'https://us', scopes: [a], jwks: {KEYS}, limit: 3/1s}}}}"
    service_access.set_access(workspace, "calc", token)
    told = ("tokens of https://us with scope a", "prod", "3/1s each")
    assert found(workspace, "calc") == {(*told, "its access", "said at its deployment")}
    service_policies.set_policies(workspace, "calc", "[{policy: public, limit: 7/1s}]")
    public = ("everybody without credentials", "prod", "7/1s together", "policy public")
    assert found(workspace, "calc") == {(*public, "said at its deployment")}
    with workspace.database.write() as cx:
        cx.execute(said_rows.update().values(access={"public": "damaged"}))
    ((who, *_, why, more),) = found(workspace, "calc")
    assert who == "others not known"
    assert "cannot be read" in f"{why}, {more}"
    deployment.end(workspace, "calc", sunset_at=1.0)
    assert found(workspace, "calc") == set()
    deployment.go_on(workspace, "calc")


def test_what_the_gateway_has_not_taken_is_told_with_what_holds_instead(workspace: Workspace) -> None:
    wanted = found(workspace, "orders")
    kept = Fault("orders@v3", "", "there is no connection 'login'", 1.0, is_kept=True)
    closed = Fault("orders@v2", "", "no such plugin", 1.0, is_kept=False)
    write_faults(workspace.settings, [kept, closed])
    told = found(workspace, "orders")
    instead = ("others whoever was let in before", "prod", "as before")
    ((why, more),) = {one[3:] for one in told if one[:3] == instead}
    assert (why, more) == ("the gateway has not taken what is wanted of it", "and it answers as before")
    changed = {one for one in told if "not in force" in one[4]}
    assert {one[4].partition(";")[0] for one in changed} == {"as version v2 says", "as version v3 says"}
    assert len(changed) == 3
    assert wanted - told == {(*one[:4], one[4].removesuffix("; wanted, and not in force")) for one in changed}
    write_faults(workspace.settings, [])
    assert found(workspace, "orders") == wanted


def test_they_are_among_who_may_use_what_a_page_at_a_time(workspace: Workspace) -> None:
    mesh = workspace.settings, workspace.database
    every = uses(*mesh)
    assert {use.name for use in every if use.is_open_way} >= {"orders"}
    seen, after = [], ""
    while True:
        some, next_ = one_page(*mesh, Wanted(), after=after, limit=2)
        seen += some
        assert len(some) <= 2
        if next_ is None:
            break
        after = next_
    assert tuple(seen) == every
    for wrong in ("x", "ä", "W10=", "bm8="):
        with pytest.raises(Invalid, match="no place where a page ended"):
            one_page(*mesh, Wanted(), after=wrong, limit=2)
    access = lake_access(workspace.settings, workspace.database)
    told, next_ = access_overview.overview(workspace, access, api="orders", user="stranger", limit=3)
    assert [use.is_open_way for use in told] == [True, True, True]
    assert next_ is not None
    rest, last = access_overview.overview(workspace, access, api="orders", user="stranger", after=next_)
    assert (len(rest), last) == (3, None)
