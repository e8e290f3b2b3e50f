"""What checks found, run after run: written when a step ends, read as history. Knows verdicts, not what ran them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Connection, Row, delete, func, insert, select

from tulle.errors import NotFound, did_you_mean
from tulle.quality.check import Check
from tulle.quality.kind import Past
from tulle.quality.verdict import CheckResult
from tulle.state.db import Database, now
from tulle.state.tables import check_results

MAIN = "main"
KEPT = 30  # of each check, however old: what checks against history look at
_AT_ONCE = 500  # results that one transaction forgets
_LONGEST_NAME, _LONGEST_MESSAGE = 255, 2000


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one check found in one run; `at` in seconds since the epoch."""

    product: str
    environment: str
    data_set: str
    check: str
    kind: str
    severity: str
    passed: bool
    failing: int
    total: int
    value: float | None
    threshold: str
    message: str
    run: str
    at: float
    tags: tuple[str, ...] = ()

    @property
    def state(self) -> str:
        """passed, failed, or warn for what failed and is only reported."""
        return "passed" if self.passed else "failed" if self.severity == "error" else "warn"

    def as_dict(self) -> dict[str, Any]:
        """The outcome as plain values."""
        return {**asdict(self), "state": self.state, "tags": list(self.tags)}


def record(
    cx: Connection,
    product: str,
    environment: str,
    run: str,
    results: Sequence[CheckResult],
    *,
    made: bool = True,
) -> None:
    """Keep the verdicts of a step of a run, in the transaction that ends it.

    `made`: the run made the data; what was only looked at again is no measure for later runs.
    """
    at = now()
    rows = [
        {
            "product": product,
            "environment": environment,
            "data_set": result.data_set[:_LONGEST_NAME],
            "check_name": result.name[:_LONGEST_NAME],
            "kind": result.kind,
            "severity": result.severity,
            "passed": result.passed,
            "failing": result.failing_count,
            "total": result.total,
            "value": result.value,
            "threshold": result.threshold,
            "message": result.message[:_LONGEST_MESSAGE],
            "detail": dict(result.detail) if result.detail is not None else None,
            "tags": list(result.tags),
            "run": run,
            "made": made,
            "at": at,
        }
        for result in results
    ]
    if rows:
        cx.execute(insert(check_results), rows)


def latest(database: Database, *, product: str | None = None, environment: str = MAIN) -> tuple[Outcome, ...]:
    """The last outcome of every check of a product (or of all), by data set and name."""
    table = check_results.c
    newest = (
        select(func.max(table.id))
        .where(table.environment == environment)
        .group_by(table.product, table.data_set, table.check_name)
    )
    if product is not None:
        newest = newest.where(table.product == product)
    query = select(check_results).where(table.id.in_(newest))
    query = query.order_by(table.product, table.data_set, table.check_name)
    with database.read() as cx:
        return tuple(_outcome(row) for row in cx.execute(query))


def history(
    database: Database,
    product: str,
    check: str | None = None,
    *,
    data_set: str | None = None,
    environment: str = MAIN,
    limit: int = 100,
) -> tuple[Outcome, ...]:
    """What the checks of a product found, newest first. NotFound when there is no check of that name."""
    table = check_results.c
    query = select(check_results).where(table.product == product, table.environment == environment)
    if check is not None:
        query = query.where(table.check_name == check[:_LONGEST_NAME])
    if data_set is not None:
        query = query.where(table.data_set == data_set)
    with database.read() as cx:
        found = tuple(_outcome(row) for row in cx.execute(query.order_by(table.id.desc()).limit(limit)))
    if not found and check is not None:
        names = {one.check for one in latest(database, product=product, environment=environment)}
        raise NotFound(
            f"product '{product}' has no results of a check '{check}' in '{environment}'",
            hint=did_you_mean(check, names) or "checks have results once a run has judged them",
        )
    return found


def series(
    database: Database, product: str, *, environment: str = MAIN, last: int = KEPT
) -> Mapping[tuple[str, str], tuple[Outcome, ...]]:
    """The last outcomes of every check of a product, oldest first, by data set and name."""
    table = check_results.c
    position = func.row_number().over(
        partition_by=(table.data_set, table.check_name), order_by=table.id.desc()
    )
    mine = (table.product == product) & (table.environment == environment)
    ranked = select(check_results, position.label("position")).where(mine).subquery()
    query = select(ranked).where(ranked.c.position <= last).order_by(ranked.c.id)
    found: dict[tuple[str, str], list[Outcome]] = {}
    with database.read() as cx:
        for row in cx.execute(query):
            found.setdefault((row.data_set, row.check_name), []).append(_outcome(row))
    return {key: tuple(found[key]) for key in sorted(found)}


def past(
    database: Database, product: str, check: Check, *, environment: str = MAIN, last: int = KEPT
) -> tuple[Past, ...]:
    """What a check found before in runs that it let pass, newest first.

    An environment without such runs takes those of main: a branch begins with its data.
    """
    table = check_results.c
    mine = (
        (table.product == product)
        & (table.data_set == check.data_set)
        & (table.check_name == check.name[:_LONGEST_NAME])
        & (table.kind == check.kind)
        & table.passed.is_(True)
        & table.made.is_(True)
    )
    columns = select(table.value, table.detail, table.at).where(mine)
    with database.read() as cx:
        for name in dict.fromkeys((environment, MAIN)):
            query = columns.where(table.environment == name).order_by(table.id.desc()).limit(last)
            if found := tuple(Past(row.value, row.detail, row.at) for row in cx.execute(query)):
                return found
    return ()


def forget(cx: Connection, product: str) -> None:
    """Forget what was found in a product whose data goes: messages and details hold values of it."""
    cx.execute(delete(check_results).where(check_results.c.product == product))


def prune(database: Database, before: float) -> int:
    """Forget what was found before a time, but never the last KEPT results of a check; how many were forgotten.

    What passed is counted apart from what did not: later runs are held against the former.
    """
    table = check_results.c
    same = (table.product, table.environment, table.data_set, table.check_name, table.passed, table.made)
    position = func.row_number().over(partition_by=same, order_by=table.id.desc())
    ranked = select(table.id, table.at, position.label("position")).subquery()
    query = select(ranked.c.id).where(ranked.c.at < before, ranked.c.position > KEPT)
    with database.read() as cx:
        if cx.execute(select(table.id).where(table.at < before).limit(1)).first() is None:
            return 0
        old = list(cx.execute(query).scalars())
    for start in range(0, len(old), _AT_ONCE):
        with database.write() as cx:
            cx.execute(delete(check_results).where(table.id.in_(old[start : start + _AT_ONCE])))
    return len(old)


def _outcome(row: Row[Any]) -> Outcome:
    return Outcome(
        product=row.product,
        environment=row.environment,
        data_set=row.data_set,
        check=row.check_name,
        kind=row.kind,
        severity=row.severity,
        passed=row.passed,
        failing=row.failing,
        total=row.total,
        value=row.value,
        threshold=row.threshold,
        message=row.message,
        run=row.run,
        at=row.at,
        tags=tuple(row.tags or ()),
    )
