"""Column types."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tulle.spec.columns import OTHER_WORDS, PLAIN_TYPES, TYPE_PATTERN, ColumnType, parse_type


@pytest.mark.parametrize("name", PLAIN_TYPES)
def test_plain_types(name: str) -> None:
    assert parse_type(name) == ColumnType(name)
    assert str(ColumnType(name)) == name


@given(st.integers(0, 60), st.integers(0, 60))
def test_decimals(precision: int, scale: int) -> None:
    found = parse_type(f"decimal({precision},{scale})")
    assert (found is not None) is (1 <= precision <= 38 and scale <= precision)
    if found:
        assert parse_type(str(found)) == found == ColumnType("decimal", precision, scale)


@pytest.mark.parametrize(
    "text", ["", "String", "text", "decimal", "decimal(10)", "decimal(10,2", " date", "date\n"]
)
def test_what_is_no_type(text: str) -> None:
    assert parse_type(text) is None


@given(st.from_regex(TYPE_PATTERN))
def test_pattern_and_parser_agree_but_for_the_scale(text: str) -> None:
    if parse_type(text.rstrip("\n")) is None:
        precision, scale = map(int, re.findall("[0-9]+", text))
        assert scale > precision


def test_other_words_lead_to_ours() -> None:
    for ours in OTHER_WORDS.values():
        assert parse_type(ours)
