"""Edits say exactly what turns one value into another, and still find their place later."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from tulle.spec.overlay import apply_edits, difference, same

NAMES = st.sampled_from(["name", "id", "type", "value", "a", "b"])
PLAIN = st.none() | st.booleans() | st.integers(-2, 2) | st.sampled_from([0.0, 1.0, "", "x", "y"])
VALUES = st.recursive(
    PLAIN,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=20,
)


@given(VALUES, VALUES)
def test_applying_the_difference_makes_the_other(have: object, want: object) -> None:
    edits = difference(have, want)
    made, lost = apply_edits(have, json.loads(json.dumps(edits)))
    assert same(made, want)
    assert lost == []
    assert (edits == []) == same(have, want)


@given(VALUES, st.lists(VALUES | st.fixed_dictionaries({"at": st.lists(VALUES), "value": VALUES})))
def test_any_list_of_edits_is_taken_without_failing(value: object, edits: list[object]) -> None:
    apply_edits(value, edits)


def test_entries_are_found_by_their_names_after_the_rest_has_changed() -> None:
    have = {"columns": [{"name": "a"}, {"name": "b"}]}
    edits = difference(have, {"columns": [{"name": "a"}, {"name": "b", "quality": [1]}]})
    assert edits == [{"at": ["columns", {"name": "b"}, "quality"], "value": [1]}]
    later = {"columns": [{"name": "new"}, {"name": "b", "type": "date"}]}
    made, lost = apply_edits(later, edits)
    assert made["columns"][1] == {"name": "b", "type": "date", "quality": [1]}
    assert lost == []
    assert apply_edits({"columns": []}, edits) == ({"columns": []}, edits)
