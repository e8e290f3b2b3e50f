"""Policies from a services file to the real gateway: with the package, at the deployment, and those of the mesh."""

from __future__ import annotations

import json
import threading
from collections import Counter
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
    operations: [{method: GET, path: /openapi.json}]
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
BOOKS = """
api: books
versions:
- version: v1
  service: order-book
  publish: true
  access: {public: {limit: 1000/1s}}
  policies: [{policy: header-injection, response: {x-said-by: version}}]
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
    files[home / "apis/books.yaml"] = BOOKS
    files[folder / "mesh.yaml"] += OF_MESH
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    mesh = Mesh(folder, free_port(), free_port(), free_port())
    # Up first: what asks a mesh that is up starts sooner.
    for command in ("up --detach", "apply", "run orders", "service package order-book"):
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
    url = f"http://127.0.0.1:{mesh.gateway}/public/api/v1/order-book/openapi.json"
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


def test_policies_of_an_api_are_set_by_hand_and_stay_over_apply(mesh: Mesh, tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{mesh.gateway}/books/v1/order/lookup"

    def asked() -> tuple[int, str, str]:
        reply = httpx.post(url, json={"data": {"order_id": "O-1002"}}, timeout=20)
        return reply.status_code, reply.headers.get("x-said-by", ""), reply.headers.get("x-mesh", "")

    assert asked() == (200, "version", "acme")
    listed = tmp_path / "list.yaml"
    listed.write_text("- {policy: header-injection, response: {x-said-by: hand}}")
    mesh.tulle("api", "policies", "books", "v1", "--set", str(listed))
    assert asked() == (200, "hand", "acme")
    mesh.tulle("apply")
    assert asked() == (200, "hand", "acme")
    listed.write_text("- {policy: client-id}")
    assert mesh.json("api", "policies", "books", "v1", "--set", str(listed))["in_force"] is True
    assert asked()[0] == 401
    mesh.tulle("api", "policies", "books", "v1", "--reset")
    assert asked() == (200, "version", "acme")


@pytest.mark.parametrize(
    ("policies", "told"),
    [
        ("[{policy: oauth2-introspection, connection: nope}]", "there is no connection 'nope'"),
        ("[{policy: custom, plugin: 'os.system'}]", "os.system"),
    ],
)
def test_what_the_gateway_does_not_take_is_refused_and_nothing_is_changed(
    mesh: Mesh, tmp_path: Path, policies: str, told: str
) -> None:
    listed = tmp_path / "list.yaml"
    listed.write_text(policies)
    for of in (("service", "policies", "order-book"), ("api", "policies", "books", "v1")):
        before = mesh.json(*of)
        refused = mesh.tulle(*of, "--set", str(listed), check=False)
        assert refused.returncode != 0
        assert "the gateway does not take these policies" in refused.stderr
        assert told in refused.stderr
        assert "nothing was changed" in refused.stderr
        assert mesh.json(*of) == before
        assert before["fault"] is None


class Load:
    """Requests without a pause from two connections, until it is left; what each was answered."""

    def __init__(self, mesh: Mesh) -> None:
        self._url = f"http://127.0.0.1:{mesh.gateway}/public/api/v1/order-book/order/lookup"
        self._headers = mesh.credentials("shop")
        self._stop = threading.Event()
        self.answers: Counter[tuple[int, str]] = Counter()
        self._threads = [threading.Thread(target=self._ask) for _ in range(2)]

    def _ask(self) -> None:
        with httpx.Client(headers=self._headers, timeout=20) as client:
            while not self._stop.wait(0.003):  # far below what the application may
                reply = client.post(self._url, json={"data": {"order_id": "O-1002"}})
                self.answers[reply.status_code, reply.headers.get("x-mesh", "")] += 1

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


def test_what_mesh_yaml_says_is_taken_up_under_load_and_no_request_fails(mesh: Mesh) -> None:
    file = mesh.folder / "mesh.yaml"
    first = file.read_text()
    more = "tiers: [{name: free, limits: [5/1s]}]\nwatches: {fails: {measure: errors, above: 0.1}}\n"
    try:
        with Load(mesh) as load:
            file.write_text(
                first.replace("x-mesh: acme", "x-mesh: apex") + more + "gateway_drain_seconds: 9\n"
            )
            found = mesh.json("gateway", "reload")
            assert (found["taken_up"], found["in_force"]) == (True, True)
            assert ask(mesh).headers["x-mesh"] == "apex"
            file.write_text(first.replace("policy: header-injection", "policy: header-injectoin"))
            refused = mesh.tulle("gateway", "reload", check=False)
            assert ask(mesh).headers["x-mesh"] == "apex"
        assert {status for status, _ in load.answers} == {200}
        assert load.answers[200, "acme"] > 0
        assert load.answers[200, "apex"] > 0
        said = 'policy 1 (header-injection): response {"x-mesh":"acme"} → {"x-mesh":"apex"}'
        assert [one["sentence"] for one in found["changes"]] == [
            f"set of policies 'branding' changed: {said}",
            "tier 'free' added: 5/1s",
            "watch 'fails' added",
        ]
        assert found["at_next_start"] == ["gateway_drain_seconds"]
        assert refused.returncode != 0
        assert "there is no policy 'header-injectoin'" in refused.stderr
        assert "mesh.yaml:" in refused.stderr
        page = httpx.get(f"http://127.0.0.1:{mesh.control_plane}/gateway", timeout=20).text
        assert "policies, tiers, watches: " in page
    finally:
        file.write_text(first)
