"""Whether somebody tries secrets, from the gateway's access log; then it limits how often it looks at wrong ones.

A secret is 160 random bits: nobody finds one by trying. But whoever tries takes work from others, and may have a part
of a leak in hand. It is told in the log of events and that of the control plane, by address. The limit is in
`guard.lua`; it is on while it is needed, as it costs each request some microseconds. Knows nothing of Envoy's files.
"""

from __future__ import annotations

import logging
import time
from collections import OrderedDict, deque
from typing import Final

from tulle.config import Settings
from tulle.events import GATEWAY_GUESSED, Event
from tulle.state import log
from tulle.state.db import Database

LOG = logging.getLogger("tulle")
MANY: Final = (
    60  # wrong secrets of one address in a minute: more than a program with an old secret that tries again
)
MINUTE: Final = 60.0
ON_SECONDS: Final = 600.0  # after the last time there were as many
TOLD_SECONDS: Final = 3600.0  # of one address
MOST_ADDRESSES: Final = 10_000
FILE: Final = "run/gateway/guarded"  # of .tulle/: until when, in seconds since the epoch


class Guesses:
    """Counts wrong secrets by address; one a control plane, not for several threads at once."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self._file = settings.state_folder / FILE
        self._database = database
        self._wrong: OrderedDict[str, deque[float]] = OrderedDict()
        self._told: dict[str, float] = {}
        self._until = guarded_until(settings)

    def note(self, address: str, at: float) -> None:
        """That an address sent wrong credentials, in seconds since the epoch."""
        times = self._wrong.setdefault(address, deque(maxlen=MANY))
        self._wrong.move_to_end(address)
        times.append(at)
        if len(self._wrong) > MOST_ADDRESSES:
            self._wrong.popitem(last=False)
        if len(times) == MANY and at - times[0] <= MINUTE:
            self._tried(address, at)

    def _tried(self, address: str, at: float) -> None:
        if at + ON_SECONDS > self._until + MINUTE:  # not written anew for every one of them
            self._until = at + ON_SECONDS
            fresh = self._file.with_suffix(".new")
            self._file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            fresh.write_text(str(self._until))
            fresh.chmod(0o600)
            fresh.rename(self._file)
        if at - self._told.get(address, float("-inf")) < TOLD_SECONDS:
            return
        self._told = {one: when for one, when in self._told.items() if at - when < TOLD_SECONDS} | {
            address: at
        }
        LOG.warning(
            "address %s tries secrets: %d wrong ones in a minute; such are limited now", address, MANY
        )
        with self._database.write() as cx:
            log.append(cx, Event(GATEWAY_GUESSED, "gateway", {"address": address, "wrong": MANY}))


def guarded_until(settings: Settings) -> float:
    """Until when the gateway is to limit wrong secrets, in seconds since the epoch; 0: it need not."""
    try:
        return float((settings.state_folder / FILE).read_text())
    except (OSError, ValueError):
        return 0.0


def is_guarded(settings: Settings) -> bool:
    """Whether the gateway is to limit wrong secrets now."""
    return guarded_until(settings) > time.time()
