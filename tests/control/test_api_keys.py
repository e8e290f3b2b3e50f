"""Keys of an API through the doors: commands and the HTTP API, who may use them, and what ends with the API."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.control.test_approvals import Office

from tulle.cli.main import cli
from tulle.control import destroy
from tulle.control.apply import apply_plan
from tulle.control.retirement import readers
from tulle.gateway import service_keys
from tulle.state import log

ORDERS = """api: orders
versions:
- version: v1
  upstream: https://a.example
  undeclared: allow
"""
KEYS = "  policies: [{policy: api-key, header: x-api-key, limit: 20/1s}]\n"


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    made = Office(tmp_path_factory.mktemp("office") / "mesh")
    declare(made, ORDERS)
    yield made
    made.close()


def file_of(office: Office) -> Path:
    return office.team.mesh.folder / "products/shop/sales/apis/orders.yaml"


def declare(office: Office, text: str) -> None:
    file_of(office).parent.mkdir(exist_ok=True)
    file_of(office).write_text(text)
    apply_plan(office.workspace)


def tulle(office: Office, *args: str, fails: bool = False) -> str:
    done = CliRunner().invoke(cli, ["--mesh", str(office.team.mesh.folder), "api", "key", *args])
    assert (done.exit_code != 0) == fails, done.output
    return done.output if done.exception is None else str(done.exception)


def test_a_key_is_made_listed_changed_and_revoked_by_commands(office: Office) -> None:
    told = tulle(office, "create", "orders", "--label", "web shop", "--expires", "90d")
    (key,) = service_keys.keys(office.workspace.database, "orders")
    assert f"      {key.id}." in told
    assert "orders takes no keys yet" in told
    declare(office, ORDERS + "  publish: true\n" + KEYS)
    made = json.loads(tulle(office, "create", "orders", "--label", "b", "--limit", "5/1m", "--json"))
    assert (made["limit"], made["state"]) == ("5/1m", "in force")
    found = json.loads(tulle(office, "list", "orders", "--json"))
    assert [one["label"] for one in found] == ["b", "web shop"]
    assert made["api_key"] not in json.dumps(found)
    assert json.loads(tulle(office, "change", "orders", "b", "--limit", "usual", "--json"))["limit"] is None
    assert "is not said" in tulle(office, "change", "orders", "b", fails=True)
    assert "key 'b' of orders is refused" in tulle(office, "revoke", "orders", "b")
    assert "revoked" not in tulle(office, "list", "orders")
    assert "revoked" in tulle(office, "list", "orders", "--all")
    assert made["api_key"].split(".")[1] not in str(log.read(office.workspace.database))
    for args, told in (
        (("create", "order", "--label", "x"), "there is no API 'order'"),
        (("create", "orders", "--label", "web shop"), "API 'orders' has a key 'web shop'"),
        (("revoke", "orders", "x"), "API 'orders' has no key 'x'"),
        (("change", "orders", "x", "--limit", "usual"), "API 'orders' has no key 'x'"),
    ):
        assert told in tulle(office, *args, fails=True), args


def test_those_who_keep_the_api_make_and_end_its_keys(office: Office) -> None:
    declare(office, ORDERS + "  publish: true\n" + KEYS)
    path, body = "/apis/orders/keys", {"label": "by ann"}
    assert office.call("POST", path, body, credential=office.basic("vic")).status_code == 403
    assert office.call("GET", path, credential=office.basic("vic")).status_code == 403
    made = office.call("POST", path, body, credential=office.basic("ann"))
    assert made.status_code == 201, made.text
    assert (made.status_code, made.json()["opens"], made.json()["created_by"]) == (201, True, "ann")
    assert (
        office.call("PATCH", f"{path}/x", {"limit": "1/1s"}, credential=office.basic("ann")).status_code
        == 404
    )
    assert office.call("DELETE", f"{path}/by%20ann", credential=office.basic("vic")).status_code == 403
    assert office.call("POST", path, {"label": "x" * 201}, credential=office.mesh()).status_code == 422
    ended = office.call("DELETE", f"{path}/by%20ann", credential=office.basic("ann"))
    assert (ended.status_code, ended.json()["revoked"]) == (200, True)


def test_keys_end_with_their_api(office: Office) -> None:
    database = office.workspace.database
    declare(office, ORDERS + "  publish: true\n" + KEYS)
    made = service_keys.create(database, "orders", label="ends", kind="API")
    assert "key 'ends' of API 'orders'" in readers(office.workspace, "sales")
    hits = destroy.preview(office.workspace, "sales").hits
    assert "API 'orders' has an API key 'ends' in force" in hits
    file_of(office).unlink()
    apply_plan(office.workspace)
    declare(office, ORDERS + KEYS)
    known = {one.id: one for one in service_keys.keys(database, "orders")}
    assert known[made.key.id].revoked_at is not None
