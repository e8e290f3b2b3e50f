"""Pull requests over REST, in the shapes of lakeFS's document."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tulle.lake.access.policy import Decision
from tulle.lake.door import Incoming
from tulle.lake.repository import Lake, Repository
from tulle.lake.rest import application, pulls
from tulle.lake.rest.application import RestDoor

PULLS = "/api/v1/repositories/sales/pulls"


class Everything:
    """Allows everything."""

    def demand(self, user: str, action: str, *resources: str, client: str = "") -> None:
        """Nothing is denied."""

    def decide_shown(self, *asked: object) -> Decision:
        """Nothing is hidden."""
        return Decision(True, "")

    def resource_object(self, name: str, branch: str, path: str) -> tuple[str, ...]:
        """Names."""
        return (f"{name}/{branch}/{path}",)

    def resource_repository(self, name: str) -> str:
        """A name."""
        return name

    def resource_branch(self, name: str, branch: str) -> str:
        """A name."""
        return f"{name}/{branch}"


@pytest.fixture
def door(lake: Lake, repository: Repository, monkeypatch: pytest.MonkeyPatch) -> RestDoor:
    """The API's pull requests, on a repository whose branch `work` is ahead of main."""
    repository.create_branch("work", "main")
    repository.put("work", "a", b"1")
    repository.commit("work", "work")
    allowed: Any = Everything()
    monkeypatch.setattr(application, "all_routes", lambda: pulls.ROUTES)
    return RestDoor(lake, allowed, is_mesh_token=lambda token: token == "t")


def ask(door: RestDoor, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    raw, _, query = path.partition("?")
    chunks = iter([json.dumps(body).encode()] if body is not None else [])
    headers = {"authorization": "Bearer t"}
    answer = door.answer(Incoming(method, raw, raw.encode(), query.encode(), headers, "here", chunks))
    assert isinstance(answer.body, bytes)
    return answer.status, json.loads(answer.body) if answer.body else None


NEW = {"title": "T", "source_branch": "work", "destination_branch": "main"}


def test_from_creation_to_merge(door: RestDoor, repository: Repository) -> None:
    status, made = ask(door, "POST", PULLS, {**NEW, "description": "D"})
    assert status == 201
    where = f"{PULLS}/{made['id']}"
    status, told = ask(door, "GET", where)
    assert status == 200
    created = told.pop("creation_date")
    assert created.endswith("Z")
    assert told == {
        "id": made["id"],
        "status": "open",
        "title": "T",
        "description": "D",
        "author": "admin",
        "source_branch": "work",
        "destination_branch": "main",
    }
    assert ask(door, "PATCH", where, {"title": "U", "status": "closed"}) == (200, None)
    told = ask(door, "GET", where)[1]
    assert (told["title"], told["description"], told["status"]) == ("U", "D", "closed")
    assert told["closed_date"] >= created
    assert ask(door, "PUT", where + "/merge")[0] == 409
    assert ask(door, "PATCH", where, {"status": "open"})[0] == 200
    status, merged = ask(door, "PUT", where + "/merge")
    assert (status, merged) == (200, {"reference": repository.resolve("main")})
    told = ask(door, "GET", where)[1]
    assert (told["status"], told["merged_commit_id"]) == ("merged", merged["reference"])


def test_a_list_comes_in_pages(door: RestDoor) -> None:
    ids = [ask(door, "POST", PULLS, NEW)[1]["id"] for _ in range(3)]
    status, page = ask(door, "GET", f"{PULLS}?amount=2")
    assert status == 200
    assert [pull["id"] for pull in page["results"]] == ids[:2]
    assert page["pagination"] == {
        "has_more": True,
        "next_offset": ids[1],
        "results": 2,
        "max_per_page": 1000,
    }
    page = ask(door, "GET", f"{PULLS}?amount=2&after={ids[1]}")[1]
    assert [pull["id"] for pull in page["results"]] == ids[2:]
    assert page["pagination"]["has_more"] is False
    ask(door, "PATCH", f"{PULLS}/{ids[0]}", {"status": "closed"})
    assert len(ask(door, "GET", f"{PULLS}?status=open")[1]["results"]) == 2
    assert len(ask(door, "GET", f"{PULLS}?status=closed")[1]["results"]) == 1
    assert ask(door, "GET", f"{PULLS}?status=merged")[0] == 400


def test_what_is_asked_wrongly(door: RestDoor, repository: Repository) -> None:
    assert ask(door, "POST", PULLS, {**NEW, "source_branch": "main"})[0] == 400
    assert ask(door, "POST", PULLS, {**NEW, "source_branch": "nowhere"})[0] == 404
    assert ask(door, "POST", PULLS, {"title": "T"})[0] == 400
    assert ask(door, "GET", PULLS + "/nobody")[0] == 404
    made = ask(door, "POST", PULLS, NEW)[1]
    assert ask(door, "PATCH", f"{PULLS}/{made['id']}", {"status": "merged"})[0] == 400
    assert ask(door, "PATCH", f"{PULLS}/{made['id']}", {"status": "nonsense"})[0] == 400
    repository.put("main", "staged", b"1")
    status, told = ask(door, "PUT", f"{PULLS}/{made['id']}/merge")
    assert (status, "staged changes" in told["message"]) == (400, True)
    repository.put("main", "a", b"2")
    repository.commit("main", "other")
    assert ask(door, "PUT", f"{PULLS}/{made['id']}/merge")[0] == 409
