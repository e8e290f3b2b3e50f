"""The page of schedules: the next days, what is in force, what fired, backfills, and what is wrong."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest
from tests.pipeline.test_scheduler import World

from tulle.catalog import look
from tulle.catalog.schedules import schedules_page
from tulle.config import Settings
from tulle.errors import Invalid
from tulle.observe import incidents
from tulle.pipeline import backfill, schedule
from tulle.pipeline import run as runs
from tulle.spec.schedule import Schedule
from tulle.state.db import Database


@pytest.fixture
def world(database: Database, tmp_path: Path) -> World:
    incidents.follow(Settings(folder=tmp_path), database)
    made = World(database, tmp_path)
    made.apply("orders<b>", Schedule(cron="30 6 * * *"))
    made.apply("hourly", Schedule(cron="0 * * * *"), domain="other")
    made.apply("below", Schedule(on=("hourly",)))
    made.apply("paused", Schedule(cron="* * * * *", paused=True))
    return made


def render(world: World) -> str:
    page = schedules_page(world.database, at=world.at)
    template = look.environment().get_template("schedules.html")
    return template.render(page=page, mesh="m", path="/schedules")


def test_the_next_days(world: World) -> None:
    page = schedules_page(world.database, at=world.at)
    assert [day.name for day in page.days][:2] == ["Monday", "Tuesday"]
    assert page.days[0].date == dt.datetime.fromtimestamp(world.at, dt.UTC).date().isoformat()
    today, tomorrow = page.days[0].entries, page.days[1].entries
    assert [(e.product, e.told) for e in today] == [("hourly", "13:00 to 23:00, 11 times")]
    assert ("orders<b>", "06:30") in [(e.product, e.told) for e in tomorrow]
    assert page.count == 4


def test_what_fired_and_what_is_wrong(world: World) -> None:
    world.go_on(3600)
    world.end(runs.FAILED, Invalid("a <check> failed"))
    incidents.follow(world.settings, world.database)
    backfill.start(world.database, "hourly", "2026-01-01", "2026-01-05")
    html = render(world)
    for text in ("Wrong now", "a &lt;check&gt; failed", "by the clock", "0 of 4 windows", "paused"):
        assert text in html
    assert f'href="/runs/{world.started[0]}"' in html
    assert "when upstream publishes" in html
    assert "orders&lt;b&gt;" in html
    assert "<b>" not in html


def test_a_value_that_stopped_a_run_is_not_shown(world: World) -> None:
    world.go_on(3600)
    world.end(runs.FAILED, Invalid("Could not convert string 'ann@x.org' to INT32"))
    incidents.follow(world.settings, world.database)
    html = render(world)
    assert html.count("Could not convert string") == 2  # what is wrong, and what fired
    assert "ann@x.org" not in html


def test_ten_thousand_schedules_are_a_page(world: World) -> None:
    one = schedule.all_scheduled(world.database)[0]
    known = [one] * 10_000
    assert len(schedule.upcoming(known, world.at + 7 * 86_400, limit=2000)) == 2000
