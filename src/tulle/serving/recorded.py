"""Recorded answers of two generations to the same requests, compared; and requests to ask again. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tulle.serving.answers import MOST_DIFFERENCES, Difference, Question, differences
from tulle.serving.log_rows import MASK

WORST = 20
# The member of a body that holds what was sent; of other kinds that is the whole body.
_MEMBER = {"predict": "features", "lookup": "data"}


@dataclass(frozen=True, slots=True)
class Pair:
    """One request (or item of it) and how two generations answered it; `apart`: the largest difference of a number."""

    endpoint: str
    request_id: str
    item: int
    statuses: tuple[int, int]
    errors: tuple[str | None, str | None]
    results: tuple[Any, Any]
    microseconds: tuple[int, int]
    differences: tuple[Difference, ...]
    apart: float

    @property
    def is_equal(self) -> bool:
        """Whether both answers are about the same."""
        return not self.differences


@dataclass(frozen=True, slots=True)
class RecordedComparison:
    """Two generations on what both were asked. Quantiles are by `p50`, `p95` and the like."""

    service: str
    left: str
    right: str
    asked: int
    equal: int
    refused: tuple[int, int]  # how many each did not answer
    predictions: int  # how many predicted otherwise
    apart: Mapping[str, float]  # over all that both answered
    microseconds: tuple[Mapping[str, float], Mapping[str, float]]
    worst: tuple[Pair, ...]


def compared(
    service: str, left: str, right: str, rows: Sequence[Mapping[str, Any]], tolerance: float
) -> RecordedComparison:
    """Compare rows with `endpoint`, `request_id`, `item` and the two sides' values as `l_…` and `r_…`, JSON read."""
    pairs = [_pair(row, tolerance) for row in rows]
    answered = [pair for pair in pairs if pair.errors == (None, None) and pair.statuses == (200, 200)]
    # Answered by one of them alone is as far apart as can be.
    worst = sorted(
        (pair for pair in pairs if not pair.is_equal), key=lambda p: (-p.apart, p.request_id, p.item)
    )
    return RecordedComparison(
        service,
        left,
        right,
        len(pairs),
        sum(pair.is_equal for pair in pairs),
        (_refused(pairs, 0), _refused(pairs, 1)),
        sum(_prediction(pair.results[0]) != _prediction(pair.results[1]) for pair in answered),
        quantiles([pair.apart for pair in answered if math.isfinite(pair.apart)], (50, 90, 99)),
        (
            quantiles([pair.microseconds[0] for pair in pairs], (50, 95, 99)),
            quantiles([pair.microseconds[1] for pair in pairs], (50, 95, 99)),
        ),
        tuple(worst[:WORST]),
    )


def quantiles(values: Sequence[float], hundredths: Sequence[int]) -> dict[str, float]:
    """Quantiles by name, and the `max`; nothing of nothing."""
    if not values:
        return {}
    ordered = sorted(values)
    found = {f"p{q}": ordered[math.ceil(q / 100 * len(ordered)) - 1] for q in hundredths}
    return found | {"max": ordered[-1]}


def questions_of(rows: Sequence[Mapping[str, Any]], kinds: Mapping[str, str]) -> tuple[list[Question], int]:
    """What recorded rows ask, for the endpoints' usual action, and how many cannot be asked again.

    What was sent may be masked; then what the model was given is asked, where that is not.
    """
    found: list[Question] = []
    lost = 0
    for row in rows:
        kind = kinds.get(row["endpoint"])
        sent = row["sent"]
        if kind == "predict" and (sent is None or _is_masked(sent)):
            sent = row["features"]
        if kind is None or not isinstance(sent, Mapping) or _is_masked(sent):
            lost += 1
            continue
        member = _MEMBER.get(kind)
        body = {member: sent} if member else sent
        item = f"[{row['item']}]" if row["item"] else ""
        found.append(Question(row["endpoint"], row["request_id"] + item, body))
    return found, lost


def _pair(row: Mapping[str, Any], tolerance: float) -> Pair:
    statuses = row["l_status"], row["r_status"]
    errors = row["l_error"], row["r_error"]
    results = row["l_result"], row["r_result"]
    found = [
        *([Difference("status", *statuses)] if statuses[0] != statuses[1] else []),
        *([Difference("error", *errors)] if errors[0] != errors[1] else []),
    ]
    apart = math.inf if found else _apart(*results)
    for one in differences(*results, tolerance):
        found.append(one)
        if len(found) >= MOST_DIFFERENCES:
            break
    return Pair(
        row["endpoint"],
        row["request_id"],
        row["item"],
        statuses,
        errors,
        results,
        (row["l_microseconds"], row["r_microseconds"]),
        tuple(found),
        apart,
    )


def _apart(left: Any, right: Any) -> float:
    """The largest difference of two numbers at the same place."""
    return max(_distances(left, right), default=0.0)


def _distances(left: Any, right: Any) -> Iterator[float]:
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        for name in left:
            if name in right:
                yield from _distances(left[name], right[name])
    elif isinstance(left, list) and isinstance(right, list):
        for one, other in zip(left, right, strict=False):
            yield from _distances(one, other)
    elif _is_number(left) and _is_number(right):
        yield abs(left - right)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _refused(pairs: Sequence[Pair], side: int) -> int:
    return sum(pair.statuses[side] != 200 or pair.errors[side] is not None for pair in pairs)


def _prediction(result: Any) -> Any:
    return result.get("prediction") if isinstance(result, Mapping) else None


def _is_masked(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(_is_masked(one) for one in value.values())
    if isinstance(value, list):
        return any(_is_masked(one) for one in value)
    return bool(value == MASK)
