"""Group commit: writers of one process that come at the same time share a transaction, and so its sync.

A lone writer pays nothing for it. Knows nothing of what is written.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from sqlalchemy import Connection

from tulle.state.db import Database

AT_MOST = 256  # works in one transaction

Work = Callable[[Connection], None]


class _Ticket:
    __slots__ = ("error", "leads", "turn", "work")

    def __init__(self, work: Work) -> None:
        self.work = work
        self.error: BaseException | None = None
        self.leads = False  # whether its thread is to run the next transaction
        self.turn = threading.Event()


class GroupCommit:
    """Runs works in transactions on one database. Safe to share between threads."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._waiting: list[_Ticket] = []
        self._busy = False

    def run(self, work: Work) -> None:
        """Run `work` in a transaction; durable when this returns. What it raises is raised here, and it alone
        is undone.
        """
        ticket = _Ticket(work)
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
            with self._database.write() as cx:
                for ticket in batch:
                    _attempt(cx, ticket, alone=len(batch) == 1)
        except BaseException as exc:  # noqa: BLE001  whatever stopped the transaction stopped all of them
            for ticket in batch:
                ticket.error = ticket.error or exc
        with self._lock:
            following = self._waiting.pop(0) if self._waiting else None
            self._busy = following is not None
        if following is not None:
            following.leads = True
            following.turn.set()
        for ticket in batch[1:]:
            ticket.turn.set()


def _attempt(cx: Connection, ticket: _Ticket, *, alone: bool) -> None:
    if alone:
        ticket.work(cx)
        return
    savepoint = cx.begin_nested()
    try:
        ticket.work(cx)
    except Exception as exc:  # noqa: BLE001  raised in the thread it belongs to
        savepoint.rollback()
        ticket.error = exc
    else:
        savepoint.commit()
