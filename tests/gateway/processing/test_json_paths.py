"""Paths into values: what they select, compared with the library that knows all of RFC 9535."""

from __future__ import annotations

import copy
from typing import Any

import jsonpath_rfc9535
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tulle.errors import Invalid
from tulle.gateway.processing.json_paths import REMOVE, json_path

NAMES = st.sampled_from(["a", "b", "c d"])
VALUES = st.recursive(
    st.integers(0, 9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=12,
)
PATHS = st.lists(
    st.sampled_from(
        [".a", "..b", "[*]", ".*", "[0]", "[-1]", "['c d']", "['a','b']", "..*", "[0,2]", "..[1]"]
    ),
    max_size=4,
).map(lambda parts: "$" + "".join(parts))


@given(PATHS, VALUES)
def test_a_path_selects_what_the_standard_says(text: str, value: Any) -> None:
    expected = [node.value for node in jsonpath_rfc9535.find(text, value)]
    found = json_path(text).found(value)
    assert {repr(one) for one in found} == {repr(one) for one in expected}


@given(PATHS, VALUES)
def test_what_a_path_selects_is_there_no_more_once_it_is_taken_out(text: str, value: Any) -> None:
    path = json_path(text)
    left, count = path.change(copy.deepcopy(value), lambda _: REMOVE)
    assert (count > 0) == bool(path.found(value))
    if "0" not in text and "1" not in text and "2" not in text and text != "$":  # numbers are others' by then
        assert path.found(left) == []


@given(PATHS, VALUES)
def test_what_is_replaced_is_replaced_everywhere(text: str, value: Any) -> None:
    path = json_path(text)
    left, count = path.change(copy.deepcopy(value), lambda _: "gone")
    found = path.found(left)
    assert all(one == "gone" for one in found)
    assert bool(found) == bool(count)


@given(PATHS, VALUES)
def test_a_path_with_last_names_finds_nothing_where_none_of_them_is(text: str, value: Any) -> None:
    path = json_path(text)
    if path.last_names and not any(f"'{name}':" in repr(value) for name in path.last_names):
        assert path.found(value) == []


@pytest.mark.parametrize("text", ["", "a", "$[", "$[?@.a]", "$[1:2]", 7, "$" + ".a" * 31, "$." + "a" * 600])
def test_what_is_no_path_is_told(text: Any) -> None:
    with pytest.raises(Invalid, match=r"JSON path|filters"):
        json_path(text)
