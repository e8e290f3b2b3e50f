"""The picture of a problem."""

from __future__ import annotations

from tulle.errors import Place, Problem
from tulle.spec.picture import WIDTH, render


def test_line_and_caret() -> None:
    problem = Problem("unknown property 'x'", Place("a.yaml", 12, 5), "did you mean 'y'?", "    x: 1")
    assert render(problem).splitlines() == [
        "a.yaml:12:5: unknown property 'x'",
        "   12 |     x: 1",
        "      |     ^",
        "      = did you mean 'y'?",
    ]


def test_without_line_or_place() -> None:
    assert render(Problem("all wrong")) == "all wrong"
    assert render(Problem("all wrong", Place("a"), "try again")) == "a: all wrong\n     = try again"


def test_tabs_and_wide_characters_keep_the_caret_in_place() -> None:
    found = render(Problem("m", Place("a", 1, 4), None, "\t数x")).splitlines()
    assert found[1] == "    1 |     数x"
    assert (
        found[2].index("^") - found[2].index("|") - 2 == 7
    )  # four for the tab, two for the wide one, one for x


def test_a_long_line_is_shown_around_the_caret() -> None:
    line = "x" * 300 + "!" + "y" * 300
    found = render(Problem("m", Place("a", 1, 301), None, line)).splitlines()
    assert len(found[1]) < WIDTH + 20
    assert found[1][found[2].index("^")] == "!"
    assert found[1].startswith("    1 | … x")
    assert found[1].endswith("y …")


def test_what_a_file_says_cannot_rewrite_a_terminal() -> None:
    found = render(Problem("bad \x1b[2J", Place("a\n", 1, 2), "\x07", "a\x1b]0;x\x9b\u202e"))
    assert not any(char in found for char in "\x1b\x07\x9b\u202e")
    assert "<U+001B>" in found


def test_a_column_past_the_end_stays_at_the_end() -> None:
    assert render(Problem("m", Place("a", 1, 99), None, "ab")).splitlines()[2] == "      |   ^"
