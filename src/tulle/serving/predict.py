"""Predictions: a request in, the answer out, for one or for many. The features are completed by `predict_features`,
what a result says is written by `predict_result`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter_ns
from typing import Any, Literal, NamedTuple

import msgspec
from msgspec import UNSET, UnsetType

from tulle.errors import Broken
from tulle.pipeline.model_score import Scorer
from tulle.pipeline.model_signature import Signature
from tulle.serving.bounds import Bounds
from tulle.serving.decide import Override
from tulle.serving.declared import TestQuery
from tulle.serving.endpoint import (
    MOST_ITEMS,
    Action,
    Answer,
    Direct,
    Dispatch,
    Query,
    Trace,
    check_generation,
    envelope,
    error_item,
    items_of,
)
from tulle.serving.explain import BACKGROUND, Asked, Explainer
from tulle.serving.explaining import Explaining
from tulle.serving.finder import FinderEntry, Ignored
from tulle.serving.keyed_rows import CONNECTION
from tulle.serving.manifest import WHOLE_AGAIN
from tulle.serving.predict_features import Features, Told, row_type, told_text
from tulle.serving.predict_result import EFFECT, Results, with_keys
from tulle.serving.predict_rows import AT_ONCE, RowScorer, is_of_values, parts, unanswered
from tulle.serving.request import DECODE_ERRORS, RequestError, parse_json, require, shown
from tulle.serving.score import Scored
from tulle.serving.shown_features import ASKED_FOR, ShownFeatures, Shows

_LOOKED_UP = 1000  # items whose features are completed without letting others in
_MOST_EXPLAINED = 50_000  # rows times steps of one request


@dataclass(frozen=True, slots=True)
class PredictEntry:
    """What a package's manifest says of a prediction endpoint."""

    name: str
    model: str  # the folder in the package
    commits: Mapping[str, str]
    enrich: tuple[FinderEntry, ...] = ()
    description: str = ""
    bounds: Bounds = Bounds()  # of the processes of a model that is not converted
    explaining: Explaining | None = None  # None: it cannot
    threshold: float | None = None  # of the second of two classes' probability; None: the more probable one
    overrides: tuple[Override, ...] = ()
    shown: ShownFeatures | None = None  # features that answers tell; None: none
    type: Literal["predict"] = "predict"
    test_queries: tuple[TestQuery, ...] = ()
    probe: Mapping[str, Any] = field(default_factory=dict)  # a body that is answered, to see whether it is


class More(NamedTuple):
    """What is wanted beside a prediction: an explanation, and features as the model was given them."""

    how: Explaining | None
    shows: bool


@dataclass(slots=True)
class Many:
    """A request for many on its way: results by place, and the rows that are to be scored with theirs."""

    start: int
    items: Sequence[Any]
    results: list[bytes] = field(default_factory=list)
    rows: list[list[Any]] = field(default_factory=list)
    places: list[int] = field(default_factory=list)
    tails: list[str] = field(default_factory=list)
    enriched: int = 0
    how: Explaining | None = None  # they are to be explained
    shows: bool = False  # their features are told
    context: str = ""  # of which commits they are; the next request may be of others
    commits: Mapping[str, str] | None = None  # these, where they are others than when it was asked


class Predict:
    """A prediction endpoint."""

    kind = main = "predict"

    def __init__(
        self, entry: PredictEntry, signature: Signature, scorer: Scorer | None, folder: Path, trace: Trace
    ) -> None:
        """`scorer` is None where another process has the model: see `predict_apart`."""
        self._explaining = entry.explaining
        self._explainer = _explainer(entry, signature, folder)
        self.name = entry.name
        self.seen: Any = None  # what the answer given last was made of, for the query log; as `Answer.rows`
        self.signature = signature
        self._row_scorer = None if scorer is None else RowScorer(entry.name, scorer, signature)
        self._single = _single_of(scorer, signature)
        self._generation = trace.generation
        self._inputs = Features(signature, entry.enrich, folder)
        self._completed, self._tells = self._inputs.completed, self._inputs.tells
        self.keys_of, self.finders = self._inputs.keys_of, self._inputs.finders
        self.record = self._inputs.record
        # Rows of a database are there for one step of the loop (`elsewhere`).
        self._is_one_step = any(finder.entry.source == CONNECTION for finder in self.finders)
        results = Results(signature, scorer, entry.threshold, entry.overrides)
        self._result, self.label_of = results.of, results.label_of
        self._shows = Shows(entry.shown, signature.feature_names)
        usual = entry.explaining is None or not entry.explaining.enabled
        self._is_plain = usual and not self._shows.always  # who asks for nothing gets the prediction alone
        self._trace = trace
        self.renew(entry.commits)
        body = msgspec.defstruct(
            "PredictBody",
            [
                ("features", self.record.struct | UnsetType, UNSET),
                ("explanations", Asked | None, None),
                ("dispatch", Dispatch | None, None),
                (ASKED_FOR, bool | None, None),
            ],
            gc=False,
        )
        self._envelope = msgspec.defstruct(
            "PredictEnvelope",
            [
                ("explanations", Asked | None, None),
                ("dispatch", Dispatch | None, None),
                (ASKED_FOR, bool | None, None),
            ],
        )
        self._decode = msgspec.json.Decoder(body).decode

    def renew(self, commits: Mapping[str, str]) -> None:
        """Answer from other commits, and say so, from the next request on."""
        self.commits = commits
        model = self.signature.name + "@" + self.signature.conversion.form
        self._context = self._trace.context(self.name, commits, model=model)

    @property
    def actions(self) -> Mapping[str, Action]:
        """predict, predict-multi; for a model of effects under their own names as well."""
        return with_effects({"predict": self.predict, "predict-multi": self.predict_multi}, self.signature)

    async def ready(self) -> None:
        """It is, as soon as it is loaded."""

    def close(self) -> None:
        """Score no further rows."""
        if self._row_scorer is not None:
            self._row_scorer.close()

    @property
    def queries(self) -> Mapping[str, Query]:
        """predict-simple: the features as a query string, for a browser."""
        return {"predict-simple": self.predict_simple}

    def predict(self, body: bytes, request_id: str) -> bytes | Awaitable[Answer]:
        """One prediction, {"features": {…}}; with an explanation, which takes a while, it is waited for."""
        start = perf_counter_ns()
        values, more = self._values(body)
        if more is None:
            return self._answered(values, request_id, start)
        if more.how is not None:
            return self._explained_answer(values, request_id, start, more.how, more.shows)
        return self._answered(values, request_id, start, more.shows)

    @property
    def direct(self) -> Direct | None:
        """What gives the result of one prediction alone, for who asks in this process."""
        return self._alone

    def _alone(self, body: bytes) -> bytes | None:
        values, more = self._values(body)
        if more is not None and more.how is not None:
            return None
        told: list[Told] | None = [] if self._tells else None
        try:
            row = self._completed(values, told)
        except Ignored as ignored:
            return _ignored(ignored.reason)
        result = self._result(self._said(row), row)
        if more is not None and more.shows:
            result = f"{result[:-1]}{self._shows.text(row)}}}"
        return (f"{result[:-1]}{told_text(told)}}}" if told else result).encode()

    def predict_simple(self, pairs: Sequence[tuple[str, str]], request_id: str) -> bytes | Awaitable[Answer]:
        """One prediction, ?feature=value&…"""
        start = perf_counter_ns()
        values, more = self.record.from_text(pairs), self._more(None, None)
        if more.how is not None:
            return self._explained_answer(values, request_id, start, more.how, more.shows)
        return self._answered(values, request_id, start, more.shows)

    def predict_multi(self, body: bytes, request_id: str) -> bytes | Awaitable[Answer]:
        """Many predictions, {"items": [{"features": {…}}]}; an item that fails does not fail the others."""
        many = self._many_of(body)
        if many.how is not None or len(many.items) > AT_ONCE or self._row_scorer is None:
            return self._many_answered(many, request_id)
        self._complete(many, many.items)
        self.seen = (many.places, many.rows)
        return self._joined(many, self._results(many.rows, self._row_scorer.each(many.rows)), request_id)

    def _many_of(self, body: bytes) -> Many:
        """A request for many, read: nothing of its items yet."""
        start = perf_counter_ns()
        raw = parse_json(body)
        items = items_of(raw, MOST_ITEMS)
        said = envelope(raw, ("explanations", "dispatch", ASKED_FOR), self._envelope)
        self._check(said)
        more = self._more(said.explanations, said.showFeatures)
        return Many(start, items, how=more.how, shows=more.shows)

    async def _many_answered(self, many: Many, request_id: str) -> Answer:
        """The answer to a request for many, others being answered meanwhile."""
        await self._complete_all(many)
        if many.how is not None:
            results = await self._many_explained(many, many.how)
        else:
            results = await self._many_scored(many.rows)
        body = self._joined(many, results, request_id)
        return Answer(body, commits=many.commits, rows=(many.places, many.rows))

    async def _complete_all(self, many: Many) -> None:
        """Complete the items in parts, all from the same commits: what is published meanwhile begins it anew."""
        if self._is_one_step or len(many.items) <= _LOOKED_UP:
            self._complete(many, many.items)
            return
        while (done := len(many.results)) < len(many.items):
            if done and many.context is not self._context:
                many.results, many.rows, many.places, many.tails = [], [], [], []
                many.commits, done = self.commits, 0
            self._complete(many, many.items[done : done + _LOOKED_UP])
            await asyncio.sleep(0)

    def _complete(self, many: Many, items: Sequence[Any]) -> None:
        """The next items of a request for many: rows to be scored, and results of those that cannot be."""
        for i, item in enumerate(items, len(many.results)):
            result = b""
            try:
                told: list[Told] | None = [] if self._tells else None
                row = self._completed(self._item(item), told)
                many.rows.append(row)
                many.places.append(i)
                many.tails.append(told_text(told) + (self._shows.text(row) if many.shows else ""))
            except RequestError as error:
                result = error_item(error)
            except Ignored as ignored:
                result = _ignored(ignored.reason)
            many.results.append(result)
        many.enriched, many.context = perf_counter_ns(), self._context

    async def _many_scored(self, rows: Sequence[Sequence[Any]]) -> list[bytes]:
        """The results of rows, a part of them at a time."""
        assert self._row_scorer is not None
        results: list[bytes] = []
        for part in parts(rows):
            results += self._results(part, await self._row_scorer.each_beside(part))
        return results

    def _joined(self, many: Many, scored: Sequence[bytes], request_id: str) -> bytes:
        """The answer to a request for many, from the results of its rows."""
        for i, result, tail in zip(many.places, scored, many.tails, strict=True):
            many.results[i] = result if not tail else result[:-1] + tail.encode() + b"}"
        enrich, spent = many.enriched - many.start, perf_counter_ns() - many.enriched
        timing = f'"timing":{{"enrich":{enrich // 1000},"prediction":{spent // 1000}}}'
        tail = f'],{timing},{many.context}{request_id}"}}}}'
        return b'{"results":[' + b",".join(many.results) + tail.encode()

    # ── rows for other protocols ─────────────────────────────────────────────────────────────────────────

    def completed(self, sent: Mapping[str, Any]) -> list[Any]:
        """The features of one row, looked up where they are not sent. RequestError, or Ignored."""
        return self._completed(self.record.convert(sent), None)

    async def scores(self, rows: Sequence[Sequence[Any]]) -> list[Scored]:
        """What the model says of rows. RequestError when it says nothing of one."""
        assert self._row_scorer is not None
        return await self._row_scorer.all(rows)

    # ── the request ──────────────────────────────────────────────────────────────────────────────────────

    def _values(self, body: bytes) -> tuple[Sequence[Any], More | None]:
        """The values a request for one sends, in the order of the record, and what is wanted beside the prediction."""
        request: Any
        try:
            request = self._decode(body)
            values = msgspec.structs.astuple(request.features)
        except (*DECODE_ERRORS, TypeError):  # TypeError: the features were left out
            request, values = self._explained(body)
        if request.explanations is not None or request.dispatch is not None:
            self._check(request)
        elif self._is_plain and request.showFeatures is None:
            return values, None
        return values, self._more(request.explanations, request.showFeatures)

    def _more(self, explanations: Asked | None, shows: bool | None) -> More:
        return More(self._how(explanations), self._shows.wanted(shows))

    def _how(self, asked: Asked | None) -> Explaining | None:
        """How an answer is to be explained; None: not at all."""
        usual = self._explaining
        if usual is None or (asked is None and not usual.enabled):
            return None
        how = usual if asked is None else asked.over(usual)
        return how if how.enabled else None

    def _explained(self, body: bytes) -> tuple[Any, tuple[Any, ...]]:
        """The slow path: the same request read leniently, or the error that tells all that is wrong."""
        raw = parse_json(body)
        if not isinstance(raw, dict):
            raise RequestError(400, "InvalidRequest", f"the body is {shown(raw)}, expected an object")
        request = envelope(raw, ("explanations", "dispatch", ASKED_FOR), self._envelope)
        return request, self.record.convert(require(raw, "features", self._inputs.example()))

    def _item(self, item: Any) -> tuple[Any, ...]:
        if not isinstance(item, dict):
            raise RequestError(400, "InvalidRequest", f"the item is {shown(item)}, expected an object")
        return self.record.convert(require(item, "features", self._inputs.example()))

    def _check(self, request: Any) -> None:
        wanted = request.explanations is not None and request.explanations.enabled
        if wanted and self._explaining is None:
            raise RequestError(
                501,
                "ExplanationsNotAvailable",
                "this endpoint gives no explanations",
                "Leave 'explanations' out, or declare `explanations:` for the endpoint",
            )
        check_generation(request.dispatch, self._generation)

    def _said(self, row: Sequence[Any]) -> Sequence[float]:
        try:
            return self._single(row)
        except Exception as exc:
            if is_of_values(exc):
                raise unanswered(exc) from exc
            raise

    # ── the answer ───────────────────────────────────────────────────────────────────────────────────────

    def _answered(self, values: Sequence[Any], request_id: str, start: int, shows: bool = False) -> bytes:
        read = perf_counter_ns()
        told: list[Told] | None = [] if self._tells else None
        try:
            self.seen = row = self._completed(values, told)
        except Ignored as ignored:
            self.seen = None
            return self._without(ignored, request_id)
        enriched = perf_counter_ns()
        try:
            answer = self._single(row)
        except Exception as exc:
            if is_of_values(exc):
                raise unanswered(exc) from exc
            raise
        result = self._result(answer, row)
        if shows:
            result = f"{result[:-1]}{self._shows.text(row)}}}"
        return self._with(result, told, request_id, (start, read, enriched), self._context)

    async def _explained_answer(
        self, values: Sequence[Any], request_id: str, start: int, how: Explaining, shows: bool
    ) -> Answer:
        read = perf_counter_ns()
        told: list[Told] | None = [] if self._tells else None
        try:
            row = self._completed(values, told)
        except Ignored as ignored:
            return Answer(self._without(ignored, request_id))
        enriched, context = perf_counter_ns(), self._context
        (said,) = await self.scores([row])
        result = self._result(said[0], row, said[1])
        shown = self._shows.text(row) if shows else ""
        result = f"{result[:-1]},{await self._parts(row, said, how)}{shown}}}"
        return Answer(self._with(result, told, request_id, (start, read, enriched), context), rows=row)

    async def _many_explained(self, many: Many, how: Explaining) -> list[bytes]:
        if len(many.rows) * how.steps > _MOST_EXPLAINED:
            message = f"{len(many.rows):,} rows in {how.steps} steps each are too many to explain at once"
            raise RequestError(
                400, "TooManyExplanations", message, "Send fewer items, or ask for fewer steps"
            )
        results: list[bytes] = []
        for row in many.rows:
            try:
                (said,) = await self.scores([row])
                result = self._result(said[0], row, said[1])
                results.append(f"{result[:-1]},{await self._parts(row, said, how)}}}".encode())
            except RequestError as error:
                results.append(error_item(error))
        return results

    async def _parts(self, row: Sequence[Any], said: Scored, how: Explaining) -> str:
        """The explanation of a row, as a member of its result."""
        assert self._explainer is not None
        plan = await asyncio.to_thread(self._explainer.plan, row, said, how)
        parts = await asyncio.to_thread(plan.parts, await self.scores(plan.rows))
        return f'"explanations":{msgspec.json.encode(parts).decode()}'

    def _without(self, ignored: Ignored, request_id: str) -> bytes:
        result = _ignored(ignored.reason).decode()
        return f'{{"result":{result},"timing":{{}},{self._context}{request_id}"}}}}'.encode()

    def _with(
        self,
        result: str,
        told: Sequence[Told] | None,
        request_id: str,
        times: tuple[int, int, int],
        context: str,
    ) -> bytes:
        """The answer with a result; `times`: when it was begun, read and enriched; `context` as it was then."""
        if told:
            result = f"{result[:-1]}{told_text(told)}}}"
        start, read, enriched = times
        end = perf_counter_ns()
        return (
            f'{{"result":{result},"timing":{{"preProcessing":{(read - start) // 1000},'
            f'"enrich":{(enriched - read) // 1000},"predictionPredict":{(end - enriched) // 1000}}},'
            f'{context}{request_id}"}}}}'
        ).encode()

    def _results(
        self, rows: Sequence[Sequence[Any]], answers: Sequence[Scored | RequestError]
    ) -> list[bytes]:
        results = []
        for row, said in zip(rows, answers, strict=True):
            if isinstance(said, RequestError):
                results.append(error_item(said))
                continue
            try:
                answer, label = said
                results.append(with_keys(self._result(answer, row, label), said).encode())
            except RequestError as error:
                results.append(error_item(error))
        return results


def with_effects(actions: Mapping[str, Action], signature: Signature) -> Mapping[str, Action]:
    """The actions of an endpoint, and those by which effects are asked for where the model estimates them."""
    if signature.task != EFFECT:
        return actions
    return {
        **actions,
        **{name.replace("predict", "predict-effect"): action for name, action in actions.items()},
    }


def _explainer(entry: PredictEntry, signature: Signature, folder: Path) -> Explainer | None:
    """What explains, from the usual values in the package; None where the endpoint does not."""
    if entry.explaining is None:
        return None
    try:
        columns = msgspec.json.decode((folder / entry.model / BACKGROUND).read_bytes(), type=list[list[Any]])
    except (OSError, msgspec.MsgspecError) as exc:
        raise Broken(f"the package lacks '{entry.model}/{BACKGROUND}'", hint=WHOLE_AGAIN) from exc
    features = zip(columns, signature.features, strict=True)
    return Explainer(signature, [msgspec.convert(c, list[row_type(f.type)]) for c, f in features])  # type: ignore[misc]


def _single_of(scorer: Scorer | None, signature: Signature) -> Callable[[Sequence[Any]], Sequence[float]]:
    """What gives the probabilities of one row; nothing is known before its class where a model has none."""
    has_numbers = signature.has_probabilities or signature.has_distances
    if scorer is None or ((signature.classes or signature.clusters) and not has_numbers):
        return lambda _row: [0.0]
    return scorer.single


def _ignored(reason: str) -> bytes:
    return msgspec.json.encode({"ignored": True, "ignoreReason": reason})
