"""A month of schedules: what fired and how it ended, what comes, one day in full; on both databases."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.pipeline.test_scheduler import NOON, World

from tulle.catalog import look
from tulle.catalog.calendar import DAY, CalendarDay, CalendarPage, calendar_page
from tulle.config import Settings
from tulle.errors import Invalid
from tulle.observe import incidents
from tulle.pipeline import run as runs
from tulle.spec.schedule import Schedule
from tulle.state.db import Database

DATABASES = ("sqlite", "postgres")


@pytest.fixture
def world(database: Database, tmp_path: Path) -> World:
    incidents.follow(Settings(folder=tmp_path), database)
    return World(database, tmp_path)


def day(page: CalendarPage, date: str) -> CalendarDay:
    return next(one for week in page.weeks for one in week if one.date == date and one.is_of_month)


def render(page: CalendarPage) -> str:
    template = look.environment().get_template("calendar.html")
    return template.render(page=page, mesh="m", path="/schedules/calendar")


def test_days_past_tell_how_they_ended_and_days_to_come_what_will(world: World) -> None:
    world.apply("orders<b>", Schedule(cron="30 6 * * *"))
    for status, error in ((runs.SUCCEEDED, None), (runs.FAILED, Invalid("no")), (runs.UNCHANGED, None)):
        world.go_on(DAY)
        world.end(status, error)
    page = calendar_page(world.database, at=world.at)  # noon of the fourth of June
    assert page.title == "June 2026"
    assert [[(t.look, t.count) for t in day(page, f"2026-06-0{n}").past] for n in (1, 2, 3, 4, 5)] == [
        [],
        [("ok", 1)],
        [("bad", 1)],
        [("ok", 1)],
        [],
    ]
    assert day(page, "2026-06-03").failed[0].run_id == world.started[1]
    assert day(page, "2026-06-05").next == (("06:30", "orders<b>"),)
    assert day(page, "2026-06-04").coming == 0
    assert day(page, "2026-06-30").coming == 1
    html = render(page)
    assert f'href="/runs/{world.started[1]}"' in html
    assert "1 failed" in html
    assert "orders&lt;b&gt;" in html
    assert "<b>" not in html


def test_one_day_in_full(world: World) -> None:
    world.apply("orders", Schedule(cron="0 */6 * * *"))
    world.go_on(6 * 3600)
    world.end(runs.FAILED, Invalid("no"))
    page = calendar_page(world.database, day="2026-06-01", at=world.at)
    assert [fire.status for fire in page.of_day] == ["failed"]
    page = calendar_page(world.database, day="2026-06-02", at=world.at)
    assert [one.at for one in page.coming_of_day] == [NOON + DAY / 2 + n * DAY / 4 for n in range(4)]
    assert "Nothing on this day" in render(calendar_page(world.database, day="2026-05-02", at=world.at))


def test_months_before_and_after(world: World) -> None:
    world.apply("orders", Schedule(cron="0 0 1 * *"))
    page = calendar_page(world.database, "2026-12", at=NOON)
    assert [d.date for week in page.weeks for d in week if d.coming] == ["2026-12-01"]
    assert (page.before, page.after) == ("2026-11", "2027-01")
    assert calendar_page(world.database, "2028-06", at=NOON).after == ""
    for wrong in ("2029-01", "2026-13", "x", "2026-6"):
        with pytest.raises(Invalid, match="calendar"):
            calendar_page(world.database, wrong, at=NOON)


def test_of_one_product_and_of_none(world: World) -> None:
    assert "No product has a schedule" in render(calendar_page(world.database, at=NOON))
    world.apply("orders", Schedule(cron="0 9 * * *"))
    world.apply("other", Schedule(cron="0 8 * * *"))
    page = calendar_page(world.database, product="orders", at=NOON)
    assert {name for week in page.weeks for d in week for _, name in d.next} == {"orders"}
    assert "is in force" in render(calendar_page(world.database, product="<x>", at=NOON))


def test_more_than_a_calendar_holds_is_told(world: World) -> None:
    world.apply("busy", Schedule(cron="* * * * *"))
    page = calendar_page(world.database, at=NOON)
    assert page.is_cut
    assert day(page, "2026-06-02").coming == 1440
    assert "More is to come" in render(page)
