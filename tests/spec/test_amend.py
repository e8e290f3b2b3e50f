"""Single properties of a YAML text are changed, and nothing else of it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tulle.errors import Invalid
from tulle.spec.amend import amend
from tulle.spec.load import load_document
from tulle.spec.write import dump, inline

TEXT = """\
# ours
service: s
endpoints:
  - name: a   # the first
    type: predict
    enrich:
      # why it is there
      - data_set: features
        key: {customer: customer_id}
        columns:
          recency: days   # in days
          spent: amount
        defaults: {recency: 365}   # a year
      - {product: shops, data_set: shop_features, key: shop_id}

    test_queries:
      - name: one
  - name: 🙂 b
    sql: |
      SELECT 1
      -- not: yaml
"""
FIRST = ("endpoints", 0, "enrich", 0)


def changed(text: str, path: tuple[str | int, ...], **said: Any) -> str:
    """With `said` beside what is there; None takes a property out."""
    had = load_document(text).at(path)
    wanted = {**had, **said}
    return amend(text, path, {name: value for name, value in wanted.items() if value is not None})


def difference(before: str, after: str) -> tuple[list[str], list[str]]:
    """The lines that went, and those that came."""
    one, other = before.split("\n"), after.split("\n")
    return [line for line in one if line not in other], [line for line in other if line not in one]


def test_what_is_equal_is_left_as_it_is_written() -> None:
    for path in ((), FIRST, ("endpoints", 0), ("endpoints", 1)):
        assert amend(TEXT, path, load_document(TEXT).at(path)) == TEXT


def test_one_line_changes_where_one_thing_does() -> None:
    found = changed(TEXT, FIRST, columns={"recency": "days", "spent": "total"})
    assert difference(TEXT, found) == (["          spent: amount"], ["          spent: total"])
    found = changed(TEXT, FIRST, defaults={"recency": 30})
    assert difference(TEXT, found)[1] == ["        defaults: {recency: 30}   # a year"]
    found = changed(TEXT, FIRST, columns={"recency": "days", "spent": "amount", "n": "count"})
    assert difference(TEXT, found) == ([], ["          n: count"])
    found = changed(TEXT, FIRST, columns={"spent": "amount"})
    assert difference(TEXT, found) == (["          recency: days   # in days"], [])
    found = changed(TEXT, (*FIRST[:-1], 1), no_match="default")
    assert difference(TEXT, found)[1] == [
        "      - {product: shops, data_set: shop_features, key: shop_id, no_match: default}"
    ]
    found = changed(TEXT, (*FIRST[:-1], 1), product=None)
    assert difference(TEXT, found)[1] == ["      - {data_set: shop_features, key: shop_id}"]


def test_a_new_property_goes_where_people_look_for_it() -> None:
    had = load_document(TEXT).at(FIRST)
    found = amend(
        TEXT, FIRST, {**had, "no_match": "default", "source": "latest"}, order=("data_set", "source")
    )
    lines = found.split("\n")
    assert lines[lines.index("      - data_set: features") + 1] == "        source: latest"
    assert "        defaults: {recency: 365}   # a year\n        no_match: default\n      - {product" in found


def test_entries_of_a_list_come_and_go() -> None:
    path = ("endpoints", 0)
    had = load_document(TEXT).at(path)
    more = {"data_set": "third", "key": ["a", "b"], "defaults": {"x": None, "y": "365"}}
    found = changed(TEXT, path, enrich=[*had["enrich"], more])
    assert difference(TEXT, found) == (
        [],
        ["      - data_set: third", "        key: [a, b]", "        defaults: {x: null, y: '365'}"],
    )
    found = changed(TEXT, path, enrich=had["enrich"][1:])
    assert "# why it is there\n      - {product: shops" in found
    found = changed(TEXT, path, enrich=None)
    assert "enrich" not in found
    assert "test_queries:\n      - name: one" in found
    found = changed(found, path, enrich=[more])
    assert "    enrich:\n      - data_set: third\n        key: [a, b]\n" in found
    listed = "a:\n- x # first\n- y\n"
    assert changed(listed, (), a=["x", "z", "y"]) == "a:\n- x # first\n- z\n- y\n"
    assert changed(listed, (), a=["z"]) == "a:\n- z\n"


def test_text_in_lines_and_comments_behind_a_key_survive() -> None:
    found = changed(TEXT, ("endpoints", 1), more="yes: no", name="c")
    assert found.endswith("      -- not: yaml\n    more: 'yes: no'\n")
    assert changed("a:  # why\n  b: 1\n", (), a=[1, "x"]) == "a:  # why\n  [1, x]\n"
    assert changed("a:\nb: 1\n", (), a="x") == "a: x\nb: 1\n"
    assert changed("\ufeffa: 1\r\nb: 2\r\n", (), b=3) == "\ufeffa: 1\r\nb: 3\r\n"


@pytest.mark.parametrize(
    ("text", "path"),
    [("x: &x {k: 1}\na: *x\n", ("a",)), ("a: [1, 2\n", ()), ("- k: 1\n", ()), ("a: {k: 1}\n", ("b",))],
)
def test_what_cannot_be_changed_piece_by_piece_is_refused(text: str, path: tuple[str, ...]) -> None:
    with pytest.raises(Invalid):
        amend(text, path, {"k": 2})


NAMES = st.text(alphabet="abcé:#-' 1🙂", min_size=1, max_size=4)
TEXTS = st.text(alphabet="ab:#-' 1\n", max_size=6)
SCALARS = st.none() | st.booleans() | st.integers(-5, 500) | st.sampled_from([1.5, -0.25]) | NAMES | TEXTS
VALUES = SCALARS | st.lists(SCALARS, max_size=3) | st.dictionaries(NAMES, SCALARS, max_size=3)
MAPPINGS = st.dictionaries(NAMES, VALUES, min_size=1, max_size=4)


@settings(max_examples=60, deadline=None)
@given(MAPPINGS, MAPPINGS, st.booleans())
def test_whatever_is_wanted_is_what_the_text_says(
    had: dict[str, Any], wanted: dict[str, Any], in_lines: bool
) -> None:
    text = dump({"a": [had], "b": 1}) if in_lines else inline({"a": [had], "b": 1}) + "\n"
    found = amend(text, ("a", 0), wanted)
    assert json.dumps(load_document(found).value, sort_keys=True) == json.dumps(
        {"a": [wanted], "b": 1}, sort_keys=True
    )
