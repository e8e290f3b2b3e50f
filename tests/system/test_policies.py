"""Policies from a services file to the real gateway: with the package, at the deployment, and those of the mesh."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from tests.system.conftest import Mesh, free_port

from tulle.spec.skeleton import mesh_files, product_files

BOOK = """
service: order-book
policies:
  - policy: cors
    origins: ['https://app.example.com']
  - policy: header-injection
    response: {x-said-by: package}
  - policy: rate-limit
    limits: 1/1h
    operations: [{method: GET, path: '/order/{rest}'}]
  - policy: ip-deny
    addresses: [127.0.0.0/8]
    environments: [dev]
endpoints:
  - {name: order, type: lookup, data_set: orders, key: [order_id], columns: [customer_id, amount]}
"""
OF_MESH = """
environments: {dev: {fallback: prod}}
policies:
  branding:
    domains: [sales]
    policies: [{policy: header-injection, response: {x-mesh: acme}}]
"""
PAGE = "https://app.example.com"


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    folder = tmp_path_factory.mktemp("policies")
    files = {folder / path: text for path, text in mesh_files("shop").items()}
    home = folder / "products/sales/orders"
    made = product_files("orders", domain="sales", kind="source-aligned")
    files |= {home / path: text for path, text in made.items()}
    files[home / "services/service.yaml"] = BOOK
    files[folder / "mesh.yaml"] += OF_MESH
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    mesh = Mesh(folder, free_port(), free_port(), free_port())
    for command in ("apply", "run orders", "up --detach", "service package order-book"):
        mesh.tulle(*command.split())
    mesh.tulle("app", "create", "shop", "--service", "order-book=1000/1s")
    mesh.tulle("service", "deploy", "order-book")
    try:
        yield mesh
    finally:
        mesh.tulle("down", check=False)


def ask(mesh: Mesh) -> httpx.Response:
    sent = {"origin": PAGE, **mesh.credentials("shop")}
    return mesh.call("order-book/order/lookup", {"data": {"order_id": "O-1002"}}, sent)


def test_policies_go_with_the_package_and_the_deployment_may_say_others(mesh: Mesh, tmp_path: Path) -> None:
    reply = ask(mesh)
    assert reply.status_code == 200, reply.text
    assert (reply.headers["x-said-by"], reply.headers["x-mesh"]) == ("package", "acme")
    assert reply.headers["access-control-allow-origin"] == PAGE
    url = f"http://127.0.0.1:{mesh.gateway}/public/api/v1/order-book/order/anything"
    own = mesh.credentials("shop")
    assert [httpx.get(url, headers=own).status_code == 429 for _ in range(2)] == [False, True]

    found = mesh.json("service", "policies", "order-book")
    assert (found["sets"], found["fault"]) == (["branding"], None)
    assert [one["policy"] for one in found["joined"]] == [
        *("cors", "header-injection", "header-injection", "rate-limit")
    ]

    listed = tmp_path / "list.yaml"
    listed.write_text(json.dumps([{"policy": "header-injection", "response": {"x-said-by": "deployment"}}]))
    mesh.tulle("service", "policies", "order-book", "--set", str(listed))
    reply = ask(mesh)
    assert (reply.headers["x-said-by"], reply.headers["x-mesh"]) == ("deployment", "acme")
    assert "access-control-allow-origin" not in reply.headers
    listed.write_text("- {policy: without, sets: [branding]}\n- {policy: ip-deny, addresses: [127.0.0.1]}")
    mesh.tulle("service", "policies", "order-book", "--set", str(listed))
    reply = ask(mesh)
    assert (reply.status_code, reply.json()["errorType"]) == (403, "AddressNotAllowed")
    assert "x-mesh" not in reply.headers

    listed.write_text("- {policy: ip-deny, addresses: [everywhere]}")
    refused = mesh.tulle("service", "policies", "order-book", "--set", str(listed), check=False)
    assert refused.returncode != 0
    assert "'everywhere' is no address or network" in refused.stderr
    mesh.tulle("service", "policies", "order-book", "--as-packaged")
    assert ask(mesh).headers["x-said-by"] == "package"
