"""Callers of a directory (LDAP): the real slapd, asked by the processor behind the real Envoy."""

from __future__ import annotations

import asyncio
import base64
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.gateway.conftest import API, Reply, basic, check_error
from tests.gateway.processing import slapd
from tests.gateway.processing.conftest import Processed
from tests.gateway.processing.slapd import ADMIN, ADMIN_PASSWORD, BASE, PASSWORDS
from tests.gateway.processing.test_introspection import hand

from tulle.errors import Denied, Invalid, Unavailable
from tulle.gateway.policies.entry import Policy
from tulle.gateway.policies.listed import parse_policies
from tulle.gateway.processing import directory as of_processor
from tulle.gateway.processing.attempts import MOST_OF_NAME
from tulle.gateway.processing.directory import in_filter, in_name
from tulle.gateway.processing.handed import HandedConnection
from tulle.pipeline.sources import ldap
from tulle.pipeline.sources.address import made
from tulle.pipeline.sources.probe import probe

pytestmark = pytest.mark.system
PEOPLE, GROUPS = f"ou=people,{BASE}", f"ou=groups,{BASE}"
_OWN = [1000]


@pytest.fixture(scope="module")
def _directory(
    tmp_path_factory: pytest.TempPathFactory, free_port: Callable[[], int]
) -> Iterator[slapd.Directory]:
    found = slapd.made(tmp_path_factory.mktemp("slapd"), free_port(), free_port())
    found.start()
    yield found
    found.stop()


@pytest.fixture
def directory(_directory: slapd.Directory, processed: Processed) -> slapd.Directory:
    if _directory.process is None:
        _directory.start()
    hand(processed, {"prod staff": connection(_directory)})
    return _directory


def connection(directory: slapd.Directory, address: str = "", **options: str) -> HandedConnection:
    return HandedConnection(
        address or directory.secure,
        user=ADMIN,
        password=ADMIN_PASSWORD,
        options={"ca_file": directory.ca, **options},
    )


def policy(**settings: Any) -> Policy:
    """A policy that remembers nobody: each is another one."""
    _OWN[0] += 1
    usual = {"connection": "staff", "base": PEOPLE, "limit": "10000/1s", "cache": _OWN[0] / 100, "timeout": 3}
    return Policy("ldap", {key: value for key, value in (usual | settings).items() if value is not None})


def ask(processed: Processed, user: str = "ann", password: str | None = None) -> Reply:
    shown = PASSWORDS.get(user, "wrong") if password is None else password
    return processed.mesh.ask(f"{API}api/x/said", basic(user, shown), method="POST", body=b"{}")


def client(reply: Reply) -> str | None:
    assert reply.status == 200, reply
    return dict(reply.json()["headers"]).get("x-tulle-client")


def test_who_signs_in_at_the_directory_may_call(processed: Processed, directory: slapd.Directory) -> None:
    processed.put(policy())
    for user in PASSWORDS:
        assert client(ask(processed, user)) == user
    for user, password in (
        ("ann", PASSWORDS["bob"]),
        ("ann", ""),
        ("nobody", PASSWORDS["ann"]),
        ("twin", "twin twin"),  # two have this name
        ("*", PASSWORDS["ann"]),
        ("a*", PASSWORDS["ann"]),
        ("ann)(|(uid=*", PASSWORDS["ann"]),
        ("ann\\2a", PASSWORDS["ann"]),
        ("", PASSWORDS["ann"]),
    ):
        reply = ask(processed, user, password)
        check_error(reply, 401, "WrongPassword")
        assert reply.headers["www-authenticate"].startswith("Basic ")
    assert client(ask(processed)) == "ann"
    assert not any(password in processed.log() for password in (*PASSWORDS.values(), ADMIN_PASSWORD))


def test_a_name_is_one_callers_however_it_is_typed(processed: Processed, directory: slapd.Directory) -> None:
    typed, password = ("zoe", "Zoe", "zOE", "ZOE"), "zoe zoe"
    told = {"fields": [{"path": "$.body", "except": {"claims": {"sub": ["zoe"]}}}]}
    by_dn = {"fields": [{"path": "$.body", "except": {"claims": {"dn": [f"cn=zoe,{PEOPLE}"]}}}]}
    made_of_it = {"base": None, "user_dn": "cn={user}," + PEOPLE}
    for how, limit, telling in (({}, "4/1h", told), (made_of_it, "4/2h", by_dn)):
        processed.put(policy(limit=limit, **how), Policy("redaction", telling))
        for name in typed:
            assert client(reply := ask(processed, name, password)) == "zoe"
            assert reply.json()["body"] == "{}"
        assert ask(processed, "zoE", password).status == 429
    processed.put(policy())  # and whoever guesses has no more of them for writing it otherwise
    guesses = [ask(processed, typed[n % 4], f"guess {n}").status for n in range(MOST_OF_NAME + 1)]
    assert guesses == [401] * MOST_OF_NAME + [429]


def test_groups_say_who_may(processed: Processed, directory: slapd.Directory) -> None:
    redacting = {"fields": [{"path": "$.body", "except": {"claims": {"groups": ["analysts"]}}}]}
    processed.put(policy(groups=["analysts", "others"], group_base=GROUPS), Policy("redaction", redacting))
    assert ask(processed).json()["body"] == "{}"
    check_error(ask(processed, "bob"), 403, "NotInGroup")
    processed.put(policy(groups=["all"], group_base=GROUPS), Policy("redaction", redacting))
    assert "body" not in ask(processed, "bob").json()
    check_error(ask(processed, "o'neil,x"), 403, "NotInGroup")


def test_of_many_groups_those_that_are_asked_for_are_found(
    directory: slapd.Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(of_processor, "MOST_GROUPS", 1)
    staff, shown = connection(directory), base64.b64encode(f"ann:{PASSWORDS['ann']}".encode())
    for group in ("analysts", "all"):
        settings = {"connection": "staff", "base": PEOPLE, "group_base": GROUPS, "groups": [group]}
        step = of_processor.directory(settings, b"k", lambda: staff)
        try:
            found = asyncio.run(step.find(shown))
        finally:
            step.close()
        assert group in found.claims["groups"]
        step.may(found)


def test_a_name_in_the_directory_may_be_made_of_the_callers(
    processed: Processed, directory: slapd.Directory
) -> None:
    processed.put(policy(base=None, user_dn="cn={user}," + PEOPLE))
    assert client(ask(processed, "0", PASSWORDS["ann"])) == "0"
    for user in ("1", f"0,{PEOPLE}", "0+sn=ann", "", "0#"):
        check_error(ask(processed, user, PASSWORDS["ann"]), 401, "WrongPassword")


def test_tls_is_begun_and_checked(processed: Processed, directory: slapd.Directory) -> None:
    def status(**said: Any) -> int:
        hand(processed, {"prod staff": connection(directory, **said)})
        processed.put(policy())
        return ask(processed).status

    by_address = f"ldaps://127.0.0.1:{directory.secure_port}"
    assert status(address=directory.plain) == 200  # by StartTLS
    assert status(address=directory.plain, tls="none") == 200
    assert status(address=by_address) == 503  # not the name in its certificate
    assert status(ca_file="/etc/ssl/certs/ca-certificates.crt") == 503
    hand(
        processed,
        {
            "prod staff": HandedConnection(
                directory.secure, user=ADMIN, password="wrong", options={"ca_file": directory.ca}
            )
        },
    )
    processed.put(policy())
    check_error(ask(processed), 503, "IdentityUnavailable")
    assert "the mesh itself is not let in" in processed.log()


def test_a_directory_that_is_down_or_slow_lets_nobody_in_and_holds_up_nobody_else(
    processed: Processed, directory: slapd.Directory
) -> None:
    processed.put(policy(timeout=0.5, cache=600))
    assert client(ask(processed)) == "ann"
    directory.stop()
    check_error(ask(processed, "bob"), 503, "IdentityUnavailable")
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections, and says nothing
        port = silent.getsockname()[1]
        hand(processed, {"prod staff": connection(directory, f"ldap://localhost:{port}", tls="none")})
        found: list[Reply] = []
        callers = [
            threading.Thread(target=lambda n=n: found.append(ask(processed, f"user{n}"))) for n in range(12)
        ]
        for caller in callers:
            caller.start()
        began = time.monotonic()
        assert client(ask(processed)) == "ann"
        assert processed.ask("/x/said", b"{}", api="plain").status == 200
        alone = time.monotonic() - began
        for caller in callers:
            caller.join()
    assert [reply.status for reply in found] == [503] * 12
    assert alone < time.monotonic() - began


def test_whoever_guesses_is_held_up(processed: Processed, directory: slapd.Directory) -> None:
    processed.put(policy())
    found = [ask(processed, "bob", f"guess {number}").status for number in range(MOST_OF_NAME + 1)]
    assert found == [401] * MOST_OF_NAME + [429]
    assert client(ask(processed)) == "ann"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("connection: staff", "how callers are found"),
        ("connection: staff, base: b, user_dn: 'cn={user}'", "said twice"),
        ("connection: staff, base: b, filter: (uid=ann)", "does not say where the caller's name stands"),
        ("connection: staff, base: b, filter: 'uid={user}'", "no filter"),
        ("connection: staff, base: b, filter: '(uid={user}))('", "no filter"),
        ("connection: staff, user_dn: 'cn={user},b', groups: [a]", "where groups are"),
        ("base: b", "connection"),
    ],
)
def test_what_nobody_can_mean_is_refused(text: str, told: str) -> None:
    with pytest.raises(Invalid) as raised:
        parse_policies(f"- {{policy: ldap, {text}}}")
    assert told in str(raised.value.problems[0])


def test_two_ways_by_the_same_credentials_are_refused() -> None:
    with pytest.raises(Invalid) as raised:
        parse_policies("- policy: basic-auth\n- {policy: ldap, connection: staff, base: b}")
    assert "read the same credentials" in str(raised.value.problems[0])
    parse_policies(
        "- {policy: basic-auth, operations: [{path: /a}]}\n- {policy: ldap, connection: staff, base: b, operations: [{path: /b}]}"
    )


# ── without Envoy ────────────────────────────────────────────────────────────────────────────────────────


@given(st.text(max_size=20))
def test_what_is_written_into_filters_and_names_is_only_a_value(text: str) -> None:
    text = text.encode("utf-8", "ignore").decode()
    for escaped in (in_filter(text), in_name(text)):
        assert not set(escaped) & set('()*,+"<>;=#\0 ')
        octets = bytes.fromhex(
            "".join(
                escaped[n + 1 : n + 3] if one == "\\" else f"{ord(one):02x}"
                for n, one in enumerate(escaped)
                if one == "\\" or "\\" not in escaped[max(0, n - 2) : n]
            )
        )
        assert octets.decode() == text


def test_a_connection_to_a_directory_is_tried(directory: slapd.Directory) -> None:
    options = {"user": ADMIN, "ca_file": directory.ca}
    known = made("staff", "prod", "ldap", directory.secure, options, {"password": ADMIN_PASSWORD})
    assert probe(known, None) == f"the directory answers, signed in as {ADMIN}"  # type: ignore[arg-type]
    with pytest.raises(Denied, match="does not take"):
        ldap.ping(made("staff", "prod", "ldap", directory.secure, options, {"password": "wrong"}))
    with pytest.raises(Unavailable, match="does not answer"):
        ldap.ping(made("staff", "prod", "ldap", "ldaps://localhost:9", options, {"password": "x"}))


@pytest.mark.parametrize(
    ("address", "options", "told"),
    [
        ("http://a", {}, "none of a ldap connection"),
        ("ldaps://a/dc=x", {}, "not that of a host alone"),
        ("ldaps://", {}, "not that of a host alone"),
        ("ldaps://a", {"ca_file": "ca.pem"}, "no absolute path"),
        ("ldap://a", {"tls": "none"}, "of this machine alone"),
        ("ldaps://localhost", {"tls": "none"}, "of this machine alone"),
        ("ldap://localhost", {"tls": "maybe"}, "of this machine alone"),
        ("ldaps://a", {"user": "cn=x"}, "no password"),
    ],
)
def test_an_address_that_is_none_is_refused(address: str, options: dict[str, str], told: str) -> None:
    with pytest.raises(Invalid) as raised:
        made("staff", "prod", "ldap", address, options, {})
    assert told in raised.value.message
