"""When keys and applications last called a service, from lines of the gateway's access log, to half a minute.

A call counts when the gateway knew the caller and let it in, whatever was answered. Who comes with a token has a name
that its issuer gave, and is nobody of ours. Knows nothing of who may call, and no file.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Final

import numpy as np
from sqlalchemy import Connection, bindparam, func, insert, select, update

from tulle.config import Settings
from tulle.gateway.envoy_access import BY_CONTRACT
from tulle.gateway.guesses import Guesses
from tulle.gateway.log_line import Lines, Name
from tulle.state.db import Database, in_turn
from tulle.state.tables import last_used as table

EXACT_SECONDS: Final = 30.0  # who calls all the time is not written down all the time
WRONG_SECRET: Final = "invalid_credential_for_basic_auth"  # noqa: S105  why, in Envoy's words
_AT_ONCE: Final = 1000  # clients in a query; of more, all are read
_UNKNOWN: Final = 401
_CALLER: Final = ("client_id", "service", "environment")
_REFUSED: Final = frozenset({_UNKNOWN, 403})

Caller = tuple[str, str, str]  # client id, service, environment


class LastUsed:
    """Is shown the access log of one mesh's gateway, and writes down who called; not for several threads at once."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self._database = database
        self._written: dict[Caller, float] = {}
        self._news: dict[Caller, float] = {}
        self._names: Sequence[Name] = ()
        self._callers: list[Caller | None] = []  # of each name
        self._wrong: list[int] = []  # numbers of names
        self._guesses = Guesses(settings, database)

    def see(self, told: Lines) -> None:
        """Look at who called, for `write`, and at who tried secrets. Each line is to be seen once."""
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

    def write(self) -> None:
        """Write down who called; what cannot be written is written the next time."""
        if self._news:
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
        known = sorted(seen.items())
        for begin in range(0, len(known), _AT_ONCE):
            _note(connection, known[begin : begin + _AT_ONCE])


def _note(connection: Connection, seen: Sequence[tuple[Caller, float]]) -> None:
    columns = table.c
    names = {client_id for (client_id, _, _), _ in seen}
    query = select(columns.client_id, columns.service, columns.environment, columns.at)
    rows = connection.execute(query.where(columns.client_id.in_(names)))
    before: dict[Caller, float] = {(row[0], row[1], row[2]): row[3] for row in rows}
    fresh = [(who, at) for who, at in seen if who not in before]
    later = [(who, at) for who, at in seen if who in before and before[who] < at]
    if fresh:
        made = [dict(zip(_CALLER, who, strict=True), at=at) for who, at in fresh]
        connection.execute(insert(table), made)
    if later:
        where = [columns[name] == bindparam(f"_{name}") for name in _CALLER]
        changed = [
            {f"_{name}": one for name, one in zip(_CALLER, who, strict=True)} | {"_at": at}
            for who, at in later
        ]
        connection.execute(update(table).where(*where).values(at=bindparam("_at")), changed)


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
