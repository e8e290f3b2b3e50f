"""Values of every type, read and refused."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from typing import Any

import pytest
from msgspec import UNSET

from tulle.serving import request
from tulle.serving.request import Field, Record, RequestError, parse_json, require, shown

RECORD = Record(
    "feature",
    [
        Field("name", "string"),
        Field("count", "integer", nullable=True),
        Field("share", "double", single=True),
        Field("price", "decimal(10,2)"),
        Field("is new", "boolean"),
        Field("day", "date"),
        Field("at", "timestamp"),
    ],
)


def problem(values: dict[str, Any]) -> str:
    with pytest.raises(RequestError) as caught:
        RECORD.convert(values)
    assert (caught.value.status, caught.value.error_type) == (400, "InvalidFeatures")
    return caught.value.message


def test_values_are_read_in_order_and_what_is_left_out_is_unset() -> None:
    found = RECORD.convert({"at": "1998-06-30T12:00:00Z", "day": "1998-06-30", "is new": False, "price": 3})
    moment = dt.datetime(1998, 6, 30, 12, tzinfo=dt.UTC)
    assert found == (UNSET, UNSET, UNSET, 3.0, False, dt.date(1998, 6, 30), moment)
    assert RECORD.convert({"count": None, "share": -1.5, "name": ""}) == (
        "",
        None,
        -1.5,
        UNSET,
        UNSET,
        UNSET,
        UNSET,
    )


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("name", 1, "is 1, expected text"),
        ("name", None, "is null, expected text"),
        ("count", 1.5, "is 1.5, expected a whole number"),
        ("count", 2**63, f"is {2**63}, expected a whole number of 64 bits"),
        ("count", 10**100, "is a huge number, expected a whole number of 64 bits"),
        ("count", True, "is true, expected a whole number"),
        ("share", "1", 'is "1", expected a number'),
        ("share", 1e39, "is 1e+39, expected a number between -3.4e+38 and 3.4e+38"),
        ("share", [1], "is a list of 1, expected a number"),
        ("is new", 1, "is 1, expected true or false"),
        ("day", "30.6.1998", 'is "30.6.1998", expected a date such as "1998-06-30"'),
        ("day", "x" * 99, f'is "{"x" * 60}…", expected a date such as "1998-06-30"'),
        ("at", {"y": 1}, 'is an object, expected a time such as "1998-06-30T12:00:00Z"'),
    ],
)
def test_a_value_of_another_type_is_told_with_what_was_expected(name: str, value: Any, message: str) -> None:
    assert problem({name: value}) == f"feature '{name}' {message}"


def test_texts_of_a_query_string_are_read_by_type() -> None:
    pairs = [("name", "3"), ("count", ""), ("share", "1e3"), ("is new", "true"), ("day", "1998-06-30")]
    found = RECORD.from_text(pairs)
    assert found[:3] == ("3", None, 1000.0)
    assert found[4:6] == (True, dt.date(1998, 6, 30))
    for pair in (("share", "NaN"), ("share", ""), ("is new", "yes"), ("price", "1,5")):
        with pytest.raises(RequestError, match=f"feature '{pair[0]}' is \"{pair[1]}\""):
            RECORD.from_text([pair])


def test_an_empty_body_is_an_empty_object_and_a_broken_one_tells_the_place() -> None:
    assert parse_json(b"") == parse_json(b" \n ") == {}
    with pytest.raises(RequestError, match=r"the body is not JSON: .*byte 8"):
        parse_json(b'{"a": 1,}')
    with pytest.raises(RequestError, match="the body is not JSON"):
        parse_json(b'"\xff"')


def test_a_missing_member_is_asked_for() -> None:
    assert require({"a": None}, "a", "x") is None
    with pytest.raises(RequestError) as caught:
        require({"featrues": {}}, "features", "{…}")
    assert caught.value.detail == "'features' is missing (is 'featrues' meant to be it?). Send {…}"


def test_values_are_shown_in_few_words() -> None:
    assert [shown(v) for v in (None, True, 1.0, "a", [], {})] == [
        "null",
        "true",
        "1.0",
        '"a"',
        "a list of 0",
        "an object",
    ]


def test_a_body_of_many_wrong_names_is_told_of_in_few_words(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[str] = []

    def nearest(word: str, known: Iterable[str]) -> str:
        looked.append(word)
        return f"known: {len(list(known))}"

    monkeypatch.setattr(request, "did_you_mean", nearest)
    monkeypatch.setattr(request, "nearest", nearest)
    message = problem({f"name {number}": 1 for number in range(30_000)})
    assert message.startswith("unknown feature 'name 0' (known: 7); unknown feature 'name 1'")
    assert message.endswith("; and 29,980 more")
    assert (len(looked), len(message) < 2000) == (20, True)  # each look costs more than the rest of a request
    with pytest.raises(RequestError, match=r"'features' is missing \(is 'known: 100' meant"):
        require({f"name {number}": 1 for number in range(30_000)}, "features", "{}")
