"""Calling another endpoint of the same service from a composition, in place: as a request would, without the way.

Knows the bodies and answers of the kinds of endpoint, and nothing of what they do.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from tulle.serving.asked import Asked
from tulle.serving.endpoint import Action, Answer, Direct, Endpoint, Given, Headed
from tulle.serving.index import READ_ERRORS
from tulle.serving.request import UNWRITABLE, RequestError

Ask = Callable[[bytes, Asked], Any]  # the value of the answer, or a coroutine that gives it
Plain = Callable[[bytes, str], Given]
DEPTH = "tulle-depth"  # a request header: how many services have called one another until here
# All that is told of a request where the answer is kept for others: what does not depend on who asks.
_FOR_ALL = frozenset({DEPTH.encode(), b"traceparent", b"tracestate"})
_log = logging.getLogger("tulle.serving")
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode
# Query endpoints answer values as text where their usual action is asked; steps want them typed.
_ACTIONS = {"query": "rows"}
_WRAPPED = {
    "predict": "features",
    "lookup": "data",
}  # a forecast is sent its whole body, and gives all its items


class _Predicted(msgspec.Struct, gc=False):
    result: Any


class _Row(msgspec.Struct, gc=False):
    data: Any = None
    rows: Any | UnsetType = UNSET
    status: Any | UnsetType = UNSET
    eventTime: Any | UnsetType = UNSET  # noqa: N815  as it is sent
    found: Any | UnsetType = UNSET
    lookups: Any | UnsetType = UNSET


class _Found(msgspec.Struct, gc=False):
    results: tuple[_Row]


class _Queried(msgspec.Struct, gc=False):
    columns: list[dict[str, Any]]
    rows: list[list[Any]]


class _Forecast(msgspec.Struct, gc=False):
    results: list[Any]


class _Returned(msgspec.Struct, gc=False):
    response: Any


_predicted = msgspec.json.Decoder(_Predicted).decode
_found = msgspec.json.Decoder(_Found).decode
_queried = msgspec.json.Decoder(_Queried).decode
_forecast = msgspec.json.Decoder(_Forecast).decode
_returned = msgspec.json.Decoder(_Returned).decode


def _row(answer: bytes) -> Any:
    (row,) = _found(answer).results
    has_rows = row.rows is not UNSET
    if not has_rows and row.lookups is not UNSET:  # of several data sets, with the rows of each
        has_rows = any("rows" in one for one in row.lookups)
    return msgspec.to_builtins(row) if has_rows else row.data


def _objects(answer: bytes) -> Any:
    read = _queried(answer)
    names = [column["name"] for column in read.columns]
    return [dict(zip(names, row, strict=True)) for row in read.rows]


_READ: dict[str, Callable[[bytes], Any]] = {
    "predict": lambda answer: _predicted(answer).result,
    "lookup": _row,
    "forecast": lambda answer: _forecast(answer).results,
    "query": _objects,
    "function": lambda answer: _returned(answer).response,
    "compose": lambda answer: _returned(answer).response,
}


def action_of(kind: str, main: str) -> str:
    """The action of an endpoint that steps call."""
    return _ACTIONS.get(kind, main)


def request_of(kind: str, sent: Any) -> Any:
    """The body of a request with these values."""
    word = _WRAPPED.get(kind)
    return {word: sent} if word else sent


def _not_json(exc: Exception) -> RequestError:
    return RequestError(422, "NotJson", f"what is sent cannot be written as JSON: {exc}")


def main_part(kind: str, answer: bytes) -> Any:
    """What later steps see of an answer. RequestError where it is no JSON of that form."""
    try:
        return _READ[kind](answer)
    except (msgspec.DecodeError, UnicodeDecodeError, ValueError):
        raise RequestError(502, "NotJson", "the answer is not in the form that steps can read") from None


class InnerCall:
    """An endpoint of this service as a step calls it."""

    may_repeat = True

    def __init__(self, endpoint: Endpoint, *, for_all: bool = False) -> None:
        """`for_all`: answers are kept, so that nothing of a request but what is sent may have a part in them."""
        self.name = endpoint.name
        self._for_all = for_all
        self._endpoint = endpoint
        self._kind = endpoint.kind
        action: Action = endpoint.actions[action_of(endpoint.kind, endpoint.main)]
        word = _WRAPPED.get(endpoint.kind)
        self._before, self._after = (f'{{"{word}":'.encode(), b"}") if word else (b"", b"")
        self.waits = isinstance(action, Headed)
        direct: Direct | None = getattr(endpoint, "direct", None)
        self.ask = self._headed(action) if isinstance(action, Headed) else self._plain(action, direct)

    def content(self, sent: Any) -> bytes:
        """The body."""
        try:
            return self._before + _encode(sent) + self._after
        except UNWRITABLE as exc:
            raise _not_json(exc) from None

    def key(self, content: bytes) -> bytes:
        """What was answered from another commit is not taken again."""
        return content + repr(self._endpoint.commits).encode()

    def _headed(self, action: Headed) -> Ask:
        if not self._for_all:
            return lambda content, asked: self._later(action.call(content, asked.id, asked.headers), asked)

        def ask(content: bytes, asked: Asked) -> Any:
            headers = [header for header in asked.headers if header[0] in _FOR_ALL]
            return self._later(action.call(content, asked.id, headers), asked)

        return ask

    def _plain(self, action: Plain, direct: Direct | None) -> Ask:
        read, later = _READ[self._kind], self._later

        def ask(content: bytes, asked: Asked) -> Any:
            try:
                if direct is not None and (part := direct(content)) is not None:
                    return _decode(part)
                given = action(content, asked.id)
                return read(given) if type(given) is bytes else later(given, asked)  # type: ignore[arg-type]
            except (RequestError, *READ_ERRORS):  # the worker itself knows what to do about a damaged index
                raise
            except Exception as exc:
                _log.exception("request %s failed", asked.id)
                raise RequestError(500, "EvaluationFailed", "the endpoint failed on this request") from exc

        return ask

    async def _later(self, waited: Awaitable[Answer], asked: Asked) -> Any:
        return main_part(self._kind, asked.receive((await waited).body))

    def may_retry(self, error: RequestError) -> bool:
        """Not where the caller is to blame."""
        return error.status >= 500
