"""The rows of a prediction endpoint, scored by a model in this process: many of them while others are answered.

They are scored in parts by one thread of the endpoint's own: the runtime lets go of Python while it computes, and
however many large requests there are, they take no more than one core beside the loop. Knows nothing of requests, and
not what an answer looks like.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from tulle.pipeline.model_score import Scorer
from tulle.pipeline.model_signature import Signature
from tulle.serving.request import NO_PREDICTION, RequestError
from tulle.serving.score import Scored, scored

AT_ONCE = 64  # rows that are scored without letting others in
PART = 1000  # rows that are scored in one go, so that another request for many waits no longer than for that
_log = logging.getLogger("tulle.serving")
_OF_A_NODE = "status code returned while running"  # how ONNX Runtime begins to tell which node failed

Rows = Sequence[Sequence[object]]
_T = TypeVar("_T")


class RowScorer:
    """The model of an endpoint for requests of several rows. For the thread of the loop."""

    def __init__(self, name: str, scorer: Scorer, signature: Signature) -> None:
        self._name, self._scorer, self._signature = name, scorer, signature
        self._thread: ThreadPoolExecutor | None = None  # until it is needed

    def close(self) -> None:
        """Begin no further part."""
        if self._thread is not None:
            self._thread.shutdown(wait=False, cancel_futures=True)

    async def all(self, rows: Rows) -> list[Scored]:
        """What the model says of all rows. RequestError when it says nothing of one."""
        try:
            if len(rows) <= AT_ONCE:
                return checked(self._scored(rows))
            said: list[Scored] = []
            for part in parts(rows):
                said += await self._beside(self._scored, part)
        except RequestError:
            raise
        except Exception as exc:
            if is_of_values(exc):
                raise unanswered(exc) from exc
            raise
        return checked(said)

    def each(self, rows: Rows) -> list[Scored | RequestError]:
        """What the model says of each row; one that it cannot bear fails no other."""
        try:
            return list(self._scored(rows))
        except Exception:  # noqa: BLE001  whatever a model raises
            return [self._one(row) for row in rows]

    async def each_beside(self, part: Rows) -> list[Scored | RequestError]:
        """The same of one of `parts`, while others are answered."""
        return await self._beside(self.each, part)

    def _scored(self, rows: Rows) -> list[Scored]:
        return scored(self._scorer, self._signature, rows) if rows else []

    def _one(self, row: Sequence[object]) -> Scored | RequestError:
        try:
            return self._scored([row])[0]
        except Exception as exc:  # noqa: BLE001  as above
            return unanswered(exc)

    async def _beside(self, work: Callable[[Rows], _T], part: Rows) -> _T:
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"predict-{self._name}")
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, part)


def parts(rows: Rows) -> list[Rows]:
    """Rows in parts of what is scored in one go."""
    return [rows[first : first + PART] for first in range(0, len(rows), PART)]


def checked(said: list[Scored]) -> list[Scored]:
    """What a model said, if it said something of every row; RequestError else."""
    for number, (numbers, _) in enumerate(said):
        if not math.isfinite(sum(numbers)):
            message = f"the model has no answer for the values of row {number}"
            raise RequestError(422, NO_PREDICTION, message, "Are some of them extreme?")
    return said


def is_of_values(exc: Exception) -> bool:
    """Whether it is the values that a model cannot evaluate; whatever else it raises is a fault of its own."""
    return isinstance(exc, ValueError) or _OF_A_NODE in str(exc)


def unanswered(exc: Exception) -> RequestError:
    """That a model cannot evaluate a row: its encoder refuses a category that it was not trained with, say."""
    _log.info("the model has no answer: %s", exc)
    advice = "Is one of them a category that it was not trained with? The service's log says more"
    return RequestError(422, NO_PREDICTION, "the model has no answer for these values", advice)
