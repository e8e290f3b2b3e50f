"""What the jobs of a run made on its way to the run's branch, several at a time.

A commit is durable and takes as long as making a small data set. So jobs that end within a fifth of a second of one
another land by one commit, and only then are told as done: what was told is on the run's branch, whatever happens.
Who reads a data set in the meantime reads its files, not the branch. Knows nothing of what jobs do.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass

from tulle.lake.dag import RunBranch
from tulle.lake.draft import Draft

AT_MOST_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class _Waiting:
    name: str
    draft: Draft
    line: str
    tell: Callable[[], None]


class Landing:
    """The drafts of jobs that were found good. From any thread.

    `reported` is entered for each job whose draft is put on the branch, and told by what exception that failed.
    """

    def __init__(self, branches: RunBranch, reported: Callable[[str], AbstractContextManager[None]]) -> None:
        self._branches, self._reported = branches, reported
        self._waiting: list[_Waiting] = []
        self._since = 0.0
        self._lock = threading.Lock()
        self._turn = threading.Lock()

    def add(self, name: str, draft: Draft, line: str, tell: Callable[[], None]) -> None:
        """A job's draft, to land soon; `line` says what it is, `tell` is called when it has landed."""
        with self._lock:
            if not self._waiting:
                self._since = time.monotonic()
            self._waiting.append(_Waiting(name, draft, line, tell))

    def left(self) -> float | None:
        """Seconds until what waits should land; None where nothing waits."""
        with self._lock:
            return max(0.0, self._since + AT_MOST_SECONDS - time.monotonic()) if self._waiting else None

    def land(self) -> None:
        """Put all that waits on the run's branch, by one commit. Raises what keeps it from being put there."""
        with self._turn:
            with self._lock:
                waiting, self._waiting = self._waiting, []
            if not waiting:
                return
            with ExitStack() as told:
                for each in waiting:
                    told.enter_context(self._reported(each.name))
                self._branches.land([each.draft for each in waiting], _message(waiting))
            for each in waiting:
                each.tell()


def _message(landed: list[_Waiting]) -> str:
    lines = [each.line for each in landed]
    return lines[0] if len(lines) == 1 else "\n".join([f"{len(lines)} data sets", "", *lines])
