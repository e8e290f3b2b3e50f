"""Answers that a step keeps: for a while, and never more than there is room for."""

from __future__ import annotations

import pytest
from msgspec import UNSET

from tulle.serving import kept
from tulle.serving.kept import Kept


def test_an_answer_is_kept_until_its_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(kept.time, "monotonic", lambda: now[0])
    answers = Kept(60)
    assert answers.get(b"a") is UNSET
    answers.put(b"a", None)
    now[0] += 59
    assert answers.get(b"a") is None
    now[0] += 1
    assert answers.get(b"a") is UNSET
    none = Kept(0)
    none.put(b"a", 1)
    assert none.get(b"a") is UNSET


def test_what_is_oldest_goes_when_there_is_no_more_room() -> None:
    answers = Kept(60, most_bytes=100)
    for name in (b"a", b"b", b"c"):
        answers.put(name, "x" * 30)  # 33 with its name and quotes
    assert [answers.get(name) is UNSET for name in (b"a", b"b", b"c")] == [False, False, False]
    answers.put(b"a", "y" * 30)  # anew, and so the youngest
    answers.put(b"d", "z" * 30)
    assert [answers.get(name) is UNSET for name in (b"a", b"b", b"c", b"d")] == [False, True, False, False]
    answers.put(b"c", "x" * 200)  # larger than all that is kept: not this one, nor the one before
    assert [answers.get(name) is UNSET for name in (b"a", b"c", b"d")] == [False, True, False]
    answers.put(b"e", {None: 1})  # cannot be measured
    assert answers.get(b"e") is UNSET


def test_only_so_many_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "MOST_ANSWERS", 2)
    answers = Kept(60)
    for name in (b"a", b"b", b"c"):
        answers.put(name, 1)
    assert [answers.get(name) is UNSET for name in (b"a", b"b", b"c")] == [True, False, False]
