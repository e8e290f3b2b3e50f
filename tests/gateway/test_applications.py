"""Applications in the database, and the policy they and their contracts make."""

from __future__ import annotations

import pytest
from sqlalchemy import text
from tests.gateway.conftest import current_policy

from tulle.errors import AlreadyExists, Invalid, NotFound
from tulle.gateway import application_secret, applications, contract, contract_step
from tulle.gateway.contract_record import Place
from tulle.gateway.policy import Client, ManagedService, RateLimit
from tulle.gateway.secret import hash_secret
from tulle.state import log
from tulle.state.db import Database

FAST, SLOW = RateLimit.parse("50/1s"), RateLimit.parse("5/1m")
SERVICES = (ManagedService("predict", ("run/w/predict.sock",), 1000), ManagedService("lookup", (), 1000))


def kinds(database: Database) -> list[str]:
    return [entry.kind for entry in log.read(database)]


def test_credentials_are_shown_once_and_kept_as_a_hash(database: Database) -> None:
    made = applications.register(database, "mobile-app", owner="Ann", services={"predict": FAST})
    assert made.client_id.startswith("mobile-app-")
    assert len(made.client_secret) == 40
    assert made.api_key == f"{made.client_id}.{made.client_secret}"
    assert made.client_secret not in repr(made)
    with database.read() as connection:
        dump = str(connection.execute(text("select * from applications")).all())
        dump += str(connection.execute(text("select * from events")).all())
    assert made.client_secret not in dump
    assert hash_secret(made.client_secret) in dump
    (application,) = applications.applications(database)
    assert (application.name, application.owner, application.revoked_at) == ("mobile-app", "Ann", None)
    assert [(c.service, c.limit) for c in application.contracts] == [("predict", FAST)]


def test_the_hash_is_the_one_htpasswd_writes() -> None:
    assert hash_secret("password") == "W6ph5Mm5Pz8GgiULbPgzG37mj9g="  # htpasswd -bns user password


def test_every_application_gets_its_own_secret(database: Database) -> None:
    made = [applications.register(database, f"app-{n}") for n in range(20)]
    assert len({m.client_secret for m in made}) == len({m.client_id for m in made}) == 20


@pytest.mark.parametrize(
    "name", ["", "x", "Mobile", "mobile app", "mobile_app", "-app", "x" * 64, "app:1", "app.1"]
)
def test_a_name_that_is_not_kebab_case_is_refused(database: Database, name: str) -> None:
    with pytest.raises(Invalid, match="application name"):
        applications.register(database, name)
    assert kinds(database) == []


def test_a_long_name_still_makes_a_client_id(database: Database) -> None:
    made = applications.register(database, "x" * 39 + "-" + "y" * 23)
    assert len(made.client_id) <= 63
    assert Client(made.client_id, hash_secret(made.client_secret))


def test_a_name_is_taken_once(database: Database) -> None:
    applications.register(database, "app-a")
    with pytest.raises(AlreadyExists, match="application 'app-a' exists already"):
        applications.register(database, "app-a")
    assert kinds(database) == ["application.registered"]


def test_of_two_that_take_a_name_at_the_same_moment_one_gets_it(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    applications.register(database, "app-a")
    monkeypatch.setattr(applications, "_refuse_taken", lambda *_: None)  # both looked before either wrote
    with pytest.raises(AlreadyExists):
        applications.register(database, "app-a", services={"predict": FAST})
    assert kinds(database) == ["application.registered"]
    assert len(applications.applications(database)) == 1


def test_a_revoked_application_is_gone_and_its_name_free(database: Database) -> None:
    first = applications.register(database, "app-a", services={"predict": FAST})
    applications.revoke(database, "app-a", actor="ann")
    assert applications.applications(database) == ()
    with pytest.raises(NotFound):
        applications.get(database, "app-a")
    with pytest.raises(NotFound):
        applications.revoke(database, "app-a")
    second = applications.register(database, "app-a")
    assert second.client_id != first.client_id
    assert applications.get(database, "app-a").contracts == ()
    old, new = applications.applications(database, include_revoked=True)
    assert old.revoked_at is not None
    assert new.revoked_at is None
    applications.revoke(database, second.client_id)  # the client id is as good as the name
    applications.register(database, "app-a")
    assert [e.actor for e in log.read(database) if e.kind == "application.revoked"] == ["ann", ""]


def test_rotation_changes_the_secret_and_nothing_else(database: Database) -> None:
    first = applications.register(database, "app-a", services={"predict": FAST})
    before = current_policy(database, SERVICES)
    second = application_secret.rotate(database, "app-a")
    after = current_policy(database, SERVICES)
    assert second.client_id == first.client_id
    assert second.client_secret != first.client_secret
    assert after.clients == (Client(first.client_id, "", hash_secret(second.client_secret)),)
    assert after.contracts == before.contracts
    assert kinds(database)[-1] == "application.rotated"


def test_the_change_and_its_event_are_one(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    applications.register(database, "app-a", services={"predict": FAST})

    def fail(*_args: object, **_more: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(log, "append", fail)
    for change in (
        lambda: applications.register(database, "app-b"),
        lambda: applications.revoke(database, "app-a"),
        lambda: application_secret.rotate(database, "app-a"),
        lambda: contract.grant(database, "app-a", "predict", SLOW),
        lambda: contract.withdraw(database, "app-a", "predict"),
    ):
        before = current_policy(database, SERVICES)
        with pytest.raises(OSError, match="disk full"):
            change()
        assert current_policy(database, SERVICES) == before


def test_the_policy_has_the_living_applications_and_the_deployed_services(database: Database) -> None:
    one = applications.register(database, "one", services={"predict": FAST, "not-deployed": FAST})
    two = applications.register(database, "two", services={"predict": SLOW, "lookup": FAST})
    gone = applications.register(database, "gone", services={"predict": FAST})
    applications.revoke(database, "gone")
    policy = current_policy(database, SERVICES)
    assert {c.client_id for c in policy.clients} == {one.client_id, two.client_id}
    assert [(c.client_id, c.service, str(c.limit)) for c in policy.contracts] == [
        (two.client_id, "lookup", "50/1s"),
        (one.client_id, "predict", "50/1s"),
        (two.client_id, "predict", "5/1m"),
    ]
    assert gone.client_id not in str(policy)
    assert policy.services == tuple(sorted(SERVICES, key=lambda s: s.name))
    assert current_policy(database, SERVICES).digest() == policy.digest()


def test_a_contract_of_nobody_is_no_way_in(database: Database) -> None:
    made = applications.register(database, "app-a")
    applications.revoke(database, "app-a")
    with database.write() as connection:  # as a faulty program might leave it
        contract_step.agree_in(connection, made.client_id, Place("api", "predict"), [FAST])
    assert current_policy(database, SERVICES).contracts == ()
