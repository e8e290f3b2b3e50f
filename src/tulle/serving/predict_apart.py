"""Predictions by a model as it was saved, not converted: it runs in processes of its own, several rows in one call.

Such a model is Python: loading it executes code of its file, and it may be slow, hang or die. A call for one row costs
nearly as much as one for fifty, so rows that come while all processes are busy are scored together by the next one.
"""

from __future__ import annotations

import asyncio
import traceback
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from time import perf_counter_ns
from typing import Any, cast

import msgspec
from msgspec import UNSET

from tulle.errors import Broken
from tulle.pipeline.model_signature import SIGNATURE, Signature, load_scorer, read_signature
from tulle.serving.endpoint import Action, Answer, Headed, Header, Query, Trace
from tulle.serving.finder import Ignored
from tulle.serving.function_code import as_plain
from tulle.serving.manifest import WHOLE_AGAIN
from tulle.serving.pool import pool_of
from tulle.serving.predict import More, Predict, PredictEntry, with_effects
from tulle.serving.predict_features import Told, row_type
from tulle.serving.predict_result import with_keys
from tulle.serving.predict_rows import checked
from tulle.serving.request import RequestError
from tulle.serving.score import Scored, WithKeys, scored

MOST_ROWS = 64  # in one call
MOST_LATE = 2  # rows that take too long, one by one; then it is not the rows


class _Given(msgspec.Struct, array_like=True):
    """What the process gave for each row: numbers, class, whether it is known, keys; or why there is nothing."""

    scored: list[tuple[list[float], Any, bool, dict[str, Any]]] = []
    message: str = ""
    error_type: str = "EvaluationFailed"


class PredictApart(Predict):
    """A prediction endpoint whose model is in processes of its own."""

    def __init__(self, entry: PredictEntry, signature: Signature, folder: Path, trace: Trace) -> None:
        super().__init__(entry, signature, None, folder, trace)
        self.pool = pool_of(folder, entry.name, entry.bounds)
        self._most_calls = max(1, entry.bounds.ceil)
        self._calls: set[asyncio.Task[None]] = set()
        self._rows: deque[tuple[Sequence[Any], asyncio.Future[Scored]]] = deque()

    @property
    def direct(self) -> None:
        """Nothing: its answers take a while."""

    @property
    def actions(self) -> Mapping[str, Action]:
        """predict, predict-multi; for a model of effects under their own names as well."""
        actions = {"predict": Headed(self._predict_one), "predict-multi": Headed(self._predict_many)}
        return with_effects(actions, self.signature)

    @property
    def queries(self) -> Mapping[str, Query]:
        """predict-simple: the features as a query string, for a browser."""
        return {"predict-simple": Headed(self._predict_simple)}

    async def ready(self) -> None:
        """Load the model in a process. RequestError when it cannot be."""
        await self.pool.ready()

    def close(self) -> None:
        """End its processes."""
        self.pool.close()

    async def _predict_one(self, body: bytes, request_id: str, _headers: Sequence[Header]) -> Answer:
        start = perf_counter_ns()
        values, more = self._values(body)
        return await self._with_more(values, request_id, start, more or More(None, shows=False))

    async def _predict_simple(
        self, pairs: Sequence[tuple[str, str]], request_id: str, _headers: Sequence[Header]
    ) -> Answer:
        start = perf_counter_ns()
        return await self._with_more(self.record.from_text(pairs), request_id, start, self._more(None, None))

    async def _with_more(self, values: Sequence[Any], request_id: str, start: int, more: More) -> Answer:
        if more.how is not None:
            return await self._explained_answer(values, request_id, start, more.how, more.shows)
        return await self._scored(values, request_id, start, more.shows)

    async def _predict_many(self, body: bytes, request_id: str, _headers: Sequence[Header]) -> Answer:
        return await self._many_answered(self._many_of(body), request_id)

    async def _many_scored(self, rows: Sequence[Sequence[Any]]) -> list[bytes]:
        """The results of rows."""
        answers: list[Scored | RequestError] = []
        for answer in await self._score_all(rows):
            if isinstance(answer, BaseException) and not isinstance(answer, RequestError):
                raise answer
            answers.append(answer)
        return self._results(rows, answers)

    async def scores(self, rows: Sequence[Sequence[Any]]) -> list[Scored]:
        """What the model says of rows. RequestError when it says nothing of one."""
        said: list[Scored] = []
        for answer in await self._score_all(rows):
            if isinstance(answer, BaseException):
                raise answer
            said.append(answer)
        return checked(said)

    async def _scored(self, values: Sequence[Any], request_id: str, start: int, shows: bool) -> Answer:
        read = perf_counter_ns()
        told: list[Told] | None = [] if self._tells else None
        try:
            row = self._completed(values, told)
        except Ignored as ignored:
            return Answer(self._without(ignored, request_id))
        enriched, context = perf_counter_ns(), self._context
        said = await self._score(row)
        answer, label = said
        result = with_keys(self._result(answer, row, label), said)
        if shows:
            result = f"{result[:-1]}{self._shows.text(row)}}}"
        return Answer(self._with(result, told, request_id, (start, read, enriched), context), rows=row)

    # ── rows together ────────────────────────────────────────────────────────────────────────────────────

    async def _score_all(self, rows: Sequence[Sequence[Any]]) -> list[Scored | BaseException]:
        """What is said of each of many rows, no more of which wait at a time than there may."""
        found: list[Scored | BaseException] = []
        together = MOST_ROWS * self._most_calls
        for first in range(0, len(rows), together):
            some = map(self._score, rows[first : first + together])
            found += await asyncio.gather(*some, return_exceptions=True)
        return found

    async def _score(self, row: Sequence[Any]) -> Scored:
        most = (self.pool.bounds.queue + self._most_calls) * MOST_ROWS
        if len(self._rows) >= most:
            message = f"{len(self._rows)} rows wait for this endpoint already"
            raise RequestError(503, "QueueFull", message, "Try again in a moment")
        loop = asyncio.get_running_loop()
        place: asyncio.Future[Scored] = loop.create_future()
        self._rows.append((row, place))
        if len(self._calls) < self._most_calls:
            self._calls.add(loop.create_task(self._until_none_waits()))
        return await place

    async def _until_none_waits(self) -> None:
        """Have rows scored; from the step in which none waits any more, the next row begins another."""
        try:
            await self._call()
        finally:  # not by a callback: whoever got the last answer may ask again before that is called
            self._calls.discard(cast("asyncio.Task[None]", asyncio.current_task()))

    async def _call(self) -> None:
        """Have rows scored until none waits."""
        while self._rows:
            taken = [self._rows.popleft() for _ in range(min(MOST_ROWS, len(self._rows)))]
            try:
                answers = await self._asked([row for row, _ in taken])
            except RequestError as error:
                if len(taken) > 1 and error.error_type in _BY_ROWS:
                    await self._one_by_one(taken)
                else:
                    _tell(taken, error)
                continue
            except Exception as exc:  # noqa: BLE001  whatever it is: nobody may be left waiting
                traceback.print_exc()
                message = f"the rows could not be scored: {type(exc).__name__}"
                _tell(taken, RequestError(500, "EvaluationFailed", message, "The service's log says where"))
                continue
            for (_, place), answer in zip(taken, answers, strict=True):
                if not place.done():
                    place.set_result(answer)

    async def _one_by_one(self, taken: Sequence[tuple[Sequence[Any], asyncio.Future[Scored]]]) -> None:
        """A row the model cannot bear fails nobody else's, unless that takes all too long."""
        late = 0
        for number, (row, place) in enumerate(taken):
            try:
                (answer,) = await self._asked([row])
            except RequestError as error:
                _tell([(row, place)], error)
                late += error.error_type == "TookTooLong"
                if late == MOST_LATE:
                    _tell(taken[number + 1 :], error)
                    return
            else:
                if not place.done():
                    place.set_result(answer)

    async def _asked(self, rows: Sequence[Sequence[Any]]) -> list[Scored]:
        reply = await self.pool.ask(msgspec.msgpack.encode(rows), again=True)
        try:
            given = msgspec.msgpack.decode(reply, type=_Given)
        except msgspec.MsgspecError as exc:
            given = _Given(message=f"what the model gave is not understood: {exc}")
        if not given.message and len(given.scored) != len(rows):
            given.message = f"the model gave {len(given.scored)} answers for {len(rows)} rows"
        if given.message:
            raise RequestError(500, given.error_type, given.message, "The service's log says where")
        return [_taken(*one) for one in given.scored]


# What may be the fault of one row.
_BY_ROWS = {"EvaluationFailed", "EndpointCrashed", "TookTooLong", "TooMuchMemory"}


def _taken(numbers: list[float], label: Any, is_known: bool, keys: dict[str, Any]) -> Scored:
    said: Scored = (numbers, label if is_known else UNSET)
    if keys:
        said = WithKeys(said)
        said.keys = keys
    return said


def _tell(taken: Sequence[tuple[Any, asyncio.Future[Scored]]], error: RequestError) -> None:
    for _, place in taken:
        if not place.done():
            place.set_exception(error)


def predict_apart(entry: PredictEntry, folder: Path) -> Callable[[bytes], bytes]:
    """The model, loaded, as a handler of rows."""
    home = folder / entry.model
    signature = read_signature((home / SIGNATURE).read_bytes())
    scorer = load_scorer(home, signature)
    decode = msgspec.msgpack.Decoder(list[tuple[tuple(row_type(f.type) for f in signature.features)]]).decode  # type: ignore[misc]

    def handle(request: bytes) -> bytes:
        try:
            plain = []
            for said in scored(scorer, signature, decode(request)):
                numbers, label = said
                keys = dict(said.keys) if isinstance(said, WithKeys) else {}
                is_known = label is not UNSET
                plain.append((list(numbers), label if is_known else None, is_known, keys))
            return msgspec.msgpack.encode(_Given(plain), enc_hook=as_plain)
        except MemoryError:
            message = "the model needs more memory than its endpoint may have"
            return msgspec.msgpack.encode(_Given(message=message, error_type="TooMuchMemory"))
        except Exception as exc:  # noqa: BLE001  whatever a model raises, or gives that nobody can send
            traceback.print_exc()
            return msgspec.msgpack.encode(_Given(message=f"the model raised {type(exc).__name__}"))

    return handle


def load_predict(entry: PredictEntry, folder: Path, trace: Trace) -> Predict:
    """The endpoint with its model and indexes opened from an unpacked package."""
    home = folder / entry.model
    try:
        signature = read_signature((home / SIGNATURE).read_bytes())
    except OSError as exc:
        raise Broken(f"the package lacks '{entry.model}/{SIGNATURE}'", hint=WHOLE_AGAIN) from exc
    if signature.conversion.form == "native":
        return PredictApart(entry, signature, folder, trace)
    return Predict(entry, signature, load_scorer(home, signature), folder, trace)
