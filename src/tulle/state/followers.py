"""Following the log of events: each follower sees every event once, in order, whatever dies and however many follow.

A follower reads what it has not seen, and in the transaction of what it does about it says how far it came: who comes
second finds that the position has moved and does nothing. One that also wants what was there before it began takes
that over piece by piece, by name, in the same way, before it looks at events.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, insert, select, update

from tulle.state import log
from tulle.state.db import Database, in_turn
from tulle.state.log import LogEntry
from tulle.state.tables import followers

BATCH = 200


def begin(database: Database, name: str, *, takes_over: bool = False) -> bool:
    """Follow from now on; False when `name` follows already. `takes_over`: what was there before it wants, too."""
    with database.read() as cx:
        if _position(cx, name) is not None:
            return False
    with database.write() as cx:
        in_turn(cx, f"following events as {name}")
        if _position(cx, name) is not None:
            return False
        last = log.newest(cx)
        before = "" if takes_over else None
        cx.execute(insert(followers).values(name=name, position=last, before=before))
    return True


def taken_over(database: Database, name: str) -> str | None:
    """Up to which name the follower has what was there before it began; None when it has all of it."""
    with database.read() as cx:
        found = cx.execute(select(followers.c.before).where(followers.c.name == name)).scalar()
    return None if found is None else str(found)


def take_over(cx: Connection, name: str, old: str, new: str | None) -> bool:
    """Say up to which name it was taken over, None when that was all; False when another one did it."""
    mine = update(followers).where(followers.c.name == name, followers.c.before == old)
    return bool(cx.execute(mine.values(before=new)).rowcount)


def unseen(database: Database, name: str) -> tuple[int, Sequence[LogEntry]]:
    """How far the follower came, and the events after that, a batch of them."""
    with database.read() as cx:
        position = _position(cx, name) or 0
    return position, log.read(database, after=position, limit=BATCH)


def move(cx: Connection, name: str, old: int, new: int) -> bool:
    """Say how far the follower came; False when another one saw these events already."""
    mine = update(followers).where(followers.c.name == name, followers.c.position == old)
    return bool(cx.execute(mine.values(position=new)).rowcount)


def _position(cx: Connection, name: str) -> int | None:
    found = cx.execute(select(followers.c.position).where(followers.c.name == name)).scalar()
    return None if found is None else int(found)
