"""The control plane's door: who comes in, and how a failure looks."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI, Request

from tulle import errors
from tulle.cli.connect import InProcess
from tulle.config import Settings, settings_from
from tulle.server.doors import STATUS, answer_in_json, guard
from tulle.server.token import read_token


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return settings_from(tmp_path, {}, {})


@pytest.fixture
def client(settings: Settings) -> Iterator[httpx.Client]:
    app = FastAPI()

    def nobody(_: str) -> str:
        raise errors.Denied("no credential was sent")

    guard(app, settings, answer_in_json, nobody, lambda _: None)

    @app.get("/mesh/v1/fail/{kind}")
    def fail(kind: str) -> None:
        raise errors.KINDS[kind]("it failed", hint="do this")

    @app.get("/mesh/v1/defect")
    def defect() -> None:
        raise ZeroDivisionError

    @app.get("/page")
    def page() -> dict[str, bool]:
        return {"read": True}

    @app.post("/mesh/v1/services/{name}/packages/archive")
    async def archive(request: Request) -> dict[str, int]:
        return {"bytes": len(await request.body())}

    @app.post("/try")
    def change() -> dict[str, bool]:
        return {"done": True}

    with InProcess(app) as transport:
        yield httpx.Client(transport=transport, base_url="http://127.0.0.1:8080")


def signed(settings: Settings) -> dict[str, str]:
    return {"authorization": f"Bearer {read_token(settings)}"}


@pytest.mark.parametrize("header", [{}, {"authorization": "Bearer wrong"}, {"authorization": "Basic abc"}])
def test_the_api_needs_the_token(client: httpx.Client, header: dict[str, str]) -> None:
    answer = client.get("/mesh/v1/fail/invalid", headers=header)
    assert answer.status_code == 401
    assert answer.json()["error"]["kind"] == "denied"


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "evil.example:8080", "", "127.0.0.1:/mesh", "127.0.0.1:8080/alive?"),
        *("localhost:80:80", "evil.example@127.0.0.1", "127.0.0.1:8080#", "::1"),
    ],
)
def test_a_foreign_host_name_is_refused(client: httpx.Client, host: str) -> None:
    assert client.get("/page", headers={"host": host}).status_code == 403


@pytest.mark.parametrize("host", ["127.0.0.1:8080", "localhost:8080", "localhost", "[::1]", "[::1]:8080"])
def test_pages_may_be_read_on_this_machine(client: httpx.Client, host: str) -> None:
    answer = client.get("/page", headers={"host": host})
    assert answer.status_code == 200
    assert "default-src 'self'" in answer.headers["content-security-policy"]
    assert answer.headers["x-frame-options"] == "DENY"


def test_a_page_of_another_site_changes_nothing(client: httpx.Client) -> None:
    assert client.post("/try").status_code == 403
    assert client.post("/try", headers={"origin": "http://evil.example"}).status_code == 403
    assert client.post("/try", headers={"origin": "http://127.0.0.1:8080"}).status_code == 200


@pytest.mark.parametrize("kind", sorted(errors.KINDS))
def test_every_kind_of_failure_has_a_status_and_comes_back_as_itself(
    client: httpx.Client, settings: Settings, kind: str
) -> None:
    answer = client.get(f"/mesh/v1/fail/{kind}", headers=signed(settings))
    assert answer.status_code == STATUS[errors.KINDS[kind]]
    back = errors.from_dict(answer.json()["error"])
    assert type(back) is errors.KINDS[kind]
    assert (back.message, back.hint) == ("it failed", "do this")


def test_a_defect_shows_no_inside(client: httpx.Client, settings: Settings) -> None:
    answer = client.get("/mesh/v1/defect", headers=signed(settings))
    assert answer.status_code == 500
    assert "Traceback" not in answer.text


def test_a_wrong_path_a_wrong_method_and_a_large_body_are_told_plainly(
    client: httpx.Client, settings: Settings
) -> None:
    assert client.get("/mesh/v1/nothing", headers=signed(settings)).status_code == 404
    assert client.put("/mesh/v1/fail/invalid", headers=signed(settings)).status_code == 405
    body = b"x" * 5_000_000
    assert client.post("/try", content=body, headers={"origin": "http://127.0.0.1:8080"}).status_code == 413


def test_an_archive_may_be_larger_than_what_is_asked_elsewhere(
    client: httpx.Client, settings: Settings
) -> None:
    path, body = "/mesh/v1/services/calc/packages/archive", b"x" * 5_000_000
    assert client.post(path, content=body).status_code == 401
    assert client.post(path, content=body, headers=signed(settings)).json() == {"bytes": len(body)}
    assert client.put(path, content=body, headers=signed(settings)).status_code == 413


def test_a_body_of_unsaid_length_is_refused_before_it_is_read(client: httpx.Client) -> None:
    def endless() -> Iterator[bytes]:
        yield b"x" * 1000

    answer = client.post("/try", content=endless(), headers={"origin": "http://127.0.0.1:8080"})
    assert answer.status_code == 411


def test_the_token_is_made_once_also_by_many_and_only_its_owner_reads_it(settings: Settings) -> None:
    with ThreadPoolExecutor(8) as pool:
        tokens = set(pool.map(lambda _: read_token(settings), range(32)))
    assert len(tokens) == 1
    assert len(next(iter(tokens))) >= 32
    path = settings.state_folder / "token"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
