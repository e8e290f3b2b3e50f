"""Who reads the portal's pages: whoever signed in, for as long as their key is."""

from __future__ import annotations

from pathlib import Path

import pytest

from tulle.catalog.readers import LASTS, Readers
from tulle.errors import Denied, LimitExceeded
from tulle.lake.access import Access, open_access, people
from tulle.lake.access.people import AccessKey
from tulle.state.db import Database


@pytest.fixture
def access(database: Database, tmp_path: Path) -> Access:
    made = open_access(database, tmp_path / "secret.key")
    made.change("", "access.user.created", "user/ann", lambda cx: people.add_user(cx, "ann"))
    return made


@pytest.fixture
def key(access: Access) -> AccessKey:
    return access.create_key("", "ann")


def test_somebody_is_known_until_it_ends(access: Access, key: AccessKey) -> None:
    at = [0.0]
    readers = Readers(access, lambda: at[0])
    token = readers.sign_in(key.id, key.secret)
    assert (readers.user_of(token), readers.user_of(""), readers.user_of(token[:-1])) == ("ann", "", "")
    other = readers.sign_in(key.id, key.secret)
    readers.sign_out(other)
    assert (readers.user_of(other), readers.user_of(token)) == ("", "ann")
    at[0] = LASTS + 1.0
    assert readers.user_of(token) == ""


def test_the_end_of_a_key_is_the_end_of_it(access: Access, key: AccessKey) -> None:
    readers = Readers(access)
    token = readers.sign_in(key.id, key.secret)
    access.delete_key("", "ann", key.id)
    access.forget()
    assert readers.user_of(token) == ""


def test_secrets_are_not_guessed_at_leisure(access: Access, key: AccessKey) -> None:
    at = [100.0]
    readers = Readers(access, lambda: at[0])
    for _ in range(30):
        with pytest.raises(Denied, match="wrong"):
            readers.sign_in(key.id, "x" * 40)
    with pytest.raises(LimitExceeded, match="many wrong keys"):
        readers.sign_in(key.id, key.secret)
    at[0] += 61
    assert readers.user_of(readers.sign_in(key.id, key.secret)) == "ann"


def test_who_sends_wrong_keys_shuts_out_nobody_else(
    access: Access, key: AccessKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = [100.0]
    guesser = access.create_key("", "ann")
    all_of = Readers(access, lambda: at[0])
    for number in range(100):
        for id_ in (guesser.id, f"nobody-{number}"):
            with pytest.raises((Denied, LimitExceeded)):
                all_of.sign_in(id_, "x" * 40)
    with pytest.raises(LimitExceeded):
        all_of.sign_in(guesser.id, guesser.secret)
    assert all_of.user_of(all_of.sign_in(key.id, key.secret)) == "ann"
    monkeypatch.setattr("tulle.catalog.readers._MOST_WRONG_OF_ALL", 5)
    few = Readers(access, lambda: at[0])
    for number in range(5):
        with pytest.raises(Denied):
            few.sign_in(f"nobody-{number}", "x" * 40)
    with pytest.raises(LimitExceeded, match="many wrong keys"):
        few.sign_in(key.id, key.secret)
    at[0] += 61
    assert few.user_of(few.sign_in(key.id, key.secret)) == "ann"
