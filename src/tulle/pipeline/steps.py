"""What becomes of the steps of a run on its way, recorded a few at a time.

Small jobs take a few milliseconds each, and a transaction for every word about them would take as long again. So what
is told is recorded together, at most a twentieth of a second later, in the order in which it was told. `settled` waits
for all of it: nothing is published before. A database that is away for a while loses nothing of it. A process that is
killed in between has told less than it did, which is what a run without a process is taken for anyway.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tulle.pipeline import run as runs
from tulle.pipeline import step_record
from tulle.pipeline.run import Report, Run
from tulle.pipeline.step_record import Word
from tulle.state.db import Database, now

AT_MOST_SECONDS = 0.05
AGAIN_SECONDS = 1.0  # after it could not be recorded

LOG = logging.getLogger("tulle")


class Steps:
    """Takes down what is told about the steps of one run, from any thread."""

    def __init__(self, database: Database, run: Run) -> None:
        self._database = database
        self._run = run
        self._told: list[Word] = []
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._some = threading.Event()

    @contextmanager
    def taken_down(self) -> Iterator[None]:
        """While the block runs, a thread of its own records what is told; after it nothing is left to be.

        Raises what keeps it from being recorded, unless the block failed before: that is what somebody has to mend.
        """
        over = threading.Event()
        thread = threading.Thread(target=self._take_down, args=(over,), daemon=True, name="steps")
        thread.start()
        failed: BaseException | None = None
        try:
            yield
        except BaseException as exc:
            failed = exc
            raise
        finally:
            over.set()
            self._some.set()
            thread.join()
            try:
                self.settled()
            except Exception as exc:
                if failed is None:
                    raise
                LOG.warning("run %s: what became of its steps is not recorded: %s", self._run.id, exc)
                failed.add_note(f"what became of the steps is not recorded: {exc}")

    def started(self, name: str, *, branch: str | None = None) -> None:
        """A step begins."""
        self.tell(Word(name, runs.RUNNING, now(), branch=branch))

    def finished(
        self,
        name: str,
        status: str,
        *,
        rows: int | None = None,
        message: str | None = None,
        report: Report | None = None,
        branch: str | None = None,
    ) -> None:
        """A step has ended. `branch`: where what it made was kept."""
        self.tell(self.word(name, status, rows=rows, message=message, report=report, branch=branch))

    @staticmethod
    def word(
        name: str,
        status: str,
        *,
        rows: int | None = None,
        message: str | None = None,
        report: Report | None = None,
        branch: str | None = None,
    ) -> Word:
        """That a step has ended now, to be told when that is safe to say."""
        return Word(name, status, now(), rows, message, report, branch)

    def kept(self, name: str, rows: int | None, report: Report) -> None:
        """A step has nothing to do."""
        self.tell(Word(name, runs.UNCHANGED, now(), rows, None, report, together=True))

    def settled(self) -> None:
        """All that was told is recorded. Raises what keeps it from being; it is still to be recorded then."""
        with self._writing:
            with self._lock:
                told, self._told = self._told, []
            if not told:
                return
            try:
                self._database.change(lambda cx: step_record.tell(cx, self._run, told))
            except BaseException:
                with self._lock:
                    self._told = [*told, *self._told]
                raise

    def tell(self, word: Word) -> None:
        """Take something down."""
        with self._lock:
            self._told.append(word)
        self._some.set()

    def _take_down(self, over: threading.Event) -> None:
        while not over.is_set():
            self._some.wait()
            over.wait(AT_MOST_SECONDS)
            self._some.clear()
            try:
                self.settled()
            except Exception as exc:  # noqa: BLE001  the next time, perhaps; `settled` raises it at the end
                LOG.warning("run %s: what becomes of its steps cannot be recorded: %s", self._run.id, exc)
                over.wait(AGAIN_SECONDS)
                self._some.set()
