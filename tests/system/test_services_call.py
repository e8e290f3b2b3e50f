"""A service that calls another through the real gateway, under its own identity, as its owners agree; a way there and back.

Callers of this mesh, itself among them, meet the gateway by TLS, with a certificate that the mesh made.
"""

from __future__ import annotations

import json
import math
import os
import re
import signal
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml
from tests.serving.collector import Collector
from tests.system.conftest import TULLE, Mesh, free_port

from tulle.spec.skeleton import mesh_files, product_files

PAGE = (Path(__file__).parents[2] / "docs/reference/services.md").read_text()
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
def collector() -> Iterator[Collector]:
    made = Collector()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory, collector: Collector) -> Iterator[Mesh]:
    folder = tmp_path_factory.mktemp("calls")
    files = {folder / path: text for path, text in mesh_files("shop").items()}
    files[folder / "mesh.yaml"] += "gateway_tls: {self_signed: true}\n"
    files[folder / "mesh.yaml"] += f"trace_collector: {collector.url}\ntrace_one_in: 1\n"
    for name, domain, service in (("orders", "sales", BOOK), ("campaigns", "marketing", OFFERS)):
        home = folder / f"products/{domain}/{name}"
        made = product_files(name, domain=domain, kind="source-aligned")
        files |= {home / path: text for path, text in made.items()}
        files[home / "services/service.yaml"] = service
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    made = Mesh(folder, free_port(), free_port(), free_port())
    made.tulle("up", "--detach")  # first: what asks a mesh that is up starts sooner
    try:
        made.tulle("apply")
        made.tulle("run", "orders")
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


def test_one_trace_leads_from_the_caller_to_the_look_up_of_another_service(
    mesh: Mesh, collector: Collector
) -> None:
    mesh.tulle("app", "grant", "of-service-offers", "order-book", "--limit", "100/1s")
    own, trace = mesh.credentials("shop"), "0af7651916cd43dd8448eb211c80319c"
    caller = "b7ad6b7169203331"
    asked = {**own, "traceparent": f"00-{trace}-{caller}-01"}
    answer = mesh.call("offers/offer/run", {"order": "O-1002"}, asked)
    assert answer.status_code == 200, answer.text

    spans = {one.id: one for one in collector.wait(trace, 7)}
    (span,) = [one for one in spans.values() if one.name == "lookup"]
    led = []
    while True:
        led.append((span.name, span.attributes.get("service.name") or span.attributes["tulle.service"]))
        if span.parent == caller:
            break
        span = spans[span.parent]
    assert list(reversed(led)) == [
        ("POST offers", "offers"),  # the gateway, and the composition behind it
        ("POST /public/api/v1/offers/offer/run", "offers"),
        ("POST order-book", "order-book"),
        ("POST /public/api/v1/order-book/order/lookup", "order-book"),
        ("lookup", "order-book"),
    ]
    # the steps of the composition, beside what they called
    steps = [one.name for one in spans.values() if one.attributes.get("service.name") == "offers"]
    assert sorted(steps) == ["POST /public/api/v1/offers/offer/run", "order", "order.row"]
    deadline = time.monotonic() + 30
    while sorted(found := _logged(mesh, trace)) != ["offers", "order-book"]:
        assert time.monotonic() < deadline, found
        time.sleep(0.1)


def _logged(mesh: Mesh, trace: str) -> list[str]:
    """The services of the access log's lines that are of a trace."""
    lines = (mesh.folder / ".tulle/log/gateway-access.jsonl").read_text().splitlines(keepends=True)
    whole = [json.loads(one) for one in lines if one.endswith("\n")]
    return [one["service"] for one in whole if one["trace"] == trace]


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


def documented(language: str, start: str) -> str:
    """The block of the reference that begins so."""
    found = re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    (text,) = [one for one in found if one.startswith(start)]
    return str(text)


def ask_order_book(mesh: Mesh, own: dict[str, str], orders: list[str]) -> None:
    """Ask for orders, and wait until the log has them."""
    logged = ("service", "log", "order-book", "--limit", "1000")
    before = len(mesh.json(*logged))
    asked = {"items": [{"data": {"order_id": order}} for order in orders]}
    answer = mesh.call("order-book/order/lookup-multi", asked, own)
    assert answer.status_code == 200, answer.text
    deadline = time.monotonic() + 30
    while len(mesh.json(*logged)) < before + len(orders):
        assert time.monotonic() < deadline
        time.sleep(0.5)


def test_a_product_over_the_log_is_made_as_the_reference_says(mesh: Mesh) -> None:
    mesh.tulle("service", "package", "order-book")
    mesh.tulle("service", "deploy", "order-book")
    mesh.tulle("app", "create", "asking", "--service", "order-book")
    own = mesh.credentials("asking")
    deadline = time.monotonic() + 30
    while mesh.call("order-book/order/lookup", {"data": {"order_id": "O-1002"}}, own).status_code != 200:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    ask_order_book(mesh, own, ["O-1002"] * 10)  # one of the largest orders, again and again

    home = mesh.folder / "products/sales/order-watch"
    for name, text in {
        "product.yaml": documented("yaml", "# products/sales/order-watch/product.yaml"),
        "transform/drift.sql": documented("sql", "-- transform/drift.sql"),
        "checks/drift.yaml": documented("yaml", "# checks/drift.yaml"),
    }.items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(text)
    policy, key = mesh.folder / ".tulle/policy.json", mesh.folder / ".tulle/log-reader.yaml"
    policy.write_text(documented("json", '[{"effect"'))
    mesh.tulle("user", "create", "log-reader", "--key-file", str(key))
    mesh.tulle("user", "group", "log-reader", "Viewers", "--remove")
    credentials = yaml.safe_load(key.read_text())["credentials"]
    connect = ["connection", "set", "order-log", "--kind", "store", "--address", "s3://order-book-queries"]
    connect += ["--option", f"endpoint=http://127.0.0.1:{mesh.s3}", "--secret", "secret_access_key"]
    connect += ["--option", f"access_key_id={credentials['access_key_id']}"]
    subprocess.run(
        [TULLE, "--mesh", str(mesh.folder), *connect],
        input=credentials["secret_access_key"] + "\n",
        text=True,
        env=mesh.environment,
        check=True,
    )
    mesh.tulle("apply")
    refused = mesh.tulle("connection", "test", "order-log", check=False)  # nobody let log-reader in yet
    assert refused.returncode != 0
    assert "403 Forbidden" in refused.stdout + refused.stderr
    mesh.tulle("user", "policy", "read-order-log", "--file", str(policy), "--attach", "log-reader")
    moved = mesh.tulle("run", "order-watch", check=False)
    assert moved.returncode == 1
    assert "in 1 row psi is above 0.25" in moved.stdout
    ((requests, psi),) = re.findall(r"^ +\d{4}-\d\d-\d\d +(\d+) +([\d.]+)$", moved.stdout, re.MULTILINE)
    all_orders, asked = [2, 2, 1, 2], [0, 0, 0, int(requests)]  # between the quartiles
    assert asked[3] > 10
    shares = [((a + 0.5) / (asked[3] + 2), (b + 0.5) / 9) for a, b in zip(asked, all_orders, strict=True)]
    assert float(psi) == pytest.approx(sum((now - then) * math.log(now / then) for now, then in shares))
