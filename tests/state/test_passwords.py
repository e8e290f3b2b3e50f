"""Passwords as they are kept."""

from __future__ import annotations

import pytest

from tulle.errors import Invalid
from tulle.gateway.processing.basic_users import NO_USER
from tulle.state.passwords import LONGEST, hash_password, is_password

LONG = "correct horse bättery"


def test_a_password_fits_its_hash_and_no_other() -> None:
    hashed = hash_password(LONG)
    assert LONG not in hashed
    assert is_password(LONG, hashed)
    assert not is_password(LONG + "x", hashed)
    assert hash_password(LONG) != hashed


@pytest.mark.parametrize("password", ["short", "x" * (LONGEST + 1), "has a\nline in it", "has a\0zero byte"])
def test_what_is_no_password_is_refused_and_not_told(password: str) -> None:
    with pytest.raises(Invalid) as told:
        hash_password(password)
    assert password not in f"{told.value.message} {told.value.hint}"


@pytest.mark.parametrize(
    "hashed",
    [
        "",
        "scrypt",
        "scrypt:3:8:1:AAAA:AAAA",
        "scrypt:1073741824:8:1:AAAA:AAAA",
        "md5:2:8:1:AAAA:AAAA",
        NO_USER,
    ],
)
def test_a_hash_that_is_none_fits_nothing(hashed: str) -> None:
    assert not is_password(LONG, hashed)
