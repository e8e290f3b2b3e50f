"""A whole mesh with a service whose policies the processor carries out: started for it, killed, needed no more."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest
from tests.system.conftest import Mesh, free_port
from tests.system.test_mutual_tls import wait_until
from tests.system.test_services_call import BOOK

from tulle.spec.skeleton import mesh_files, product_files

REDACTED = """
policies:
- policy: redaction
  fields: [{path: '$..customer_id', action: mask, keep_last: 2}]
- {policy: schema-validation, strict_parameters: true}
- {policy: caching, methods: [POST], ttl: 60}
"""
PATH = "order-book/order/lookup"
ORDER = {"data": {"order_id": "O-1002"}}


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    folder = tmp_path_factory.mktemp("processor")
    files = {folder / path: text for path, text in mesh_files("shop").items()}
    home = folder / "products/sales/orders"
    made = product_files("orders", domain="sales", kind="source-aligned")
    files |= {home / path: text for path, text in made.items()}
    files[home / "services/service.yaml"] = BOOK + REDACTED
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    found = Mesh(folder, free_port(), free_port(), free_port())
    found.tulle("up", "--detach")  # first: what asks a mesh that is up starts sooner
    try:
        found.tulle("apply")
        found.tulle("run", "orders")
        found.tulle("service", "package", "order-book")
        found.tulle("service", "deploy", "order-book")
        found.tulle("app", "create", "shop", "--service", "order-book=10000/1s")
        yield found
    finally:
        found.tulle("down", check=False)


def customer(mesh: Mesh) -> str:
    """What is answered of a customer; empty while nothing is."""
    reply = mesh.call(PATH, ORDER, mesh.credentials("shop"))
    return str(reply.json()["results"][0]["data"]["customer_id"]) if reply.status_code == 200 else ""


def test_it_is_there_while_a_service_needs_it_and_comes_back_when_it_is_killed(mesh: Mesh) -> None:
    wait_until(lambda: bool(customer(mesh)), "an answer")
    assert customer(mesh).startswith("*")
    assert mesh.call(PATH, ORDER, mesh.credentials("shop")).headers["x-tulle-cache"] == "hit"
    unknown = mesh.call("order-book/order/lookups", ORDER, mesh.credentials("shop"))
    assert (unknown.status_code, unknown.json()["errorType"]) == (404, "UnknownOperation")
    strange = mesh.call(PATH + "?more=1", ORDER, mesh.credentials("shop"))
    assert (strange.status_code, strange.json()["errorType"]) == (400, "SchemaViolation")
    process = mesh.json("status")["processes"]["processor"]
    os.kill(process["pid"], signal.SIGKILL)
    assert customer(mesh).startswith("*")  # it waited until there was one again
    wait_until(lambda: mesh.json("status")["processes"]["processor"]["state"] == "running", "the processor")
    assert mesh.json("status")["processes"]["processor"]["pid"] != process["pid"]
    mesh.tulle("service", "policies", "order-book", "--set", _empty(mesh))
    wait_until(lambda: bool(customer(mesh)) and not customer(mesh).startswith("*"), "the service as it is")


def _empty(mesh: Mesh) -> str:
    file = mesh.folder / "none.yaml"
    file.write_text("policies: []\n")
    return str(file)
