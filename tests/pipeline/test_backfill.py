"""Backfills on both databases: windows, order, failures that hold the rest, cancelling, crashes."""

from __future__ import annotations

import datetime as dt
import threading
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import insert, select, update
from tests.pipeline.test_scheduler import World

from tulle.errors import Conflict, Invalid, NotFound, Unavailable
from tulle.pipeline import backfill, run_end, schedule
from tulle.pipeline import run as runs
from tulle.pipeline.backfill import windows
from tulle.spec.schedule import Schedule
from tulle.state.db import Database, in_turn
from tulle.state.tables import backfills as table
from tulle.state.tables import runs as run_table
from tulle.state.tables import schedule_fires

DATABASES = ("sqlite", "postgres")


@pytest.fixture
def world(database: Database, tmp_path: Path) -> World:
    made = World(database, tmp_path)
    made.apply("orders", None)
    made.at = 4_000_000_000.0  # after every moment of the real clock
    return made


def statuses(world: World, id_: str) -> list[str]:
    return [window.status for window in backfill.get(world.database, id_).windows]


def test_windows() -> None:
    assert windows("2026-01-30", "2026-02-02", "day") == [
        ("2026-01-30", "2026-01-31"),
        ("2026-01-31", "2026-02-01"),
        ("2026-02-01", "2026-02-02"),
    ]
    assert windows("2026-01-31", "2026-04-10", "month") == [
        ("2026-01-31", "2026-02-28"),
        ("2026-02-28", "2026-03-31"),
        ("2026-03-31", "2026-04-10"),
    ]
    assert windows("2026-01-01T22:00+01:00", "2026-01-01T23:00", "hour") == [
        ("2026-01-01T21:00:00+00:00", "2026-01-01T22:00:00+00:00"),
        ("2026-01-01T22:00:00+00:00", "2026-01-01T23:00:00+00:00"),
    ]


@given(
    st.dates(dt.date(1990, 1, 1), dt.date(2050, 1, 1)),
    st.integers(1, 900),
    st.sampled_from(["day", "week", "month"]),
)
def test_windows_cover_the_span_without_gap_or_overlap(first: dt.date, days: int, step: str) -> None:
    last = first + dt.timedelta(days=days)
    found = windows(first.isoformat(), last.isoformat(), step)
    assert found[0][0] == first.isoformat()
    assert found[-1][1] == last.isoformat()
    assert all(one[1] == following[0] for one, following in pairwise(found))
    assert all(start < end for start, end in found)


@pytest.mark.parametrize(
    ("first", "last", "step", "said"),
    [
        ("yesterday", "2026-01-01", "day", "--from is 'yesterday', which is no date"),
        ("2026-01-02", "2026-01-02", "day", "nothing from 2026-01-02 until before 2026-01-02"),
        ("2026-01-01T06:00", "2026-01-02", "day", "which is within a day"),
        ("1900-01-01", "2100-01-01", "day", "more than 10,000 windows"),
        ("2026-01-01", "2026-02-01", "minute", "'minute' is no step"),
        ("0001-01-01", "2026-02-01", "month", "--from is '0001-01-01'"),
    ],
)
def test_what_is_no_span_is_refused(first: str, last: str, step: str, said: str) -> None:
    with pytest.raises(Invalid) as caught:
        windows(first, last, step)
    assert said in caught.value.message
    assert caught.value.hint


def test_one_run_a_window_in_order(world: World) -> None:
    made = backfill.start(world.database, "orders", "2026-01-01", "2026-01-04")
    assert made.counts == {"waiting": 3}
    world.go_on(0)
    assert len(world.started) == 1
    assert world.options()["window"] == ["2026-01-01", "2026-01-02"]
    world.end()
    assert world.options()["window"] == ["2026-01-02", "2026-01-03"]
    world.end()
    world.end(runs.UNCHANGED)
    done = backfill.get(world.database, made.id)
    assert (done.status, done.counts) == ("done", {"succeeded": 2, "unchanged": 1})
    assert [w.run_id for w in done.windows] == world.started


def test_of_two_that_are_asked_for_at_once_one_starts(world: World) -> None:
    said: list[str] = []

    def ask() -> None:
        try:
            backfill.start(world.database, "orders", "2026-01-01", "2026-01-04")
        except Conflict as conflict:
            said.append(conflict.message)

    second = threading.Thread(target=ask)
    with world.database.write() as cx:
        in_turn(cx, "backfills of orders")
        second.start()
        second.join(0.5)  # as far as it comes while the first is not done
        values = {
            "window_start": "2026-01-01",
            "window_end": "2026-01-02",
            "step": "day",
            "status": "running",
        }
        named = {"id": "first", "product": "orders", "environment": "main"}
        cx.execute(insert(table).values(**named, **values, actor="", created_at=1.0))
    second.join()
    assert said == ["backfill first of 'orders' in 'main' has not ended"]


def test_what_is_cancelled_while_it_is_about_to_start_does_not_start(world: World) -> None:
    made = backfill.start(world.database, "orders", "2026-01-01", "2026-01-02")
    with world.database.read() as cx:
        fire = cx.execute(select(schedule_fires)).one()
    backfill.cancel(world.database, made.id)
    with world.database.write() as cx:
        assert world.scheduler._begin(cx, fire) is None
    assert statuses(world, made.id) == ["cancelled"]
    assert runs.recent(world.database) == ()


def test_what_the_schedule_fires_goes_first(world: World) -> None:
    world.apply("orders", Schedule(cron="0 * * * *"))
    backfill.start(world.database, "orders", "2026-01-01", "2026-01-04")
    world.go_on(0)
    assert "window" in world.options()
    world.at += 3600
    world.scheduler.fire()
    world.end()
    assert "window" not in world.options()
    world.end()
    assert world.options()["window"] == ["2026-01-02", "2026-01-03"]


def test_windows_that_wait_skip_no_fire(world: World) -> None:
    world.apply("orders", Schedule(cron="0 * * * *", if_running="skip"))
    backfill.start(world.database, "orders", "2026-01-01", "2026-01-04")
    world.go_on(3600)
    assert [f.status for f in schedule.fires(world.database) if f.reason == "cron"] == ["started"]


def test_a_window_that_fails_holds_the_rest_until_it_is_resumed(world: World) -> None:
    made = backfill.start(world.database, "orders", "2026-01-01", "2026-01-04")
    world.go_on(0)
    world.end()
    world.end(runs.FAILED, Invalid("a check failed"))
    world.go_on(3600)
    failed = backfill.get(world.database, made.id)
    assert failed.status == "failed"
    assert [w.status for w in failed.windows] == ["succeeded", "failed", "held"]
    assert failed.windows[1].message == "a check failed"
    with pytest.raises(Conflict, match="has not ended"):
        backfill.start(world.database, "orders", "2026-01-01", "2026-01-02")
    backfill.resume(world.database, made.id)
    world.go_on(0)
    assert world.options()["window"] == ["2026-01-02", "2026-01-03"]
    world.end()
    world.end()
    assert backfill.get(world.database, made.id).status == "done"
    assert len(world.started) == 4
    with pytest.raises(Conflict, match="nothing to resume"):
        backfill.resume(world.database, made.id)


def test_a_failure_that_may_pass_is_tried_again(world: World) -> None:
    made = backfill.start(world.database, "orders", "2026-01-01", "2026-01-02", retries=1)
    world.go_on(0)
    world.end(runs.FAILED, Unavailable("the store does not answer"))
    assert statuses(world, made.id) == ["waiting"]
    world.go_on(60)
    world.end(runs.FAILED, Unavailable("the store does not answer"))
    assert backfill.get(world.database, made.id).status == "failed"
    assert backfill.get(world.database, made.id).windows[0].attempt == 2


def test_windows_wait_for_the_one_before_that_is_tried_again(world: World) -> None:
    made = backfill.start(world.database, "orders", "2026-01-01", "2026-01-04", retries=1)
    world.go_on(0)
    world.end()
    world.end(runs.FAILED, Unavailable("the store does not answer"))
    assert statuses(world, made.id) == ["succeeded", "waiting", "waiting"]
    world.go_on(60)
    assert statuses(world, made.id) == ["succeeded", "started", "waiting"]
    world.end()
    world.end()
    assert backfill.get(world.database, made.id).status == "done"
    order = [world.options(number)["window"][0] for number in range(4)]
    assert order == ["2026-01-01", "2026-01-02", "2026-01-02", "2026-01-03"]


def test_cancelling_starts_no_further_window_and_stops_the_run(world: World) -> None:
    made = backfill.start(world.database, "orders", "2026-01-01", "2026-01-04")
    world.go_on(0)
    with world.database.write() as cx:
        cx.execute(update(run_table).values(status=runs.RUNNING, started_at=world.at))
    cancelled = backfill.cancel(world.database, made.id)
    assert cancelled.status == "cancelled"
    world.go_on(3600)
    assert statuses(world, made.id) == ["stopped", "cancelled", "cancelled"]
    assert backfill.get(world.database, made.id).status == "cancelled"
    assert len(world.started) == 1
    with pytest.raises(Conflict, match="cancelled already"):
        backfill.cancel(world.database, made.id)
    backfill.start(world.database, "orders", "2026-01-01", "2026-01-02")


def test_a_run_that_never_began_is_started_again(world: World) -> None:
    made = backfill.start(world.database, "orders", "2026-01-01", "2026-01-03")
    world.go_on(0)
    with world.database.write() as cx:
        cx.execute(update(run_table).values(requested_at=1.0))
    run_end.recover(world.database)
    world.go_on(0)
    assert len(world.started) == 2
    world.end()
    world.end()
    assert backfill.get(world.database, made.id).counts == {"succeeded": 2}


def test_only_products_that_are_applied(world: World) -> None:
    with pytest.raises(NotFound) as caught:
        backfill.start(world.database, "order", "2026-01-01", "2026-01-02")
    assert caught.value.hint == "did you mean 'orders'?"
    with pytest.raises(NotFound, match="there is no backfill 'x'"):
        backfill.get(world.database, "x")
    assert backfill.recent(world.database) == ()
    assert schedule.fires(world.database) == ()
