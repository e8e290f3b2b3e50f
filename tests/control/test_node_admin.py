"""The admin API of API nodes, by its vendor's own client against the control plane."""

from __future__ import annotations

import base64
import re
import shutil
import tarfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pytest
import uvicorn
from dataikuapi import APINodeAdminClient
from dataikuapi.apinode_admin.auth import APINodeAuth
from dataikuapi.apinode_admin.service import APINodeService
from dataikuapi.utils import DataikuException
from tests.control.test_apply import PRICES
from tests.pipeline.conftest import Mesh
from tests.serving.conftest import parquet
from tests.system.conftest import free_port

from tulle.control import admin_keys, release
from tulle.control.apply import apply_plan
from tulle.control.workspace import Workspace
from tulle.server.app import application
from tulle.serving import generation, package_import
from tulle.serving.tested import Tested
from tulle.state import log
from tulle.state.db import now


@dataclass(frozen=True)
class Node:
    """A control plane that listens, and its mesh."""

    url: str
    mesh: Mesh
    workspace: Workspace

    def client(self, key: str | None = None) -> APINodeAdminClient:
        made = key or admin_keys.create(self.workspace.database, label="deployer")[1]
        return APINodeAdminClient(self.url, made)

    def build(self, columns: str = "[customer, amount]") -> str:
        """Another version of the service `sold`."""
        self.mesh.sales("services/sold.yaml", PRICES.replace("[customer, amount]", columns))
        return release.build_package(self.workspace, "sold")[0].version

    def deployment(self) -> generation.Deployment:
        return generation.deployment(self.workspace.database, "sold")


@pytest.fixture
def node(mesh: Mesh, workspace: Workspace) -> Iterator[Node]:
    mesh.sales("services/sold.yaml", PRICES)
    apply_plan(workspace)
    rows = pa.table({"id": [1, 2], "customer": ["a", "b"], "amount": [1.5, 2.5]})
    sales = workspace.lake.repository("sales")
    sales.put("main", "sales/part-0000.parquet", parquet(rows))
    sales.commit("main", "rows")
    settings = replace(workspace.settings, control_plane_port=free_port())
    config = uvicorn.Config(
        application(settings), host="127.0.0.1", port=settings.control_plane_port, log_level="error"
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    # the slash at its end makes the client's paths begin with two
    yield Node(f"http://127.0.0.1:{settings.control_plane_port}/", mesh, workspace)
    server.should_exit = True
    thread.join()


def test_without_a_key_it_is_off(node: Node) -> None:
    with pytest.raises(DataikuException, match="NotFound: the admin API is off"):
        node.client("admin-1.x").list_services()
    made, opens = admin_keys.create(node.workspace.database, label="x", expires_at=now() + 0.2)
    assert node.client(opens).list_services() == [{"serviceId": "sold", "enabled": False}]
    time.sleep(0.25)
    with pytest.raises(DataikuException, match="the admin API is off"):
        node.client(opens).list_services()
    admin_keys.create(node.workspace.database, label="y")
    with pytest.raises(DataikuException, match="Denied: missing or wrong admin key"):
        node.client(opens).list_services()
    assert made.id in {key.id for key in admin_keys.known(node.workspace.database)}


def test_nobody_comes_in_with_anything_but_a_key(node: Node) -> None:
    key, opens = admin_keys.create(node.workspace.database, label="deployer")
    id_, _, secret = opens.partition(".")
    token = (node.workspace.settings.state_folder / "token").read_text() if _has_token(node) else "x"
    for header in (
        "",
        "Basic",
        "Basic !!!",
        _basic(f"{opens}:password"),
        _basic(f"{id_}:{secret}"),
        _basic(f"{id_}.{secret[:-1]}:"),
        _basic(f".{secret}:"),
        _basic("é:"),
        f"Bearer {id_}",
        f"Bearer {token}",
        f"Digest {opens}",
    ):
        answer = httpx.get(node.url + "admin/api/services", headers={"authorization": header})
        assert answer.status_code == 401
        assert answer.json()["errorType"] == "Denied"
        assert answer.json()["requestId"] == answer.headers["x-request-id"]
        assert answer.headers["dss-api-version"] == "1"
        assert answer.headers["www-authenticate"].startswith("Basic")
    fine = {"authorization": _basic(f"{opens}:")}
    assert httpx.get(node.url + "admin/api/services", headers=fine).status_code == 200
    bearer = {"authorization": f"Bearer {opens}"}
    assert httpx.get(node.url + "admin/api/services", headers=bearer).status_code == 200
    elsewhere = httpx.get(node.url + "admin/api/services", headers=fine | {"host": "evil.example"})
    assert elsewhere.status_code == 403
    # and it opens nothing else
    assert httpx.get(node.url + "mesh/v1/services", headers=bearer).status_code == 401
    with node.workspace.database.read() as connection:
        assert secret not in str(connection.exec_driver_sql("select * from admin_keys").all())
    assert key.id == id_


def _has_token(node: Node) -> bool:
    return (node.workspace.settings.state_folder / "token").exists()


def _basic(text: str) -> str:
    return "Basic " + base64.b64encode(text.encode()).decode()


def test_a_service_is_mapped_switched_disabled_and_removed(node: Node) -> None:
    client = node.client()
    service = client.service("sold")
    client.create_service("sold")
    with pytest.raises(DataikuException, match="Conflict: service 'sold' has no generation yet"):
        service.switch_to_newest()
    assert node.build() == "v1"
    assert node.build("[customer]") == "v2"
    assert service.switch_to_newest()["generation"] == "v2"
    assert str(node.deployment().desired) == "v2"
    with pytest.raises(DataikuException, match="AlreadyExists"):
        client.create_service("sold")
    service.preload_generation("v1")
    assert node.deployment().desired.mounted == ("v2", "v1")
    service.disable()
    assert node.deployment().enabled is False
    service.set_generations_mapping(
        {"entries": [{"generation": "v1", "proba": 0.25}, {"generation": "v2", "proba": 0.75}]}
    )
    found = node.deployment()
    assert (str(found.desired), found.enabled) == ("v1 25%, v2 75%", True)
    service.disable()
    service.enable()
    service.switch_to_single_generation("v1")
    generation.activate(node.workspace.database, "sold", node.deployment().desired)
    listed = {one["generation"]: one for one in service.list_generations()}
    assert (listed["v1"]["mapped"], listed["v1"]["proba"], listed["v2"]["mapped"]) == (True, 1.0, False)
    assert client.list_services() == [{"serviceId": "sold", "enabled": True}]
    actors = {
        event.actor for event in log.read(node.workspace.database) if event.kind == "generation.requested"
    }
    assert all(actor.endswith("(deployer)") for actor in actors)
    service.delete()
    assert generation.find(node.workspace.database, "sold") is None
    assert client.list_services() == [{"serviceId": "sold", "enabled": False}]


def test_what_is_switched_to_says_what_its_test_queries_lead_to(node: Node) -> None:
    client = node.client()
    for version in ("v1", "v2"):
        assert node.build("[customer]" if version == "v2" else "[customer, amount]") == version
    call = client._perform_json  # the client has no words for it
    for method, path, body in (
        ("POST", "actions/switchToNewest", None),
        ("POST", "actions/switchTo/v1", None),
        ("POST", "actions/setMapping", {"entries": [{"generation": "v2", "proba": 1}]}),
        ("POST", "generations/v1/preload", None),
    ):
        for way in ("skip", "rollback"):
            with node.workspace.database.write() as cx:
                generation.withdraw(cx, "sold")
            if "preload" in path:
                generation.request(node.workspace.database, "sold", "v2")
            call(method, f"services/sold/{path}", params={"testQueries": way}, body=body)
            assert node.deployment().test_queries == way, path
    with pytest.raises(DataikuException, match="test queries are to 'never'"):
        call("POST", "services/sold/actions/switchTo/v2", params={"testQueries": "never"})
    tested = Tested("passed", 1.0, 1, 1, 1)
    with node.workspace.database.write() as cx:
        generation.note_tested(cx, "sold", "", {"v1": tested})
    listed = {one["generation"]: one["testQueries"] for one in client.service("sold").list_generations()}
    assert listed == {"v1": tested.as_plain(), "v2": None}


def test_what_cannot_be_is_told(node: Node) -> None:
    client = node.client()
    node.build()
    service = client.service("sold")
    for entries, told in (
        ([{"generation": "v1", "proba": 0.5}], "which is not 1"),
        ([{"generation": "v9", "proba": 1}], "has no version 'v9'"),
        ([{"generation": "v1"}], "an entry has a 'generation'"),
        ([{"generation": "v1", "proba": "1"}], "an entry has a 'generation'"),
        ([{"generation": "v1", "proba": float("nan")}], "expected 0 to 1"),
        ([{"generation": "v1", "proba": 10**400}], "expected 0 to 1"),
        ("v1", "'entries' is a list"),
        ([1], "'entries' is a list"),
    ):
        with pytest.raises(DataikuException, match=told):
            service.set_generations_mapping({"entries": entries})
    for unknown in ("nowhere", "sol"):
        with pytest.raises(DataikuException, match="NotFound"):
            client.service(unknown).switch_to_newest()
    with pytest.raises(DataikuException, match="declares a service 'shop'"):
        client.create_service("shop")
    with pytest.raises(DataikuException, match="is not deployed"):
        service.enable()
    key = {"authorization": f"Bearer {admin_keys.create(node.workspace.database, label='k')[1]}"}
    for body in (b"{", b"[]", b"[" * 100_000, b"\xff", b"{}"):
        answer = httpx.post(node.url + "admin/api/services/", content=body, headers=key)
        assert answer.status_code == 400
        assert answer.json()["errorType"] == "Invalid"


def test_an_archive_is_imported_from_one_folder_alone(node: Node, tmp_path: Path) -> None:
    client = node.client()
    built = node.build()
    settings = node.workspace.settings
    archive = settings.state_folder / f"packages/sold/{built}.tar"
    home = package_import.folder_of(settings)
    home.mkdir()
    service = client.service("sold")
    for path in (archive, "/etc/passwd", home / "../packages/sold/v1.tar", home / "nothing.tar", home):
        with pytest.raises(DataikuException, match=r"is not in|there is no archive"):
            service.import_generation_from_archive(str(path))
    (home / "link.tar").symlink_to(archive)
    with pytest.raises(DataikuException, match="is not in"):
        service.import_generation_from_archive(str(home / "link.tar"))
    shutil.copy(archive, home / "sold.tar")
    service.import_generation_from_archive(str(home / "sold.tar"))  # it is there already
    assert [one["generation"] for one in service.list_generations()] == ["v1"]
    with node.workspace.database.write() as connection:
        connection.exec_driver_sql("delete from packages")
    archive.unlink()
    service.import_generation_from_archive(str(home / "sold.tar"))
    assert archive.exists()
    service.switch_to_newest()
    assert str(node.deployment().desired) == "v1"
    _damaged(home)
    for name, told in (
        ("cut.tar", "cannot be read|lacks"),
        ("more.tar", "of which its manifest.json knows nothing"),
        ("changed.tar", "is damaged"),
        ("text.tar", "cannot be read"),
    ):
        with pytest.raises(DataikuException, match=told):
            service.import_generation_from_archive(str(home / name))


def _damaged(home: Path) -> None:
    """The archive cut short, with a file more, with a file changed, and no archive at all."""
    whole = (home / "sold.tar").read_bytes()
    (home / "cut.tar").write_bytes(whole[: len(whole) // 2])
    (home / "text.tar").write_text("hello")
    content = home / "content"
    with tarfile.open(home / "sold.tar") as tar:
        tar.extractall(content, filter="data")
    (content / "evil.py").write_text("import os\n")
    _pack(content, home / "more.tar")
    (content / "evil.py").unlink()
    (content / "openapi.json").write_text("{}")
    _pack(content, home / "changed.tar")


def _pack(content: Path, target: Path) -> None:
    with tarfile.open(target, "w") as tar:
        for path in sorted(p for p in content.rglob("*") if p.is_file()):
            tar.add(path, str(path.relative_to(content)))


def test_keys_are_listed_made_and_ended(node: Node) -> None:
    auth = node.client().auth()
    made = auth.add_key("second", "of a tool", "ann", None)
    assert (made["label"], made["createdBy"], made["expiry"]) == ("second", "ann", None)
    assert all("key" not in one for one in auth.list_keys())
    other = node.client(made["key"]).auth()
    assert {one["label"] for one in other.list_keys()} == {"deployer", "second"}
    timed = other.add_key("third", expiry=int((now() + 60) * 1000))
    assert abs(timed["expiry"] / 1000 - now() - 60) < 5
    other.delete_key_by_id(timed["id"])
    with pytest.raises(DataikuException, match="no such admin key"):
        other.delete_key(made["id"] + ".wrong")
    other.delete_key(made["key"])
    with pytest.raises(DataikuException, match="Denied"):
        other.list_keys()
    for wrong in (
        *({"expiry": expiry} for expiry in ("soon", True, 1, float("inf"), float("nan"), 10**400, 1e17)),
        *({"label": label} for label in (3, "two\nlines", "a\x1b[2J")),
        {"created_by": "two\nlines"},
    ):
        with pytest.raises(DataikuException, match="Invalid"):
            auth.add_key(**wrong)


def test_what_there_is_not_is_answered_honestly(node: Node, capsys: pytest.CaptureFixture[str]) -> None:
    client = node.client()
    calls: tuple[Any, ...] = (
        lambda: client.import_code_env_in_cache("/x", "python"),
        lambda: client.register_code_env_in_cache("/x", "/y", "python"),
        lambda: client.import_model_archive_in_cache("/x"),
    )
    for call in calls:
        with pytest.raises(DataikuException, match="NotSupported: a package holds all it needs"):
            call()
    client.clear_model_cache()
    client.clean_code_env_cache()
    node.build()
    client.service("sold").switch_to_newest()
    node.build("[customer]")
    client.service("sold").switch_to_newest()
    client.clean_unused_services_and_generations()
    printed = capsys.readouterr().out
    assert '"generation": "v1"' in printed
    folder = generation.folder_of(node.workspace.settings, "sold", "v1")
    assert not folder.exists()
    with pytest.raises(DataikuException, match="Unavailable"):
        client.get_metrics()  # the gateway does not run


def test_the_page_tells_of_every_call_of_the_client() -> None:
    page = (Path(__file__).parents[2] / "docs/reference/api-nodes.md").read_text()
    told = set(re.findall(r"\w+", page))
    for kind in (APINodeAdminClient, APINodeService, APINodeAuth):
        calls = {name for name in vars(kind) if not name.startswith("_")} - {"service", "auth"}
        assert calls <= told
