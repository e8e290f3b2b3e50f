"""When callers last called: what the access log tells, how it is read on, and how it is put aside."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.gateway.conftest import API, PLENTY, Mesh, as_client, basic, policy, wait_until
from tests.gateway.shown_log import ShownLog

from tulle.config import Settings
from tulle.errors import Unavailable
from tulle.gateway import access_log
from tulle.gateway import last_used as module
from tulle.gateway.access_log import AccessLog
from tulle.gateway.envoy_values import ACCESS_LOG
from tulle.gateway.last_used import last_used, note
from tulle.gateway.log_place import LogReader
from tulle.gateway.policy import GatewayPolicy
from tulle.serving.access import Access, Public
from tulle.state.db import Database, open_database


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    found = open_database(f"sqlite:///{tmp_path}/state.db")
    yield found
    found.close()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    made = Settings(folder=tmp_path)
    made.log_folder.mkdir(parents=True)
    return made


def line(second: int, client: str | None = "app-1", **more: Any) -> bytes:
    said = {"time": f"2026-03-01T10:00:{second:02}.500Z", "code": 200, "access": "contract"}
    plain = {**said, "client": client, "service": "first", "environment": None, "path": "/x", **more}
    return json.dumps(plain).encode() + b"\n"


START = 1772359200.5  # 2026-03-01T10:00:00.500Z


# ── what counts ──────────────────────────────────────────────────────────────────────────────────────────


def test_calls_that_were_let_in_count_of_callers_whom_the_gateway_knows(
    settings: Settings, database: Database
) -> None:
    file = settings.state_folder / ACCESS_LOG
    file.write_bytes(
        line(1)
        + line(9, code=429)  # it may have called too often, but it called
        + line(3, "key-1", code=500, environment="test")
        + line(2, "key-1")
        + line(10, code=403)
        + line(11, code=401)
        + line(12, "app-1", access="token")  # of another one's name
        + line(13, None, access="public")
        + line(14, "app-2", service=None)
        + b'{"time": "2026-03-01T10:00:15.500Z", "code": 20\n'
        + b"\xff\n[]\n\n"
        + line(16)[:-1]  # it is being written
    )
    follower = ShownLog(settings, database)
    follower.look()
    assert last_used(database) == {("app-1", "first"): START + 9, ("key-1", "first"): START + 3}
    assert last_used(database, "second") == {}
    with file.open("ab") as more:
        more.write(b"\n" + line(50, "key-1"))
    follower.look()
    # who calls again within half a minute is not written down again
    assert last_used(database, "first") == {("app-1", "first"): START + 9, ("key-1", "first"): START + 50}


def test_what_is_known_to_be_later_stays(database: Database) -> None:
    note(database, {("a", "s", ""): 20.0})
    note(database, {("a", "s", ""): 10.0, ("b", "s", ""): 5.0})
    assert last_used(database) == {("a", "s"): 20.0, ("b", "s"): 5.0}


def test_many_callers_are_written_down_at_once(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_AT_ONCE", 7)
    many = {(f"app-{n:02}", service, "test"): float(n) for n in range(20) for service in ("s", "t")}
    note(database, {("app-03", "s", ""): 99.0, ("app-04", "t", "test"): 1.0})
    note(database, many)
    note(database, {who: at + 1 for who, at in many.items() if at % 2})
    found = last_used(database)
    assert found.pop(("app-03", "s")) == 99.0
    wanted = {(who[0], who[1]): at + at % 2 for who, at in many.items()}
    del wanted["app-03", "s"]
    assert found == wanted


# ── the file ─────────────────────────────────────────────────────────────────────────────────────────────


class Door:
    """An admin door that answers, or does not."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.is_there = True

    def post(self, path: str) -> str:
        if not self.is_there:
            raise Unavailable("no")
        self.asked.append(path)
        return "OK"


def test_a_large_file_is_put_aside_and_the_oldest_is_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access_log, "LARGEST", 10)
    file, door = tmp_path / "a.jsonl", Door()
    log, reader = AccessLog(file), LogReader(file)
    place = ("", 0)

    def new() -> list[bytes]:
        nonlocal place
        found = []
        for piece in reader.pieces(*place):
            found += piece.data.splitlines()
            place = (piece.file, piece.position)
        return found

    log.put_aside_when_large(door)  # type: ignore[arg-type]
    assert new() == []
    file.write_bytes(b"one\ntwo\nthr")
    assert new() == [b"one", b"two"]
    writer = file.open("ab")
    door.is_there = False
    log.put_aside_when_large(door)  # type: ignore[arg-type]
    writer.write(b"ee\nfour\n")  # it goes on with the file that it has
    writer.flush()
    assert new() == [b"three", b"four"]
    writer.write(b"five\n")
    writer.close()
    door.is_there = True
    log.put_aside_when_large(door)  # type: ignore[arg-type]
    assert door.asked == ["/reopen_logs"]
    file.write_bytes(b"six\n")
    assert new() == [b"five", b"six"]
    for _ in range(6):
        file.write_bytes(b"seven and more\n")
        log.put_aside_when_large(door)  # type: ignore[arg-type]
    assert {one.name for one in tmp_path.iterdir()} == {f"a.{n}.jsonl" for n in range(1, access_log.KEPT + 1)}


# ── the real Envoy ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.system
def test_the_log_of_the_gateway_tells_who_called(
    mesh: Mesh, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = policy({"seen": ("run/w/first-2.sock",)}, {("app-a", "seen"): PLENTY, ("app-b", "seen"): PLENTY})
    opened = [replace(s, access=Access(True, public=Public("9/1s"))) for s in usual.services]
    mesh.gateway.publish(GatewayPolicy.of(services=opened, clients=usual.clients, contracts=usual.contracts))
    follower = ShownLog(mesh.settings, database)
    follower.look()
    assert mesh.ask(API + "seen/x", as_client("app-a")).status == 200
    assert mesh.ask(API + "seen/x").status == 200
    assert mesh.ask(API + "seen/x", basic("app-b", "wrong")).status == 401
    assert mesh.ask(API + "seen/x", as_client("app-c")).status == 403

    def seen() -> set[str]:
        follower.look()
        return {client for client, service in last_used(database) if service == "seen"}

    wait_until(lambda: bool(seen()), "the access log")
    monkeypatch.setattr(access_log, "LARGEST", 1)
    AccessLog(mesh.settings.state_folder / ACCESS_LOG).put_aside_when_large(mesh.admin)
    assert mesh.ask(API + "seen/x", as_client("app-b")).status == 200
    wait_until(lambda: "app-b" in seen(), "the access log that was begun anew")
    assert seen() == {"app-a", "app-b"}
