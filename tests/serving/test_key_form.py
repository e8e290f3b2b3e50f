"""Keys in a store of keys and values: one text each, and no text for two."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tulle.errors import Invalid
from tulle.serving.key_form import key_form


def test_values_are_written_as_answers_write_them() -> None:
    types = {
        "s": "string",
        "n": "integer",
        "b": "boolean",
        "d": "date",
        "t": "timestamp",
        "a": "decimal(20,8)",
    }
    form = key_form("x{a}|{b}|{d}|{n}|{t}|{s}", types)
    at = dt.datetime(1998, 6, 30, 14, tzinfo=dt.timezone(dt.timedelta(hours=2)))
    key = ["it's", -3, True, dt.date(1998, 6, 30), at, Decimal("0.00000001")]
    assert form.text(key) == "x0.00000001|true|1998-06-30|-3|1998-06-30T12:00:00Z|it's"


@given(*(st.lists(st.text("ab:", max_size=5), min_size=2, max_size=2),) * 2)
def test_two_keys_never_have_one_text(one: list[str], other: list[str]) -> None:
    for text in ("k:{a}:{b}", "{b}::{a}"):
        form = key_form(text, {"a": "string", "b": "string"})
        texts = {form.text(one), form.text(other)} - {None}
        assert one == other or len(texts) == len([t for t in (form.text(one), form.text(other)) if t])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rows", "do not name 'a', a column of the key"),
        ("{a}", "do not name 'b', a column of the key"),
        ("{a}{b}", "have two columns with nothing between them"),
        ("{a}:{b}:{a}", "name 'a' twice"),
        ("{a}:{b}:{c}", "name 'c', which is no column of the key"),
        ("{a}:{b}}", "have a bracket that belongs to no column"),
    ],
)
def test_a_form_that_is_none_is_told(text: str, message: str) -> None:
    with pytest.raises(Invalid, match=message):
        key_form(text, {"a": "string", "b": "string"})
