"""Passwords of users, with which they call APIs that ask for user and password. They open nothing of the lake.

Knows the columns of one table, and nothing of how a password is checked.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, delete, insert, select

from tulle.errors import NotFound
from tulle.lake.access import people
from tulle.state.db import now
from tulle.state.tables import api_passwords, group_members


@dataclass(frozen=True, slots=True)
class ApiUser:
    """A user who has a password: how it is hashed, since when, and the groups that he is in."""

    user: str
    hashed: str
    groups: tuple[str, ...]
    since: float

    def __repr__(self) -> str:
        """Without the hash."""
        return f"ApiUser({self.user})"


def set_password(cx: Connection, user: str, hashed: str) -> None:
    """Keep the hash of a user's password, in place of one there is. NotFound."""
    people.get_user(cx, user)
    cx.execute(delete(api_passwords).where(api_passwords.c.user_id == user))
    cx.execute(insert(api_passwords).values(user_id=user, hashed=hashed, since=now()))


def remove_password(cx: Connection, user: str) -> None:
    """Keep none. NotFound for a user who has none."""
    people.get_user(cx, user)
    if not cx.execute(delete(api_passwords).where(api_passwords.c.user_id == user)).rowcount:
        raise NotFound(f"user '{user}' has no password", hint=f"`tulle user password {user}` sets one")


def api_users(cx: Connection) -> tuple[ApiUser, ...]:
    """All users who have one, by name."""
    groups: dict[str, list[str]] = {}
    for row in cx.execute(select(group_members).order_by(group_members.c.group_id)):
        groups.setdefault(row.user_id, []).append(row.group_id)
    rows = cx.execute(select(api_passwords).order_by(api_passwords.c.user_id)).all()
    return tuple(
        ApiUser(row.user_id, row.hashed, tuple(groups.get(row.user_id, ())), row.since) for row in rows
    )
