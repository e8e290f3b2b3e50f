"""Segments of the query log as tables, by what the documents let out now: what is kept of requests and outcomes."""

from __future__ import annotations

import datetime as dt
import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from tulle.catalog.log_masks import shown_of
from tulle.catalog.query_log import FEEDBACK, QUERIES, TRAFFIC
from tulle.catalog.service_drift import class_names
from tulle.control.workspace import Workspace
from tulle.errors import NotFound
from tulle.serving import log_traffic, package
from tulle.serving.log_rows import (
    FEEDBACK_SCHEMA,
    SCHEMA,
    Shown,
    feedback_rows,
    outcome_rule,
    query_rows,
    shown_outcome,
    table_of,
)
from tulle.serving.log_segment import Segment, SegmentRoute, read_segment
from tulle.spec.product import DataProduct
from tulle.state import products

LOG = logging.getLogger("tulle")
AT_ONCE_ROWS = 20_000  # that are not a table yet
SCHEMAS = {QUERIES: SCHEMA, FEEDBACK: FEEDBACK_SCHEMA, TRAFFIC: log_traffic.SCHEMA}
_ASIDE = ".damaged"
_DAY_MICROS = 86_400_000_000
# What taking apart a segment of another version raises; what is wrong with the lake or the database is tried again.
_NOT_UNDERSTOOD = (ValueError, TypeError, LookupError, AttributeError, OverflowError, RecursionError)
Made = tuple[str, str, pa.Table]  # data set, day, rows


@dataclass(frozen=True, slots=True)
class Outcomes:
    """What of outcomes may be kept: by the rule of a service, and the texts that its models answer with."""

    rule: Shown
    classes: frozenset[str]

    def shown(self, outcome: bytes) -> bytes:
        """The same without what may not be kept; both are JSON."""
        return shown_outcome(outcome, self.rule, self.classes)


def shown_now(workspace: Workspace, service: str, version: str | None = None) -> dict[str, Shown]:
    """Which values of a version's queries (the newest's) may be kept and shown; nothing of what is not known."""
    versions = package.packages(workspace.database, service)
    chosen = [one for one in versions if version in (None, one.version)]
    return shown_of(chosen[-1].manifest, lambda name: _product(workspace, name)) if chosen else {}


def outcomes_of(workspace: Workspace, service: str) -> Outcomes:
    """What of a service's outcomes may be kept, by its newest version."""
    rule = outcome_rule(shown_now(workspace, service))
    versions = package.packages(workspace.database, service) if rule.texts_masked else ()
    return Outcomes(rule, class_names(workspace.lake, versions[-1]) if versions else frozenset())


def understood(
    workspace: Workspace, chosen: Sequence[Path], environment: str
) -> tuple[Sequence[Path], list[Made], int]:
    """Segments taken apart: which, what of them is kept, and how many queries they say were dropped.

    One that cannot be taken apart is put aside, and holds up no other.
    """
    try:
        segments = [read_segment(path) for path in chosen]
        made = _tables(workspace, segments, environment)
    except _NOT_UNDERSTOOD:
        if len(chosen) > 1:
            return understood(workspace, chosen[: len(chosen) // 2], environment)
        LOG.exception("the segment %s is not understood, and is put aside", chosen[0])
        chosen[0].rename(chosen[0].with_suffix(_ASIDE))
        return [], [], 0
    return chosen, made, sum(segment.dropped for segment in segments)


def _tables(workspace: Workspace, segments: Sequence[Segment], environment: str) -> list[Made]:
    """Data set, day and rows of what segments hold."""
    rules: dict[tuple[str, str], Mapping[str, Shown]] = {}
    outcomes: dict[str, Outcomes] = {}
    kept = _Kept()
    for segment in segments:
        header = segment.header
        if header is None:
            continue
        if segment.records:
            version = header.service, header.version
            if version not in rules:
                rules[version] = shown_now(workspace, *version)
            shown = _with_features(rules[version], header.routes)
            kept.take(QUERIES, "asked_at", query_rows(header, segment.records, shown, environment))
        if segment.told:
            if header.service not in outcomes:
                outcomes[header.service] = outcomes_of(workspace, header.service)
            kept.take(FEEDBACK, "told_at", feedback_rows(segment.told, outcomes[header.service].shown))
    return kept.tables()


class _Kept:
    """Rows by data set and day; they are tables, which are a small part of their size, as soon as there are many."""

    def __init__(self) -> None:
        self._waiting: defaultdict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
        self._made: defaultdict[tuple[str, str], list[pa.Table]] = defaultdict(list)

    def take(self, name: str, at: str, rows: Iterable[dict[str, Any]]) -> None:
        """Keep rows of a data set, each on the day of its time `at`."""
        day, key = -1, (name, "")
        for row in rows:
            if row[at] // _DAY_MICROS != day:
                day, key = row[at] // _DAY_MICROS, (name, _day(row[at]))
            waiting = self._waiting[key]
            waiting.append(row)
            if len(waiting) >= AT_ONCE_ROWS:
                self._settle(*key)

    def tables(self) -> list[Made]:
        """All of them."""
        for key in list(self._waiting):
            self._settle(*key)
        return [(name, day, pa.concat_tables(found)) for (name, day), found in sorted(self._made.items())]

    def _settle(self, name: str, day: str) -> None:
        rows = self._waiting.pop((name, day))
        self._made[name, day].append(table_of(rows, SCHEMAS[name]))
        if name == QUERIES and (counted := list(log_traffic.counts(rows))):
            self._made[TRAFFIC, day].append(table_of(counted, SCHEMAS[TRAFFIC]))


def _with_features(rules: Mapping[str, Shown], routes: Sequence[SegmentRoute]) -> dict[str, Shown]:
    """The rules with the names of the model's features as known ones."""
    found = dict(rules)
    for route in routes:
        rule = found.get(route.endpoint)
        if rule is not None and rule.known is not None:
            found[route.endpoint] = replace(rule, known=rule.known | set(route.features))
    return found


def _product(workspace: Workspace, name: str) -> DataProduct | None:
    try:
        return products.applied_product(workspace.database, name).product
    except NotFound:
        return None


def _day(micros: int) -> str:
    return dt.datetime.fromtimestamp(micros / 1e6, dt.UTC).date().isoformat()
