"""How old answers are, and for how long they may be given again, by what they say."""

from __future__ import annotations

import time
from email.utils import formatdate

import pytest

from tulle.gateway.processing.exchange import Answer
from tulle.gateway.processing.freshness import LONGEST, age, lifetime

DATE = "Sun, 06 Nov 1994 08:49:37 GMT"


def answer(*headers: tuple[str, str]) -> Answer:
    return Answer(200, [(name.encode(), value.encode()) for name, value in headers])


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ([], None),
        ([("cache-control", "public")], None),
        ([("cache-control", "Max-Age=10")], 10),
        ([("cache-control", 'public, max-age="10", s-maxage=20')], 20),
        ([("cache-control", "max-age=20, max-age=10")], 10),
        ([("cache-control", "max-age=20"), ("cache-control", "max-age=10")], 10),
        ([("cache-control", "max-age=99999999999999999999")], LONGEST),
        *(([("cache-control", f"max-age{value}")], 0) for value in ("", "=", "=-1", "=1.5", "=soon")),
        ([("cache-control", "x-max-age=soon")], None),
        ([("cache-control", "max-age=10"), ("cache-control", "no-store")], 0),
        ([("cache-control", "no-cache")], 0),
        ([("cache-control", "private, max-age=10")], 10),
        ([("expires", "0")], 0),
        ([("expires", "")], 0),
        ([("expires", "-1"), ("cache-control", "max-age=10")], 10),
        ([("date", DATE), ("expires", "Sun, 06 Nov 1994 08:50:37 GMT")], 60),
        ([("date", DATE), ("expires", "Sunday, 06-Nov-94 08:50:37 GMT")], 60),
        ([("date", DATE), ("expires", "Sun Nov  6 08:50:37 1994")], 60),
        ([("date", DATE), ("expires", DATE)], 0),
        ([("date", DATE), ("expires", "Sun, 06 Nov 1994 08:48:37 GMT")], 0),
        ([("date", DATE), ("expires", "Sun, 99 Nov 1994 99:99:99 GMT")], 0),
        ([("date", DATE), ("expires", "Sun, 06 Nov 1994 08:50:37 GMT"), ("expires", DATE)], 0),
        ([("expires", "Sun, 06 Nov 1994 08:50:37 GMT")], 0),
    ],
)
def test_for_how_long_an_answer_says_that_it_may_be_kept(
    said: list[tuple[str, str]], seconds: float | None
) -> None:
    assert lifetime(answer(*said), is_shared=False) == seconds


def test_what_is_for_one_caller_alone_is_not_kept_for_others() -> None:
    assert lifetime(answer(("cache-control", "private, max-age=10")), is_shared=True) == 0


def test_without_a_date_an_answer_was_made_now() -> None:
    found = lifetime(answer(("expires", formatdate(time.time() + 1000, usegmt=True))), is_shared=False)
    assert found is not None
    assert 900 < found <= 1000


@pytest.mark.parametrize(
    ("said", "seconds"),
    [("30", 30), ("30, 50", 30), (" 7 ", 7), ("-1", 0), ("x", 0), ("", 0), ("9" * 30, LONGEST)],
)
def test_how_old_an_answer_is(said: str, seconds: float) -> None:
    assert age(answer(("age", said))) == seconds
    assert age(answer()) == 0
