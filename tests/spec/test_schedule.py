"""Schedules: what documents may say, and the moments that follow, across clock changes in both directions."""

from __future__ import annotations

import datetime as dt
from itertools import islice
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.spec.conftest import a_product, problems_of

from tulle.errors import Invalid
from tulle.spec.mesh import load_mesh
from tulle.spec.schedule import Schedule, duration, words

HEAD = """\
apiVersion: core.oam.dev/v1beta1
kind: DataProduct
spec:
  components:
  - {name: sales, type: domain}
  - name: purchases
    type: data-product
    properties:
      definition: All purchases
      schedule: SAYS
"""


def head(says: str) -> str:
    return HEAD.replace("SAYS", says)


def moment(text: str, zone: str = "UTC") -> float:
    return dt.datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


def told(cron: str, zone: str, start: str, count: int) -> list[str]:
    """The next fires after a wall-clock time, in UTC."""
    schedule = Schedule(cron=cron, time_zone=zone)
    found = islice(schedule.fires(moment(start, zone)), count)
    return [dt.datetime.fromtimestamp(at, dt.UTC).strftime("%m-%d %H:%M") for at in found]


def test_a_document_says_when_its_product_runs() -> None:
    says = "{cron: '30 6 * * 1-5', time_zone: Europe/Berlin, retries: 3, retry_delay: 10m, timeout: 2h, if_running: skip}"
    schedule = a_product(head=head(says)).schedule
    assert schedule == Schedule(
        cron="30 6 * * 1-5",
        time_zone="Europe/Berlin",
        retries=3,
        retry_delay=600,
        timeout=7200,
        if_running="skip",
    )
    assert schedule.place
    assert schedule.place.line == 10
    assert schedule.sentence == "at '30 6 * * 1-5' (Europe/Berlin)"
    assert a_product().schedule is None


def test_late_is_twice_the_age_unless_said() -> None:
    assert a_product(head=head("{fresh_within: 1d}")).schedule == Schedule(
        fresh_within=86_400, late_after=172_800
    )
    late = a_product(head=head("{fresh_within: 1d, late_after: 25h}")).schedule
    assert late is not None
    assert late.late_after == 90_000


@pytest.mark.parametrize(
    ("says", "message", "hint", "column"),
    [
        ("{cron: '0 6 * * *', time_zone: Europe/Berlinn}", "there is no time zone 'Europe/Berlinn'", "'Europe/Berlin'", 48),
        ("{cron: '0 6 * * *', time_zone: ../../etc/passwd}", "there is no time zone '../../etc/passwd'", "IANA", 48),
        ("{cron: '0 25 * * *'}", "cron has '25' as its hour, which is none", "an hour is 0 to 23", 24),
        ("{cron: '0 6 * *'}", "cron has 4 fields, expected 5", "minute, hour", 24),
        ("{cron: '0 0 6 * * *'}", "cron has 6 fields, expected 5", "minute, hour", 24),
        ("{cron: '@daily'}", "'@daily' is written out in a schedule", "write 0 0 * * *", 24),
        ("{cron: '0 0 30 2 *'}", "cron '0 0 30 2 *' never fires", "no such day exists", 24),
        ("{cron: '0 0 31 4,6 *'}", "cron '0 0 31 4,6 *' never fires", "no such day exists", 24),
        ("{retries: 2}", "the schedule says no time to run", "give it cron, on or fresh_within", 17),
        ("{fresh_within: 1d, time_zone: UTC}", "a time zone without cron means nothing", "add cron", 47),
        ("{fresh_within: 0m}", "fresh_within is no time at all", "1m or more", 32),
        ("{fresh_within: 999999w}", "fresh_within is longer than ten years", "3650d or less", 32),
        ("{fresh_within: 2d, late_after: 1d}", "data is late after 1d, before it is made anew after 2d", "at least 2d", 48),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused_at_its_place(says: str, message: str, hint: str, column: int) -> None:
    (problem,) = problems_of(head=head(says))
    assert problem.message == message
    assert hint in (problem.hint or "")
    assert problem.place
    assert (problem.place.line, problem.place.column) == (10, column)


def test_the_schema_speaks_of_durations_and_unknown_properties() -> None:
    found = [p.message for p in problems_of(head=head("{fresh_within: 1 day, catchup: all}"))]
    assert any("a number with s, m, h, d or w" in message for message in found)
    assert any("catchup" in message for message in found)


def test_when_the_clock_goes_forward_what_is_left_out_is_made_up_for() -> None:
    # Berlin, 29 March 2026: 02:00 becomes 03:00, so there is no 02:30.
    assert told("30 2 * * *", "Europe/Berlin", "2026-03-28T00:00", 3) == [
        "03-28 01:30",
        "03-29 01:00",  # 03:00 summer time, at once after the change
        "03-30 00:30",
    ]
    # What goes by minutes goes on evenly: 01:30, 01:45, 03:00, 03:15 on the wall.
    assert told("*/15 * * * *", "Europe/Berlin", "2026-03-29T01:15", 4) == [
        "03-29 00:30",
        "03-29 00:45",
        "03-29 01:00",
        "03-29 01:15",
    ]


def test_when_the_clock_goes_back_a_time_of_day_fires_once() -> None:
    # Berlin, 25 October 2026: 03:00 becomes 02:00, so 02:30 comes twice.
    assert told("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00", 2) == ["10-25 00:30", "10-26 01:30"]
    # What goes by hours fires in both.
    assert told("30 * * * *", "Europe/Berlin", "2026-10-25T01:00", 4) == [
        "10-24 23:30",
        "10-25 00:30",
        "10-25 01:30",
        "10-25 02:30",
    ]


def test_a_zone_that_changes_by_half_an_hour() -> None:
    # Lord Howe, 4 October 2026: 02:00 becomes 02:30.
    assert told("15 2 * * *", "Australia/Lord_Howe", "2026-10-03T12:00", 2) == ["10-03 15:30", "10-04 15:15"]


@settings(max_examples=60, deadline=None)
@given(
    minute=st.sampled_from(["*", "*/7", "0", "30", "15,45"]),
    hour=st.sampled_from(["*", "*/3", "2", "1-3", "23"]),
    zone=st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata"]),
    start=st.floats(1_760_000_000, 1_830_000_000),
)
def test_fires_go_forward_and_do_not_depend_on_where_one_starts(
    minute: str, hour: str, zone: str, start: float
) -> None:
    schedule = Schedule(cron=f"{minute} {hour} * * *", time_zone=zone)
    found = list(islice(schedule.fires(start), 12))
    assert found[0] > start
    assert found == sorted(set(found))
    step, one_by_one = start, []
    for _ in found:  # the way the scheduler goes, which remembers only the next one
        following = schedule.after(step)
        assert following is not None
        one_by_one.append(following)
        step = following
    assert one_by_one == found


def test_durations() -> None:
    assert [duration(t) for t in ("45s", "30m", "6h", "1d", "2w")] == [45, 1800, 21_600, 86_400, 1_209_600]
    assert [words(n) for n in (45, 1800, 21_600, 86_400, 1_209_600, 90)] == [
        "45s",
        "30m",
        "6h",
        "1d",
        "2w",
        "90s",
    ]
    with pytest.raises(Invalid, match="'1 day' is no duration"):
        duration("1 day")


def test_a_product_runs_after_products_it_takes_from(mesh: Path, write_product: object) -> None:
    write_product("first")  # type: ignore[operator]
    file = write_product("second", takes=["first"])  # type: ignore[operator]
    text = file.read_text()
    scheduled = "definition: About second, schedule: {on: [NAME]}"
    file.write_text(text.replace("definition: About second", scheduled.replace("NAME", "first")))
    schedule = load_mesh(mesh).product("second").schedule
    assert schedule is not None
    assert schedule.on == ("first",)
    file.write_text(text.replace("definition: About second", scheduled.replace("NAME", "frist")))
    with pytest.raises(Invalid) as caught:
        load_mesh(mesh)
    (problem,) = caught.value.problems
    assert problem.message == "the schedule runs after product 'frist', which does not exist"
    assert problem.hint == "did you mean 'first'?"
    assert problem.place
    assert problem.place.line
