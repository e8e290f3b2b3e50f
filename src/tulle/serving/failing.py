"""What becomes of a step of a composition that fails: another value, none, or the failure of the whole.

Failures that no caller sees, since something else stands in, are told in the service's log, once in a while.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Any

from msgspec import UNSET

from tulle.serving.asked import Asked
from tulle.serving.path_values import made_of
from tulle.serving.request import RequestError

LEAVE_OUT = "leave_out"
NOTE_SECONDS = 60.0  # between two lines of the log about the same step
_log = logging.getLogger("tulle.serving")


class Failing:
    """What a step declares for when it fails: another value, to be left out, or that the whole fails."""

    def __init__(self, said: Mapping[str, Any], word: str = "") -> None:
        """`word`: what it is called where steps are told of, if not by its name alone."""
        self._name, self._word = said["name"], word or said["name"]
        self._is_left_out = said.get("on_failure") == LEAVE_OUT
        self._failures, self._next_note = 0, 0.0
        self.fallback = made_of(said["fallback"]) if "fallback" in said else None

    def value(
        self, error: RequestError, values: dict[str, Any], asked: Asked, item: int | None = None
    ) -> Any:
        """The value in place of one that failed, UNSET when it is left out. RequestError that names the step."""
        error = self._named(error)
        if error.status >= 500 and (self.fallback is not None or self._is_left_out):
            self._note(error)
        if self.fallback is None and not self._is_left_out:
            raise error
        asked.replaced += 1
        if self.fallback is not None:
            return self.fallback(values)
        told: dict[str, Any] = {"step": self._word} if item is None else {"step": self._word, "item": item}
        told |= {"status": error.status, "errorType": error.error_type, "message": error.message}
        asked.failed.append(told)
        return UNSET

    def put(self, error: RequestError, values: dict[str, Any], asked: Asked) -> None:
        """Put that among the others, if there is one."""
        value = self.value(error, values, asked)
        if value is not UNSET:
            values[self._name] = value

    def _named(self, error: RequestError) -> RequestError:
        if error.message.startswith("step '"):
            return error
        message = f"step '{self._word}': {error.message}"
        return RequestError(error.status, error.error_type, message, error.advice)

    def _note(self, error: RequestError) -> None:
        """Callers do not see that it failed, so that who runs the service is told; what it worked on is not."""
        self._failures += 1
        if time.monotonic() < self._next_note:
            return
        what = f"{error.status} {error.error_type}"
        how_often = f"failures since this was told last: {self._failures:,}"
        instead = "is left out" if self.fallback is None else "has its fallback"
        _log.warning("step '%s' fails with %s and %s (%s)", self._word, what, instead, how_often)
        self._failures, self._next_note = 0, time.monotonic() + NOTE_SECONDS
