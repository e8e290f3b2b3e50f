"""Values with places, and the one way to refuse a document."""

from __future__ import annotations

import pytest

from tulle.errors import Invalid, Place, Problem
from tulle.spec.document import LONGEST_LINE, MOST_PROBLEMS, Mark, refuse, shown
from tulle.spec.load import load_document


def test_a_part_may_be_replaced_without_touching_the_original() -> None:
    document = load_document("a:\n- b: {value: 1}\n- c\n", name="f")
    changed = document.mapped(("a", 0, "b"), lambda value, mark: (value["value"], mark.children["value"]))
    assert changed.value == {"a": [{"b": 1}, "c"]}
    assert changed.place(("a", 0, "b")) == Place("f", 2, 14)
    assert changed.place(("a", 0, "b"), key=True) == Place("f", 2, 3)
    assert document.value == {"a": [{"b": {"value": 1}}, "c"]}
    assert document.place(("a", 0, "b")) == Place("f", 2, 6)


def test_a_number_keeps_its_spelling() -> None:
    document = load_document("a: [1.10, x, '2']\n")
    assert [document.raw(("a", n)) for n in range(4)] == ["1.10", "", "", ""]


def test_problems_carry_their_line_unless_it_is_too_long() -> None:
    document = load_document(f"a: 1\nb: {'x' * LONGEST_LINE}\n", name="f")
    assert document.problem("m", ("a",)) == Problem("m", Place("f", 1, 4), None, "a: 1")
    assert document.problem("m", ("b",), hint="h") == Problem("m", Place("f", 2, 4), "h", None)
    assert document.line(0) is document.line(9) is None


def test_refuse() -> None:
    refuse("f", [])
    with pytest.raises(Invalid, match=r"^f is not valid: 1 problem$"):
        refuse("f", [Problem("m")])
    with pytest.raises(
        Invalid, match=f"103 problems, of which these are the first {MOST_PROBLEMS}"
    ) as caught:
        refuse("f", (Problem(str(n)) for n in range(103)))
    assert len(caught.value.problems) == MOST_PROBLEMS


def test_shown() -> None:
    assert shown("x" * 60) == "x" * 60
    assert shown("x" * 61) == "x" * 60 + "…"
    assert Mark(1, 2).copy().column == 2
