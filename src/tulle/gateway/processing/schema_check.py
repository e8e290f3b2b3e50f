"""Schema validation: requests, and if wanted answers, are what the API's OpenAPI document says; else refused, or told.

Told in the log means: what does not fit passes, one line a second at most says so. Knows nothing of how a document is
read.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import unquote

from tulle.errors import Invalid
from tulle.gateway.processing.exchange import Answer, Call, Refusal
from tulle.gateway.processing.json_text import are_several, is_json, name_twice, other_charset
from tulle.gateway.processing.openapi_checks import Check, Operation, Operations
from tulle.gateway.processing.step import Step

_log = logging.getLogger("tulle.processing")
_LOG_SECONDS: Final = 1.0
_WITHOUT_BODY: Final = frozenset({"GET", "HEAD", "DELETE", "OPTIONS"})


class SchemaCheck(Step):
    """The document of one API."""

    def __init__(
        self,
        operations: Operations,
        bases: Sequence[str],
        *,
        blocks: bool,
        strict: bool,
        answers: bool,
        most: int,
        about: str,
    ) -> None:
        self._operations = operations
        self._bases = bases
        self._blocks = blocks
        self._strict = strict
        self._about = about
        self._most = most
        self._logged_at = -_LOG_SECONDS
        self.sees_answers = answers
        self.violations = 0

    def request(self, call: Call) -> None:
        if call.method == "OPTIONS":  # asked by browsers before they call, and no operation's
            return
        found = self._find(call)
        if found is None:
            path = call.path.decode("latin-1")[:200]
            known = any(self._operations.knows(one) for one in self._within(path))
            self._violated(
                Refusal(
                    405 if known else 404,
                    "UnknownOperation",
                    f"{call.method} is no operation of this API at this path",
                    "Its OpenAPI document tells which there are",
                )
            )
            return
        operation, values = found
        if self.sees_answers:
            call.notes[self.number] = operation
        problems = self._parameters(call, operation, values)
        try:
            problems += _body(call, operation)
        except Refusal as refusal:
            self._violated(refusal)
            return
        if problems:
            self._violated(
                Refusal(
                    400,
                    "SchemaViolation",
                    "The request is not what this API's OpenAPI document asks for",
                    "; ".join(problems[:5]),
                )
            )

    def head(self, call: Call, answer: Answer) -> bool:
        return self.number in call.notes and not answer.is_ours and answer.status not in {204, 304}

    def body(self, call: Call, answer: Answer) -> None:
        operation: Operation = call.notes[self.number]
        said = operation.answer(answer.status)
        problems = []
        if said is None:
            problems = [f"status {answer.status} is not in the document"]
        elif said.checks and (answer.body or answer.content_type):
            accepted, check = said.check_of(answer.content_type)
            if not accepted:
                problems = [f"the type '{answer.content_type[:60]}' is not in the document"]
            elif check is not None and is_json(answer.content_type):
                try:
                    answer.unpack(self._most)
                    problems = [] if call.method == "HEAD" else _in_answer(check, answer)
                except ValueError as exc:
                    problems = [str(exc)]
        if problems:
            self._violated(
                Refusal(
                    502,
                    "AnswerViolatesSchema",
                    "The service's answer is not what its OpenAPI document says",
                    "; ".join(problems[:5]),
                )
            )

    # ── parts of a request ───────────────────────────────────────────────────────────────────────────────

    def _within(self, path: str) -> list[str]:
        """What a path may be in the document: below the API's address, or with all of it."""
        below = [path[len(base) :] or "/" for base in self._bases if (path + "/").startswith(base + "/")]
        return [*below, path]

    def _find(self, call: Call) -> tuple[Operation, Sequence[str]] | None:
        paths = self._within(call.path.decode("latin-1"))
        for method in ("HEAD", "GET") if call.method == "HEAD" else (call.method,):
            for path in paths:
                if (found := self._operations.find(method, path)) is not None:
                    return found
        return None

    def _parameters(self, call: Call, operation: Operation, values: Sequence[str]) -> list[str]:
        query: dict[str, list[str]] = {}
        for name, value in call.query:
            query.setdefault(name, []).append(value)
        in_path = {name: [unquote(v)] for name, v in zip(operation.path_names, values, strict=True)}
        problems = []
        for parameter in operation.parameters:
            match parameter.place:
                case "query":
                    texts = query.get(parameter.name, [])
                case "path":
                    texts = in_path.get(parameter.name, [])
                case "header":
                    texts = [one.decode("latin-1") for one in call.all_of(parameter.name.encode())]
                case _:
                    texts = _cookies(call, parameter.name)
            if texts:
                problems += parameter.problems(texts)
            elif parameter.is_required:
                problems.append(f"{parameter.place} parameter '{parameter.name}' is missing")
        if self._strict:
            known = {one.name for one in operation.parameters if one.place == "query"}
            problems += [f"query parameter '{name[:60]}' is not known" for name in query if name not in known]
        return problems

    def _violated(self, refusal: Refusal) -> None:
        self.violations += 1
        if self._blocks:
            raise refusal
        if time.monotonic() >= self._logged_at + _LOG_SECONDS:
            self._logged_at = time.monotonic()
            _log.warning(
                "%s: %s: %s (%d so far)", self._about, refusal.error_type, refusal.detail, self.violations
            )


def _body(call: Call, operation: Operation) -> list[str]:
    said = operation.body
    if said is None:
        return [] if not call.body or call.method in _WITHOUT_BODY else ["a body is not expected"]
    if not call.body:
        return ["the body is missing"] if said.needed else []
    kind = call.content_type
    if are_several(call.header(b"content-type")):
        raise Refusal(
            415, "UnsupportedContent", "A body of several types is not accepted here", "Send one content-type"
        )
    # Clients of prediction services send JSON without saying so.
    accepted, check = said.check_of(kind or "application/json")
    if not accepted:
        raise Refusal(
            415,
            "UnsupportedContent",
            f"A body of type '{kind[:60]}' is not accepted here",
            "Accepted: " + ", ".join(said.checks),
        )
    if check is None or not (not kind or is_json(kind)):
        return []
    value = call.json()
    if (name := call.name_twice()) is not None:
        return [f"body: {_twice(name)}"]
    return [f"body: {told}" for told in check.problems(value)]


def _in_answer(check: Check, answer: Answer) -> list[str]:
    """What is wrong with the body of an answer; ValueError when it cannot be read."""
    import msgspec  # noqa: PLC0415  beside `Answer.json`, which keeps numbers as they are written

    if (charset := other_charset(answer.header(b"content-type"))) is not None:
        return [f"the charset '{charset}' is none of JSON"]
    try:
        value = msgspec.json.decode(answer.body)
        name = name_twice(answer.body, value)
    except (msgspec.MsgspecError, RecursionError) as exc:
        raise ValueError(f"the body is not read as JSON: {exc}") from None
    return check.problems(value) if name is None else [_twice(name)]


def _twice(name: str) -> str:
    return f"an object has the name '{name[:60]}' twice"


def _cookies(call: Call, name: str) -> list[str]:
    pairs = (
        part.strip().partition("=")
        for one in call.all_of(b"cookie")
        for part in one.decode("latin-1").split(";")
    )
    return [value for known, _, value in pairs if known == name]


def schema_check(settings: Mapping[str, Any], bases: Sequence[str], about: str, most: int) -> SchemaCheck:
    """The step of a policy's settings; `bases` are the paths its API is below. Invalid when they cannot be meant."""
    document = settings.get("document")
    if not isinstance(document, Mapping):
        raise Invalid(
            f"schema-validation of {about}: there is no OpenAPI document",
            hint="give 'document', or publish one",
        )
    on_violation = settings.get("on_violation", "block")
    if on_violation not in {"block", "report"}:
        raise Invalid(f"schema-validation: 'on_violation' is {on_violation!r}, expected block or report")
    return SchemaCheck(
        Operations(document),
        [base.rstrip("/") for base in bases],
        blocks=on_violation == "block",
        strict=bool(settings.get("strict_parameters", False)),
        answers=bool(settings.get("answers", False)),
        most=most,
        about=about,
    )
