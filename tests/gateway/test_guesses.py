"""Somebody tries secrets: it is told, the gateway looks at few of them, and nobody else is locked out."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.gateway.conftest import (
    API,
    CONTRACTS,
    SECRETS,
    WORKERS,
    Mesh,
    as_client,
    basic,
    check_error,
    policy,
    wait_until,
)
from tests.gateway.policies.conftest import policy_of
from tests.gateway.shown_log import ShownLog

from tulle.config import Settings
from tulle.gateway import guesses
from tulle.gateway.guesses import FILE, MANY, ON_SECONDS, Guesses, guarded_until, is_guarded
from tulle.gateway.last_used import WRONG_SECRET
from tulle.gateway.policy import Client, Contract, RateLimit
from tulle.gateway.secret import hash_secret
from tulle.state import log
from tulle.state.db import Database, now

ONE, OTHER = "till-0123abcd", "shop-0123abcd"  # ids as they are made
PLENTY = RateLimit.parse("100000/1s")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(folder=tmp_path)


def told(database: Database) -> list[str]:
    return [str(e.data["address"]) for e in log.read(database) if e.kind == "gateway.guessed"]


def test_many_wrong_ones_in_a_minute_turn_the_limit_on_and_are_told_once(
    settings: Settings, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    watching, at = Guesses(settings, database), now()
    for number in range(MANY - 1):
        watching.note("10.0.0.1", at + number / 10)
        watching.note("10.0.0.2", at + number * 2)  # who is slower does nothing that stands out
    assert not is_guarded(settings)
    for number in range(200):
        watching.note("10.0.0.1", at + 6 + number / 10)
    assert is_guarded(settings)
    assert guarded_until(settings) == pytest.approx(at + ON_SECONDS, abs=70)
    assert told(database) == ["10.0.0.1"]
    assert "address 10.0.0.1 tries secrets" in caplog.text
    assert (settings.state_folder / FILE).stat().st_mode & 0o777 == 0o600
    assert Guesses(settings, database)._until == guarded_until(settings)  # the next control plane goes on


def test_it_ends_by_itself_and_damage_is_no_limit(settings: Settings, database: Database) -> None:
    watching = Guesses(settings, database)
    for number in range(MANY):
        watching.note("10.0.0.1", now() - ON_SECONDS - 10 + number / 100)
    assert not is_guarded(settings)
    (settings.state_folder / FILE).write_text("what?")
    assert not is_guarded(settings)


def test_addresses_are_forgotten_before_they_are_too_many(
    settings: Settings, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guesses, "MOST_ADDRESSES", 10)
    watching = Guesses(settings, database)
    for number in range(100):
        watching.note(f"10.0.0.{number}", now())
    assert len(watching._wrong) == 10


# ── on the real Envoy ────────────────────────────────────────────────────────────────────────────────────


def publish(mesh: Mesh, *, is_guarded: bool) -> None:
    usual = policy(WORKERS, CONTRACTS)
    clients = (*usual.clients, *(Client(name, hash_secret(f"{name:0>40}")) for name in (ONE, OTHER)))
    contracts = (*usual.contracts, *(Contract(name, "first", PLENTY) for name in (ONE, OTHER)))
    mesh.gateway.publish(replace(usual, clients=clients, contracts=contracts, is_guarded=is_guarded))


def right(name: str) -> dict[str, str]:
    return basic(name, f"{name:0>40}")


@pytest.mark.system
def test_wrong_ones_are_limited_and_nobody_else_is_locked_out(mesh: Mesh) -> None:
    publish(mesh, is_guarded=True)
    assert mesh.ask(API + "first/x", right(ONE)).status == 200  # known to be right from here on
    began = time.monotonic()
    statuses = [mesh.ask(API + "first/x", basic(ONE, f"{n:040}")).status for n in range(80)]
    assert set(statuses) == {401, 429}
    # two workers of Envoy, ten each, and one a second
    assert statuses.count(401) <= 2 * (10 + 2 + time.monotonic() - began)
    reply = next(
        one
        for one in (mesh.ask(API + "first/x", basic(ONE, "x" * 40)) for _ in range(20))
        if one.status == 429
    )
    check_error(reply, 429, "TooManyGuesses")
    assert reply.headers["retry-after"] == "60"
    assert {mesh.ask(API + "first/x", right(OTHER)).status for _ in range(5)} == {200}
    # a worker that has not seen it yet looks at one a second, and then lets it pass
    for _ in range(2):
        wait_until(
            lambda: {mesh.ask(API + "first/x", right(ONE)).status for _ in range(8)} == {200}, "passing"
        )
    publish(mesh, is_guarded=False)
    assert mesh.ask(API + "first/x", basic(ONE, "x" * 40)).status == 401
    assert mesh.ask(API + "first/x", right(ONE)).status == 200


def _key_alone(client_id: str, secret: str) -> tuple[str, dict[str, str]]:
    return "", {"authorization": f"Bearer {client_id}.{secret}"}


_WAYS: dict[str, Callable[[str, str], tuple[str, dict[str, str]]]] = {
    "headers": lambda id_, secret: ("", {"client_id": id_, "client_secret": secret}),
    "basic": lambda id_, secret: ("", basic(id_, secret)),
    "key": _key_alone,
    "key-as-user": lambda id_, secret: ("", basic(f"{id_}.{secret}", "")),
    "query": lambda id_, secret: (f"?client_id={id_}&client_secret={secret}", {}),
    "own-header": lambda id_, secret: ("", {"x-api-key": f"{id_}.{secret}"}),
    "own-parameter": lambda id_, secret: (f"?key={id_}.{secret}", {}),
}


@pytest.mark.system
def test_wrong_ones_are_limited_and_told_by_whichever_way_they_come(mesh: Mesh, database: Database) -> None:
    listed = "- {policy: api-key, header: x-api-key, query: key}\n- {policy: client-id, query: true}"
    mesh.gateway.publish(replace(policy_of(listed), is_guarded=True))
    path = API + "first/by-whichever-way"
    began = time.monotonic()
    for number, (name, shown) in enumerate(_WAYS.items()):
        statuses = []
        for n in range(40):
            query, headers = shown(f"guess-{number:08x}", f"{n:040x}")
            statuses.append(mesh.ask(path + query, headers).status)
        assert set(statuses) == {401, 429}, name
        assert statuses.count(401) <= 2 * (10 + 2 + time.monotonic() - began), name

    def mine() -> list[dict[str, Any]]:
        return [line for line in mesh.log_lines() if str(line["path"]).startswith(path)]

    wait_until(lambda: len(mine()) == 40 * len(_WAYS), "writing the access log")
    lines = mine()
    assert {line["details"] for line in lines if line["code"] == 401} == {WRONG_SECRET}
    assert f"{39:040x}" not in str(lines)  # nothing of what was tried is kept
    reading = ShownLog(mesh.settings, database)
    reading.look()
    assert told(database) == ["127.0.0.1"]
    (mesh.settings.state_folder / FILE).unlink()


@pytest.mark.system
def test_it_is_off_without_need_and_the_log_tells_the_address(mesh: Mesh, database: Database) -> None:
    publish(mesh, is_guarded=False)
    path = API + "first/off-without-need"  # lines of what was asked before may come late
    for number in range(MANY):
        check_error(mesh.ask(path, basic(ONE, f"{number:040}")), 401, "InvalidClient")
    mesh.ask(path, as_client("app-a"))

    def mine() -> list[dict[str, Any]]:
        return [line for line in mesh.log_lines() if line["path"] == path]

    wait_until(lambda: len(mine()) == MANY + 1, "writing the access log")
    lines = mine()
    assert {line["details"] for line in lines if line["code"] == 401} == {WRONG_SECRET}
    assert {line["address"] for line in lines} == {"127.0.0.1"}
    for secret in SECRETS.values():
        assert secret not in str(lines)
    reading = ShownLog(mesh.settings, database)
    reading.look()
    assert told(database) == ["127.0.0.1"]
    (mesh.settings.state_folder / FILE).unlink()
