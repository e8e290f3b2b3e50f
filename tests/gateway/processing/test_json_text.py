"""Whether a text of JSON is the same to all who read it."""

from __future__ import annotations

import json
import time
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tulle.gateway.processing.json_text import (
    are_several,
    first_name_twice,
    is_packed,
    name_twice,
    other_charset,
    type_of,
)

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(':"\\ab\u00e9', max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(':"\\ab', max_size=3), inner, max_size=3)
    ),
    max_leaves=10,
)


@given(VALUES, st.booleans())
def test_names_are_found_twice_exactly_where_they_are(value: Any, is_ascii: bool) -> None:
    """By counting colons as by reading everything pair by pair."""
    body = json.dumps(value, ensure_ascii=is_ascii).encode()
    assert name_twice(body, msgspec.json.decode(body)) is None
    assert first_name_twice(body) is None
    for twice in (b'{"x":%b,"x":%b}', b'[{"x:":%b, "\\u0078\\u003a":%b}]', b'{"y":{"x":":","x":%b},"z":%b}'):
        body_twice = twice % (body, body)
        for raw in (False, True):
            read = msgspec.json.Decoder(float_hook=msgspec.Raw if raw else None).decode(body_twice)
            assert name_twice(body_twice, read) in {"x", "x:"}
        assert first_name_twice(body_twice) in {"x", "x:"}


def test_very_many_names_take_no_longer_than_reading_them() -> None:
    names = [f'"n{number}":1' for number in range(100_000)]
    body = ("{" + ",".join([*names, '"n99999":2']) + "}").encode()
    began = time.process_time()
    assert first_name_twice(body) == "n99999"
    assert time.process_time() - began < 5  # each with each other would be an hour


@pytest.mark.parametrize(
    ("said", "kind", "charset", "several"),
    [
        (None, "", None, False),
        (b"Application/JSON", "application/json", None, False),
        (b"application/json; charset=UTF-8", "application/json", None, False),
        (b'application/json;x=1;Charset="utf-8"', "application/json", None, False),
        (b"application/json; charset=us-ascii", "application/json", None, False),
        (b"application/json; charset=utf-7", "application/json", "utf-7", False),
        (b'application/json; charset = "UTF-7"', "application/json", "utf-7", False),
        (b"application/json; charset=utf-8; charset=utf-7", "application/json", "utf-7", False),
        (b"application/json; charset=", "application/json", None, False),
        (b'application/json; profile="http://x/charset"', "application/json", None, False),
        (b'application/json; x="; charset=utf-8"; charset=utf-7', "application/json", "of no form", False),
        (b"application/json; charset*=utf-8''utf-7", "application/json", "of no form", False),
        (b'application/json; charset="utf-8\\"-7', "application/json", "of no form", False),
        (b'application/json; charset="utf-7', "application/json", "of no form", False),
        (b'application/json; charset=""utf-7', "application/json", "of no form", False),
        (b'application/json; charset="utf-8" utf-7', "application/json", "of no form", False),
        (b"application/json; charset=utf-8 ; x=1", "application/json", None, False),
        (b"text/plain;x=1, application/json", "text/plain", None, True),
        (b'multipart/form-data; boundary="a,\\",b"', "multipart/form-data", None, False),
        (b'text/plain; x="a", text/json', "text/plain", None, True),
    ],
)
def test_what_a_body_calls_itself(said: bytes | None, kind: str, charset: str | None, several: bool) -> None:
    assert (type_of(said), other_charset(said), are_several(said)) == (kind, charset, several)


def test_a_body_is_packed_where_anything_says_so() -> None:
    assert [is_packed(said) for said in (None, b"", b" Identity ")] == [False, False, False]
    assert [is_packed(said) for said in (b"gzip", b"identity,gzip", b"odd")] == [True, True, True]
