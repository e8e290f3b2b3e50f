"""When keys and applications last called a service, from the gateway's access log, about half a minute after.

A call counts when the gateway knew the caller and let it in, whatever was answered. Who comes with a token has a name
that its issuer gave, and is nobody of ours. Knows nothing of who may call.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Collection, Mapping, Sequence
from typing import Final

import numpy as np
from sqlalchemy import func, insert, select, update

from tulle.config import Settings
from tulle.gateway.access_log import AccessLog
from tulle.gateway.admin import Admin
from tulle.gateway.envoy_access import BY_CONTRACT
from tulle.gateway.envoy_values import ACCESS_LOG, ADMIN_SOCKET
from tulle.gateway.guesses import Guesses
from tulle.gateway.log_line import LineReader, Lines, Name
from tulle.state.db import Database, in_turn
from tulle.state.tables import last_used as table

LOG = logging.getLogger("tulle")
EVERY_SECONDS: Final = 5.0
EXACT_SECONDS: Final = 30.0  # who calls all the time is not written down all the time
WRONG_SECRET: Final = "invalid_credential_for_basic_auth"  # noqa: S105  why, in Envoy's words
_AT_ONCE: Final = 1000  # clients in a query; of more, all are read
_UNKNOWN: Final = 401
_REFUSED: Final = frozenset({_UNKNOWN, 403})

Caller = tuple[str, str, str]  # client id, service, environment


class LastUsed:
    """Follows the access log of one mesh's gateway, and puts it aside when it is large; one a control plane."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self._database = database
        self._log = AccessLog(settings.state_folder / ACCESS_LOG)
        self._admin = Admin(settings.state_folder, ADMIN_SOCKET)
        self._written: dict[Caller, float] = {}
        self._news: dict[Caller, float] = {}
        self._lines = LineReader()
        self._names: Sequence[Name] = ()
        self._callers: list[Caller | None] = []  # of each name
        self._wrong: list[int] = []  # numbers of names
        self._guesses = Guesses(settings, database)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="last-used", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End; the next one reads what this one has not."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(5)
        self._log.close()

    def _follow(self) -> None:
        while not self._stop.wait(EVERY_SECONDS):
            try:
                self.look()
                self._log.put_aside_when_large(self._admin)
            except Exception:
                LOG.exception("when callers last called is looked for again")
                self._stop.wait(60)

    def look(self) -> None:
        """Read what is new in the log and write down who called."""
        for data in self._log.pieces():
            self.see(self._lines.read(data))

    def see(self, told: Lines) -> None:
        """Write down who called, and who tried secrets. Each line is to be seen once."""
        self._learn(told.names)
        for place in np.flatnonzero(np.isin(told.which, self._wrong)).tolist() if self._wrong else ():
            if address := told.lines[place].address:
                self._guesses.note(address, int(told.begun[place]) / 1e6)
        last = np.zeros(len(told.names), np.int64)  # when the last request of each name came
        np.maximum.at(last, told.which, told.begun)
        latest: dict[Caller, float] = {}
        for which in np.flatnonzero(last).tolist():
            if (caller := self._callers[which]) is not None:
                latest[caller] = max(latest.get(caller, 0.0), int(last[which]) / 1e6)
        self._news |= {
            caller: at
            for caller, at in latest.items()
            if at >= self._written.get(caller, float("-inf")) + EXACT_SECONDS
        }
        if self._news:  # what cannot be written is written with what comes next
            note(self._database, self._news)
            self._written |= self._news
            self._news = {}

    def _learn(self, names: Sequence[Name]) -> None:
        """Whom each name tells to have called, and which tell of a wrong secret."""
        if self._names is not names:
            self._names, self._callers, self._wrong = names, [], []
        for number in range(len(self._callers), len(names)):
            name = names[number]
            if name.code == _UNKNOWN and name.details == WRONG_SECRET:
                self._wrong.append(number)
            is_caller = name.access == BY_CONTRACT and name.client and name.service
            is_let_in = is_caller and name.code not in _REFUSED
            self._callers.append((name.client, name.service, name.environment) if is_let_in else None)


def note(database: Database, seen: Mapping[Caller, float]) -> None:
    """Write down when callers called, in seconds since the epoch; what is known to be later stays."""
    with database.write() as connection:
        in_turn(connection, "last used")
        for (client_id, service, environment), at in sorted(seen.items()):
            columns = table.c
            where = (
                (columns.client_id == client_id)
                & (columns.service == service)
                & (columns.environment == environment)
            )
            before = connection.execute(select(columns.at).where(where)).scalar()
            if before is None:
                who = {"client_id": client_id, "service": service, "environment": environment}
                connection.execute(insert(table).values(**who, at=at))
            elif before < at:
                connection.execute(update(table).where(where).values(at=at))


def last_used(
    database: Database, service: str | None = None, *, clients: Collection[str] | None = None
) -> Mapping[tuple[str, str], float]:
    """By client id and service when each was last called, in whichever environment; of one service, of some clients."""
    columns = table.c
    query = select(columns.client_id, columns.service, func.max(columns.at).label("at"))
    query = query.group_by(columns.client_id, columns.service)
    if service is not None:
        query = query.where(columns.service == service)
    if clients is not None and len(clients) <= _AT_ONCE:
        query = query.where(columns.client_id.in_(clients))
    with database.read() as connection:
        return {(row.client_id, row.service): row.at for row in connection.execute(query)}
