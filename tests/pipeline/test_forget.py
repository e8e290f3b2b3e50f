"""What ended long ago is forgotten; what stands for something is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, insert, select, update

from tulle.config import Settings
from tulle.pipeline import forget as forgetting
from tulle.pipeline import promotion, run_end, schedule, step_record
from tulle.pipeline import run as runs
from tulle.pipeline.forget import forget
from tulle.state.db import Database, now
from tulle.state.tables import backfills, incidents, run_manifests, run_steps
from tulle.state.tables import runs as run_table

DATABASES = ("sqlite", "postgres")
DAY = 86_400.0


def ended(database: Database, days_ago: float, status: str = runs.FAILED, product: str = "sales") -> str:
    run_id = runs.request(database, product)
    step_record.begin(database, run_id, branch="b", base_commit="c", steps=[("job", "sql")])
    run_end.finish(database, run_id, status)
    at = now() - days_ago * DAY
    with database.write() as cx:
        mine = update(run_table).where(run_table.c.id == run_id)
        cx.execute(mine.values(requested_at=at, finished_at=at))
        told = {"run_id": run_id, "product": product, "branch": "main", "code": "c", "document": {}, "at": at}
        cx.execute(insert(run_manifests).values(told))
    return run_id


def count(database: Database, table: Any) -> int:
    with database.read() as cx:
        return int(cx.execute(select(func.count()).select_from(table)).scalar_one())


def test_old_runs_go_but_the_newest_the_last_good_one_and_what_was_promoted(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forgetting, "NEWEST", 2)
    monkeypatch.setattr(forgetting, "BATCH", 2)
    settings = Settings(folder=tmp_path, run_record_days=10)
    settings.log_folder.mkdir(parents=True)
    promoted = ended(database, 30, runs.SUCCEEDED)
    good = ended(database, 25, runs.SUCCEEDED)
    gone = [ended(database, 24 - number) for number in range(5)]
    with database.write() as cx:  # they were good, and made nothing or not all
        for run_id, options in ((gone[1], {"only": "checks"}), (gone[2], {"select": ["a"]})):
            mine = update(run_table).where(run_table.c.id == run_id)
            cx.execute(mine.values(status=runs.UNCHANGED, options=options))
    newest = [ended(database, 12), ended(database, 11)]
    young = ended(database, 3, product="features")
    going_on = runs.request(database, "features")
    with database.write() as cx:
        given = {"product": "sales", "environment": "prod", "branch": "main", "kind": "promotion"}
        id_ = promotion.add(cx, **given, version="1.0.0", status="running", by="ann")
        promotion.change(cx, id_, "running", run_id=promoted)
    for run_id in (gone[0], good):
        (settings.log_folder / f"run-{run_id}.log").write_text("hello")
    assert forget(settings, database, now())["runs"] == len(gone)
    left = {run.id for run in runs.recent(database)}
    assert left == {promoted, good, *newest, young, going_on}
    assert count(database, run_steps) == len(left) - 1
    assert count(database, run_manifests) == len(left) - 1
    assert [file.name for file in settings.log_folder.iterdir()] == [f"run-{good}.log"]
    assert forget(settings, database, now()) == {"runs": 0, "fires": 0, "backfills": 0, "incidents": 0}


def test_old_fires_backfills_and_closed_incidents_go_in_pieces(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forgetting, "BATCH", 3)
    settings = Settings(folder=tmp_path, run_record_days=10)
    old = now() - 11 * DAY
    with database.write() as cx:
        for number in range(8):
            status = "waiting" if number == 0 else "succeeded"
            schedule.add_fire(
                cx,
                product="sales",
                environment="main",
                domain="d",
                reason="cron",
                fire_at=float(number),
                status=status,
                series="" if number < 5 else "done" if number < 7 else "running",
            )
        cx.execute(update(schedule.fires_table).values(created_at=old))
        for name, ended_at in (("done", old), ("running", None)):
            span = {"window_start": "a", "window_end": "b", "step": "day", "status": name}
            given = {"id": name, "product": "sales", "environment": "main", "created_at": old, **span}
            cx.execute(insert(backfills).values(**given, ended_at=ended_at))
        for name, closed_at in (("closed", old), ("open", None)):
            given = {"id": name, "product": name, "environment": "main", "cause": "run", "message": "m"}
            cx.execute(insert(incidents).values(**given, opened_at=old, last_at=old, closed_at=closed_at))
    assert forget(settings, database, now()) == {"runs": 0, "fires": 6, "backfills": 1, "incidents": 1}
    assert {(f.status, f.series) for f in schedule.fires(database)} == {
        ("waiting", ""),
        ("succeeded", "running"),
    }
    with database.read() as cx:
        assert cx.execute(select(backfills.c.id)).scalars().all() == ["running"]
        assert cx.execute(select(incidents.c.id)).scalars().all() == ["open"]
