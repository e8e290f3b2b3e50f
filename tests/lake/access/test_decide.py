"""Decisions, keys, and how soon a change has effect; on both databases."""

import logging
import threading
import time

import pytest
from sqlalchemy import select

from tulle.errors import Broken, Denied, Invalid, NotFound, Unavailable
from tulle.lake.access import Access, open_access, people
from tulle.lake.access.builtin import GROUPS, PERMISSIONS, POLICIES
from tulle.state import log
from tulle.state.db import open_database
from tulle.state.tables import access_keys

DATABASES = ("sqlite", "postgres")
READ = {"effect": "allow", "action": ["fs:ReadObject"], "resource": "arn:lakefs:fs:::repository/sales/*"}
NAMES = Access.resource_object("sales", "main", "a")


@pytest.fixture
def other(database_url, key_file, access):
    """Another process of the same mesh, as far as one can tell from the database."""
    database = open_database(database_url)
    yield open_access(database, key_file)
    database.close()


def until(condition, seconds):
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > seconds:
            return None
        time.sleep(0.01)
    return time.monotonic() - began


def test_what_a_new_mesh_has_is_made_once(access, database, key_file):
    assert [p.id for p in access.read(people.list_policies)] == sorted(POLICIES)
    assert [g.id for g in access.read(people.list_groups)] == sorted(GROUPS)
    for group, attached in GROUPS.items():
        found = access.read(lambda cx, group=group: people.policies_of(cx, "group", group))
        assert [p.id for p in found] == sorted(attached)
    access.change(
        "admin", "access.group_deleted", "group/Viewers", lambda cx: people.delete_group(cx, "Viewers")
    )
    again = open_access(database, key_file)
    assert "Viewers" not in [g.id for g in again.read(people.list_groups)]


def test_many_may_open_a_new_mesh_at_once(database, key_file):
    failures = []

    def work():
        try:
            open_access(database, key_file)
        except Exception as exc:  # noqa: BLE001  whatever it is
            failures.append(exc)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


ALL = ["fs:ReadObject", "fs:WriteObject", "fs:CreateRepository", "pr:WritePullRequest", "pr:ReadPullRequest"]
ALL += [
    "ci:ReadAction",
    "retention:SetGarbageCollectionRules",
    "branches:SetBranchProtectionRules",
    "auth:CreateUser",
]


@pytest.mark.parametrize(
    ("permission", "may"),
    [
        ("Admin", ALL),
        ("Super", [a for a in ALL if not a.startswith(("auth", "retention", "branches"))]),
        (
            "Write",
            ["fs:ReadObject", "fs:WriteObject", "pr:WritePullRequest", "pr:ReadPullRequest", "ci:ReadAction"],
        ),
        ("Read", ["fs:ReadObject", "pr:ReadPullRequest"]),
    ],
)
def test_what_the_built_in_permissions_give(access, permission, may):
    def work(cx):
        for name in PERMISSIONS[permission]:
            people.attach(cx, name, "user", "ann")

    access.change("admin", "access.policy_attached", "user/ann", work)
    assert [action for action in ALL if access.decide("ann", action, "arn:lakefs:x").allowed] == may
    own = access.decide("ann", "auth:CreateCredentials", access.resource_user("ann")).allowed
    others = access.decide("ann", "auth:CreateCredentials", access.resource_user("bob")).allowed
    assert (own, others) == (True, permission == "Admin")


def test_a_denial_says_who_what_where_why_and_is_in_the_trail(access, database):
    with pytest.raises(
        Denied, match=r"user 'ann' may not fs:ReadObject on arn:lakefs:fs:::repository/sales/object/a"
    ):
        access.demand("ann", "fs:ReadObject", *NAMES)
    entry = log.read(database, newest_first=True, limit=1)[0]
    assert (entry.kind, entry.actor, entry.subject) == ("access.denied", "ann", NAMES[0])
    assert entry.data == {
        "action": "fs:ReadObject",
        "outcome": "denied",
        "reason": "no policy of the user allows it",
    }
    assert log.verify(database) is None


def test_denials_of_one_user_do_not_flood_the_trail(access, database):
    for _ in range(100):
        with pytest.raises(Denied):
            access.demand("ann", "fs:ReadObject", *NAMES)
    entries = [e for e in log.read(database, limit=1000) if e.kind == "access.denied"]
    assert 60 <= len(entries) <= 90  # a minute may end while this runs


def test_what_cannot_be_recorded_is_denied_all_the_same(access, monkeypatch, caplog):
    def full(*args, **more):
        raise Unavailable("busy")

    monkeypatch.setattr(access, "audit", full)
    with pytest.raises(Denied), caplog.at_level(logging.WARNING):
        access.demand("ann", "fs:ReadObject", *NAMES)
    assert "could not be recorded" in caplog.text


def test_nobody_may_nothing(access):
    assert access.decide("nobody", "fs:ReadObject", *NAMES).reason == "the user does not exist"


def test_a_change_has_effect_at_once_here_and_soon_elsewhere(access, other, allow):
    def may(where):
        return where.decide("ann", "fs:ReadObject", *NAMES).allowed

    assert not may(access)
    assert not may(other)
    allow(READ)
    assert may(access)
    assert until(lambda: may(other), 0.8) is not None
    access.change(
        "admin", "access.policy_deleted", "policy/anns", lambda cx: people.delete_policy(cx, "anns")
    )
    assert not may(access)
    assert until(lambda: not may(other), 0.8) is not None


def test_a_decision_made_from_old_rules_does_not_outlive_them(access, allow):
    allow(READ)
    old = access._known("ann")  # a thread that has looked, and is slow to decide
    access.change(
        "admin", "access.policy_deleted", "policy/anns", lambda cx: people.delete_policy(cx, "anns")
    )
    old.decided["", "fs:ReadObject", *NAMES] = old.rules.decide("fs:ReadObject", NAMES)
    assert not access.decide("ann", "fs:ReadObject", *NAMES).allowed


def test_what_was_read_before_a_change_is_not_kept_after_it(access, monkeypatch):
    made = access.create_key("admin", "ann")
    find = people.find_key

    def slow(cx, id_):
        row = find(cx, id_)
        monkeypatch.setattr(people, "find_key", find)
        thread = threading.Thread(target=access.delete_key, args=("admin", "ann", made.id))
        thread.start()
        thread.join()
        return row

    monkeypatch.setattr(people, "find_key", slow)
    assert access.key(made.id) is not None  # it was there when it was looked for
    assert access.key(made.id) is None


def test_where_from_counts_only_where_a_policy_asks(access, allow):
    allow({**READ, "condition": {"IpAddress": {"SourceIp": ["10.0.0.0/8"]}}})
    for _ in range(2):  # the second time from what is kept
        assert access.decide("ann", "fs:ReadObject", *NAMES, client="10.0.0.1").allowed
        assert not access.decide("ann", "fs:ReadObject", *NAMES, client="11.0.0.1").allowed
        assert not access.decide("ann", "fs:ReadObject", *NAMES).allowed


def test_a_key_signs_in_and_is_encrypted_at_rest(access, database):
    made = access.create_key("admin", "ann")
    assert (made.id[:5], len(made.id), len(made.secret)) == ("AKIAJ", 20, 40)
    assert access.sign_in(made.id, made.secret) == "ann"
    assert access.key(made.id).secret == made.secret
    with database.read() as cx:
        stored = bytes(cx.execute(select(access_keys.c.secret)).scalar_one())
    assert made.secret.encode() not in stored
    for key, secret in [
        (made.id, ""),
        (made.id, made.secret[:-1]),
        ("AKIAJX", "?" * 40),
        (made.id, "\udc80"),
    ]:
        with pytest.raises(Denied, match="the access key or its secret is wrong"):
            access.sign_in(key, secret)


def test_a_key_taken_away_opens_nothing_at_once_here_and_soon_elsewhere(access, other):
    made = access.create_key("admin", "ann")
    assert other.sign_in(made.id, made.secret) == "ann"
    access.delete_key("admin", "ann", made.id)
    assert access.key(made.id) is None
    assert until(lambda: other.key(made.id) is None, 0.8) is not None
    with pytest.raises(NotFound):
        access.delete_key("admin", "ann", made.id)


def test_a_key_is_taken_from_its_own_user_only(access):
    made = access.create_key("admin", "ann")
    access.change("admin", "access.user_created", "user/bob", lambda cx: people.add_user(cx, "bob"))
    with pytest.raises(NotFound):
        access.delete_key("admin", "bob", made.id)
    assert access.sign_in(made.id, made.secret) == "ann"


def test_a_key_expires(access, monkeypatch):
    made = access.create_key("admin", "ann", expires_at=time.time() + 0.3)
    assert access.sign_in(made.id, made.secret) == "ann"
    assert until(lambda: access.key(made.id) is None, 1.5) is not None
    with pytest.raises(Invalid):
        access.create_key("admin", "ann", expires_at=time.time() - 1)


def test_a_user_who_is_removed_has_nothing_left(access, allow):
    allow(READ)
    made = access.create_key("admin", "ann")
    token, _ = access.issue_token("ann")
    access.change("admin", "access.user_deleted", "user/ann", lambda cx: people.delete_user(cx, "ann"))
    assert access.key(made.id) is None
    access.change("admin", "access.user_created", "user/ann", lambda cx: people.add_user(cx, "ann"))
    assert not access.decide("ann", "fs:ReadObject", *NAMES).allowed  # somebody else of the same name
    with pytest.raises(Denied, match="does not exist"):
        access.user_of_token(token)


def test_a_token_ends_with_the_key_it_was_got_with(access):
    made = access.create_key("admin", "ann")
    token, _ = access.issue_token("ann", key=made.id)
    assert access.user_of_token(token) == "ann"
    access.delete_key("admin", "ann", made.id)
    with pytest.raises(Denied, match="access key of this token"):
        access.user_of_token(token)


def test_changes_are_in_the_trail_with_their_actor_and_without_secrets(access, database, allow):
    allow(READ)
    made = access.create_key("carol", "ann")
    access.delete_key("carol", "ann", made.id)
    entries = log.read(database, limit=100)
    assert [(e.kind, e.subject, e.actor, e.data.get("key")) for e in entries][-2:] == [
        ("access.key_created", "user/ann", "carol", made.id),
        ("access.key_deleted", "user/ann", "carol", made.id),
    ]
    assert made.secret not in str(entries)
    assert log.verify(database) is None


def test_a_change_that_fails_leaves_no_trace(access, database):
    before = len(log.read(database, limit=1000))
    with pytest.raises(NotFound):
        access.create_key("admin", "nobody")
    assert len(log.read(database, limit=1000)) == before


def test_no_secret_is_in_a_repr_or_log(access, caplog):
    caplog.set_level(logging.DEBUG)
    made = access.create_key("admin", "ann")
    access.sign_in(made.id, made.secret)
    with pytest.raises(Denied) as caught:
        access.sign_in(made.id, "wrong" + made.secret)
    told = [repr(made), repr(access.key(made.id)), repr(access), str(caught.value), caplog.text]
    assert not any(made.secret in text for text in told)


def test_a_lost_key_file_is_told_not_replaced(access, database, key_file):
    access.create_key("admin", "ann")
    key_file.unlink()
    with pytest.raises(Unavailable, match=r"secret\.key is missing"):
        open_access(database, key_file)
    assert not key_file.exists()


def test_a_wrong_key_file_is_told(access, database, key_file):
    made = access.create_key("admin", "ann")
    key_file.write_bytes(b"x" * 32)
    with pytest.raises(Broken, match=r"secret\.key"):
        open_access(database, key_file).key(made.id)


def test_a_warm_decision_is_fast(access, allow):
    allow(*[{**READ, "resource": f"arn:lakefs:fs:::repository/r{n}/*"} for n in range(50)], READ)
    access.decide("ann", "fs:ReadObject", *NAMES, client="10.0.0.1")
    times = []
    for _ in range(2000):
        began = time.perf_counter()
        access.decide("ann", "fs:ReadObject", *NAMES, client="10.0.0.1")
        times.append(time.perf_counter() - began)
    assert sorted(times)[1000] < 20e-6
