"""Secrets at rest."""

import logging
import os
import stat
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tulle.errors import Broken, Unavailable
from tulle.state.secrets import KEY_BYTES, Secrets, open_secrets


@pytest.fixture
def file(tmp_path):
    return tmp_path / ".tulle" / "secret.key"


def test_the_key_file_is_its_owners_alone_and_made_once(file):
    old = os.umask(0)
    try:
        first = open_secrets(file)
    finally:
        os.umask(old)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    made = file.read_bytes()
    assert open_secrets(file).decrypt(first.encrypt("s3cret", "a"), "a") == "s3cret"
    assert file.read_bytes() == made
    assert [each.name for each in file.parent.iterdir()] == ["secret.key"]


def test_many_at_the_same_time_agree_on_one_key(file):
    opened, barrier = [], threading.Barrier(8)

    def work():
        barrier.wait()
        opened.append(open_secrets(file))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({each.derived("x") for each in opened}) == 1
    assert len(opened) == 8


@given(st.text(st.characters(exclude_categories=["Cs"])), st.text(st.characters(exclude_categories=["Cs"])))
def test_what_is_encrypted_comes_back_and_looks_different_each_time(text, purpose):
    secrets = Secrets(b"k" * KEY_BYTES, file=None)
    first, second = secrets.encrypt(text, purpose), secrets.encrypt(text, purpose)
    assert first != second
    assert secrets.decrypt(first, purpose) == secrets.decrypt(second, purpose) == text


@pytest.mark.parametrize("position", [0, 12, -1])
def test_a_changed_secret_is_refused(file, position):
    secrets = open_secrets(file)
    data = bytearray(secrets.encrypt("s3cret", "a"))
    data[position] ^= 1
    with pytest.raises(Broken):
        secrets.decrypt(bytes(data), "a")


@pytest.mark.parametrize("data", [b"", b"short", bytes(12)])
def test_what_is_too_short_is_refused(file, data):
    with pytest.raises(Broken):
        open_secrets(file).decrypt(data, "a")


def test_a_secret_cannot_be_put_in_anothers_place(file):
    secrets = open_secrets(file)
    with pytest.raises(Broken):
        secrets.decrypt(secrets.encrypt("s3cret", "a"), "b")


def test_another_key_is_told_with_its_file(file, tmp_path):
    data = open_secrets(file).encrypt("s3cret", "a")
    other = open_secrets(tmp_path / "other.key")
    with pytest.raises(Broken, match=r"other\.key") as caught:
        other.decrypt(data, "a")
    assert "put back" in caught.value.hint


def test_a_missing_key_is_told_where_one_is_needed(file):
    with pytest.raises(Unavailable, match=r"secret\.key is missing") as caught:
        open_secrets(file, make=False)
    assert "put back" in caught.value.hint
    assert not file.exists()


@pytest.mark.parametrize("content", [b"", b"x" * 31, b"x" * 33])
def test_a_file_that_is_no_key_is_told(file, content):
    file.parent.mkdir()
    file.write_bytes(content)
    with pytest.raises(Unavailable, match=f"secret.key has {len(content)} bytes"):
        open_secrets(file)


def test_a_file_that_cannot_be_read_is_told(file):
    file.mkdir(parents=True)
    with pytest.raises(Unavailable, match="cannot be read"):
        open_secrets(file)


def test_derived_keys_differ_by_purpose_and_tell_nothing(file):
    secrets = open_secrets(file)
    assert secrets.derived("a") != secrets.derived("b")
    assert file.read_bytes() not in {secrets.derived("a"), secrets.derived("b")}


def test_the_key_is_in_no_repr_error_or_log(file, caplog):
    caplog.set_level(logging.DEBUG)
    secrets = open_secrets(file)
    key, told = file.read_bytes(), [repr(secrets), str(secrets)]
    with pytest.raises(Broken) as caught:
        secrets.decrypt(b"x" * 60, "a")
    told += [str(caught.value), caplog.text]
    for text in told:
        assert key.hex() not in text
        assert repr(key)[2:-1] not in text
