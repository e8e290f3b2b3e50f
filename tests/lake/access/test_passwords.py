"""Passwords of users, with which they call APIs."""

from __future__ import annotations

import pytest

from tulle.errors import NotFound
from tulle.lake.access import Access, people
from tulle.lake.access.passwords import api_users, remove_password, set_password


def test_users_with_a_password_are_known_with_their_groups(access: Access) -> None:
    assert access.read(api_users) == ()
    for hashed in ("one", "two"):
        access.change(
            "admin", "access.password_set", "user/ann", lambda cx, h=hashed: set_password(cx, "ann", h)
        )
    access.change(
        "admin", "access.member_added", "user/ann", lambda cx: people.add_member(cx, "Viewers", "ann")
    )
    (found,) = access.read(api_users)
    assert (found.user, found.hashed, found.groups) == ("ann", "two", ("Viewers",))
    assert "two" not in repr(found)
    access.change("admin", "access.password_removed", "user/ann", lambda cx: remove_password(cx, "ann"))
    assert access.read(api_users) == ()


def test_who_is_not_there_has_none(access: Access) -> None:
    with pytest.raises(NotFound, match="nobody"):
        access.change("admin", "x", "x", lambda cx: set_password(cx, "nobody", "h"))
    with pytest.raises(NotFound, match="has no password"):
        access.change("admin", "x", "x", lambda cx: remove_password(cx, "ann"))


def test_a_user_who_goes_takes_it_along(access: Access) -> None:
    access.change("admin", "access.password_set", "user/ann", lambda cx: set_password(cx, "ann", "h"))
    access.change("admin", "access.user_deleted", "user/ann", lambda cx: people.delete_user(cx, "ann"))
    assert access.read(api_users) == ()
