"""Policies that are set by hand and that the gateway then does not take: they are not left standing.

Whether it takes them is known when it has been asked for all of them together. Knows nothing of what they are of.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from tulle.config import Settings
from tulle.errors import Invalid
from tulle.gateway.faults import fault_of

_TURN: Final = threading.Lock()


@contextmanager
def watching(settings: Settings, service: str, environment: str) -> Iterator[Watch]:
    """One at a time, from before a list is recorded until it is settled: whose list is wrong is known so.

    Of one service or version of an API, in an environment as faults name it.
    """
    with _TURN:
        found = fault_of(settings, service, environment)
        yield Watch(settings, service, environment, found.message if found is not None else "")


@dataclass(frozen=True, slots=True)
class Watch:
    """Begun before a list is recorded: what is wrong with it is told from what was wrong before."""

    settings: Settings
    service: str  # as faults name it
    environment: str
    before: str

    def settled(self, settle: Callable[[], bool], take_back: Callable[[], object]) -> bool:
        """Have the gateway follow, and `take_back` what it does not take; whether it followed.

        Invalid, with its reason, where it took nothing.
        """
        is_published = settle()
        found = fault_of(self.settings, self.service, self.environment)
        if found is None or found.message == self.before:
            return is_published
        take_back()
        settle()
        raise Invalid(
            f"the gateway does not take these policies: {found.message}",
            hint=f"{found.hint or 'say them otherwise'}; nothing was changed",
        )
