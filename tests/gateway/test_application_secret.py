"""Two secrets of one application while one takes the other's place: in the database, and on the real Envoy."""

from __future__ import annotations

import http.client
import threading
from typing import Any

import pytest
from sqlalchemy import update
from tests.gateway.conftest import API, WORKERS, Mesh, basic, check_error, current_policy, wait_until

from tulle.errors import Invalid
from tulle.gateway import admitted, application_secret, contract
from tulle.gateway import applications as registered
from tulle.gateway.applications import Credentials
from tulle.gateway.policy import ManagedService, RateLimit
from tulle.gateway.secret import is_second
from tulle.state import log
from tulle.state.db import Database, now
from tulle.state.tables import applications as rows

PLENTY = RateLimit.parse("100000/1s")


def forms(made: Credentials) -> dict[str, dict[str, str]]:
    id_, secret = made.client_id, made.client_secret
    return {
        "two headers": {"client_id": id_, "client_secret": secret},
        "Basic": basic(id_, secret),
        "key as Bearer": {"authorization": f"Bearer {made.api_key}"},
        "key as Basic user": basic(made.api_key, ""),
    }


@pytest.fixture
def first(database: Database) -> Credentials:
    return registered.register(database, "till", services={"first": PLENTY})


def in_force(database: Database, *made: Credentials) -> list[bool]:
    return [application_secret.opens(database, "till", one.client_id, one.client_secret) for one in made]


def test_the_old_secret_goes_on_for_as_long_as_is_said(database: Database, first: Credentials) -> None:
    second = application_secret.rotate(database, "till", overlap=3600)
    assert is_second(second.client_secret)
    assert not is_second(first.client_secret)
    assert second.former_until == pytest.approx(now() + 3600, abs=60)
    assert in_force(database, first, second) == [True, True]
    (client,) = current_policy(database, []).clients
    assert len(client.hashes) == 2
    newest, oldest = registered.get(database, "till").secrets
    assert (newest.until, oldest.until) == (None, second.former_until)
    third = application_secret.rotate(database, "till", overlap=60)  # of three the oldest ends
    assert in_force(database, first, second, third) == [False, True, True]
    assert application_secret.end_former(database, "till")
    assert in_force(database, first, second, third) == [False, False, True]
    assert not application_secret.end_former(database, "till")
    assert [e.kind for e in log.read(database)].count("application.rotated") == 3


def test_without_overlap_the_old_secret_ends_at_once(database: Database, first: Credentials) -> None:
    second = application_secret.rotate(database, "till")
    assert second.former_until is None
    assert in_force(database, first, second) == [False, True]
    fourth = application_secret.rotate(database, "till")
    assert in_force(database, first, second, fourth) == [False, False, True]


def test_secrets_end(database: Database, first: Credentials) -> None:
    ending = application_secret.rotate(database, "till", overlap=60, expires_at=now() + 3600)
    assert in_force(database, first, ending) == [True, True]
    application_secret.tell_ends(database)
    application_secret.tell_ends(database)
    told = [e for e in log.read(database) if e.kind == "application.secret_ends"]
    assert len(told) == 1
    with database.write() as cx:
        cx.execute(update(rows).values(secret_until=now() - 1, second_until=now() - 1))
    admitted.forget(database)
    assert in_force(database, first, ending) == [False, False]
    policy = current_policy(database, [ManagedService("first", (), 1000)])
    assert (policy.clients, policy.contracts) == ((), ())  # who cannot sign in has nothing
    assert registered.get(database, "till").secrets == ()
    assert in_force(database, application_secret.rotate(database, "till")) == [True]


def test_a_secret_never_outlives_its_end_by_being_rotated(database: Database) -> None:
    until = now() + 100
    registered.register(database, "till", expires_at=until)
    assert application_secret.rotate(database, "till", overlap=86_400).former_until == until


@pytest.mark.parametrize("overlap", [-1.0, 91 * 86_400.0, float("nan")])
def test_an_overlap_nobody_can_mean(database: Database, first: Credentials, overlap: float) -> None:
    with pytest.raises(Invalid, match="an overlap of"):
        application_secret.rotate(database, "till", overlap=overlap)
    assert in_force(database, first) == [True]


# ── on the real Envoy ────────────────────────────────────────────────────────────────────────────────────


def publish(mesh: Mesh, database: Database) -> None:
    services = [ManagedService("first", WORKERS["first"], 10_000)]
    mesh.gateway.publish(current_policy(database, services))


@pytest.mark.system
def test_both_secrets_open_in_every_form_and_are_one_client(
    mesh: Mesh, database: Database, first: Credentials
) -> None:
    second = application_secret.rotate(database, "till", overlap=3600)
    publish(mesh, database)
    for made in (first, second):
        for form, headers in forms(made).items():
            reply = mesh.ask(API + "first/x", headers)
            assert reply.status == 200, (form, reply)
            assert reply.json()["headers"]["x-tulle-client"] == first.client_id
            assert made.client_secret not in reply.body.decode()
    application_secret.end_former(database, "till")
    publish(mesh, database)
    for headers in forms(first).values():
        check_error(mesh.ask(API + "first/x", headers), 401, "InvalidClient")
    assert {mesh.ask(API + "first/x", headers).status for headers in forms(second).values()} == {200}


@pytest.mark.system
def test_the_second_name_is_nobody_s(mesh: Mesh, database: Database, first: Credentials) -> None:
    second = application_secret.rotate(database, "till", overlap=3600)
    publish(mesh, database)
    id_ = first.client_id
    wrong = [
        basic(f"{id_}~2", second.client_secret),
        basic(f"{id_}~2", first.client_secret),
        basic(id_, second.client_secret.removesuffix("~")),
        basic(id_, first.client_secret + "~"),
        {"client_id": f"{id_}~2", "client_secret": second.client_secret},
        {"authorization": f"Bearer {id_}~2.{second.client_secret}"},
        basic("", "~"),
        basic("~", ""),
        {"authorization": "Basic fg=="},
    ]
    for headers in wrong:
        check_error(mesh.ask(API + "first/x", headers), 401, "InvalidClient")
    # what says of itself who it is, is not heard
    reply = mesh.ask(API + "first/x", {**basic(id_, first.client_secret), "x-tulle-client": "x~2"})
    assert reply.json()["headers"]["x-tulle-client"] == id_


@pytest.mark.system
def test_both_secrets_share_one_limit(mesh: Mesh, database: Database, first: Credentials) -> None:
    contract.grant(database, "till", "first", RateLimit.parse("3/1h"))
    second = application_secret.rotate(database, "till", overlap=3600)
    publish(mesh, database)
    headers = [basic(first.client_id, one.client_secret) for one in (first, second, first, second)]
    assert [mesh.ask(API + "first/x", one).status for one in headers] == [200, 200, 200, 429]
    wait_until(lambda: len(lines(mesh, first)) == 4, "writing the access log")
    assert [line["code"] for line in lines(mesh, first)] == [200, 200, 200, 429]


def lines(mesh: Mesh, made: Credentials) -> list[dict[str, Any]]:
    return [line for line in mesh.log_lines() if line["client"] == made.client_id]


@pytest.mark.system
def test_rotating_loses_no_call(mesh: Mesh, database: Database, first: Credentials) -> None:
    """One caller goes on with the old secret, one changes to each new one as soon as it is published."""
    publish(mesh, database)
    current, statuses, stop = [first], [], threading.Event()

    def call() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", mesh.settings.gateway_port, timeout=10)
        while not stop.is_set():
            made = current[-1]
            connection.request("GET", API + "first/x", headers=basic(made.client_id, made.client_secret))
            answer = connection.getresponse()
            answer.read()
            statuses.append(answer.status)
        connection.close()

    callers = [threading.Thread(target=call) for _ in range(2)]
    for one in callers:
        one.start()
    for _ in range(3):
        made = application_secret.rotate(database, "till", overlap=3600)
        publish(mesh, database)
        current.append(made)
    stop.set()
    for one in callers:
        one.join(10)
    assert set(statuses) == {200}
    assert len(statuses) > 10
