"""Following the log of events: each follower sees every event once, in order, whatever dies and however many follow.

A follower reads what it has not seen, and in the transaction of what it does about it says how far it came: who
comes second finds that the position has moved and does nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sqlalchemy import Connection, func, insert, select, update

from tulle.state import log
from tulle.state.db import Database, in_turn
from tulle.state.log import LogEntry
from tulle.state.tables import events, followers

BATCH = 200


def begin(database: Database, name: str, work: Callable[[Connection], None] | None = None) -> bool:
    """Follow from now on, and do `work` in the same transaction; False when `name` follows already."""
    with database.read() as cx:
        if _position(cx, name) is not None:
            return False
    with database.write() as cx:
        in_turn(cx, f"following events as {name}")
        if _position(cx, name) is not None:
            return False
        newest = cx.execute(select(func.max(events.c.id))).scalar() or 0
        if work is not None:
            work(cx)
        cx.execute(insert(followers).values(name=name, position=newest))
    return True


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
