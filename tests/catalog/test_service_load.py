"""How a service fares: queries counted as they are collected, read back as quantiles and curves."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest
from tests.catalog.conftest import Browser, World
from tests.control.logged import LoggedMesh

from tulle.catalog.look import latency
from tulle.catalog.query_log import OWNER, repository_name
from tulle.catalog.service_load import LoadReader
from tulle.control import query_log
from tulle.errors import Invalid
from tulle.serving.log_rows import table_of
from tulle.serving.log_traffic import SCHEMA, bucket, counts, quantile

SERVICE = "customer-totals"
FEATURES = {"recency": 9, "frequency": 22, "spend": 5.25}
NOON = 1_800_000_000.0 // 60 * 60


def row(at: float, microseconds: int, **other: object) -> dict[str, object]:
    usual = {
        "environment": "",
        "endpoint": "e",
        "generation": "v1",
        "shadow": False,
        "status": 200,
        "item": 0,
    }
    return {**usual, "asked_at": int(at * 1e6), "microseconds": microseconds, **other}


def keep(world: World, rows: list[dict[str, object]], at: float) -> None:
    """What the collector leaves of such rows."""
    name = repository_name(SERVICE)
    repository = world.lake.create_repository(name, metadata={OWNER: SERVICE})
    day = time.strftime("%Y-%m-%d", time.gmtime(at))
    data = query_log._parquet(table_of(list(counts(rows)), SCHEMA))
    repository.put("main", f"traffic/day={day}/0-a.parquet", data)
    repository.commit("main", "counted")


def test_a_bucket_is_at_most_a_fortieth_off() -> None:
    for microseconds in range(20, 100_000, 37):
        assert abs(bucket(microseconds) - microseconds) <= 0.025 * microseconds + 0.5
    assert bucket(0) == 1


def test_quantiles_of_buckets_are_those_of_what_was_measured() -> None:
    drawn = random.Random(7)
    measured = sorted(int(drawn.lognormvariate(6, 1)) for _ in range(5000))
    found = sorted((c["microseconds"], c["requests"]) for c in counts(row(0, one) for one in measured))
    for share in (0.5, 0.95, 0.99):
        exact = measured[int(share * len(measured))]
        assert quantile(found, share) == pytest.approx(exact, rel=0.06)
    assert quantile([], 0.5) is None


def test_what_is_counted_is_read_by_endpoint_and_generation(world: World) -> None:
    rows = [row(NOON - 30, 100) for _ in range(60)]
    rows += [row(NOON - 30, 100, item=1)]  # of a request for many, counted once
    rows += [row(NOON - 600, 4000, status=500), row(NOON - 600, 2000)]
    rows += [row(NOON - 30, 50, generation="v2", shadow=True)]
    rows += [row(NOON - 4000, 50), row(NOON - 30, 9, environment="test")]  # too old, elsewhere
    keep(world, rows, NOON - 30)
    load = LoadReader(world.settings, world.lake).read(SERVICE, now=NOON - 1)
    assert [(s.generation, s.shadow, s.whole.requests, s.whole.failed) for s in load.series] == [
        ("v1", False, 62, 1),
        ("v2", True, 1, 0),
    ]
    (first, _) = load.series
    assert len(first.points) == 60
    assert first.points[-1].requests == 60
    assert first.points[-1].p99 == pytest.approx(100, rel=0.026)
    before = next(point for point in first.points if point.failed)
    assert (before.requests, before.failed) == (2, 1)
    assert before.p99 == pytest.approx(4000, rel=0.026)


def test_the_page_draws_it_and_says_it_in_words(world: World) -> None:
    now = time.time()
    keep(
        world,
        [row(now - 300 + n % 240, 100 + n, status=404 if n % 50 == 0 else 200) for n in range(600)],
        now,
    )
    with Browser(world) as browser:
        page = browser.get(f"/services/{SERVICE}/deployments")
        part = browser.get(f"/services/{SERVICE}/load?span=day")
        assert "600 requests, 12 failed" in page
        assert "12 of 600 requests failed" in page
        assert page.count("<polyline") >= 5  # rate, failed, three of latency
        assert "in the last day" in part
        assert "there is no span" in browser.get(f"/services/{SERVICE}/load?span=year", 422)
    with pytest.raises(Invalid):
        world.reader().load.read(SERVICE, span="week")


def test_what_workers_noted_is_collected_while_somebody_looks_and_not_each_time(world: World) -> None:
    collected: list[str] = []
    reader = LoadReader(world.settings, world.lake, collected.append)
    for span in ("hour", "day", "hour"):
        reader.page(SERVICE, "", span)
    assert collected == [SERVICE]


def test_nothing_kept_is_told(browser: Browser) -> None:
    assert "Nothing was asked of it in prod" in browser.get(f"/services/{SERVICE}/load")


def test_what_workers_noted_is_counted_with_its_queries(tmp_path: Path) -> None:
    logged = LoggedMesh(tmp_path)
    many = {"items": [{"features": FEATURES}] * 3}
    logged.ask(
        [("/buys/predict", {"features": FEATURES}), ("/buys/predict-multi", many), ("/buys/predict", b"{")]
    )
    query_log.collect_all(logged.workspace, "scores")
    load = LoadReader(logged.workspace.settings, logged.workspace.lake).read("scores")
    assert [(s.endpoint, s.generation, s.whole.requests, s.whole.failed) for s in load.series] == [
        ("buys", "v1", 3, 1)
    ]
    logged.workspace.database.close()


@pytest.mark.parametrize(
    ("microseconds", "words"),
    [(None, "–"), (12, "12 µs"), (1234, "1.23 ms"), (2_500_000, "2.5 s")],
)
def test_latencies_in_words(microseconds: float | None, words: str) -> None:
    assert latency(microseconds) == words
