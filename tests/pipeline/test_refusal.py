"""What is said of checks that failed."""

from __future__ import annotations

import pytest

from tulle.catalog.masking import untold
from tulle.pipeline.refusal import refusal_of


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["a"], "1 check of 'sales' failed: a: 2 rows"),
        (["a", "b"], "2 checks of 'sales' failed: a; b. The first: 2 rows"),
        (list("abcdefghij"), "10 checks of 'sales' failed: a; b; c; d; e; f; g; h; i; j. The first: 2 rows"),
        (
            list("abcdefghijkl"),
            "12 checks of 'sales' failed: a; b; c; d; e; f; g; h; i; j; and 2 more. The first: 2 rows",
        ),
    ],
)
def test_all_are_named_as_far_as_a_reader_takes_them_in(names: list[str], said: str) -> None:
    assert refusal_of("'sales' failed", names, "2 rows") == said


def test_a_page_that_may_not_say_what_was_found_still_names_them() -> None:
    said = refusal_of("'sales' failed", ["a", "b"], "checks/c.py:3 KeyError: ann")
    assert untold(said) == "2 checks of 'sales' failed: a; b. The first: checks/c.py:3 KeyError"
