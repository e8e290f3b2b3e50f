"""The file that declares a service, written anew by who may; and who may deploy and compare with a key of their own."""

from __future__ import annotations

import base64
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from tests.catalog.conftest import built_mesh, open_world
from tests.control.logged import LoggedMesh
from tests.control.test_approvals import Office

from tulle.cli.connect import InProcess
from tulle.control import release, service_file
from tulle.control.release import declared_service
from tulle.errors import Conflict, Invalid, NotFound
from tulle.events import SERVICE_WRITTEN
from tulle.lake.access import people
from tulle.server.app import application, open_workspace
from tulle.server.lake_doors import lake_access
from tulle.server.token import read_token
from tulle.serving import generation
from tulle.state import log

__all__ = ["built_mesh"]  # a fixture


@pytest.fixture
def logged(tmp_path: Path) -> Iterator[LoggedMesh]:
    made = LoggedMesh(tmp_path)
    yield made
    made.workspace.database.close()


def test_a_file_is_written_whole_and_told(logged: LoggedMesh) -> None:
    workspace = logged.workspace
    known = service_file.read(workspace, "scores")
    assert known.path == "services/scores.yaml"
    text = "# é, a comment of ours\n" + known.text
    saved = service_file.save(workspace, "scores", text, before=known.digest, actor="ann")
    assert service_file.read(workspace, "scores") == saved
    assert saved.text == text
    (event, *_) = log.read(workspace.database, limit=1, newest_first=True)
    assert (event.actor, event.kind, event.data["digest"]) == ("ann", SERVICE_WRITTEN, saved.digest)


def test_what_is_newer_or_wrong_is_left_as_it_is(logged: LoggedMesh) -> None:
    workspace = logged.workspace
    known = service_file.read(workspace, "scores")
    folder = logged.mesh.folder / "products/shop/scores/services"
    with pytest.raises(Invalid) as wrong:
        service_file.save(workspace, "scores", known.text + "\nmore: 1\n", before=known.digest)
    assert "unknown property 'more'" in str(wrong.value.problems[0])
    renamed = known.text.replace("service: scores", "service: others")
    with pytest.raises(Invalid) as wrong:
        service_file.save(workspace, "scores", renamed, before=known.digest)
    assert "called 'others' here" in wrong.value.problems[0].message
    (folder / "scores.yaml").write_text(known.text + "# newer\n")
    with pytest.raises(Conflict, match="changed meanwhile"):
        service_file.save(workspace, "scores", known.text, before=known.digest)
    assert [path.name for path in folder.iterdir()] == ["scores.yaml"]
    assert (folder / "scores.yaml").read_text().endswith("# newer\n")
    with pytest.raises(NotFound):
        service_file.read(workspace, "score")


def test_of_two_who_save_at_once_one_is_told(logged: LoggedMesh) -> None:
    workspace = logged.workspace
    for turn in range(5):
        known = service_file.read(workspace, "scores")
        both, ends = threading.Barrier(2), []

        def save(who: str, known: service_file.ServiceFile = known, both: threading.Barrier = both) -> None:
            both.wait(10)
            text = f"# {who}\n{known.text}"
            try:
                service_file.save(workspace, "scores", text, before=known.digest)
                ends.append(text)  # noqa: B023  joined within the turn
            except Conflict:
                ends.append("")  # noqa: B023

        threads = [threading.Thread(target=save, args=(f"{who} {turn}",)) for who in ("ann", "bob")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert sorted(map(bool, ends)) == [False, True]
        assert service_file.read(workspace, "scores").text == max(ends)


def test_line_ends_stay_those_of_the_file_and_a_broken_one_can_be_mended(logged: LoggedMesh) -> None:
    workspace = logged.workspace
    file = logged.mesh.folder / "products/shop/scores/services/scores.yaml"
    text = service_file.read(workspace, "scores").text
    file.write_bytes(text.replace("\n", "\r\n").encode())
    known = service_file.read(workspace, "scores")
    service_file.save(workspace, "scores", f"# more\n{text}", before=known.digest)
    assert file.read_bytes() == f"# more\n{text}".replace("\n", "\r\n").encode()
    file.write_text(text + "more: 1\n")
    known = service_file.read(workspace, "scores")
    assert known.text.endswith("more: 1\n")
    service_file.save(workspace, "scores", text, before=known.digest)
    assert file.read_text() == text
    other = file.with_name("other.yaml")
    other.write_text("service: others\nendpoints: 1\n")
    with pytest.raises(Invalid):
        declared_service(workspace, "scores")
    with pytest.raises(Invalid):
        declared_service(workspace, "others")
    file.write_bytes(b"\xff")
    with pytest.raises(Invalid, match="is not valid"):
        service_file.read(workspace, "scores")


def test_a_file_that_is_not_valid_holds_up_its_own_product_alone(built_mesh: Path, tmp_path: Path) -> None:
    folder = tmp_path / "two"
    shutil.copytree(built_mesh, folder)
    world = open_world(folder)
    world.apply()
    world.write("products/shop/sales/services/prices.yaml", "service: prices\nendpoints: 1\n")
    workspace = open_workspace(world.settings)
    try:
        assert release.build_package(workspace, "customer-totals")[0].version == "v1"
        assert service_file.read(workspace, "customer-totals").product == "people"
        assert service_file.read(workspace, "prices").product == "sales"
        with pytest.raises(Invalid):
            release.declared_service(workspace, "prices")
        with pytest.raises(NotFound) as gone:  # it may well be in the file that cannot be read
            release.declared_service(workspace, "price")
        assert "prices.yaml" in str(gone.value.problems[0])
        # Others are listed, and may be called by whoever is let.
        settings = workspace.settings
        with httpx.Client(
            transport=InProcess(application(settings)),
            base_url=f"http://127.0.0.1:{settings.control_plane_port}",
            headers={"authorization": f"Bearer {read_token(settings)}"},
        ) as client:
            listed = client.get("/mesh/v1/services").json()
            assert [one["name"] for one in listed["services"]] == ["customer-totals"]
            assert "prices.yaml" in listed["problems"][0]
            made = {"name": "till", "services": {"customer-totals": None}}
            assert client.post("/mesh/v1/applications", json=made).status_code == 201
            made = {"name": "desk", "services": {"prices": None}}
            assert "prices.yaml" in client.post("/mesh/v1/applications", json=made).text
    finally:
        workspace.database.close()
        world.database.close()


def test_a_name_that_two_products_claim_is_told_and_holds_up_no_other(
    built_mesh: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "two"
    shutil.copytree(built_mesh, folder)
    world = open_world(folder)
    world.apply()
    theirs = next(folder.glob("products/*/people/services/customer-totals.yaml")).read_text()
    world.write("products/shop/sales/services/customer-totals.yaml", theirs)
    world.write("products/shop/sales/services/more.yaml", theirs.replace("customer-totals", "more"))
    workspace = open_workspace(world.settings)
    try:
        found, wrong = release.readable_services(workspace)
        assert list(found) == ["more"]
        assert [exc.message for exc in wrong] == [
            "products 'people' and 'sales' both have a service 'customer-totals'"
        ]
    finally:
        workspace.database.close()
        world.database.close()


def test_who_may_only_look_changes_nothing(logged: LoggedMesh) -> None:
    workspace = logged.workspace
    logged.package()
    access = lake_access(workspace.settings, workspace.database)
    keys = {"ann": Office.user(access, "ann", "Developers"), "vic": Office.user(access, "vic", "Viewers")}
    with workspace.database.write() as cx:
        others = {"effect": "deny", "action": ["fs:ReadObject"]}
        people.add_policy(cx, "not-that", [{**others, "resource": "arn:lakefs:fs:::repository/other/*"}])
        people.attach(cx, "not-that", "user", "ann")
    app = application(workspace.settings)
    transport = InProcess(app)
    before = service_file.read(workspace, "scores").digest

    def call(who: str, method: str, path: str, body: object = None) -> int:
        credential = f"Bearer {read_token(workspace.settings)}"
        if who:
            key = keys[who]
            credential = "Basic " + base64.b64encode(f"{key.id}:{key.secret}".encode()).decode()
        settings = workspace.settings
        url = f"http://{settings.host}:{settings.control_plane_port}/mesh/v1/services/scores{path}"
        request = httpx.Request(method, url, json=body, headers={"authorization": credential})
        response = transport.handle_request(request)
        response.read()
        return response.status_code

    changes: list[tuple[str, str, object]] = [
        ("POST", "/deploy", {"version": "v1"}),
        ("PUT", "/traffic", {"shares": [{"generation": "v1", "share": 1}]}),
        ("POST", "/disable", {}),
        ("PUT", "/bounds", {"floor": 1}),
        ("PUT", "/ending", {}),
        ("DELETE", "/ending", None),
        ("POST", "/compare", {"left": "v1", "right": "v1"}),
        ("GET", "/file", None),
        ("PUT", "/file", {"text": "service: scores", "before": before}),
        ("GET", "/annotations", None),
        ("PUT", "/annotations", {"text": "x", "before": "other"}),
        ("POST", "/endpoints/score/attempt", {"sent": {}}),
        ("POST", "/endpoints/score/test-queries", {"data_set": "rows", "write": False}),
    ]
    for method, path, body in changes:
        assert call("vic", method, path, body) == 403, path
    assert generation.find(workspace.database, "scores") is None
    for method, path, body in changes:
        assert call("ann", method, path, body) not in {401, 403}, path
    assert generation.deployment(workspace.database, "scores").desired.main == "v1"
    asked = {"data_set": "rows", "product": "other", "write": False}
    assert call("ann", "POST", "/endpoints/score/test-queries", asked) == 403  # whose rows one may not read
    assert call("", "POST", "/endpoints/score/test-queries", asked) == 404
    assert call("ann", "GET", "/look-ups") == 403  # what nobody named stays with the mesh's token
    assert call("", "GET", "/look-ups") == 200
    app.state.close()


def test_annotations_are_written_checked_and_taken_away(logged: LoggedMesh) -> None:
    workspace = logged.workspace
    none = service_file.read_annotations(workspace, "scores")
    assert (none.path, none.text, none.digest) == ("services/scores.openapi.yaml", "", "")
    text = "overlay: 1.0.0\ninfo: {title: Ours, version: '1'}\nactions:\n- {target: $.info, update: {title: Éa}}\n"
    saved = service_file.save_annotations(workspace, "scores", text, before="", actor="ann")
    assert service_file.read_annotations(workspace, "scores") == saved
    (event, *_) = log.read(workspace.database, limit=1, newest_first=True)
    assert (event.actor, event.kind, event.data["file"]) == ("ann", SERVICE_WRITTEN, saved.path)
    folder = logged.mesh.folder / "products/shop/scores/services"
    with pytest.raises(Invalid) as wrong:
        bad = text.replace("$.info", "\"$.paths['/no-such/predict']\"")
        service_file.save_annotations(workspace, "scores", bad, before=saved.digest)
    assert "finds nothing in the OpenAPI document" in wrong.value.problems[0].message
    assert wrong.value.problems[0].place is not None
    assert str(wrong.value.problems[0].place).startswith("services/scores.openapi.yaml:4")
    with pytest.raises(Conflict, match="changed meanwhile"):
        service_file.save_annotations(workspace, "scores", "", before="")
    assert sorted(path.name for path in folder.iterdir()) == ["scores.openapi.yaml", "scores.yaml"]
    (folder / "scores.openapi.yaml").write_bytes(text.replace("\n", "\r\n").encode())
    saved = service_file.read_annotations(workspace, "scores")
    saved = service_file.save_annotations(workspace, "scores", f"# more\n{text}", before=saved.digest)
    assert (folder / "scores.openapi.yaml").read_bytes() == f"# more\n{text}".replace("\n", "\r\n").encode()
    assert service_file.read_annotations(workspace, "scores") == saved
    assert service_file.save_annotations(workspace, "scores", " \n", before=saved.digest) == none
    assert [path.name for path in folder.iterdir()] == ["scores.yaml"]
