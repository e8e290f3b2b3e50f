"""Group commit: writers of one process that come at the same time share a transaction, and so its sync.

A lone writer pays nothing for it. Where transactions run side by side (PostgreSQL), those of several processes
that would wait for one another must not: a shared transaction first takes the places it writes to, in order.
Knows nothing of what is written.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from tulle.state.db import Database, is_passing

AT_MOST = 256  # works in one transaction

Work = Callable[[Connection], None]
Place = tuple[int, str]  # a repository and a branch
Take = Callable[[Connection, Place], None]


@dataclass(frozen=True, slots=True)
class Joint:
    """A work that is done at once for all who come with the same key: `work` gets the item of each."""

    key: Hashable
    item: Any
    work: Callable[[Connection, Sequence[Any]], None]

    def alone(self, cx: Connection) -> None:
        """Do it for this one."""
        self.work(cx, [self.item])


class _Ticket:
    __slots__ = ("error", "joint", "leads", "place", "turn", "work")

    def __init__(self, work: Work | Joint, place: Place | None) -> None:
        self.joint = work if isinstance(work, Joint) else None
        self.work = work.alone if isinstance(work, Joint) else work
        self.place = place
        self.error: BaseException | None = None
        self.leads = False  # whether its thread is to run the next transaction
        self.turn = threading.Event()


class GroupCommit:
    """Runs works in transactions on one database. Safe to share between threads.

    `take` makes other transactions wait for a place until this one ends.
    """

    def __init__(self, database: Database, take: Take | None = None) -> None:
        self._database = database
        self._take = None if database.is_sqlite else take
        self._lock = threading.Lock()
        self._waiting: list[_Ticket] = []
        self._busy = False

    def run(self, work: Work | Joint, place: Place | None = None) -> None:
        """Run `work`, which writes to `place`, in a transaction; durable when this returns.

        What it raises is raised here, and it alone is undone. It may be run again when the database ended the
        transaction for the sake of another one, so it must change nothing else.
        """
        ticket = _Ticket(work, place)
        with self._lock:
            if self._busy:
                self._waiting.append(ticket)
            else:
                self._busy = ticket.leads = True
        if not ticket.leads:
            ticket.turn.wait()
        if ticket.leads:
            self._lead(ticket)
        if ticket.error is not None:
            raise ticket.error

    def _lead(self, own: _Ticket) -> None:
        with self._lock:
            batch = [own, *self._waiting[: AT_MOST - 1]]
            del self._waiting[: AT_MOST - 1]
        try:
            if len(batch) == 1:
                self._database.change(own.work)
            else:
                with self._database.write() as cx:
                    self._take_places(cx, batch)
                    for together in _joined(batch):
                        _attempt(cx, together)
        except BaseException as exc:  # noqa: BLE001  whatever stopped the transaction stopped all of them
            for ticket in batch:
                ticket.error = ticket.error or exc
        for ticket in batch if len(batch) > 1 else ():
            if is_passing(ticket.error):
                self._again(ticket)
        with self._lock:
            following = self._waiting.pop(0) if self._waiting else None
            self._busy = following is not None
        if following is not None:
            following.leads = True
            following.turn.set()
        for ticket in batch[1:]:
            ticket.turn.set()

    def _take_places(self, cx: Connection, batch: list[_Ticket]) -> None:
        if self._take is not None:
            for place in sorted({ticket.place for ticket in batch if ticket.place is not None}):
                self._take(cx, place)

    def _again(self, ticket: _Ticket) -> None:
        ticket.error = None
        try:
            self._database.change(ticket.work)
        except Exception as exc:  # noqa: BLE001  raised in the thread it belongs to
            ticket.error = exc


def _joined(batch: Sequence[_Ticket]) -> list[list[_Ticket]]:
    """The tickets, those that can be done at once together."""
    joined: dict[Hashable, list[_Ticket]] = {}
    for ticket in batch:
        joined.setdefault(id(ticket) if ticket.joint is None else ticket.joint.key, []).append(ticket)
    return list(joined.values())


def _attempt(cx: Connection, tickets: Sequence[_Ticket]) -> None:
    first, joint = tickets[0], tickets[0].joint
    savepoint = cx.begin_nested()
    try:
        if joint is None or len(tickets) == 1:
            first.work(cx)
        else:
            joint.work(cx, [ticket.joint.item for ticket in tickets if ticket.joint is not None])
    except Exception as exc:  # noqa: BLE001  raised in the thread it belongs to
        savepoint.rollback()
        if len(tickets) == 1:
            first.error = exc
        else:  # whose fault it was shows when each is alone
            for ticket in tickets:
                _attempt(cx, [ticket])
    else:
        savepoint.commit()
