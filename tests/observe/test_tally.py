"""Counting lines of the access log: what is told apart, what of a damaged one, and what is remembered of slow ones."""

from __future__ import annotations

import random

import pytest
from tests.observe.lines import NOON, as_read, line

from tulle.gateway import log_line
from tulle.gateway.log_line import LineReader
from tulle.observe import tally as module
from tulle.observe.batch import (
    BYTES_IN,
    BYTES_OUT,
    C2,
    C4,
    C5,
    MICROSECONDS,
    REFUSED,
    REQUESTS,
    SLOWEST,
    Batch,
    Cell,
    Key,
    Kind,
)
from tulle.observe.durations import bucket
from tulle.observe.operations import Operations, operations_of
from tulle.observe.tally import MOCK, Tally

OFFERS = {"offers": ["POST /next/predict", "GET /orders/{id}", "GET /orders/{id}/lines"]}
KEY = Key("offers", "", "POST /next/predict", "v1", "app-1")


def tally() -> Tally:
    return Tally(Operations(OFFERS, "/public/api/v1/"))


def test_a_request_counts_for_the_minute_in_which_it_was_answered() -> None:
    counting = tally()
    counting.count(
        as_read([line(NOON + 59.5, us=100_000), line(NOON + 59.5, us=600_000), line(NOON + 3, us=1000)])
    )
    batch = counting.taken()
    first, second = batch.cells[NOON, KEY], batch.cells[NOON + 60, KEY]
    assert (first.sums[REQUESTS], first.sums[C2], first.sums[BYTES_OUT]) == (2, 2, 200)
    assert first.sums[MICROSECONDS] == 101_000
    assert second.sums[REQUESTS] == 1
    assert batch.latest == NOON + 60.1
    assert counting.taken().cells == {}


def test_operations_are_templates_and_what_fits_none_is_other() -> None:
    counting = tally()
    paths = {
        "/public/api/v1/offers/next/predict": "POST /next/predict",
        "/test/public/api/v1/offers/next/predict/": "POST /next/predict",
        "/public/api/v1/offers/orders/17": "(other)",  # by POST
        "/public/api/v1/offers/" + "x" * 5000: "(other)",
        "/a/b" * 100: "(other)",
        "/shop/v2/next/predict": "POST /next/predict",  # at an address of its own
    }
    counting.count(as_read(line(path=path) for path in paths))
    counting.count(as_read([line(method="GET", path="/public/api/v1/offers/orders/17/lines")]))
    counting.count(
        as_read([line(service="unknown", path="/public/api/v1/unknown/x"), line(service=None, code=404)])
    )
    found = {key.operation for _, key in counting.taken().cells}
    assert found == {"POST /next/predict", "(other)", "GET /orders/{id}/lines", ""}


def test_operations_come_from_a_document_and_from_nothing_else() -> None:
    document = {"paths": {"/a": {"get": {}, "post": {}, "summary": "x"}, "/b": 3, 4: {}}}
    assert operations_of(document) == ["GET /a", "POST /a"]
    assert operations_of([1]) == operations_of({"paths": []}) == []


def test_violations_of_the_gateway_are_told_from_answers_of_the_service() -> None:
    counting = tally()
    counting.count(
        as_read(
            [
                line(code=429, details="request_rate_limited"),
                line(code=401, details="no_credential_for_basic_auth", client=None),
                line(code=404),  # the service's own
                line(code=503, details="no_healthy_upstream"),
                line(
                    code=401, access="token", client=None, details="jwt_authn_access_denied{Jwt_is_expired}"
                ),
                line(code=403, details="rbac_access_denied_matched_policy[insufficient_scope]"),
                line(code=404, details="direct_response", reason="generation"),
                line(code=0, details="downstream_remote_disconnect"),
            ]
        )
    )
    batch = counting.taken()
    assert {what.kind: (number, what.refused) for what, number in batch.kinds.items()} == {
        "TooManyRequests": (1, True),
        "InvalidClient": (1, True),
        "InvalidToken": (1, True),
        "InsufficientScope": (1, True),
        "UnknownGeneration": (1, True),
        "ServiceUnavailable": (1, False),
        "CallerLeft": (1, False),
    }
    cell = batch.cells[NOON, KEY]
    assert (cell.sums[C4], cell.sums[C5], cell.sums[REFUSED]) == (4, 1, 3)


def test_examples_are_told_from_what_a_service_answers_and_versions_apart() -> None:
    counting = tally()
    mock = {"reason": "mock", "generation": None, "version": "v2"}
    counting.count(as_read([line(version="v1"), line(**mock, code=404, details="direct_response")]))
    counting.count(as_read([line(**mock, code=429, details="request_rate_limited")]))
    batch = counting.taken()
    assert {(key.version, key.generation) for _, key in batch.cells} == {("v1", "v1"), ("v2", MOCK)}
    assert [*batch.kinds] == [Kind(NOON, "offers", "", "v2", MOCK, "TooManyRequests", refused=True)]


def test_a_line_behind_half_a_line_is_found_and_the_half_is_counted_as_unread() -> None:
    counting = tally()
    whole = line()
    counting.count(as_read([whole[:50] + whole, whole[:50], b"", b"\xff\xfe", b"[]", whole]))
    batch = counting.taken()
    assert batch.cells[NOON, KEY].sums[REQUESTS] == 2
    assert (batch.lines, batch.unread) == (6, 4)


def test_whom_others_name_is_not_an_application_of_that_name() -> None:
    counting = tally()
    ways = ("token", "introspection", "ldap", "user", "public", "contract")
    counting.count(as_read(line(access=way) for way in ways))
    counting.count(as_read([line(client=None, access="public"), line(client=None, access="token")]))
    counting.count(as_read([line(client="x" * 900)]))
    named = {f"{way}:app-1" for way in ways[:4]}
    assert {key.client for _, key in counting.taken().cells} == {*named, "app-1", "", "x" * 200}


def test_the_slowest_of_a_service_and_hour_are_remembered() -> None:
    counting = tally()
    counting.count(as_read(line(NOON + n, us=1000 * n) for n in range(1, 30)))
    (kept,) = counting.taken().slow.values()
    assert sorted(one.microseconds for one in kept) == [1000 * n for n in range(30 - SLOWEST, 30)]
    assert all(one.request_id.startswith("r-") for one in kept)


def test_coarse_times_of_earlier_lines_are_taken_too() -> None:
    counting = tally()
    old = line(us=5000).replace(b'"duration_us":5000,', b"")
    counting.count(as_read([old]))
    assert counting.taken().cells[NOON, KEY].sums[MICROSECONDS] == 5000


def test_arrays_hold_what_counting_one_by_one_finds() -> None:
    drawn = random.Random(7)
    counting, said, reader = tally(), [], LineReader()
    for _ in range(6):
        some = [
            {
                "at": NOON + drawn.randrange(200_000) / 1000,
                "us": int(drawn.lognormvariate(9, 3)),
                "client": drawn.choice(["a", "b", None]),
                "version": drawn.choice(["v1", "v2"]),
                "path": drawn.choice(["/public/api/v1/offers/next/predict", "/x"]),
                "code": drawn.choice([0, 101, 200, 200, 304, 404, 429, 500, None]),
                "details": drawn.choice(["via_upstream", "request_rate_limited"]),
                "bytes_in": drawn.choice([0, 7, None]),
                "service": drawn.choice(["offers", "offers", None]),
            }
            for _ in range(120)
        ]
        said += some
        counting.count(reader.read(b"\n".join(line(**one) for one in some)))
    found: dict[tuple[int, Key], Cell] = {}
    for one in said:
        ended = round(one["at"] * 1000) * 1000 + one["us"]
        operation = "POST /next/predict" if one["path"] != "/x" else "(other)"
        service, status = one["service"] or "", one["code"] or 0
        key = Key(service, "", operation if service else "", "v1", one["client"] or "", one["version"])
        cell = found.setdefault((ended // 60_000_000 * 60, key), Cell())
        cell.sums[REQUESTS] += 1
        if status >= 200:
            cell.sums[status // 100 - 1] += 1
        cell.sums[REFUSED] += 400 <= status < 500 and one["details"] == "request_rate_limited"
        cell.sums[BYTES_IN] += one["bytes_in"] or 0
        cell.sums[BYTES_OUT] += 100
        cell.sums[MICROSECONDS] += one["us"]
        cell.durations[bucket(one["us"])] = cell.durations.get(bucket(one["us"]), 0) + 1
    taken = counting.taken()
    assert taken.cells == found
    assert Batch.of(found).cells == found
    slowest = sorted((one["us"] for one in said if one["service"]), reverse=True)[:SLOWEST]
    kept = [one.microseconds for several in taken.slow.values() for one in several]
    assert sorted(kept, reverse=True)[:SLOWEST] == slowest


def test_many_paths_and_names_are_forgotten_and_counted_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    for limit in ("_KNOWN_PATHS", "_MOST_KEYS"):
        monkeypatch.setattr(module, limit, 3)
    monkeypatch.setattr(log_line, "MOST_NAMES", 3)
    counting, reader = tally(), LineReader()
    for round_ in range(3):
        for number in range(20):
            path = f"/public/api/v1/offers/orders/{round_}-{number}/lines"
            counting.count(reader.read(line(method="GET", path=path, client=f"app-{number}")))
        batch = counting.taken()
        assert {key.client: cell.sums[REQUESTS] for (_, key), cell in batch.cells.items()} == {
            f"app-{number}": 1 for number in range(20)
        }
        assert {key.operation for _, key in batch.cells} == {"GET /orders/{id}/lines"}
