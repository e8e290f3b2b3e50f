"""The clients against the real application, in this process: calls of the API, and failures as they were raised."""

from __future__ import annotations

import time
from collections.abc import Iterator

import httpx
import pytest

from tulle.cli.connect import InProcess
from tulle.config import Settings
from tulle.errors import AlreadyExists, Conflict, Denied, Invalid, NotFound, Unavailable
from tulle.sdk.applications import ApplicationClient
from tulle.sdk.client import Client
from tulle.sdk.deployments import DeploymentClient
from tulle.sdk.lake import LakeClient
from tulle.sdk.services import ServiceClient
from tulle.server.app import application
from tulle.server.token import read_token
from tulle.spec.mesh import load_settings
from tulle.spec.skeleton import mesh_files, product_files

SERVICE = """
service: order-book
description: Orders by number.
endpoints:
  - {name: order, type: lookup, data_set: orders, key: [order_id]}
"""


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    folder = tmp_path_factory.mktemp("mesh")
    product = folder / "products/sales/orders"
    files = {folder / path: text for path, text in mesh_files("shop").items()}
    files |= {
        product / path: text
        for path, text in product_files("orders", domain="sales", kind="source-aligned").items()
    }
    files[product / "services/order-book.yaml"] = SERVICE
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return load_settings(folder)


@pytest.fixture(scope="module")
def client(settings: Settings) -> Iterator[Client]:
    app = application(settings)
    headers = {"authorization": f"Bearer {read_token(settings)}"}
    with InProcess(app) as transport:
        base = f"http://{settings.host}:{settings.control_plane_port}"
        yield Client(httpx.Client(transport=transport, base_url=base, headers=headers))
    app.state.close()


@pytest.fixture(scope="module")
def applied(client: Client) -> Client:
    """The mesh with its product applied and run."""
    plan = client.plan()
    assert client.apply(plan["digest"])["digest"] == plan["digest"]
    run_id = client.start_run("orders")
    deadline = time.monotonic() + 150
    while (run := client.run(run_id))["status"] not in {"succeeded", "failed"}:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert run["status"] == "succeeded", run
    return client


def test_the_mesh_validates_and_what_is_applied_needs_nothing_more(applied: Client) -> None:
    assert applied.validate() == {"products": ["orders"], "problems": [], "warnings": []}
    assert applied.plan()["steps"] == []
    assert applied.status()["products"] == ["orders"]
    (product,) = applied.products()
    assert (product["name"], product["domain"], product["data_sets"]) == ("orders", "sales", ["orders"])


def test_a_plan_that_is_no_longer_the_plan_is_refused(applied: Client) -> None:
    with pytest.raises(Conflict) as refused:
        applied.apply("f" * 64)
    assert refused.value.hint is not None


def test_runs_are_told_with_steps_and_checks(applied: Client) -> None:
    newest = applied.runs(product="orders", limit=1)[0]
    run = applied.run(newest["id"])
    assert [step["status"] for step in run["steps"]] == ["succeeded"] * len(run["steps"])
    assert any(check["passed"] for step in run["steps"] for check in step["checks"])
    assert applied.stop_run(newest["id"])["status"] == "succeeded"  # what has ended stays as it ended


def test_some_of_a_product_is_run_and_foreseen(applied: Client) -> None:
    jobs = applied.dry_run("orders")
    assert {job["action"] for job in jobs} == {"keep"}
    assert {
        job["name"]: job["action"] for job in applied.dry_run("orders", select=["orders"], full=True)
    } == {
        "orders": "make",
        **{job["name"]: "leave" for job in jobs if job["name"] != "orders"},
    }
    with pytest.raises(NotFound, match="nothing of the product is called 'ordrs'"):
        applied.start_run("orders", select=["ordrs+"])
    with pytest.raises(Invalid, match="'yesterday to today' is no window"):
        applied.start_run("orders", window=("yesterday", "today"))
    with pytest.raises(Conflict, match="nothing to take up"):
        applied.start_run("orders", resume="last")


def test_broken_code_is_refused_before_a_run_with_its_place(applied: Client, settings: Settings) -> None:
    model = settings.products_folder / "sales/orders/transform/orders.sql"
    before = model.read_text()
    model.write_text("SELECT nothing FRM orders_raw")
    try:
        with pytest.raises(Invalid) as refused:
            applied.start_run("orders")
        (problem, *_) = refused.value.problems
        assert problem.place is not None
        assert problem.place.file.endswith("orders.sql")
        assert applied.validate()["problems"]
    finally:
        model.write_text(before)


def test_a_service_is_packaged_once_tested_and_deployed(applied: Client) -> None:
    services, deployments = ServiceClient(applied), DeploymentClient(applied)
    first, again = services.package("order-book"), services.package("order-book")
    assert (first["created"], again["created"], again["version"]) == (True, False, first["version"])
    assert services.test("order-book")["version"] == first["version"]
    assert services.openapi("order-book")["openapi"].startswith("3.1")
    deployment = deployments.deploy("order-book")
    assert (deployment["desired_version"], deployment["status"], deployment["mesh_is_up"]) == (
        "v1",
        "starting",
        False,
    )
    assert services.service("order-book")["endpoints"][0]["name"] == "order"
    assert [s["name"] for s in services.services()] == ["order-book"]
    with pytest.raises(Conflict):
        deployments.rollback("order-book")
    with pytest.raises(NotFound):
        deployments.deploy("order-book", "v9")


def test_an_application_gets_credentials_once_and_contracts_change(applied: Client) -> None:
    applications = ApplicationClient(applied)
    made = applications.create("shop-window", services={"order-book": None}, owner="web")
    assert set(made) == {"name", "client_id", "client_secret", "api_key", "expires_at", "former_until"}
    (listed,) = applications.applications()
    assert "client_secret" not in listed
    assert listed["contracts"] == [
        {"service": "order-book", "environment": None, "limit": "50/1s", "last_used_at": None}
    ]
    applications.change_contract("shop-window", "order-book", "5/1m")
    assert applications.applications()[0]["contracts"][0]["limit"] == "5/1m"
    applications.change_contract("shop-window", "order-book", None)
    assert applications.applications()[0]["contracts"] == []
    assert applications.rotate("shop-window")["client_secret"] != made["client_secret"]
    with pytest.raises(AlreadyExists):
        applications.create("shop-window", services={})
    assert applications.revoke("shop-window") == {
        "name": "shop-window",
        "revoked": True,
        "in_force": True,
    }
    applications.create("late-caller", services={"order-book": None})


@pytest.mark.parametrize(
    ("name", "services", "kind"),
    [
        ("x1", {"order-bok": None}, NotFound),
        ("x2", {"order-book": "lots"}, Invalid),
        ("Bad Name", {}, Invalid),
        ("tulle-portal", {}, Denied),
    ],
)
def test_an_application_that_cannot_be_is_refused(
    applied: Client, name: str, services: dict[str, str | None], kind: type[Exception]
) -> None:
    with pytest.raises(kind):
        ApplicationClient(applied).create(name, services=services)


@pytest.fixture(scope="module")
def lake(applied: Client) -> LakeClient:
    return LakeClient(applied._http)


def test_the_lake_is_worked_with_by_name(lake: LakeClient) -> None:
    assert [r["id"] for r in lake.repositories()] == ["orders"]
    head = lake.log("orders", "main")[0]["id"]
    lake.create_branch("orders", "try-it")
    assert {b["id"]: b["commit_id"] for b in lake.branches("orders")} == {"main": head, "try-it": head}
    assert any(o["path"].startswith("orders/") for o in lake.objects("orders", "main"))
    assert list(lake.diff("orders", "main", "try-it")) == []
    assert list(lake.status("orders", "main")) == []
    with pytest.raises(Invalid, match="no changes"):
        lake.merge("orders", "try-it", "main")
    lake.delete_branch("orders", "try-it")
    with pytest.raises(NotFound):
        lake.log("orders", "try-it")
    assert lake.create_repository("scratch")["id"] == "scratch"
    with pytest.raises(Conflict):
        lake.create_repository("scratch")


def test_objects_and_history_of_the_lake(lake: LakeClient) -> None:
    lake.create_repository("played")
    lake.upload("played", "main", "a b/%+é.txt", iter([b"one", b"two"]), content_type="text/plain")
    assert b"".join(lake.read("played", "main", "a b/%+é.txt")) == b"onetwo"
    lake.copy("played", "main", "main", "a b/%+é.txt", "copy")
    lake.move("played", "main", "copy", "moved")
    first = lake.commit("played", "main", "first", metadata={"k": "v"})
    assert lake.commit_info("played", "main")["metadata"] == {"k": "v"}
    lake.create_branch("played", "try")
    assert lake.delete("played", "try", ["moved"]) == []
    assert [c["type"] for c in lake.status("played", "try")] == ["removed"]
    lake.reset("played", "try", path="moved")
    assert list(lake.status("played", "try")) == []
    lake.upload("played", "try", "moved", b"theirs")
    lake.commit("played", "try", "theirs")
    lake.upload("played", "main", "moved", b"ours")
    lake.commit("played", "main", "ours")
    assert [c["path"] for c in lake.conflicts("played", "try", "main")] == ["moved"]
    with pytest.raises(Conflict):
        lake.merge("played", "try", "main")
    lake.merge("played", "try", "main", choices={"moved": "source"})
    assert b"".join(lake.read("played", "main", "moved")) == b"theirs"
    lake.revert("played", "main", "main", parent=1)
    assert b"".join(lake.read("played", "main", "moved")) == b"ours"
    lake.amend("played", "main", message="took it back")
    assert lake.log("played", "main", limit=1)[0]["message"] == "took it back"
    lake.create_tag("played", "v1.0", first["id"])
    assert [t["id"] for t in lake.tags("played")] == ["v1.0"]
    lake.hard_reset("played", "main", "v1.0")
    assert [m["operation"] for m in lake.reflog("played", "main")][:2] == ["hard reset", "amend"]
    assert lake.cherry_pick("played", "main", "try")["message"] == "theirs"
    lake.set_setting("played", "read_only", {"read_only": True})
    with pytest.raises(Denied, match="read-only"):
        lake.upload("played", "main", "x", b"")
    lake.set_setting("played", "read_only", {"read_only": False})
    lake.delete_tag("played", "v1.0")
    lake.delete_repository("played")


def test_pull_requests_exports_and_checks_of_the_lake(lake: LakeClient, settings: Settings) -> None:
    lake.create_repository("asked")
    lake.create_branch("asked", "try")
    lake.upload("asked", "try", "x", b"1")
    lake.commit("asked", "try", "x")
    id_ = lake.create_pull("asked", "try", "main", "Please")
    assert [p["id"] for p in lake.pulls("asked", "open")] == [id_]
    lake.merge_pull("asked", id_)
    assert lake.pull("asked", id_)["status"] == "merged"
    assert lake.post("/repositories/asked/verify", {"data": True})["damaged"] == 0
    with pytest.raises(Denied, match="not among the places"):
        lake.post("/repositories/asked/refs/main/export", {"destination": f"local://{settings.folder}/out"})
    assert lake.hook_runs("asked") == []
    run = lake.post("/repositories/asked/gc/runs", {"dry_run": True})
    assert lake.get(f"/repositories/asked/gc/runs/{run['id']}")["status"] in {"waiting", "running", "done"}


def test_capabilities_are_told_with_their_schema(client: Client) -> None:
    names = [c["name"] for c in client.capabilities()]
    assert "output-port" in names
    assert client.capability("output-port")["schema"]["properties"]
    with pytest.raises(NotFound) as missing:
        client.capability("output-prt")
    assert missing.value.hint == "did you mean 'output-port'?"


def test_a_control_plane_that_is_not_there_is_unavailable() -> None:
    with pytest.raises(Unavailable) as refused:
        Client.connect("http://127.0.0.1:9", token="x").plan()
    assert refused.value.hint is not None


def test_a_retired_product_leaves_and_its_data_stays(applied: Client) -> None:
    shown = applied.destruction("orders")
    with pytest.raises(Denied, match="is relied on and is not destroyed"):
        applied.destroy("orders", digest=shown["digest"])
    gone = applied.destroy("orders", force=True, notice="moved", digest=shown["digest"])
    assert "stay in the lake" in gone["sentence"]
    assert applied.products() == []
    assert "orders" in [r["id"] for r in LakeClient(applied._http).repositories()]
    assert applied.status()["deployments"] == []
    assert all(application["contracts"] == [] for application in ApplicationClient(applied).applications())
    with pytest.raises(NotFound):
        DeploymentClient(applied).deploy("order-book")  # its packages stay, but nobody answers for them
    with pytest.raises(NotFound):
        applied.destroy("orders")
