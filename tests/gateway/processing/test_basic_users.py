"""Users with passwords through the real Envoy."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping

import pytest
from tests.gateway.conftest import API, SECRETS, Reply, as_client, basic, check_error
from tests.gateway.processing.conftest import Processed

from tulle.errors import Invalid
from tulle.gateway.policies.entry import Policy
from tulle.gateway.policies.listed import parse_policies
from tulle.gateway.processing import handed
from tulle.gateway.processing.attempts import MOST_OF_NAME
from tulle.gateway.processing.handed import Handed, HandedUser
from tulle.state.passwords import hash_password
from tulle.state.secrets import open_secrets

pytestmark = pytest.mark.system
PASSWORD = "correct horse bättery"
ANN = HandedUser(hash_password(PASSWORD), ("Developers", "risk"))
BOB = HandedUser(hash_password("another long one"), ())
_OWN = [1000]


def policy(**settings: object) -> Policy:
    """A policy that remembers nobody: each is another one."""
    _OWN[0] += 1
    return Policy("basic-auth", {"limit": "10000/1s", "cache": _OWN[0], **settings})


def hand(processed: Processed, users: Mapping[str, HandedUser]) -> None:
    folder = processed.mesh.settings.state_folder
    handed.write(folder / handed.FILE, Handed({}, dict(users)), open_secrets(folder / handed.KEY_FILE))


@pytest.fixture
def users(processed: Processed) -> Processed:
    hand(processed, {"ann": ANN, "bob": BOB})
    return processed


def ask(processed: Processed, user: str = "ann", password: str = PASSWORD, **headers: str) -> Reply:
    sent = {**basic(user, password), **{name.replace("_", "-"): value for name, value in headers.items()}}
    return processed.mesh.ask(f"{API}api/x/said", sent, method="POST", body=b"{}")


def client(reply: Reply) -> str | None:
    assert reply.status == 200, reply
    return dict(reply.json()["headers"]).get("x-tulle-client")


def test_a_user_calls_with_the_password(users: Processed) -> None:
    users.put(policy())
    assert client(ask(users)) == "ann"
    assert client(ask(users, x_tulle_client="bob")) == "ann"
    assert dict(ask(users, x_tulle_way="contract").json()["headers"])["x-tulle-way"] == "user"
    assert "authorization" not in dict(ask(users).json()["headers"])
    for user, password in (
        ("ann", "another long one"),
        ("nobody", PASSWORD),
        ("ann", ""),
        ("", PASSWORD),
        ("Ann", PASSWORD),
    ):
        reply = ask(users, user, password)
        check_error(reply, 401, "WrongPassword")
        assert reply.headers["www-authenticate"] == 'Basic realm="tulle", charset="UTF-8"'
    for sent in ({}, {"authorization": "Bearer abc"}, as_client("app-a") | {"authorization": "Basic"}):
        check_error(users.mesh.ask(f"{API}api/x", sent), 401, "MissingPassword")
    for odd in ("!!", "YQ==", "/w==", "YTpiYzpk" + "A" * 20_000):
        assert users.mesh.ask(f"{API}api/x", {"authorization": f"Basic {odd}"}).status == 401
    assert PASSWORD not in users.log()


def test_only_some_groups_may(users: Processed) -> None:
    users.put(policy(groups=["risk", "audit"]))
    assert client(ask(users)) == "ann"
    check_error(ask(users, "bob", "another long one"), 403, "NotInGroup")


def test_a_changed_password_opens_nothing_any_more_at_once(users: Processed) -> None:
    users.put(policy())
    assert client(ask(users)) == "ann"
    hand(users, {"ann": HandedUser(hash_password("quite another one"), ANN.groups)})
    check_error(ask(users), 401, "WrongPassword")
    assert client(ask(users, password="quite another one")) == "ann"
    hand(users, {})
    check_error(ask(users, password="quite another one"), 401, "WrongPassword")


def test_a_name_is_that_of_a_user_and_not_of_an_application(users: Processed) -> None:
    hand(users, {"app-b": ANN})
    redacting = {"fields": [{"path": "$.body", "except": {"clients": ["app-b"], "tiers": ["gold"]}}]}
    users.put(policy(), Policy("redaction", redacting))
    assert "body" not in ask(users, "app-b").json()
    redacting = {"fields": [{"path": "$.body", "except": {"clients": ["user:app-b"]}}]}
    users.put(policy(), Policy("redaction", redacting))
    assert ask(users, "app-b").json()["body"] == "{}"
    by_group = {"fields": [{"path": "$.body", "except": {"claims": {"groups": ["risk"]}}}]}
    users.put(policy(), Policy("redaction", by_group))
    assert ask(users, "app-b").json()["body"] == "{}"


def test_whoever_guesses_is_held_up_and_others_are_not(users: Processed) -> None:
    users.put(policy())
    assert client(ask(users)) == "ann"
    found = [ask(users, "bob", f"guess number {number}") for number in range(MOST_OF_NAME + 1)]
    assert [reply.status for reply in found] == [401] * MOST_OF_NAME + [429]
    check_error(found[-1], 429, "TooManyGuesses")
    check_error(ask(users, "bob", "another long one"), 429, "TooManyGuesses")
    assert client(ask(users)) == "ann"
    assert "too many wrong credentials from 127.0.0.1 for 'bob'" in users.log()


def test_whoever_sends_many_guesses_at_once_has_no_more_of_them(users: Processed) -> None:
    users.put(policy())
    found: list[int] = []
    guessers = [
        threading.Thread(target=lambda n=n: found.append(ask(users, "bob", f"guess number {n}").status))
        for n in range(3 * MOST_OF_NAME)
    ]
    for one in guessers:
        one.start()
    for one in guessers:
        one.join()
    assert found.count(401) == MOST_OF_NAME
    assert set(found) <= {401, 429, 503}


def test_looking_at_passwords_holds_up_nobody_else(users: Processed) -> None:
    users.put(policy())
    assert client(ask(users)) == "ann"
    callers = [
        threading.Thread(target=ask, args=(users, f"user{n}", "some wrong password")) for n in range(20)
    ]
    for caller in callers:
        caller.start()
    began = time.monotonic()
    assert client(ask(users)) == "ann"
    alone = time.monotonic() - began
    for caller in callers:
        caller.join()
    assert alone < time.monotonic() - began


def test_beside_applications(users: Processed) -> None:
    users.put(policy(), Policy("client-id"))
    assert client(ask(users)) == "ann"
    shown = {"client_id": "app-a", "client_secret": SECRETS["app-a"]}
    assert client(users.mesh.ask(f"{API}api/x", shown)) == "app-a"
    assert (
        client(users.mesh.ask(f"{API}api/x", {"authorization": f"Bearer app-a.{SECRETS['app-a']}"}))
        == "app-a"
    )
    check_error(users.mesh.ask(f"{API}api/x"), 401, "InvalidClient")


def test_each_user_has_a_limit(users: Processed) -> None:
    users.put(policy(limit="2/1h"))
    assert [ask(users).status for _ in range(3)] == [200, 200, 429]
    assert ask(users, "bob", "another long one").status == 200


def test_what_nobody_can_mean_is_refused() -> None:
    for text, told in (
        ("{policy: basic-auth, groups: []}", "groups"),
        ("{policy: basic-auth, cache: -1}", "cache"),
    ):
        with pytest.raises(Invalid) as raised:
            parse_policies(f"- {text}")
        assert told in str(raised.value.problems[0])
