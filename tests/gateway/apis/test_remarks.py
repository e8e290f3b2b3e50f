"""Ratings of APIs and questions about them, as they are kept."""

from __future__ import annotations

import pytest

from tulle import events
from tulle.errors import Invalid, LimitExceeded, NotFound
from tulle.gateway.apis import remarks
from tulle.state import log
from tulle.state.db import Database

DATABASES = ("sqlite", "postgres")


def kinds(database: Database) -> list[str]:
    return [one.kind for one in log.read(database) if one.kind.startswith("api.")]


def test_everybody_has_one_rating_that_may_be_changed(database: Database) -> None:
    remarks.rate(database, "orders", "ann", 2, "slow")
    remarks.reply(database, "orders", "ann", "It is mended.", by="olga")
    remarks.rate(database, "orders", "bob", 5)
    remarks.rate(database, "other", "bob", 1)
    found = remarks.ratings(database, "orders")
    assert [(one.user, one.stars, one.reply, one.replied_by) for one in found.ratings] == [
        ("bob", 5, "", ""),
        ("ann", 2, "It is mended.", "olga"),
    ]
    remarks.rate(database, "orders", "ann", 4, "better <b>now</b>")
    found = remarks.ratings(database, "orders")
    assert (found.ratings[0].text, found.ratings[0].reply) == ("better <b>now</b>", "")
    assert (found.count, found.mean) == (2, 4.5)
    assert dict(found.by_stars) == {5: 1, 4: 1, 3: 0, 2: 0, 1: 0}
    assert remarks.means(database) == {"orders": (4.5, 2), "other": (1.0, 1)}
    remarks.unrate(database, "orders", "ann", by="ann")
    assert remarks.ratings(database, "orders").count == 1
    assert kinds(database) == [events.API_RATED, events.API_REPLIED, *[events.API_RATED] * 4]
    with pytest.raises(NotFound, match="'ann' has not rated API 'orders'"):
        remarks.unrate(database, "orders", "ann", by="ann")
    with pytest.raises(NotFound, match="has not rated"):
        remarks.reply(database, "orders", "ann", "hm", by="olga")


def test_questions_are_answered_and_taken_back(database: Database) -> None:
    first = remarks.ask(database, "orders", "kim", "How?\nAnd when?")
    second = remarks.ask(database, "orders", "kim", "Why?")
    remarks.answer(database, first.id, "vic", "So.", by_owner=False)
    assert remarks.unanswered(database, ["orders", "other"]) == {"orders": 2}
    answer = remarks.answer(database, first.id, "ann", "Thus.", by_owner=True)
    assert remarks.unanswered(database, ["orders"]) == {"orders": 1}
    newest, oldest = remarks.questions(database, "orders")
    assert (newest.id, newest.answers) == (second.id, ())
    assert [(one.user, one.by_owner, one.text) for one in oldest.answers] == [
        ("vic", False, "So."),
        ("ann", True, "Thus."),
    ]
    remarks.remove(database, oldest, answer.id, by="ann")
    assert len(remarks.question(database, first.id).answers) == 1
    remarks.remove(database, oldest, by="kim")
    assert [one.id for one in remarks.questions(database, "orders")] == [second.id]
    with pytest.raises(NotFound, match="there is no question"):
        remarks.answer(database, first.id, "ann", "late", by_owner=True)


@pytest.mark.parametrize("text", ["", " \n", "x" * 2001, "a\x00b", "\x1b[2J", "\ud800"])
def test_what_is_no_text_is_not_kept(database: Database, text: str) -> None:
    with pytest.raises(Invalid):
        remarks.ask(database, "orders", "kim", text)
    assert remarks.questions(database, "orders") == ()


@pytest.mark.parametrize("stars", [0, 6, -1])
def test_stars_are_one_to_five(database: Database, stars: int) -> None:
    with pytest.raises(Invalid, match="is no rating"):
        remarks.rate(database, "orders", "kim", stars)


def test_there_is_an_end_to_questions_and_answers(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remarks, "MOST_QUESTIONS", 1)
    monkeypatch.setattr(remarks, "MOST_ANSWERS", 1)
    asked = remarks.ask(database, "orders", "kim", "How?")
    remarks.answer(database, asked.id, "ann", "So.", by_owner=True)
    with pytest.raises(LimitExceeded, match="has 1 questions"):
        remarks.ask(database, "orders", "kim", "How?")
    with pytest.raises(LimitExceeded, match="has 1 answers"):
        remarks.answer(database, asked.id, "ann", "So.", by_owner=True)
    with database.write() as cx:
        remarks.remove_of(cx, "orders")
    assert remarks.questions(database, "orders") == ()
