"""Imports over REST, in the shapes of lakeFS's document."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tulle.errors import Denied
from tulle.lake import onboard
from tulle.lake.door import Incoming
from tulle.lake.repository import Lake, Repository, open_lake
from tulle.lake.rest import application, imports
from tulle.lake.rest.application import RestDoor
from tulle.state import tasks
from tulle.state.db import Database

PATH = "/api/v1/repositories/sales/branches/main/import"


class Permissions:
    """Notes what is demanded, and denies some of it."""

    def __init__(self) -> None:
        self.demanded: list[tuple[str, ...]] = []
        self.denied = ""

    def demand(self, user: str, action: str, *resources: str, client: str = "") -> None:
        """Denied for the denied action."""
        self.demanded.append((user, action, *resources))
        if action == self.denied:
            raise Denied(f"{user} may not {action}")

    def demand_below(self, user: str, action: str, *beginnings: str) -> None:
        """The same for all that begins so."""
        self.demand(user, action, *(f"{beginning}*" for beginning in beginnings))

    def resource_repository(self, name: str) -> str:
        """A name."""
        return name

    def resource_branch(self, name: str, branch: str) -> str:
        """A name."""
        return f"{name}/{branch}"

    def resource_object(self, name: str, branch: str, path: str) -> tuple[str, ...]:
        """Names."""
        return (f"{name}/{branch}/{path}",)


@pytest.fixture
def permissions() -> Permissions:
    """Everything is allowed."""
    return Permissions()


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder with two files that may be imported."""
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "a").write_bytes(b"1")
    (folder / "b").write_bytes(b"2")
    return folder


@pytest.fixture
def lake(database: Database, tmp_path: Path, outside: Path) -> Lake:
    """A lake that may import from there."""
    return open_lake(database, f"local://{tmp_path / 'objects'}", stores=[f"local://{outside}"])


@pytest.fixture
def door(
    lake: Lake, permissions: Permissions, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> RestDoor:
    """The API's imports."""
    allowed: Any = permissions
    monkeypatch.setattr(application, "all_routes", lambda: imports.ROUTES)
    return RestDoor(lake, allowed, is_mesh_token=lambda token: token == "t")


def ask(door: RestDoor, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    raw, _, query = path.partition("?")
    chunks = iter([json.dumps(body).encode()] if body is not None else [])
    headers = {"authorization": "Bearer t"}
    answer = door.answer(Incoming(method, raw, raw.encode(), query.encode(), headers, "here", chunks))
    assert isinstance(answer.body, bytes)
    return answer.status, json.loads(answer.body) if answer.body else None


def test_from_start_to_commit(
    door: RestDoor, lake: Lake, repository: Repository, outside: Path, permissions: Permissions
) -> None:
    body = {
        "paths": [{"type": "common_prefix", "path": f"local://{outside}/", "destination": "raw/"}],
        "commit": {"message": "m", "metadata": {"k": "v"}, "date": 1_700_000_000},
        "force": False,
    }
    status, started = ask(door, "POST", PATH, body)
    assert status == 202
    assert permissions.demanded == [
        ("admin", "fs:CreateCommit", "sales/main"),
        ("admin", "fs:ImportFromStorage", f"arn:lakefs:fs:::namespace/local://{outside}/"),
        ("admin", "fs:WriteObject", "sales/main/raw/*"),
        ("admin", "fs:DeleteObject", "sales/main/raw/*"),
    ]
    where = f"{PATH}?id={started['id']}"
    status, told = ask(door, "GET", where)
    assert (status, told["completed"], told["ingested_objects"]) == (200, False, 0)
    assert set(told) == {"completed", "update_time", "ingested_objects"}
    tasks.run_one(lake.database, onboard.handlers(lake), "worker")
    status, told = ask(door, "GET", where)
    assert (status, told["completed"], told["ingested_objects"]) == (200, True, 2)
    commit = told["commit"]
    assert (commit["id"], commit["creation_date"]) == (repository.resolve("main"), 1_700_000_000)
    assert commit["metadata"]["k"] == "v"
    assert told["update_time"].endswith("Z")
    assert ask(door, "DELETE", where)[0] == 409


def test_that_is_cancelled_or_fails_says_so(door: RestDoor, lake: Lake, outside: Path) -> None:
    def body(path: str) -> Any:
        return {
            "paths": [{"type": "object", "path": path, "destination": "x"}],
            "commit": {"message": "m"},
        }

    started = ask(door, "POST", PATH, body(f"local://{outside}/a"))[1]
    assert ask(door, "DELETE", f"{PATH}?id={started['id']}")[0] == 204
    told = ask(door, "GET", f"{PATH}?id={started['id']}")[1]
    assert (told["completed"], told["error"]) == (False, {"message": "the import was cancelled"})
    started = ask(door, "POST", PATH, body(f"local://{outside}/none"))[1]
    tasks.run_one(lake.database, onboard.handlers(lake), "worker")
    told = ask(door, "GET", f"{PATH}?id={started['id']}")[1]
    assert told["completed"] is False
    assert "there is no file" in told["error"]["message"]


def test_what_is_asked_wrongly(door: RestDoor, permissions: Permissions) -> None:
    path = {"type": "common_prefix", "path": "local:///etc", "destination": ""}
    good = {"paths": [path], "commit": {"message": "m"}}
    assert ask(door, "POST", PATH, good)[0] == 403
    assert ask(door, "POST", PATH, {**good, "paths": [{**path, "type": "folder"}]})[0] == 400
    assert ask(door, "POST", PATH, {"paths": [path]})[0] == 400
    assert ask(door, "POST", PATH, {**good, "paths": []})[0] == 400
    assert ask(door, "GET", PATH)[0] == 400
    assert ask(door, "GET", PATH + "?id=none")[0] == 404
    permissions.denied = "fs:ImportFromStorage"
    assert ask(door, "POST", PATH, good)[0] == 403


def test_another_repository_must_be_readable(door: RestDoor, lake: Lake, permissions: Permissions) -> None:
    lake.create_repository("other")
    path = {"type": "common_prefix", "path": "lakefs://other/main~0/in", "destination": ""}
    body = {"paths": [path], "commit": {"message": "m"}}
    assert ask(door, "POST", PATH, body)[0] == 202
    assert ("admin", "fs:ReadObject", "other/main/in/*") in permissions.demanded
    permissions.denied = "fs:ReadObject"
    assert ask(door, "POST", PATH, body)[0] == 403
