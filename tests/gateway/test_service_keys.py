"""API keys of a service, and ways in said at its deployment: what is kept, what is in force, what the gateway gets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text, update
from tests.gateway.conftest import API, WORKERS, Mesh, basic, check_error, current_policy

from tulle.config import Settings
from tulle.errors import AlreadyExists, Conflict, Invalid, NotFound
from tulle.gateway import admitted, applications, envoy_files, service_keys
from tulle.gateway.policy import ManagedService, RateLimit
from tulle.gateway.secret import hash_secret
from tulle.serving.access import Access, Keys, Public
from tulle.state.db import Database, now, open_database
from tulle.state.tables import service_keys as rows

KEYS = Access(contracts=False, api_keys=Keys("7/1s"))


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    settings = Settings(folder=tmp_path)
    settings.state_folder.mkdir(parents=True)
    opened = open_database(settings.database_url)
    yield opened
    opened.close()


def service(name: str = "first", access: Access = KEYS, **more: Any) -> ManagedService:
    return ManagedService(name, WORKERS.get(name, ()), 10_000, access=access, **more)


def expire(database: Database, key: str) -> None:
    with database.write() as connection:
        connection.execute(update(rows).where(rows.c.client_id == key).values(expires_at=now() - 1))
    admitted.forget(database)


def test_a_key_is_kept_as_its_hash_and_told_once(database: Database) -> None:
    made = service_keys.create(
        database, "first", label=" Shop ", description="the web shop", expires_at=now() + 60, actor="ann"
    )
    with database.read() as connection:
        dump = str(connection.execute(text("select * from service_keys")).all())
        dump += str(connection.execute(text("select * from events")).all())
    assert made.secret not in dump
    assert hash_secret(made.secret) in dump
    assert made.secret not in repr(made)
    assert made.api_key == f"{made.key.id}.{made.secret}"
    assert len(made.secret) == 40
    (key,) = service_keys.keys(database, "first")
    assert (key.label, key.description, key.created_by) == ("Shop", "the web shop", "ann")
    assert key.state(now()) == "in force"
    assert key.state(now() + 61) == "expired"
    assert service_keys.keys(database, "second") == ()


def test_a_label_belongs_to_one_key_in_force(database: Database) -> None:
    first = service_keys.create(database, "first", label="shop")
    with pytest.raises(AlreadyExists, match="has a key 'shop'"):
        service_keys.create(database, "first", label="shop")
    service_keys.create(database, "second", label="shop")
    expire(database, first.key.id)
    second = service_keys.create(database, "first", label="shop")
    assert (
        service_keys.revoke(database, "first", "shop").id == second.key.id
    )  # the one that opens the service
    assert service_keys.revoke(database, "first", first.key.id).label == "shop"
    with pytest.raises(NotFound, match="has no key 'shop'"):
        service_keys.revoke(database, "first", "shop")
    with pytest.raises(NotFound):
        service_keys.revoke(database, "first", "nobody")
    assert {k.state(now()) for k in service_keys.keys(database, "first")} == {"revoked"}


def test_an_expired_key_may_go_on_but_not_beside_another_of_its_label(database: Database) -> None:
    first = service_keys.create(database, "first", label="shop").key
    expire(database, first.id)
    changed = service_keys.change(database, "first", first.id, expires_at=now() + 60, limit=None)
    assert changed.state(now()) == "in force"
    expire(database, first.id)
    service_keys.create(database, "first", label="shop")
    with pytest.raises(Conflict, match="has another key 'shop'"):
        service_keys.change(database, "first", first.id, expires_at=None, limit=None)
    service_keys.revoke(database, "first", first.id)
    with pytest.raises(NotFound):
        service_keys.change(database, "first", first.id, expires_at=None, limit=None)
    with pytest.raises(Invalid, match="expired by now"):
        service_keys.change(database, "first", "shop", expires_at=now() - 1, limit=None)


@pytest.mark.parametrize("label", ["", "   ", "x" * 101, "a\nb"])
def test_a_label_can_be_read(database: Database, label: str) -> None:
    with pytest.raises(Invalid, match="has a label of 1 to 100 characters"):
        service_keys.create(database, "first", label=label)


def test_a_key_cannot_have_expired_before_it_is_made(database: Database) -> None:
    with pytest.raises(Invalid, match="expired before it is made"):
        service_keys.create(database, "first", label="x", expires_at=now() - 1)


def test_there_are_bounds(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service_keys, "MOST_KEYS", 2)
    for number in range(2):
        service_keys.create(database, "first", label=f"k{number}")
    with pytest.raises(Conflict, match="has 2 keys"):
        service_keys.create(database, "first", label="k3")


def test_the_gateway_gets_the_keys_in_force_of_services_that_take_them(database: Database) -> None:
    kept = service_keys.create(database, "first", label="kept")
    quick = service_keys.create(database, "first", label="quick", limit=RateLimit.parse("100/1s"))
    over = service_keys.create(database, "first", label="over")
    gone = service_keys.create(database, "first", label="gone")
    service_keys.create(database, "second", label="of a service that takes none")
    expire(database, over.key.id)
    service_keys.revoke(database, "first", gone.key.id)
    policy = current_policy(database, [service(), service("second", Access())])
    assert {c.client_id for c in policy.clients} == {kept.key.id, quick.key.id}
    limits = {c.client_id: str(c.limit) for c in policy.contracts}
    assert limits == {kept.key.id: "7/1s", quick.key.id: "100/1s"}
    usual = current_policy(database, [service(access=Access(api_keys=Keys()))], usual_limit="3/1m")
    assert {c.client_id: str(c.limit) for c in usual.contracts}[kept.key.id] == "3/1m"


def test_a_deployment_says_who_may_call_in_its_environment(database: Database) -> None:
    service_keys.set_access(database, "first", Access(public=Public("5/1s")), environment="test", actor="ann")
    deployed = [service(), service(environment="test")]
    ways = {s.path: s.access.ways() for s in current_policy(database, deployed).services}
    assert ways == {"first": ("api_keys",), "test/first": ("contracts", "public")}
    service_keys.set_access(database, "first", None, environment="test")
    ways = {s.path: s.access.ways() for s in current_policy(database, deployed).services}
    assert ways["test/first"] == ("api_keys",)
    with database.read() as connection:
        kinds = connection.execute(text("select kind, actor from events order by id")).all()
    assert [tuple(row) for row in kinds] == [
        ("service.access_changed", "ann"),
        ("service.access_changed", ""),
    ]


@pytest.mark.system
def test_a_key_opens_its_service_until_it_is_over(database: Database, mesh: Mesh) -> None:
    made = service_keys.create(database, "first", label="shop", limit=RateLimit.parse("1000/1s"))
    other = service_keys.create(database, "first", label="other")
    application = applications.register(database, "an-app", services={"first": RateLimit.parse("9/1s")})
    services = [service(), service("second", Access())]
    mesh.gateway.publish(current_policy(database, services))
    forms = (
        basic(made.api_key, ""),
        {"authorization": f"Bearer {made.api_key}"},
        basic(made.key.id, made.secret),
    )
    for form in forms:
        reply = mesh.ask(API + "first/x", form)
        assert reply.status == 200
        assert reply.json()["headers"]["x-tulle-client"] == made.key.id
    check_error(mesh.ask(API + "second/x", forms[0]), 403, "NoContract")
    # the service takes keys alone: an application's contract does not count
    signed = basic(application.client_id, application.client_secret)
    check_error(mesh.ask(API + "first/x", signed), 403, "NoContract")
    expire(database, made.key.id)
    mesh.gateway.publish(current_policy(database, services))
    check_error(mesh.ask(API + "first/x", forms[0]), 401, "InvalidClient")
    assert mesh.ask(API + "first/x", basic(other.api_key, "")).status == 200
    service_keys.revoke(database, "first", "other")
    mesh.gateway.publish(current_policy(database, services))
    check_error(mesh.ask(API + "first/x", basic(other.api_key, "")), 401, "InvalidClient")


def test_the_usual_limit_of_a_key_is_that_of_the_environment(database: Database) -> None:
    usual = service_keys.create(database, "first", label="usual").key.id
    own = service_keys.create(database, "first", label="own", limit=RateLimit.parse("1/1m")).key.id
    deployed = [
        service(access=Access(api_keys=Keys("100/1s"))),
        service(access=Access(api_keys=Keys("2/1s")), environment="test"),
        service(access=Access(contracts=True), environment="dev"),
    ]
    policy = current_policy(database, deployed)
    found = {(c.client_id, c.environment): str(c.limit) for c in policy.contracts}
    assert found[usual, ""] == "100/1s"
    assert found[usual, "test"] == "2/1s"
    assert {found[own, ""], found[own, "test"]} == {"1/1m"}
    assert len(found) == 4
    sizes = {
        bucket["entries"][1]["value"]: bucket["token_bucket"]["max_tokens"]
        for bucket in envoy_files.limits(policy)["descriptors"]
    }
    assert sizes == {"100/1s": 100, "2/1s": 2, "1/1m": 1, "10/1s": 10}


def test_what_a_deployment_says_and_cannot_be_read_harms_that_service_alone(database: Database) -> None:
    service_keys.set_access(database, "first", Access(public=Public("5/1s")))
    with database.write() as connection:
        connection.execute(text("update service_access set access = '{\"public\": 3}'"))
    found, wrong = admitted.as_deployed(database, [service(), service("second"), service(environment="test")])
    assert [one.path for one in found] == ["second", "test/first"]
    assert list(wrong) == [("first", "")]
    assert "what its deployment says cannot be read" in wrong["first", ""]
    limited = service("third", Access(api_keys=Keys("often")))
    assert list(admitted.as_deployed(database, [limited])[1]) == [("third", "")]
    service_keys.set_access(database, "first", None)  # which mends it
    assert admitted.as_deployed(database, [service()])[1] == {}


@pytest.mark.parametrize("end", [float("nan"), float("inf"), 1e300, 253_402_300_800.0])
def test_a_key_ends_within_the_calendar(database: Database, end: float) -> None:
    with pytest.raises(Invalid, match="after the year 9999"):
        service_keys.create(database, "first", label="x", expires_at=end)
    service_keys.create(database, "first", label="x")
    with pytest.raises(Invalid, match="after the year 9999"):
        service_keys.change(database, "first", "x", expires_at=end, limit=None)
