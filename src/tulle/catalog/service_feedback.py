"""What was told of a service's answers, by whom, and how much of it is of answers that the log does not have.

Whoever tells is not told which ids are known, as ids are no secret of theirs alone. So what is told of wrong ids is
found here, for the team of the product, which knows its callers.
"""

# ruff: noqa: S608  names are ours, values go through `literal`
from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from tulle.catalog.query_log import LAST_TOLD, QueryLog, moment
from tulle.serving.recorder import is_sampled

SHOWN_IDS = 100


@dataclass(frozen=True, slots=True)
class ToldBy:
    """What one caller told, in answers: `unknown` are of no request in the log, `not_kept` of one it leaves out."""

    caller: str
    way: str  # by which they came in; empty where the gateway was not asked
    told: int
    known: int
    unknown: int
    not_kept: int


@dataclass(frozen=True, slots=True)
class FeedbackState:
    """What was told, in answers. `repeated`: told again as before; `corrected`: told otherwise, and the last counts."""

    told: int
    known: int
    unknown: int
    not_kept: int
    repeated: int
    corrected: int
    callers: tuple[ToldBy, ...]
    unknown_ids: tuple[Mapping[str, Any], ...]  # the latest ones: request_id, item, caller, way

    def plain(self) -> dict[str, Any]:
        """As the API tells it."""
        return asdict(self)


def feedback_state(
    log: QueryLog, service: str, *, sample: float = 1.0, since: float | None = None
) -> FeedbackState:
    """What was told, of all time or since a moment; `sample`: the share of requests that the log keeps."""
    wanted = f"told_at >= {moment(since)}" if since is not None else "true"
    last = f"WITH told AS (SELECT * FROM ({LAST_TOLD}) WHERE {wanted})"
    known = (
        "known AS (SELECT DISTINCT request_id, item FROM queries "
        "WHERE request_id IN (SELECT request_id FROM told))"
    )
    (counts,) = log.rows(
        service,
        "SELECT count(*) AS rows, count(DISTINCT (request_id, item)) AS answers, "
        f"count(DISTINCT (request_id, item, outcome)) AS outcomes FROM feedback WHERE {wanted}",
    )
    if not counts["rows"]:
        return FeedbackState(0, 0, 0, 0, 0, 0, (), ())
    told = log.rows(
        service,
        f"{last}, {known} SELECT coalesce(caller, '') AS caller, coalesce(way, '') AS way, "
        "count(*) AS told, count(k.request_id) AS known FROM told "
        "LEFT JOIN known k USING (request_id, item) GROUP BY ALL ORDER BY ALL",
    )
    missing = log.rows(
        service,
        f"{last}, {known} SELECT request_id, item, coalesce(caller, '') AS caller, "
        "coalesce(way, '') AS way FROM told ANTI JOIN known USING (request_id, item) "
        "ORDER BY told_at DESC, request_id, item",
    )
    unknown = [row for row in missing if is_sampled(row["request_id"], sample)]
    by_caller = Counter((row["caller"], row["way"]) for row in unknown)
    callers = tuple(
        ToldBy(
            one["caller"],
            one["way"],
            one["told"],
            one["known"],
            by_caller[one["caller"], one["way"]],
            one["told"] - one["known"] - by_caller[one["caller"], one["way"]],
        )
        for one in told
    )
    return FeedbackState(
        counts["answers"],
        sum(one.known for one in callers),
        len(unknown),
        sum(one.not_kept for one in callers),
        counts["rows"] - counts["outcomes"],
        counts["outcomes"] - counts["answers"],
        callers,
        tuple(unknown[:SHOWN_IDS]),
    )
