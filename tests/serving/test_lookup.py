"""Lookups: rows by key with their types, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tulle.serving.loaded import Loaded
from tulle.serving.request import RequestError


def ask(service: Loaded, body: Any, action: str = "lookup", endpoint: str = "profile") -> dict[str, Any]:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = json.loads(service.endpoints[endpoint].actions[action](raw, "r-1"))
    assert isinstance(answer, dict)
    return answer


def refused(service: Loaded, body: Any, endpoint: str = "profile") -> RequestError:
    with pytest.raises(RequestError) as caught:
        ask(service, body, endpoint=endpoint)
    return caught.value


def test_a_row_keeps_its_types(lookups: Loaded) -> None:
    answer = ask(lookups, {"data": {"customer_id": "00003"}})
    assert answer["results"] == [
        {
            "data": {
                "customer_id": "00003",
                "number": 3,
                "recency": 9,
                "frequency": 22,
                "spend": 5.25,
                "first_on": "1997-01-04",
                "seen_at": "1998-06-30T12:00:03Z",
                "vip": False,
                "note": None,
                "score": 1.0,
            }
        }
    ]
    assert answer["apiContext"]["endpointId"] == "profile"
    assert list(answer["apiContext"]["dataCommits"]) == ["customer-features"]


def test_text_and_nulls_are_what_they_are(lookups: Loaded) -> None:
    row = ask(lookups, {"data": {"customer_id": "00005"}})["results"][0]["data"]
    assert (row["note"], row["score"]) == ("note «5»", None)


def test_decimals_have_all_their_digits(lookups: Loaded) -> None:
    raw = lookups.endpoints["profile"].actions["lookup"](b'{"data": {"customer_id": "00004"}}', "r")
    assert b'"spend":7.00,' in raw


def test_several_columns_may_be_the_key(lookups: Loaded) -> None:
    found = ask(lookups, {"data": {"first_on": "1997-01-04", "number": 3}}, endpoint="by-day")
    assert found["results"] == [{"data": {"customer_id": "00003", "vip": False}}]
    again = ask(lookups, {"data": {"number": 93, "first_on": "1997-01-04"}}, endpoint="by-day")
    assert again["results"][0]["data"]["customer_id"] == "00093"
    error = refused(lookups, {"data": {"number": 3}}, "by-day")
    assert (error.status, error.message) == (400, "the key is missing: first_on")
    error = refused(lookups, {"data": {"first_on": "1997-13-04", "number": "3"}}, "by-day")
    assert error.message == (
        'key \'first_on\' is "1997-13-04", expected a date such as "1998-06-30"; '
        "key 'number' is \"3\", expected a whole number"
    )


@pytest.mark.parametrize(
    ("body", "status", "error", "message"),
    [
        (b"", 400, "InvalidRequest", "'data' is missing"),
        (b"{x}", 400, "MalformedJson", "the body is not JSON: object keys must be strings (byte 1)"),
        (b"3", 400, "InvalidRequest", "the body is 3, expected an object"),
        ({"data": {}}, 400, "MissingKey", "the key is missing: customer_id"),
        ({"data": {"customer_id": None}}, 400, "InvalidKey", "key 'customer_id' is null, expected text"),
        ({"data": {"id": "1"}}, 400, "InvalidKey", "unknown key 'id' (known: customer_id)"),
        ({"data": {"customer_id": "x"}}, 404, "NoMatch", 'nothing is known of customer_id "x"'),
        (
            {"data": {"customer_id": "x" * 9000}},
            404,
            "NoMatch",
            f'nothing is known of customer_id "{"x" * 60}…"',
        ),
    ],
)
def test_what_is_wrong_is_named(lookups: Loaded, body: Any, status: int, error: str, message: str) -> None:
    found = refused(lookups, body)
    assert (found.status, found.error_type, found.message) == (status, error, message)


def test_many_are_found_in_order_and_one_that_is_not_does_not_fail_the_others(lookups: Loaded) -> None:
    items: list[Any] = [{"data": {"customer_id": key}} for key in ("00007", "none", "00003")]
    results = ask(lookups, {"items": [*items, {"dat": {}}, 3]}, "lookup-multi")["results"]
    assert [r["data"]["number"] for r in (results[0], results[2])] == [7, 3]
    assert [r["ignoreReason"] for r in (results[1], results[3], results[4])] == [
        "NoMatch",
        "InvalidRequest",
        "InvalidRequest",
    ]


def test_a_forced_generation_that_is_another_is_refused(lookups: Loaded) -> None:
    body = {"data": {"customer_id": "00003"}, "dispatch": {"forcedGeneration": "v2"}, "context": {}}
    assert refused(lookups, body).error_type == "UnknownGeneration"
