"""Removing the records of what ended long ago, so that a mesh that runs for years does not grow by its past.

Kept for as long as they stand for something: of each product and environment the newest runs and the last good one,
runs that promotions, releases and experiments name, whatever has not ended. The log of events keeps everything; data is
the lake's, whose retention is another matter. A few records in a transaction, so that nobody waits; what a crash
interrupts, the next time does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection, Select, Table, case, delete, func, select, update

from tulle.config import Settings
from tulle.pipeline import run as runs
from tulle.pipeline.schedule import HELD, OPEN
from tulle.state.db import Database
from tulle.state.tables import (
    backfills,
    experiments,
    incidents,
    promotions,
    releases,
    run_manifests,
    run_steps,
    schedule_fires,
)
from tulle.state.tables import runs as run_table

NEWEST = 30  # runs of a product in an environment that are kept, however old
BATCH = 500
_DAY = 86_400.0


def forget(settings: Settings, database: Database, now: float) -> dict[str, int]:
    """Remove the records that are older than `run_record_days`; how many of what."""
    before = now - settings.run_record_days * _DAY
    return {
        "runs": _forget_runs(settings, database, before),
        "fires": _in_pieces(database, schedule_fires, lambda: _fires(before)),
        "backfills": _in_pieces(database, backfills, lambda: _backfills(before)),
        "incidents": _in_pieces(
            database, incidents, lambda: select(incidents.c.id).where(incidents.c.closed_at < before)
        ),
    }


def forget_rows(cx: Connection, product: str) -> None:
    """Leave the records of a product's runs without the rows that failed its checks: its data goes.

    What was learnt from it goes with it.
    """
    cx.execute(delete(experiments).where(experiments.c.product == product))
    steps = run_steps.c
    of_product = select(run_table.c.id).where(run_table.c.product == product)
    found = select(steps.run_id, steps.name, steps.report).where(
        steps.run_id.in_(of_product), steps.report.is_not(None)
    )
    for row in cx.execute(found).all():
        checks = (row.report or {}).get("checks") or ()
        if any(check.get("failing_rows") for check in checks):
            report = {**row.report, "checks": [{**check, "failing_rows": []} for check in checks]}
            this = (steps.run_id == row.run_id) & (steps.name == row.name)
            cx.execute(update(run_steps).where(this).values(report=report))


def _forget_runs(settings: Settings, database: Database, before: float) -> int:
    with database.read() as cx:
        if (
            cx.execute(select(run_table.c.id).where(run_table.c.finished_at < before).limit(1)).first()
            is None
        ):
            return 0
        statements = cx.execute(select(releases.c.statement)).scalars()
        released = {str(said["data"]["run"]) for said in statements if said.get("data", {}).get("run")}
        old = [run_id for run_id in cx.execute(_runs(before)).scalars() if run_id not in released]
    for start in range(0, len(old), BATCH):
        ids = old[start : start + BATCH]
        with database.write() as cx:
            cx.execute(delete(run_manifests).where(run_manifests.c.run_id.in_(ids)))
            cx.execute(delete(run_table).where(run_table.c.id.in_(ids)))  # its steps go with it
        for run_id in ids:
            (settings.log_folder / f"run-{run_id}.log").unlink(missing_ok=True)
    return len(old)


def _runs(before: float) -> Select[Any]:
    table = run_table.c
    good = case((table.status.in_([runs.SUCCEEDED, runs.UNCHANGED]) & runs.whole(), 1), else_=0)
    newest_first = (table.requested_at.desc(), table.id.desc())
    ranked = select(
        table.id,
        table.finished_at,
        good.label("good"),
        func.row_number()
        .over(partition_by=(table.product, table.environment), order_by=newest_first)
        .label("place"),
        func.row_number()
        .over(partition_by=(table.product, table.environment, good), order_by=newest_first)
        .label("place_of_kind"),
    ).subquery()
    of = ranked.c
    last_good = (of.good == 1) & (of.place_of_kind == 1)
    named = (
        select(promotions.c.run_id).where(promotions.c.run_id.is_not(None)).union(select(experiments.c.id))
    )
    return select(of.id).where(of.finished_at < before, of.place > NEWEST, ~last_good, of.id.not_in(named))


def _fires(before: float) -> Select[Any]:
    fires = schedule_fires.c
    going_on = select(backfills.c.id).where(backfills.c.ended_at.is_(None))
    return select(fires.id).where(
        fires.created_at < before, fires.status.not_in([*OPEN, HELD]), fires.series.not_in(going_on)
    )


def _backfills(before: float) -> Select[Any]:
    left = select(schedule_fires.c.series).where(schedule_fires.c.series != "")
    return select(backfills.c.id).where(backfills.c.ended_at < before, backfills.c.id.not_in(left))


def _in_pieces(database: Database, table: Table, query: Callable[[], Select[Any]]) -> int:
    removed = 0
    while True:
        with database.read() as cx:  # mostly there is nothing: no write lock for that
            ids = cx.execute(query().limit(BATCH)).scalars().all()
        if ids:
            with database.write() as cx:
                cx.execute(delete(table).where(table.c.id.in_(ids)))
        removed += len(ids)
        if len(ids) < BATCH:
            return removed
