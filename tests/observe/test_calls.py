"""The store of counts: once each whatever ends when, bounded, and read back as series."""

from __future__ import annotations

import random
import sqlite3
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.observe.lines import NOON, as_read, line

from tulle.errors import Broken, Invalid
from tulle.observe import calls as module
from tulle.observe.batch import Batch
from tulle.observe.calls import DAY, HOUR, MINUTE, OTHERS, Calls, Place
from tulle.observe.durations import bucket, packed, unpacked
from tulle.observe.exposition import exposed
from tulle.observe.insight import Insight, Span, Which, span_of
from tulle.observe.operations import Operations
from tulle.observe.tally import Tally

OPERATIONS = Operations({"offers": ["POST /next/predict"]}, "/public/api/v1/")
NOW = NOON + 1800


@pytest.fixture
def calls(tmp_path: Path) -> Iterator[Calls]:
    made = Calls(tmp_path)
    yield made
    made.close()


def batch(*lines: bytes) -> Batch:
    counting = Tally(OPERATIONS)
    counting.count(as_read(lines))
    return counting.taken()


def add(calls: Calls, *lines: bytes) -> None:
    calls.add(batch(*lines), Place("f", 1))


def whole(calls: Calls, span: str = "hour", **which: str) -> int:
    found = Insight(calls).told("mesh", span_of(span, NOW), Which(**which))
    return sum(one.whole.requests for one in found.series)


def test_nothing_is_known_before_anything_is_counted(calls: Calls) -> None:
    assert calls.state() is None
    found = Insight(calls).told("api", span_of("day", NOW))
    assert (found.series, found.counted_until) == ((), None)
    assert Insight(calls).kinds(span_of("day", NOW)) == Insight(calls).slowest(span_of("day", NOW)) == []
    assert not calls.file.exists()  # asking makes none


def test_counts_add_up_at_each_width_and_come_back_as_series(calls: Calls) -> None:
    add(calls, *(line(NOON + n, us=1000 + n) for n in range(100)))
    add(calls, line(NOON + 30, us=50_000, code=500), line(NOON, client="app-2", generation="v2", code=404))
    add(calls, line(NOON - 7200, service="other"))
    for span in ("hour", "day", "week", "month"):
        assert whole(calls, span, service="offers") == 102
    assert (whole(calls), whole(calls, "day")) == (102, 103)
    found = Insight(calls).told("api", span_of("hour", NOW))
    (offers,) = found.series
    assert offers.name == {"service": "offers", "environment": ""}
    assert len(offers.points) == 60
    point = next(one for one in offers.points if one.at == NOON)
    assert (point.requests, point.failed, point.wrong, point.refused) == (62, 1, 1, 0)
    assert offers.whole.p50 == pytest.approx(1050, rel=0.03)
    assert offers.whole.p99 == pytest.approx(1099, rel=0.03)
    empty = next(one for one in offers.points if one.at == NOON - 600)
    assert (empty.requests, empty.p50, empty.mean) == (0, None, None)
    by = {
        by: [(*one.name.values(), one.whole.requests) for one in Insight(calls).told(by, found.span).series]
        for by in ("client", "generation", "operation")
    }
    assert by["client"] == [("app-1", 101), ("app-2", 1)]
    assert by["generation"] == [("offers", "", "v1", 101), ("offers", "", "v2", 1)]
    assert by["operation"] == [("offers", "", "POST /next/predict", 102)]
    some = Insight(calls).told("client", found.span, limit=1, points=False)
    assert (len(some.series), some.more, some.series[0].points) == (1, 1, ())


@pytest.mark.parametrize("span", ["hour", "day", "week", "month"])
def test_a_whole_without_points_is_the_same_and_read_from_the_widest_counts(calls: Calls, span: str) -> None:
    drawn = random.Random(3)
    add(calls, *(line(NOW - drawn.randrange(40 * DAY), us=drawn.randrange(9000)) for _ in range(300)))
    add(calls, *(line(NOW - drawn.randrange(30 * HOUR), us=drawn.randrange(9000)) for _ in range(300)))
    add(
        calls,
        *(line(NOW - drawn.randrange(HOUR), us=drawn.randrange(9000), client="app-2") for _ in range(9)),
    )
    chosen, insight = span_of(span, NOW), Insight(calls)
    for which in (Which(), Which(clients=("app-2",))):
        (whole,) = insight.told("mesh", chosen, which, points=False).series
        assert whole.whole == insight.told("mesh", chosen, which).series[0].whole
    pieces = list(chosen.widest())
    assert [first for _, first, _ in pieces] == [chosen.since, *(last for *_, last in pieces[:-1])]
    assert pieces[-1][2] == chosen.until
    assert len(pieces) <= 5
    assert (
        sum((last - first) // width for width, first, last in pieces) <= 160
    )  # of 43,200 minutes in a month


def test_of_many_clients_some_are_told_whatever_the_others_ask(calls: Calls) -> None:
    add(calls, *(line(NOON + n, client="loud") for n in range(20)), line(NOON, client="quiet"))
    told = Insight(calls).told("client", span_of("hour", NOW), Which(clients=("quiet", "none")), limit=2)
    assert [(one.name["client"], one.whole.requests) for one in told.series] == [("quiet", 1)]
    assert Insight(calls).told("client", span_of("hour", NOW), Which(clients=())).series == ()


def test_what_is_asked_for_wrongly_is_refused_with_the_nearest(calls: Calls) -> None:
    with pytest.raises(Invalid) as one:
        span_of("weak")
    assert one.value.hint == "did you mean 'week'?"
    with pytest.raises(Invalid):
        Insight(calls).told("path", span_of("day"))


def test_a_batch_and_its_place_are_written_together_or_not_at_all(
    calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(calls, line(NOON))
    with monkeypatch.context() as patch:
        patch.setattr(Calls, "_remember", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            calls.add(batch(line(NOON, client="new")), Place("f", 2))
    assert whole(calls) == 1
    state = calls.state()
    assert state is not None
    assert (state.place, state.lines, state.lost) == (Place("f", 1), 1, 0)
    calls.add(batch(line(NOON, client="new")), Place("g", 7), lost=True)
    state = calls.state()
    assert state is not None
    assert (state.place, state.lines, state.lost, state.latest) == (Place("g", 7), 2, 1, NOON + 0.001)
    assert whole(calls) == 2


def test_it_goes_on_with_what_was_written_before(tmp_path: Path) -> None:
    for number in range(3):
        again = Calls(tmp_path)
        add(again, line(NOON))
        assert whole(again) == number + 1
        again.close()
    assert (tmp_path / "calls.db").stat().st_mode & 0o777 == 0o600


def test_of_many_clients_those_that_ask_most_are_kept(calls: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CLIENTS_A_MINUTE", 10)
    monkeypatch.setattr(module, "CLIENTS_KEPT", 5)
    add(calls, *(line(NOON, client=f"app-{n % 40:02}") for n in range(400)), *[line(NOON, client="big")] * 30)
    insight, hour = Insight(calls), span_of("hour", NOW)
    assert next(one.name["client"] for one in insight.told("client", hour).series) == OTHERS
    day = Span("day", NOON - HOUR, 2 * HOUR, HOUR, HOUR)
    assert len(insight.told("client", day).series) == 41  # an hour tells all apart until it is over
    calls.keep(days=30, most_bytes=1 << 30, now=NOW + HOUR)
    told = insight.told("client", day).series
    assert {one.name["client"] for one in told} == {OTHERS, "big", "app-39", "app-38", "app-37", "app-36"}
    assert sum(one.whole.requests for one in told) == 430
    assert whole(calls) == 430


def test_durations_that_came_in_parts_are_put_together(calls: Calls) -> None:
    drawn = random.Random(5)
    took = [int(drawn.lognormvariate(8, 0.8)) for _ in range(300)]

    def stored(width: int = HOUR) -> list[bytes]:
        with calls.read() as cx:
            rows = cx.execute("SELECT durations FROM cells WHERE width = ?", (width,)).fetchall()
        return [row[0] for row in rows]

    for part in range(0, 300, 5):
        add(calls, *(line(NOON, us=us) for us in took[part : part + 5]))
        assert max(map(len, stored())) <= module._LONGEST  # there are fewer buckets than that holds
    wanted = Counter(map(bucket, took))
    for width in (MINUTE, HOUR, DAY):
        found = stored(width)
        assert [unpacked(one) for one in found] == [wanted] * 2  # of all clients, and of the one
    before = Insight(calls).told("mesh", span_of("day", NOW)).series
    calls.keep(days=30, most_bytes=1 << 30, now=NOW + HOUR)
    assert stored() == [packed(wanted)] * 2
    assert Insight(calls).told("mesh", span_of("day", NOW)).series == before


def test_what_is_old_is_forgotten(calls: Calls) -> None:
    add(calls, line(NOON), line(NOON - 3 * DAY), line(NOON - 40 * DAY))
    add(calls, line(NOON - 40 * DAY, code=429, details="request_rate_limited"))
    calls.keep(days=30, most_bytes=1 << 30, now=NOW)
    with calls.read() as cx:
        found = cx.execute("SELECT width, count(*) FROM cells GROUP BY 1 ORDER BY 1").fetchall()
        assert found == [(MINUTE, 2), (HOUR, 4), (DAY, 4)]  # of all clients, and of each
        assert cx.execute("SELECT count(*) FROM keys").fetchone() == (2,)
        assert cx.execute("SELECT count(*) FROM kinds").fetchone() == (0,)
        assert cx.execute("SELECT count(*) FROM slow").fetchone() == (2,)


def test_a_file_that_grows_too_large_forgets_the_oldest_of_clients_first(calls: Calls) -> None:
    for day in range(6):
        add(calls, *(line(NOON - day * DAY + n * 60, client=f"c-{n}") for n in range(60)))
    before = calls._bytes()
    calls.keep(days=30, most_bytes=before * 2 // 3, now=NOW)
    assert calls._bytes() <= before * 2 // 3
    assert whole(calls, "week") == 360  # of all clients together nothing is missing
    oldest = Span("x", NOON - 5 * DAY, HOUR, HOUR, HOUR)
    assert Insight(calls).told("client", oldest).series == ()


def test_a_damaged_file_is_told(calls: Calls) -> None:
    add(calls, line(NOON))
    calls.close()
    calls.file.write_bytes(b"no database" * 1000)
    with pytest.raises(Broken, match="damaged"):
        calls.state()


def test_violations_and_the_slowest_are_told(calls: Calls) -> None:
    add(calls, *[line(NOON, code=429, details="request_rate_limited")] * 3, line(NOON, us=9_000_000))
    add(calls, line(NOON, code=503, details="no_healthy_upstream", service="other"))
    insight, day = Insight(calls), span_of("day", NOW)
    assert [
        (one["service"], one["kind"], one["violation"], one["requests"]) for one in insight.kinds(day)
    ] == [
        ("offers", "TooManyRequests", True, 3),
        ("other", "ServiceUnavailable", False, 1),
    ]
    assert insight.kinds(day, Which("other"))[0]["requests"] == 1
    slowest = insight.slowest(day)[0]
    assert (slowest["microseconds"], slowest["request_id"]) == (9_000_000, f"r-{NOON}-9000000")
    assert insight.slowest(day, Which("other"), limit=5)[0]["service"] == "other"


def test_who_was_asked_last_does_not_count_who_only_tries(calls: Calls) -> None:
    add(calls, line(NOON, client="tulle-portal-01234567"), line(NOON - 2 * DAY))
    add(calls, line(NOON, code=403, details="rbac_access_denied_matched_policy[none]"))
    assert Insight(calls).last_asked("tulle-portal-") == {("offers", "", ""): (NOON - 2 * DAY) // DAY * DAY}


def test_readers_see_a_whole_batch_or_nothing_of_it(calls: Calls) -> None:
    add(calls, line(NOON))
    with calls.read() as cx:
        assert cx.execute("SELECT sum(requests) FROM cells WHERE width = 60").fetchone() == (2,)
        add(calls, line(NOON))
        assert cx.execute("SELECT sum(requests) FROM cells WHERE width = 60").fetchone() == (2,)
        with pytest.raises(sqlite3.OperationalError):
            cx.execute("DELETE FROM cells")


def test_violations_are_told_apart_by_version_and_generation(calls: Calls) -> None:
    limited = {"code": 429, "details": "request_rate_limited"}
    add(calls, *[line(NOON, version="v1", generation=None, **limited)] * 3)
    add(calls, *[line(NOON + 61, version="v2", generation=None, **limited)] * 2)
    add(calls, line(NOON, version="v2", generation="g7", code=400, error="JsonThreat"))
    insight, day = Insight(calls), span_of("day", NOW)

    def told(which: Which, *by: str) -> list[tuple[object, ...]]:
        found = insight.kinds(day, which, by=by)
        return [(*(one[name] for name in by), one["kind"], one["requests"]) for one in found]

    assert told(Which()) == [("TooManyRequests", 5), ("JsonThreat", 1)]
    of_versions = [("v1", "TooManyRequests", 3), ("v2", "TooManyRequests", 2), ("v2", "JsonThreat", 1)]
    assert told(Which(), "version") == of_versions
    assert told(Which("offers", version="v2"), "generation") == [
        ("", "TooManyRequests", 2),
        ("g7", "JsonThreat", 1),
    ]
    assert told(Which(generation="g7"), "version", "generation") == [("v2", "g7", "JsonThreat", 1)]
    assert told(Which(version="v3")) == []
    for span in ("hour", "week", "month"):
        assert sum(one["requests"] for one in insight.kinds(span_of(span, NOW))) == 6
    with pytest.raises(Invalid, match="not told apart by 'client'"):
        insight.kinds(day, by=["client"])
    text = exposed(calls, is_open=False)
    assert 'generation="g7",version="v2",kind="JsonThreat",violation="true"} 1' in text
    assert 'generation="",version="v1",kind="TooManyRequests",violation="true"} 3' in text


@pytest.mark.parametrize("are_violations_alone", [False, True], ids=["all", "violations"])
def test_a_file_of_before_versions_of_apis_is_read_on(tmp_path: Path, *, are_violations_alone: bool) -> None:
    made = Calls(tmp_path)
    add(made, line(NOON), line(NOON, us=5000, code=429, details="request_rate_limited"))
    made.close()
    changed = {
        "kinds": "PRIMARY KEY (width, service, environment, at, kind)",
        "kind_totals": "PRIMARY KEY (service, environment, kind)",
    }
    if not are_violations_alone:
        changed |= {
            "keys": "UNIQUE (family, service, environment, operation, generation, client)",
            "totals": "PRIMARY KEY (service, environment, generation)",
        }
    with sqlite3.connect(made.file) as cx:  # as it was
        for name, unique in changed.items():
            lacking = {"version"} if name in {"keys", "totals"} else {"version", "generation"}
            columns = [row[1:3] for row in cx.execute(f"PRAGMA table_info({name})") if row[1] not in lacking]
            types = ", ".join(
                f"{column} {'INTEGER PRIMARY KEY' if column == 'id' else kind} " for column, kind in columns
            )
            names = ", ".join(column for column, _ in columns)
            cx.execute(f"CREATE TABLE old ({types}, {unique})")
            cx.execute(f"INSERT INTO old SELECT {names} FROM {name}")
            cx.execute(f"DROP TABLE {name}")
            cx.execute(f"ALTER TABLE old RENAME TO {name}")
        if not are_violations_alone:
            cx.execute("ALTER TABLE slow DROP COLUMN version")
    calls = Calls(tmp_path)
    calls.bring_up()
    refused = {"code": 429, "details": "request_rate_limited"}
    add(calls, line(NOON + 60, service="offers", version="v2"), line(NOON, version="v2", **refused))
    kinds = Insight(calls).kinds(span_of("hour", NOW), by=["version"])
    assert {one["version"]: one["requests"] for one in kinds} == {"": 1, "v2": 1}
    assert whole(calls) == 4
    assert whole(calls, version="v2") == 2
    found = Insight(calls).told("version", span_of("hour", NOW))
    assert {one.name["version"]: one.whole.requests for one in found.series} == {"": 2, "v2": 2}
    assert {one["version"] for one in Insight(calls).slowest(span_of("hour", NOW))} == {"", "v2"}
    assert 'generation="v1",version="v2"' in exposed(calls, is_open=False)
    calls.close()


def test_who_is_named_is_found_among_many_who_asked_more(calls: Calls) -> None:
    """Of an hour that is over only those are kept that asked most."""
    begin = NOW // HOUR * HOUR - 2 * HOUR
    for number in range(600):
        add(calls, *(line(begin + number // 60 * 300 + k, client=f"app-{number:03}") for k in range(3)))
    add(calls, *(line(begin + 3300 + k, client="kim") for k in range(2)))
    calls.keep(days=30, most_bytes=1 << 30, now=NOW)
    insight, day = Insight(calls), span_of("day", NOW)
    for points in (True, False):
        for by, which in (("client", Which(clients=("kim",))), ("service", Which(client="kim"))):
            found = insight.told(by, day, which, points=points)
            assert [one.whole.requests for one in found.series] == [2]
