"""The page of what was asked of a service: the latest queries, masked as they may be shown, and how far they moved."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from tulle.catalog.log_masks import shown_of
from tulle.catalog.query_log import QueryLog, Wanted, find_repository, masked_again
from tulle.catalog.service_drift import Measured, measure
from tulle.catalog.service_feedback import FeedbackState, feedback_state
from tulle.config import Settings
from tulle.errors import NotFound
from tulle.lake.repository import Lake
from tulle.serving import package
from tulle.serving.drift import Drift
from tulle.serving.package import Package
from tulle.spec.product import DataProduct
from tulle.state.db import Database

ROWS = 50
DAY = 86_400.0
REMEMBERED_SECONDS = 60.0
_TEXT = 200  # characters of a cell
WIDTH, HEIGHT = 140, 30


@dataclass(frozen=True, slots=True)
class Bar:
    """One bin of a chart: what it was as the lighter bar, what it is as the other."""

    x: float
    width: float
    then: float  # heights
    now: float
    words: str


@dataclass(frozen=True, slots=True)
class QueryRow:
    """One row as the table shows it."""

    request_id: str
    item: int
    asked_at: float
    endpoint: str
    action: str
    generation: str
    shadow: bool
    caller: str
    way: str
    status: int
    error: str
    microseconds: int
    sent: str
    result: str
    outcome: str

    @property
    def is_good(self) -> bool:
        """Whether it was answered."""
        return self.status == 200 and not self.error


@dataclass(frozen=True, slots=True)
class QueriedPage:
    """What the page shows; `repository` is empty where nothing was kept."""

    service: str
    product: str
    repository: str
    rows: tuple[QueryRow, ...]
    only_errors: bool
    measured: tuple[Measured, ...]
    told: FeedbackState | None = None  # in the last week; None where nothing was

    @staticmethod
    def bars(drift: Drift) -> tuple[Bar, ...]:
        """The chart of one drift."""
        return bars_of(drift)


class QueriedReader:
    """Reads for the page. Safe to share between threads."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        lake: Lake,
        product_of: Callable[[str], DataProduct | None],
    ) -> None:
        self._database, self._lake, self._product_of = database, lake, product_of
        self._log = QueryLog(settings, lake)
        self._last: dict[str, tuple[float, list[Measured], FeedbackState | None]] = {}

    def page(self, service: str, *, errors: bool = False, now: float | None = None) -> QueriedPage:
        """The page of a service. NotFound before there is a package of it."""
        versions = package.packages(self._database, service)
        if not versions:
            raise NotFound(
                f"service '{service}' has no package yet", hint=f"`tulle service package {service}`"
            )
        repository = find_repository(self._lake, service)
        rows: list[dict[str, Any]] = []
        measured: list[Measured] = []
        told: FeedbackState | None = None
        if repository is not None:
            found = self._log.newest(service, Wanted(errors=errors), limit=ROWS)
            rows = masked_again(found, shown_of(versions[-1].manifest, self._product_of))
            until = time.time() if now is None else now
            measured, told = self._measured(service, versions, until)
        return QueriedPage(
            service,
            versions[-1].product,
            repository.name if repository else "",
            tuple(_row(row) for row in rows),
            errors,
            tuple(measured),
            told,
        )

    def _measured(
        self, service: str, versions: Sequence[Package], until: float
    ) -> tuple[list[Measured], FeedbackState | None]:
        """Measured at most once a minute, since a day may be long."""
        last, found, told = self._last.get(service, (-math.inf, [], None))
        if not last <= until < last + REMEMBERED_SECONDS:
            found = measure(self._log, self._lake, versions, since=until - DAY, until=until)
            sample = versions[-1].manifest.query_log().most_sample
            state = feedback_state(self._log, service, sample=sample, since=until - 7 * DAY)
            told = state if state.told else None
            self._last[service] = until, found, told
        return found, told


def bars_of(drift: Drift) -> tuple[Bar, ...]:
    """A pair of bars a bin, as high as its shares."""
    largest = max((max(one.then, one.now) for one in drift.bins), default=0.0) or 1.0
    width = WIDTH / max(len(drift.bins), 1)
    return tuple(
        Bar(
            round(number * width, 2),
            round(width * 0.42, 2),
            round(one.then / largest * HEIGHT, 2),
            round(one.now / largest * HEIGHT, 2),
            f"{one.label}: {one.then:.1%} then, {one.now:.1%} now",
        )
        for number, one in enumerate(drift.bins)
    )


def _row(row: dict[str, Any]) -> QueryRow:
    return QueryRow(
        request_id=row["request_id"],
        item=row["item"],
        asked_at=row["asked_at"],
        endpoint=row["endpoint"],
        action=row["action"],
        generation=row["generation"],
        shadow=row["shadow"],
        caller=row["caller"] or "",
        way=row["way"] or "",
        status=row["status"],
        error=row["error"] or "",
        microseconds=row["microseconds"],
        sent=_text(row["sent"]),
        result=_text(row["result"]),
        outcome=_text(row["outcome"]),
    )


def _text(value: Any) -> str:
    if value is None:
        return ""
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= _TEXT else text[: _TEXT - 1] + "…"
