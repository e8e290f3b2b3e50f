"""What of a request a worker hands to its query log: by route, as the service's file declares it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from tulle.serving.loaded import Loaded
from tulle.serving.log_declared import EndpointLog
from tulle.serving.log_segment import INFER
from tulle.serving.predict import Predict
from tulle.serving.predict_result import class_text
from tulle.serving.recorder import BATCH, BATCH_BYTES, Recorder, is_sampled

CALLER, WAY, HOST = b"x-tulle-client", b"x-tulle-way", b"host"  # headers that are kept


class HasNoted(Protocol):
    """A route."""

    noted: Noted | None


class Noted:
    """One route's part of the query log."""

    __slots__ = ("_is_whole", "_model", "_number", "_pending", "_plan", "_recorder", "_sample")

    def __init__(self, recorder: Recorder, number: int, plan: EndpointLog, model: Predict | None) -> None:
        self._recorder = recorder
        self._pending = recorder.pending
        self._number = number
        self._plan = plan
        self._sample = plan.sample
        self._is_whole = plan.features and plan.answers and plan.sample >= 1.0
        self._model = model if plan.features else None  # whose features are kept

    def note_answered(
        self,
        start: int,
        spent: int,
        request_id: str,
        caller: bytes | None,
        way: bytes | None,
        host: bytes | None,
        content: Any,
        answer: bytes,
    ) -> None:
        """Hand over one request that was answered in the same call, nobody else's since; as `note`.

        Each of these lines is a part of what a prediction costs.
        """
        rows = self._model.seen if self._model is not None else None
        if not self._is_whole or len(answer) + len(content) > BATCH_BYTES:
            self.note(start, spent, request_id, 200, caller, way, host, content, answer, rows)
            return
        pending, began = self._pending, start + self._recorder.offset
        pending.append(
            (self._number, began, spent, request_id, 200, caller, host, content, answer, rows, way)
        )
        if len(pending) >= BATCH:
            self._recorder.settle()

    def note(
        self,
        start: int,
        spent: int,
        request_id: str,
        status: int,
        caller: bytes | None,
        way: bytes | None,
        host: bytes | None,
        content: Any,
        answer: bytes,
        rows: Any,
    ) -> None:
        """Hand over one request; times in nanoseconds of `perf_counter_ns`."""
        if self._sample < 1.0 and not is_sampled(request_id, self._sample):
            return
        plan = self._plan
        if not plan.features:
            content = rows = None
        # Of a refusal the kind is told in any case: nothing else of its body is kept.
        kept = answer if plan.answers or status != 200 else None
        who = caller, way, host
        self._recorder.note(self._number, start, spent, request_id, status, *who, content, kept, rows)


def note_routes(recorder: Recorder, service: Loaded, home: str, routes: Mapping[str, HasNoted]) -> None:
    """Have the routes of the endpoints noted, those that are not switched off."""
    log = service.manifest.query_log()
    for name, endpoint in service.endpoints.items():
        plan = log.of(name)
        if plan.sample <= 0:
            continue
        inner = getattr(endpoint, "inner", endpoint)
        model = inner if isinstance(inner, Predict) else None
        features = model.signature.feature_names if model is not None else ()
        classes = [class_text(value) for value in model.signature.classes] if model is not None else ()
        addresses = {action: f"{home}/{name}/{action}" for action in (*endpoint.actions, *endpoint.queries)}
        noted = [(action, path) for action, path in addresses.items() if path in routes]
        infer = f"{home}/v2/models/{name}"
        noted += [
            (INFER, path) for path in routes if path.startswith(infer + "/") and path.endswith("/infer")
        ]
        for action, path in noted:
            number = recorder.route(name, endpoint.kind, action, features, classes)
            routes[path].noted = Noted(recorder, number, plan, model)
