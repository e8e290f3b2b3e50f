"""A service that calls another through the real gateway, under its own identity, as its owners agree; a way there and back.

Callers of this mesh, itself among them, meet the gateway by TLS, with a certificate that the mesh made.
"""

from __future__ import annotations

import json
import os
import signal
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from tests.system.conftest import Mesh, free_port

from tulle.spec.skeleton import mesh_files, product_files

BOOK = """
service: order-book
endpoints:
  - {name: order, type: lookup, data_set: orders, key: [order_id], columns: [customer_id, amount]}
"""
OFFERS = """
service: offers
uses: [order-book]
endpoints:
  - name: offer
    type: compose
    input: {order: {}}
    steps:
      - name: order
        timeout: 10
        steps: [{name: row, call: order-book/order, with: {order_id: $input.order}}]
    output: {customer: $order.customer_id, price: '$(round(order.amount * 0.9, 2))'}
    test_queries: [{name: one, input: {order: O-1002}, expect: {price: 108}}]
"""


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    folder = tmp_path_factory.mktemp("calls")
    files = {folder / path: text for path, text in mesh_files("shop").items()}
    files[folder / "mesh.yaml"] += "gateway_tls: {self_signed: true}\n"
    for name, domain, service in (("orders", "sales", BOOK), ("campaigns", "marketing", OFFERS)):
        home = folder / f"products/{domain}/{name}"
        made = product_files(name, domain=domain, kind="source-aligned")
        files |= {home / path: text for path, text in made.items()}
        files[home / "services/service.yaml"] = service
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    made = Mesh(folder, free_port(), free_port(), free_port())
    made.tulle("apply")
    made.tulle("run", "orders")
    made.tulle("up", "--detach")
    try:
        yield made
    finally:
        made.tulle("down", check=False)


def credentials_file(mesh: Mesh) -> Path:
    return mesh.folder / ".tulle/run/outside/offers.json"


def test_a_service_calls_another_once_its_owner_agrees(mesh: Mesh) -> None:
    for service in ("order-book", "offers"):
        mesh.tulle("service", "package", service)
    mesh.tulle("service", "deploy", "order-book")
    refused = mesh.tulle("service", "deploy", "offers", check=False)
    assert refused.returncode != 0
    assert "whose owners have not let it yet" in refused.stderr
    assert "tulle app grant of-service-offers order-book" in refused.stderr
    mesh.tulle("app", "grant", "of-service-offers", "order-book", "--limit", "100/1s")
    assert "1 of 1 test queries pass" in mesh.tulle("service", "deploy", "offers").stdout
    mesh.tulle("app", "create", "shop", "--service", "offers")
    own = mesh.credentials("shop")

    answer = mesh.call("offers/offer/run", {"order": "O-1002"}, {**own, "tulle-steps": "1"})
    assert answer.status_code == 200, answer.text
    assert answer.json()["response"] == {"customer": "C-02", "price": 108.0}
    assert mesh.json("status")["processes"]["gateway"]["url"] == f"https://127.0.0.1:{mesh.gateway}/"
    called = mesh.tulle("service", "call", "offers", "offer", "--data", '{"order": "O-1002"}')
    assert json.loads(called.stdout)["response"]["price"] == 108.0
    step, group = answer.json()["steps"]
    assert (step["name"], group["name"]) == ("order.row", "order")
    assert (step["service"], step["generation"]) == ("order-book", "v1")
    assert step["commits"].startswith("orders@")
    missing = mesh.call("offers/offer/run", {"order": "none"}, own)
    assert (missing.status_code, missing.json()["errorType"]) == (404, "NoMatch")
    # the caller has no contract for the other service, and needs none
    assert mesh.call("order-book/order/lookup", {"data": {"order_id": "O-1002"}}, own).status_code == 403

    file = credentials_file(mesh)
    assert file.stat().st_mode & 0o777 == 0o600
    secret = json.loads(file.read_text())["client_secret"]
    for log in (mesh.folder / ".tulle").rglob("*.log"):
        assert secret not in log.read_text(errors="replace")
    tested = mesh.json("service", "test", "offers", "--generation", "v1")
    assert [verdict["passed"] for verdict in tested["verdicts"]] == [True]

    # its secret is made anew while it answers
    file.unlink()
    deadline = time.monotonic() + 30
    while not file.exists():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert json.loads(file.read_text())["client_secret"] != secret
    assert mesh.call("offers/offer/run", {"order": "O-1002"}, own).status_code == 200

    mesh.tulle("app", "withdraw", "of-service-offers", "order-book")
    deadline = time.monotonic() + 30
    while (answer := _asked(mesh, own)).status_code == 200:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert (answer.status_code, answer.json()["errorType"]) == (502, "NoContract")
    for command in ("revoke", "rotate"):
        said = mesh.tulle("app", command, "of-service-offers", check=False)
        assert "is a service's own" in said.stderr


def _asked(mesh: Mesh, own: dict[str, str]) -> httpx.Response:
    return mesh.call("offers/offer/run", {"order": "O-1002"}, own)


def test_the_gateway_is_restarted_under_load_and_serves_on_without_a_control_plane(mesh: Mesh) -> None:
    mesh.tulle("app", "create", "till", "--service", "order-book")
    body = {"data": {"order_id": "O-1002"}}
    own, answers, stop = mesh.credentials("till"), [], threading.Event()
    context = ssl.create_default_context(cafile=str(mesh.folder / ".tulle/tls/authority.pem"))

    def ask() -> None:
        url = f"https://127.0.0.1:{mesh.gateway}/public/api/v1/order-book/order/lookup"
        with httpx.Client(verify=context, timeout=20) as client:
            while not stop.wait(0.1):  # well within the usual limit
                answers.append(client.post(url, json=body, headers=own).status_code)

    asking = [threading.Thread(target=ask) for _ in range(3)]
    for one in asking:
        one.start()
    try:
        found = mesh.json("gateway", "restart")
        assert found["pid"] != found["before"]
        assert mesh.json("status")["processes"]["gateway"]["pid"] == found["pid"]
        mesh.tulle("app", "create", "desk", "--service", "order-book")
        assert (
            mesh.call("order-book/order/lookup", body, mesh.credentials("desk")).status_code == 200
        )  # it follows
        os.kill(mesh.json("status")["processes"]["control_plane"]["pid"], signal.SIGKILL)
        asked = len(answers)
        while len(answers) < asked + 50:
            time.sleep(0.05)
    finally:
        stop.set()
        for one in asking:
            one.join()
    assert set(answers) == {200}
    assert "Envoy" in mesh.tulle("gateway", "status").stdout


def test_services_that_use_one_another_in_a_circle_are_refused(mesh: Mesh) -> None:
    file = mesh.folder / "products/sales/orders/services/service.yaml"
    before = file.read_text()
    file.write_text(before.replace("endpoints:", "uses: [offers, nobody]\nendpoints:"))
    try:
        told = json.loads(mesh.tulle("validate", "--json", check=False).stdout)
        messages = " ".join(problem["message"] for problem in told["problems"])
        assert "services use one another in a circle: offers → order-book → offers" in messages
        assert "service 'order-book' uses 'nobody', which no product declares" in messages
    finally:
        file.write_text(before)
