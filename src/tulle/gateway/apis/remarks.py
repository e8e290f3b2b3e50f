"""What people say of an API: ratings, one a person, with an owner's reply; questions, and their answers.

Kept and read; every change is one transaction with the event that tells of it. Who may say what is not known here.
Texts are what people wrote, for pages to show as text.
"""

from __future__ import annotations

import secrets
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import Connection, Row, delete, func, insert, select, update

from tulle import events
from tulle.errors import Invalid, LimitExceeded, NotFound
from tulle.events import Event
from tulle.state import log
from tulle.state.db import Database, in_turn, now
from tulle.state.tables import api_answers, api_questions, api_ratings

LONGEST: Final = 2000  # characters of a remark
MOST_STARS: Final = 5
MOST_QUESTIONS: Final = 1000  # of an API
MOST_ANSWERS: Final = 50  # to a question
_USUAL_PAGE: Final = 100


@dataclass(frozen=True, slots=True)
class Rating:
    """What one person thinks of an API: 1 to 5 stars. Times are seconds since the epoch."""

    user: str
    stars: int
    text: str
    rated_at: float
    reply: str = ""
    replied_by: str = ""
    replied_at: float | None = None


@dataclass(frozen=True, slots=True)
class Ratings:
    """Ratings, the newest first; of all there are how many, the mean, and how many of each number of stars."""

    ratings: tuple[Rating, ...]
    count: int
    mean: float | None
    by_stars: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer to a question; `by_owner` says that who gave it may change the API."""

    id: str
    user: str
    by_owner: bool
    text: str
    answered_at: float


@dataclass(frozen=True, slots=True)
class Question:
    """What somebody asked, and the answers, the oldest first."""

    id: str
    api: str
    user: str
    text: str
    asked_at: float
    answers: tuple[Answer, ...] = field(default=())


def checked(text: str, *, what: str, may_be_empty: bool = False) -> str:
    """A remark as it is kept. Invalid when it is empty, too long, or no text that can be shown."""
    found = text.strip()
    if not found and not may_be_empty:
        raise Invalid(f"{what} is empty", hint="write a sentence")
    if len(found) > LONGEST:
        raise Invalid(f"{what} has {len(found)} characters, at most {LONGEST} are kept", hint="say less")
    odd = next(
        (one for one in found if unicodedata.category(one) in {"Cc", "Cs"} and one not in "\n\t"), None
    )
    if odd is not None:
        raise Invalid(f"{what} has the character U+{ord(odd):04X}, which is no text", hint="leave it out")
    return found


# ── ratings ──────────────────────────────────────────────────────────────────────────────────────────────


def ratings(database: Database, api: str, *, limit: int = _USUAL_PAGE) -> Ratings:
    """What is thought of an API."""
    mine = api_ratings.c.api == api
    with database.read() as cx:
        rows = cx.execute(
            select(api_ratings).where(mine).order_by(api_ratings.c.rated_at.desc()).limit(limit)
        )
        found = tuple(
            Rating(r.user_id, r.stars, r.text, r.rated_at, r.reply, r.replied_by, r.replied_at) for r in rows
        )
        counted = cx.execute(
            select(api_ratings.c.stars, func.count()).where(mine).group_by(api_ratings.c.stars)
        ).all()
    by_stars = dict.fromkeys(range(MOST_STARS, 0, -1), 0) | {row[0]: int(row[1]) for row in counted}
    count = sum(by_stars.values())
    mean = sum(stars * number for stars, number in by_stars.items()) / count if count else None
    return Ratings(found, count, mean, by_stars)


def means(database: Database) -> Mapping[str, tuple[float, int]]:
    """By API, the mean of its ratings and how many there are."""
    query = select(api_ratings.c.api, func.avg(api_ratings.c.stars), func.count()).group_by(api_ratings.c.api)
    with database.read() as cx:
        return {row[0]: (float(row[1]), int(row[2])) for row in cx.execute(query)}


def rate(database: Database, api: str, user: str, stars: int, text: str = "") -> Rating:
    """Rate an API, or rate it otherwise than before; an owner's reply to what was said before goes. Invalid."""
    if not 1 <= stars <= MOST_STARS:
        raise Invalid(f"{stars} is no rating", hint=f"1 to {MOST_STARS} stars")
    text = checked(text, what="the rating's text", may_be_empty=True)
    with database.write() as cx:
        in_turn(cx, f"remarks {api}")
        cx.execute(delete(api_ratings).where(api_ratings.c.api == api, api_ratings.c.user_id == user))
        made = Rating(user, stars, text, now())
        cx.execute(
            insert(api_ratings).values(api=api, user_id=user, stars=stars, text=text, rated_at=made.rated_at)
        )
        _tell(cx, events.API_RATED, api, {"stars": stars, "text": text}, user)
    return made


def unrate(database: Database, api: str, user: str, *, by: str) -> None:
    """Take a rating back. NotFound."""
    with database.write() as cx:
        done = cx.execute(delete(api_ratings).where(api_ratings.c.api == api, api_ratings.c.user_id == user))
        if not done.rowcount:
            raise _no_rating(api, user)
        _tell(cx, events.API_RATED, api, {"stars": None, "user": user}, by)


def reply(database: Database, api: str, user: str, text: str, *, by: str) -> None:
    """What an owner says to somebody's rating, instead of what was said before. NotFound, Invalid."""
    text = checked(text, what="the reply")
    where = (api_ratings.c.api == api) & (api_ratings.c.user_id == user)
    with database.write() as cx:
        values = {"reply": text, "replied_by": by, "replied_at": now()}
        if not cx.execute(update(api_ratings).where(where).values(**values)).rowcount:
            raise _no_rating(api, user)
        _tell(cx, events.API_REPLIED, api, {"user": user, "text": text}, by)


def _no_rating(api: str, user: str) -> NotFound:
    return NotFound(f"'{user}' has not rated API '{api}'", hint=f"`tulle api ratings {api}` tells who has")


# ── questions ────────────────────────────────────────────────────────────────────────────────────────────


def questions(database: Database, api: str, *, limit: int = _USUAL_PAGE) -> tuple[Question, ...]:
    """What was asked about an API, the newest first, with all answers."""
    query = select(api_questions).where(api_questions.c.api == api)
    with database.read() as cx:
        return _with_answers(
            cx, list(cx.execute(query.order_by(api_questions.c.asked_at.desc()).limit(limit)))
        )


def question(database: Database, id_: str) -> Question:
    """One question with its answers. NotFound."""
    with database.read() as cx:
        found = _with_answers(cx, list(cx.execute(select(api_questions).where(api_questions.c.id == id_))))
    if not found:
        raise NotFound(f"there is no question '{id_}'", hint="`tulle api questions API` lists them")
    return found[0]


def unanswered(database: Database, apis: Sequence[str]) -> Mapping[str, int]:
    """By API, how many questions no owner has answered."""
    answered = select(api_answers.c.question).where(api_answers.c.by_owner.is_(True))
    query = (
        select(api_questions.c.api, func.count())
        .where(api_questions.c.api.in_(apis), api_questions.c.id.not_in(answered))
        .group_by(api_questions.c.api)
    )
    with database.read() as cx:
        return {row[0]: int(row[1]) for row in cx.execute(query)}


def ask(database: Database, api: str, user: str, text: str) -> Question:
    """Ask something about an API. Invalid; LimitExceeded where there are too many questions."""
    made = Question(f"q-{secrets.token_hex(8)}", api, user, checked(text, what="the question"), now())
    with database.write() as cx:
        in_turn(cx, f"remarks {api}")
        there = cx.execute(select(func.count()).where(api_questions.c.api == api)).scalar() or 0
        if there >= MOST_QUESTIONS:
            raise LimitExceeded(f"API '{api}' has {there} questions", hint="its owners may remove old ones")
        values = {"id": made.id, "api": api, "user_id": user, "text": made.text, "asked_at": made.asked_at}
        cx.execute(insert(api_questions).values(**values))
        _tell(cx, events.API_ASKED, api, {"question": made.id, "text": made.text}, user)
    return made


def answer(database: Database, id_: str, user: str, text: str, *, by_owner: bool) -> Answer:
    """Answer a question. NotFound, Invalid; LimitExceeded where it has too many answers."""
    made = Answer(f"a-{secrets.token_hex(8)}", user, by_owner, checked(text, what="the answer"), now())
    with database.write() as cx:
        in_turn(cx, f"question {id_}")
        api = cx.execute(select(api_questions.c.api).where(api_questions.c.id == id_)).scalar()
        if api is None:
            raise NotFound(f"there is no question '{id_}'", hint="it was removed meanwhile")
        there = cx.execute(select(func.count()).where(api_answers.c.question == id_)).scalar() or 0
        if there >= MOST_ANSWERS:
            raise LimitExceeded(f"the question has {there} answers", hint="ask a new one")
        values = {"id": made.id, "question": id_, "user_id": user, "by_owner": by_owner, "text": made.text}
        cx.execute(insert(api_answers).values(**values, answered_at=made.answered_at))
        _tell(cx, events.API_ANSWERED, api, {"question": id_, "answer": made.id, "text": made.text}, user)
    return made


def remove(database: Database, question: Question, answer: str | None = None, *, by: str) -> None:
    """Take back a question with its answers, or one answer."""
    with database.write() as cx:
        where = api_answers.c.question == question.id
        cx.execute(
            delete(api_answers).where(where if answer is None else where & (api_answers.c.id == answer))
        )
        if answer is None:
            cx.execute(delete(api_questions).where(api_questions.c.id == question.id))
        told = {"question": question.id, "answer": answer}
        _tell(cx, events.API_REMARK_REMOVED, question.api, told, by)


def remove_of(cx: Connection, api: str) -> None:
    """Forget all that was said of an API, in the transaction in which it goes."""
    mine = select(api_questions.c.id).where(api_questions.c.api == api)
    cx.execute(delete(api_answers).where(api_answers.c.question.in_(mine)))
    cx.execute(delete(api_questions).where(api_questions.c.api == api))
    cx.execute(delete(api_ratings).where(api_ratings.c.api == api))


def _with_answers(cx: Connection, rows: Sequence[Row[Any]]) -> tuple[Question, ...]:
    ids = [row.id for row in rows]
    query = select(api_answers).where(api_answers.c.question.in_(ids)).order_by(api_answers.c.answered_at)
    found: dict[str, list[Answer]] = {}
    for one in cx.execute(query):
        found.setdefault(one.question, []).append(
            Answer(one.id, one.user_id, one.by_owner, one.text, one.answered_at)
        )
    return tuple(
        Question(row.id, row.api, row.user_id, row.text, row.asked_at, tuple(found.get(row.id, ())))
        for row in rows
    )


def _tell(cx: Connection, kind: str, api: str, data: Mapping[str, object], by: str) -> None:
    log.append(cx, Event(kind, f"api:{api}", data), actor=by)
