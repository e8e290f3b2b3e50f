"""Prometheus' text: names, types, buckets that add up, and labels that nobody breaks out of."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.observe.lines import NOON, as_read, line

from tulle.observe.calls import Calls, Place
from tulle.observe.exposition import OPEN, PLAIN, content_type, exposed
from tulle.observe.operations import Operations
from tulle.observe.tally import Tally

_SAMPLE = re.compile(r'^[a-z_]+(\{([a-z]+="(\\.|[^"\\])*",?)*\})? [0-9.e+-]+$')


@pytest.fixture
def calls(tmp_path: Path) -> Iterator[Calls]:
    made = Calls(tmp_path)
    counting = Tally(Operations({}, "/"))
    counting.count(
        as_read([*[line(NOON, us=900)] * 3, line(NOON, us=40_000, code=500), line(NOON, code=0, details="x")])
    )
    counting.count(as_read([line(NOON, service='of"fers\\', code=429, details="request_rate_limited")]))
    counting.count(as_read([line(NOON, service=None, code=404, details="direct_response")]))
    made.add(counting.taken(), Place("f", 1))
    yield made
    made.close()


def samples(text: str) -> dict[str, float]:
    found = {}
    for one in text.splitlines():
        if not one.startswith("#"):
            assert _SAMPLE.match(one), one
            name, _, value = one.rpartition(" ")
            found[name] = float(value)
    return found


def test_counters_and_histograms(calls: Calls) -> None:
    text = exposed(calls, is_open=False)
    found = samples(text)
    offers = 'service="offers",environment="",generation="v1",version=""'
    assert found[f'tulle_requests_total{{{offers},status="2xx"}}'] == 3
    assert found[f'tulle_requests_total{{{offers},status="5xx"}}'] == 1
    assert found[f'tulle_requests_total{{{offers},status="none"}}'] == 1
    assert found[f"tulle_request_bytes_total{{{offers}}}"] == 50
    assert found[f"tulle_request_duration_seconds_count{{{offers}}}"] == 5
    assert found[f"tulle_request_duration_seconds_sum{{{offers}}}"] == pytest.approx(0.0437)
    buckets = [(name, value) for name, value in found.items() if f"_bucket{{{offers}" in name]
    assert [value for _, value in buckets] == sorted(value for _, value in buckets)
    assert buckets[-1][1] == 5
    ends = [float(re.search(r'le="([^"]+)"', name)[1]) for name, _ in buckets]  # type: ignore[index]
    assert ends == sorted(ends)
    assert ends[2] == pytest.approx(0.001, rel=0.021)
    assert buckets[2][1] == 4  # of 900 µs and of a millisecond
    assert (
        found[
            'tulle_gateway_errors_total{service="",environment="",generation="v1",version="",kind="UnknownService",violation="true"}'
        ]
        == 1
    )
    assert r'service="of\"fers\\"' in text
    assert "# TYPE tulle_requests_total counter" in text
    assert found["tulle_counted_timestamp_seconds"] == pytest.approx(NOON, abs=1)


def test_open_metrics_names_families_without_their_ending_and_ends(calls: Calls) -> None:
    text = exposed(calls, is_open=True)
    assert "# TYPE tulle_requests counter" in text
    assert text.endswith("# EOF\n")
    assert samples(text) == samples(exposed(calls, is_open=False))
    assert content_type("application/openmetrics-text;version=1.0.0,text/plain;q=0.5") == OPEN
    assert content_type("*/*") == PLAIN


def test_counters_go_on_over_restarts_and_when_hours_are_forgotten(calls: Calls, tmp_path: Path) -> None:
    before = samples(exposed(calls, is_open=False))
    calls.keep(days=30, most_bytes=1 << 30, now=NOON + 29 * 86_400)
    calls.close()
    again = Calls(tmp_path)
    assert samples(exposed(again, is_open=False)) == before
    again.keep(days=30, most_bytes=1 << 30, now=NOON + 40 * 86_400)
    assert set(samples(exposed(again, is_open=False))) == {"tulle_counted_timestamp_seconds"}
    again.close()


def test_services_that_are_not_to_be_told_are_left_out_everywhere(calls: Calls) -> None:
    told = exposed(calls, is_open=False, tells='of"fers\\'.__eq__)
    services = set(re.findall(r'service="((?:\\.|[^"])*)"', told))
    assert services == {"", r"of\"fers\\"}  # the empty one is what came to no service
    assert exposed(calls, is_open=False, tells=lambda _: False).count('service="') == 1


def test_nothing_counted_is_text_all_the_same(tmp_path: Path) -> None:
    assert samples(exposed(Calls(tmp_path / "none"), is_open=True)) == {}
