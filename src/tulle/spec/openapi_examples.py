"""The answers that an OpenAPI document gives as examples, and such as its schemas stand for where it gives none.

Pure: a document in, answers out, in the order of the document. What is nested too deeply or refers to itself is cut.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from tulle.spec.openapi_document import METHODS, resolved

MOST_ANSWERS: Final = 10  # of one operation
_MOST_FOUND: Final = 100  # of one operation, among which the first are those of success
MADE: Final = ""  # the name of an answer that nobody wrote
_DEEPEST: Final = 6
_MOST_MEMBERS: Final = 40
_MOST_MADE: Final = 2000  # values of one answer: schemas that refer to themselves stand for endlessly many
_USUAL_STATUS: Final = 200
_TEXTS: Final[Mapping[str, str]] = {
    "date": "2026-01-31",
    "date-time": "2026-01-31T12:00:00Z",
    "time": "12:00:00Z",
    "email": "somebody@example.com",
    "uuid": "00000000-0000-4000-8000-000000000000",
    "uri": "https://example.com/",
    "hostname": "example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
}

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ExampleAnswer:
    """One answer to one operation: `name` is that of the example, `MADE` where a schema stands for it.

    `media` is its content type, empty where it has no body.
    """

    method: str
    path: str
    status: int
    name: str
    media: str
    body: str


def example_answers(document: Json) -> Iterator[ExampleAnswer]:
    """Every answer of every operation; of each the first is the one it usually gives, a 2xx where there is one."""
    for path, item in _mapping(document.get("paths")).items():
        for method in METHODS:
            one = _mapping(item).get(method)
            if path.startswith("/") and isinstance(one, Mapping):
                yield from _of_operation(document, method.upper(), path, one)


def _of_operation(document: Json, method: str, path: str, operation: Json) -> Iterator[ExampleAnswer]:
    found: list[ExampleAnswer] = []
    for said, value in _mapping(operation.get("responses")).items():
        status = _status(str(said))
        if len(found) > _MOST_FOUND:
            break
        for name, media, body in islice(_of_answer(document, resolved(document, value)), MOST_ANSWERS):
            found.append(ExampleAnswer(method, path, status, name, media, body))
    if not found:
        found.append(ExampleAnswer(method, path, _USUAL_STATUS, MADE, "", ""))
    found.sort(key=lambda one: not 200 <= one.status < 300)  # stable: else as they are written
    yield from found[:MOST_ANSWERS]


def _status(said: str) -> int:
    """A status as a document writes it; `4XX` and `default` stand for many."""
    if said.isdecimal() and 200 <= int(said) <= 599:
        return int(said)
    return int(said[0]) * 100 if said[:1] in "2345" and said[1:].upper() == "XX" else _USUAL_STATUS


def _of_answer(document: Json, answer: Json) -> Iterator[tuple[str, str, str]]:
    """Name, content type and body of each example of one answer."""
    content = _mapping(answer.get("content"))
    if not content:
        yield MADE, "", ""
        return
    media = next((one for one in content if "json" in one), next(iter(content)))
    one = _mapping(content[media])
    is_json = "json" in media or "*" in media
    shown = "application/json" if "*" in media else media
    written = list(_written(document, one))
    if written:
        for name, value in written:
            yield name, shown, _as_body(value, is_json=is_json)
        return
    made = made_of(document, one.get("schema")) if is_json else ""
    yield MADE, shown, _as_body(made, is_json=is_json)


def _written(document: Json, content: Json) -> Iterator[tuple[str, Any]]:
    if "example" in content:
        yield "example", content["example"]
    for name, item in _mapping(content.get("examples")).items():
        found = resolved(document, item)
        if "value" in found:
            yield str(name), found["value"]


def _as_body(value: Any, *, is_json: bool) -> str:
    if not is_json and isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def made_of(document: Json, schema: Any) -> Any:
    """A value that a schema stands for: its example, default or first choice, else the plainest of its type."""
    return _Made(document).of(schema, 0)


class _Made:
    """One value under way; what goes beyond the bound is nothing."""

    def __init__(self, document: Json) -> None:
        self._document = document
        self._left = _MOST_MADE

    def of(self, schema: Any, depth: int) -> Any:
        self._left -= 1
        found = resolved(self._document, schema) if self._left >= 0 else {}
        for word in ("example", "const", "default"):
            if word in found:
                return found[word]
        for word in ("examples", "enum"):
            if isinstance(found.get(word), list) and found[word]:
                return found[word][0]
        if depth > _DEEPEST or self._left < 0:
            return None
        if parts := found.get("allOf"):
            return self._joined(found, parts, depth)
        for word in ("oneOf", "anyOf"):
            if isinstance(found.get(word), list) and found[word]:
                return self.of(found[word][0], depth + 1)
        return self._of_type(found, depth)

    def _joined(self, schema: Json, parts: Any, depth: int) -> Any:
        whole: dict[str, Any] = {}
        for part in parts[:_MOST_MEMBERS] if isinstance(parts, list) else ():
            value = self.of(part, depth + 1)
            if not isinstance(value, dict):
                return value
            whole |= value
        return whole | self._members(schema, depth)

    def _of_type(self, schema: Json, depth: int) -> Any:
        said = schema.get("type")
        kind = next((one for one in said if one != "null"), "null") if isinstance(said, list) else said
        if kind == "object" or (kind is None and "properties" in schema):
            return self._members(schema, depth)
        if kind == "array":
            return [self.of(schema["items"], depth + 1)] if "items" in schema else []
        if kind in {"integer", "number"}:
            least = schema.get("minimum", 0)
            return least if isinstance(least, int | float) else 0
        plain: Mapping[Any, Any] = {
            "string": _TEXTS.get(str(schema.get("format")), "text"),
            "boolean": True,
        }
        return plain.get(kind)

    def _members(self, schema: Json, depth: int) -> dict[str, Any]:
        said = islice(_mapping(schema.get("properties")).items(), _MOST_MEMBERS)
        return {str(name): self.of(value, depth + 1) for name, value in said if self._left > 0}


def _mapping(value: Any) -> Json:
    return value if isinstance(value, Mapping) else {}
