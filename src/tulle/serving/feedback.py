"""What callers tell of answers they got: which request it was, and what turned out to be true.

    POST …/{service}/feedback   {"requestId": "…", "outcome": 1}   or   {"items": [{…}, …]}

It is on the disk before it is answered. Whether the request is known is found when it is collected: whoever tells
something cannot learn of requests that are not theirs.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from tulle.serving.endpoint import Answer, Headed, Header, is_safe_id
from tulle.serving.log_segment import Told
from tulle.serving.recorder import Recorder
from tulle.serving.request import RequestError, parse_json, shown

FEEDBACK_PATH = "/feedback"
MOST_ITEMS = 10_000
MOST_BYTES = 10_000  # of one outcome
_EXAMPLE = '{"requestId": "…", "outcome": …}'

_TOLD: Mapping[str, Any] = {
    "type": "object",
    "required": ["requestId", "outcome"],
    "properties": {
        "requestId": {"type": "string", "description": "the id that the answer has"},
        "item": {
            "type": "integer",
            "minimum": 0,
            "description": "its place in a request for many (default 0)",
        },
        "outcome": {"description": "what turned out: a class, a number, or what else was asked for"},
    },
}
# The path as the API's description tells it.
FEEDBACK_API: Mapping[str, Any] = {
    FEEDBACK_PATH: {
        "post": {
            "operationId": "feedback",
            "summary": "Tell what turned out to be true of answers",
            "description": "Telling the same twice does no harm; of what is told otherwise the last counts.",
            "requestBody": {
                "required": True,
                "content": {
                    "application/json": {
                        "schema": {
                            "type": "object",
                            "required": ["items"],
                            "properties": {
                                "items": {"type": "array", "maxItems": MOST_ITEMS, "items": _TOLD}
                            },
                        },
                        "examples": {
                            "one": {
                                "value": {"items": [{"requestId": "4f6c1b6e-3d1a-4a58-a1a6", "outcome": 1}]}
                            }
                        },
                    }
                },
            },
            "responses": {
                "200": {
                    "description": "They are kept",
                    "content": {
                        "application/json": {
                            "schema": {
                                "type": "object",
                                "required": ["taken"],
                                "properties": {"taken": {"type": "integer", "description": "how many"}},
                            }
                        }
                    },
                },
                **{
                    status: {"$ref": f"#/components/responses/Error{status}"}
                    for status in ("400", "401", "403", "413", "429", "500", "503")
                },
            },
        }
    }
}


class Feedback:
    """The address at which feedback is taken."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self.headed = Headed(self._take)

    async def _take(self, content: Any, _request_id: str, headers: Sequence[Header]) -> Answer:
        said = dict(headers)
        who = said.get(b"x-tulle-client"), said.get(b"x-tulle-way")
        now = time.time_ns()
        taken = read_feedback(parse_json(content))
        last = {one[:2]: one for one in taken}  # of what is told otherwise the last counts
        told = [Told(now, *one, *who) for one in last.values()]
        if not await self._recorder.tell(told):
            message = "what was told cannot be kept just now"
            raise RequestError(503, "NotKept", message, "Send it again: telling twice does no harm")
        return Answer(msgspec.json.encode({"taken": len(taken)}))


def read_feedback(raw: Any) -> list[tuple[str, int, bytes]]:
    """Request id, item and outcome (JSON) of all that is told. RequestError naming the first that is not understood."""
    if not isinstance(raw, dict):
        raise RequestError(400, "InvalidRequest", f"the body is {shown(raw)}, expected an object")
    items = raw.get("items", [raw])
    if not isinstance(items, list):
        raise RequestError(400, "InvalidRequest", f"'items' is {shown(items)}, expected a list")
    if len(items) > MOST_ITEMS:
        message = f"{len(items):,} items are too many at once"
        raise RequestError(400, "TooManyItems", message, f"Send {MOST_ITEMS:,} at most")
    return [_one(item, number) for number, item in enumerate(items)]


def _one(item: Any, number: int) -> tuple[str, int, bytes]:
    where = f"item {number}"
    if not isinstance(item, dict):
        raise RequestError(400, "InvalidRequest", f"{where} is {shown(item)}", f"Send {_EXAMPLE}")
    if unknown := sorted(set(item) - {"requestId", "item", "outcome"}):
        raise RequestError(400, "InvalidRequest", f"{where} has the unknown '{unknown[0][:60]}'", _EXAMPLE)
    request_id, place = item.get("requestId"), item.get("item", 0)
    if not isinstance(request_id, str) or not is_safe_id(request_id):
        message = f"{where}: 'requestId' is {shown(request_id)}, expected the id that an answer has"
        raise RequestError(400, "InvalidRequest", message, f"Send {_EXAMPLE}")
    if type(place) is not int or not 0 <= place < 2**31:
        message = f"{where}: 'item' is {shown(place)}, expected its place in a request for many, from 0"
        raise RequestError(400, "InvalidRequest", message)
    if "outcome" not in item or item["outcome"] is None:
        raise RequestError(400, "InvalidRequest", f"{where}: 'outcome' is missing", f"Send {_EXAMPLE}")
    outcome = msgspec.json.encode(item["outcome"])
    if len(outcome) > MOST_BYTES:
        message = f"{where}: 'outcome' has {len(outcome):,} bytes"
        raise RequestError(400, "InvalidRequest", message, f"It may have {MOST_BYTES:,}")
    return request_id, place, outcome
