"""Limits on the form of JSON, through the real Envoy."""

from __future__ import annotations

import json

import pytest
from tests.gateway.conftest import check_error
from tests.gateway.processing.conftest import Processed

from tulle.errors import Broken
from tulle.gateway.policies.entry import Policy

pytestmark = pytest.mark.system
LIMITS = {"max_depth": 3, "max_string_length": 5, "max_name_length": 4, "max_entries": 3, "max_elements": 4}


@pytest.mark.parametrize(
    "body",
    [
        b'{"a": {"b": [1, 2]}}',
        b'{"abcd": "12345", "b": [1, 2, 3, 4], "c": null}',
        b"[]",
        b'"five!"',
        b"12",
        '{"\u00e4\u00f6\u00fc\u00df": "\u4e2d\u4e2d\u4e2d\u4e2d\u4e2d"}'.encode(),
        b'{"a": ":", ":": "a:b:c"}',
        b'{"a": "\\u003a"}',
        b"",
    ],
)
def test_what_keeps_within_the_limits_passes_as_it_is(processed: Processed, body: bytes) -> None:
    processed.put(Policy("json-limits", LIMITS))
    reply = processed.ask("/x/echo", body)
    assert (reply.status, reply.body) == (200, body)


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b'{"a": {"b": [[]]}}', "nested more than 3 levels"),
        (b"[[[[]]]]", "nested more than 3 levels"),
        (b'{"a": "123456"}', "a text has 6 characters"),
        (b'["123456"]', "a text has 6 characters"),
        (b'"123456"', "a text has 6 characters"),
        (b'{"abcde": 1}', "a name has 5 characters"),
        (b'{"a":1,"b":2,"c":3,"d":4}', "an object has 4 members"),
        (b"[1,2,3,4,5]", "a list has 5 elements"),
        (b'{"a":1,"a":2}', "the name 'a' twice"),
        (b'{"a":1,"\\u0061":2}', "the name 'a' twice"),
        (b'{"x":{"a":1,"a":"\\u003a"}}', "the name 'a' twice"),
        (b'{"x":":","a":1,"a":"\\u003a"}', "the name 'a' twice"),
    ],
)
def test_what_goes_beyond_them_is_400(processed: Processed, body: bytes, told: str) -> None:
    processed.put(Policy("json-limits", LIMITS))
    for content_type in ("application/json", "text/plain", "application/x-www-form-urlencoded"):
        said = check_error(processed.ask("/x/echo", body, content_type=content_type), 400, "JsonThreat")
        assert told in said["detailedMessage"]


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b'{"a": 1,}',
        b'{"a": NaN}',
        b"{'a': 1}",
        b'"\xff"',
        b'"\xed\xa0\x80"',
        b'"\xc0\xaf"',
        b'{"\xff": 1}',
        b'"\\ud800"',
        b'"a\nb"',
        b"1 2",
        b"\xef\xbb\xbf{}",
        '{"a": 1}'.encode("utf-16"),
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"1e999999",
        b"-",
    ],
)
def test_what_is_no_json_is_400(processed: Processed, body: bytes) -> None:
    processed.put(Policy("json-limits", LIMITS))
    check_error(processed.ask("/x/echo", body), 400, "InvalidRequest")


def test_a_packed_body_is_refused(processed: Processed) -> None:
    processed.put(Policy("json-limits", LIMITS))
    check_error(processed.ask("/x/echo", b"x", content_encoding="gzip"), 415, "UnsupportedEncoding")


def test_a_body_in_another_charset_is_refused(processed: Processed) -> None:
    processed.put(Policy("json-limits", LIMITS))
    reply = processed.ask("/x/echo", b'"+AFsAWwBbAFs-"', content_type="application/json; charset=utf-7")
    assert "'utf-7'" in check_error(reply, 415, "UnsupportedContent")["detailedMessage"]


def test_other_types_pass_where_only_json_is_looked_at(processed: Processed) -> None:
    processed.put(Policy("json-limits", {**LIMITS, "only_json": True}))
    assert processed.ask("/x/echo", b"a: 1234567", content_type="text/yaml").body == b"a: 1234567"
    for content_type in (
        "application/json; charset=utf-8",
        "application/problem+json",
        "",
        "text/yaml, text/json",
    ):
        check_error(processed.ask("/x/echo", b"[[[[]]]]", content_type=content_type), 400, "JsonThreat")


def test_no_limit_is_none_but_for_depth(processed: Processed) -> None:
    processed.put(Policy("json-limits", {"max_depth": -1}))
    assert processed.ask("/x/echo", json.dumps({"n" * 999: "t" * 9999, "l": [0] * 9999})).status == 200
    check_error(processed.ask("/x/echo", b"[" * 201 + b"]" * 201), 400, "JsonThreat")


def test_a_limit_that_nobody_can_mean_is_refused(processed: Processed) -> None:
    for wrong in (0, -2, True, "3", 1.5):
        with pytest.raises(Broken, match="max_depth"):
            processed.put(Policy("json-limits", {"max_depth": wrong}))
