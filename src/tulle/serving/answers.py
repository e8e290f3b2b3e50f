"""Answers compared: with what a test query expects, and those of two generations to the same questions. Pure.

What an answer is about is compared, not what it tells of itself: timings, generation, commits, request ids.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

MOST_DIFFERENCES = 20  # told of one question
_OF_ITSELF = frozenset({"timing", "apiContext", "steps", "requestId"})


@dataclass(frozen=True, slots=True)
class Question:
    """Something to ask an endpoint."""

    endpoint: str
    name: str
    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Difference:
    """One place where answers differ; what is not there is None, and `missing` says in which."""

    path: str
    left: Any
    right: Any
    missing: str = ""  # left | right


@dataclass(frozen=True, slots=True)
class Compared:
    """One question and what two generations answered."""

    endpoint: str
    name: str
    body: Mapping[str, Any]
    statuses: tuple[int, int]
    differences: tuple[Difference, ...]
    milliseconds: tuple[float, float]

    @property
    def is_equal(self) -> bool:
        """Whether both answers are about the same."""
        return not self.differences


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two generations of a service on the same questions."""

    service: str
    left: str
    right: str
    questions: tuple[Compared, ...]

    @property
    def equal(self) -> int:
        """How many questions were answered alike."""
        return sum(one.is_equal for one in self.questions)

    @property
    def medians(self) -> tuple[float, float]:
        """The median milliseconds of each; 0 without a question."""
        left, right = (
            zip(*[one.milliseconds for one in self.questions], strict=True) if self.questions else ((), ())
        )
        return (round(median(left), 3), round(median(right), 3)) if self.questions else (0.0, 0.0)


def compared(
    question: Question,
    left: tuple[int, Any, float],
    right: tuple[int, Any, float],
    tolerance: float,
) -> Compared:
    """One question compared; each answer is status, body and milliseconds."""
    found: list[Difference] = []
    if left[0] != right[0]:
        found.append(Difference("status", left[0], right[0]))
    for one in differences(_about(left[1]), _about(right[1]), tolerance):
        found.append(one)
        if len(found) == MOST_DIFFERENCES:
            break
    return Compared(
        question.endpoint,
        question.name,
        question.body,
        (left[0], right[0]),
        tuple(found),
        (left[2], right[2]),
    )


def differences(left: Any, right: Any, tolerance: float, path: str = "") -> Iterator[Difference]:
    """Where two values differ; numbers may be apart by `tolerance`, of their size or absolute."""
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        for name in dict.fromkeys([*left, *right]):
            where = f"{path}.{name}" if path else str(name)
            if name not in left or name not in right:
                missing = "left" if name not in left else "right"
                yield Difference(where, left.get(name), right.get(name), missing)
            else:
                yield from differences(left[name], right[name], tolerance, where)
    elif isinstance(left, list) and isinstance(right, list) and len(left) == len(right):
        for number, (one, other) in enumerate(zip(left, right, strict=True)):
            yield from differences(one, other, tolerance, f"{path}.{number}" if path else str(number))
    elif not same(left, right, tolerance):
        yield Difference(path, left, right)


def same(left: Any, right: Any, tolerance: float) -> bool:
    """Whether two plain values are the same; true is not 1."""
    if isinstance(left, float | int) and isinstance(right, float | int):
        return isinstance(left, bool) == isinstance(right, bool) and math.isclose(
            left, right, rel_tol=tolerance, abs_tol=tolerance
        )
    return type(left) is type(right) and bool(left == right)


def unlike(expected: Any, found: Any, tolerance: float, path: str = "") -> str:
    """The first member of `expected` that `found` does not have, in words; further members of `found` do not matter."""
    if isinstance(expected, Mapping) and isinstance(found, Mapping):
        for name, value in expected.items():
            if name not in found:
                return f"{path}{name} is missing from the answer"
            if message := unlike(value, found[name], tolerance, f"{path}{name}."):
                return message
        return ""
    if isinstance(expected, list) and isinstance(found, list) and len(expected) == len(found):
        pairs = enumerate(zip(expected, found, strict=True))
        told = (unlike(one, other, tolerance, f"{path}{number}.") for number, (one, other) in pairs)
        return next((message for message in told if message), "")
    return (
        ""
        if same(expected, found, tolerance)
        else f"{path.rstrip('.') or 'the answer'} is {found!r}, expected {expected!r}"
    )


def main_part(answer: Any) -> Any:
    """What an expectation is about: a prediction's result, a lookup's row, the rows of a query, what was returned.

    All of an answer that has another form, as a function's own may have.
    """
    match answer:
        case {"rows": rows}:
            return {"rows": rows}
        case {"results": [{"data": row}]}:
            return row
        case {"results": results}:  # a forecast
            return {"results": results}
        case {"response": part} | {"result": part}:
            return part
    return answer


def expectation(status: int, answer: Any) -> Mapping[str, Any] | None:
    """What an answer would have to be again: the error, or its main part. None where that is no object."""
    if status != 200:
        return {"error": _error_type(answer)}
    part = main_part(answer)
    return part if isinstance(part, Mapping) and part else None


def judged(expected: Mapping[str, Any] | None, tolerance: float, status: int, answer: Any) -> str:
    """Why an answer is not what is expected, or nothing."""
    if expected is not None and set(expected) == {"error"}:
        found = _error_type(answer) if status != 200 else "an answer"
        return "" if found == expected["error"] else f"expected the error {expected['error']}, got {found}"
    if status != 200:
        return f"{status} {_error_type(answer)}: {message_of(answer)}"
    return "" if expected is None else unlike(expected, main_part(answer), tolerance)


def message_of(answer: Any) -> str:
    """The sentence of an error; nothing for one of another form, as a function may send."""
    return str(answer.get("message", "")) if isinstance(answer, Mapping) else ""


def _error_type(answer: Any) -> str:
    return str(answer.get("errorType", "")) if isinstance(answer, Mapping) else ""


def _about(answer: Any) -> Any:
    if not isinstance(answer, Mapping):
        return answer
    about = {name: value for name, value in answer.items() if name not in _OF_ITSELF}
    result = about.get("result")
    if isinstance(result, Mapping) and "features" in result:  # what was asked about, which may be masked
        about["result"] = {name: value for name, value in result.items() if name != "features"}
    return about


def questions_of(endpoints: Sequence[Mapping[str, Any]]) -> list[Question]:
    """The test queries of a manifest's endpoints."""
    return [
        Question(str(endpoint["name"]), query["name"], query["body"])
        for endpoint in endpoints
        for query in endpoint.get("test_queries", ())
    ]
