"""Policies that are set by hand and that the gateway then does not take: they are not left standing.

Whether it takes them is known when it has been asked for all of them together. Knows nothing of what they are of.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tulle.config import Settings
from tulle.errors import Invalid
from tulle.gateway.faults import fault_of


@dataclass(frozen=True, slots=True)
class Watch:
    """Begins before a list is recorded: what is wrong with it is told from what was wrong before."""

    settings: Settings
    service: str  # as faults name it
    environment: str
    before: str

    @classmethod
    def of(cls, settings: Settings, service: str, environment: str) -> Watch:
        """Of one service or version of an API, in an environment as faults name it."""
        found = fault_of(settings, service, environment)
        return cls(settings, service, environment, found.message if found is not None else "")

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
