"""Which tokens have been used, until they are over: a SQLite file of its own, written before a request is let on.

So a processor that is killed knows them when it is back. What cannot be written or read lets nobody on; a damaged file
is not put aside by itself, as every token in it would open once more. Keeps digests alone, and a bounded number of
them. Knows nothing of requests.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tulle.errors import LimitExceeded, Unavailable

MOST_TOKENS: Final = 500_000  # of a policy, that are not over yet
FORGET_AT_ONCE: Final = 2000  # so that nobody waits long
FORGET_SECONDS: Final = 1.0
_COMPLAIN_SECONDS: Final = 60.0
_TABLES: Final = (
    """
CREATE TABLE IF NOT EXISTS used (
  policy TEXT NOT NULL, token BLOB NOT NULL, until REAL NOT NULL, PRIMARY KEY (policy, token)
) WITHOUT ROWID
""",
    "CREATE INDEX IF NOT EXISTS used_until ON used (until)",
)
_log = logging.getLogger("tulle.processing")


class UsedTokens:
    """The used tokens of all policies of a process. For one thread. A path of None keeps them in memory."""

    def __init__(
        self, path: Path | None, *, most: int = MOST_TOKENS, clock: Callable[[], float] = time.time
    ) -> None:
        self._path = path
        self._most = most
        self._clock = clock
        self._connection: sqlite3.Connection | None = None
        self._held: dict[str, int] = {}  # by policy
        self._forgot_at = 0.0
        self._complained_at = -_COMPLAIN_SECONDS

    def use(self, policy: str, token: str, until: float) -> bool:
        """Note that a token is used, until then (seconds since the epoch); False where it was before.

        LimitExceeded when too many are held; Unavailable when it cannot be written. Either way it is not used.
        """
        digest = hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()[:16]
        at = self._clock()
        try:
            connection = self._opened()
            with connection:
                self._forget(connection, at)
                if self._held.get(policy, 0) >= self._most:
                    raise LimitExceeded(
                        f"{policy}: {self._most} used tokens are held",
                        hint="let the issuer give tokens that are over sooner",
                    )
                known = connection.execute(
                    "SELECT until FROM used WHERE policy = ? AND token = ?", (policy, digest)
                ).fetchone()
                if known is not None and known[0] >= at:
                    return False
                connection.execute("INSERT OR REPLACE INTO used VALUES (?, ?, ?)", (policy, digest, until))
        except (sqlite3.Error, OSError) as exc:
            self._complain(exc)
            raise Unavailable(
                f"used tokens cannot be kept in {self._path}", hint="see the processor's log"
            ) from exc
        if known is None:
            self._held[policy] = self._held.get(policy, 0) + 1
        return True

    def close(self) -> None:
        """Close the file."""
        if self._connection is not None:
            with contextlib.suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None

    def _forget(self, connection: sqlite3.Connection, at: float) -> None:
        """Those that are over."""
        if 0 <= at - self._forgot_at < FORGET_SECONDS:
            return
        self._forgot_at = at
        over = connection.execute(
            "DELETE FROM used WHERE (policy, token) IN (SELECT policy, token FROM used WHERE until < ? LIMIT ?)"
            " RETURNING policy",
            (at, FORGET_AT_ONCE),
        ).fetchall()
        for (policy,) in over:
            self._held[policy] -= 1

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = self._open()
        return self._connection

    def _open(self) -> sqlite3.Connection:
        if self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        connection = sqlite3.connect(":memory:" if self._path is None else self._path, timeout=1)
        try:
            if self._path is not None:
                self._path.chmod(0o600)
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")  # what is written outlives the process
            for table in _TABLES:
                connection.execute(table)
            self._held = dict(connection.execute("SELECT policy, count(*) FROM used GROUP BY policy"))
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                connection.close()
            raise
        return connection

    def _complain(self, exc: Exception) -> None:
        if time.monotonic() >= self._complained_at + _COMPLAIN_SECONDS:
            self._complained_at = time.monotonic()
            _log.error(
                "used tokens cannot be kept in %s, so none is accepted where each opens once: %s. Make room; move a"
                " damaged file away only when the tokens in it are over",
                self._path,
                exc,
            )
