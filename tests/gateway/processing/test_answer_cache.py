"""Kept answers through the real Envoy: to whom they are given again, for how long, and how much is kept."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import Any

import pytest
from tests.gateway.conftest import API, Reply, check_error
from tests.gateway.processing.conftest import SOCKET, Processed

from tulle.errors import Broken
from tulle.gateway.policies.entry import Policy
from tulle.gateway.policy import Backend
from tulle.gateway.processing.answer_cache import AnswerCache, Kept, Room, caching_rules
from tulle.gateway.processing.exchange import Answer, Call
from tulle.gateway.processing.step import Step
from tulle.serving.access import Access, Public
from tulle.serving.traffic import Share, Traffic

pytestmark = pytest.mark.system
_TTL = [1000]


def keeping(**settings: Any) -> Policy:
    """A cache that has kept nothing: it is another one each time."""
    _TTL[0] += 1
    return Policy("caching", {"ttl": _TTL[0], "methods": ["GET", "POST"], **settings})


def count(reply: Reply) -> int:
    assert reply.status == 200, reply
    return int(reply.json()["count"])


def test_an_answer_to_a_post_is_given_again(processed: Processed) -> None:
    processed.put(keeping())
    first = processed.ask("/x/said", b'{"a": 1}')
    again = processed.ask("/x/said", b'{"a": 1}')
    assert (first.headers["x-tulle-cache"], again.headers["x-tulle-cache"]) == ("miss", "hit")
    assert "age" not in first.headers
    assert int(again.headers["age"]) < 60
    assert again.body == first.body
    assert again.headers["x-request-id"] != first.headers["x-request-id"]
    assert count(processed.ask("/x/said", b'{"a": 2}')) != count(first)
    assert count(processed.ask("/x/said?q=1", b'{"a": 1}')) != count(first)
    assert count(processed.ask("/y/said", b'{"a": 1}')) != count(first)
    assert count(processed.ask("/x/said", b'{"a": 1}', accept="text/csv")) != count(first)


def test_nobody_is_given_what_is_anothers_unless_it_is_said(processed: Processed) -> None:
    processed.put(keeping())
    mine = count(processed.ask("/x/said", b"{}"))
    assert count(processed.ask("/x/said", b"{}", client="app-b")) != mine
    assert count(processed.ask("/x/said", b"{}", cookie="session=1")) != mine
    assert count(processed.ask("/x/said", b"{}")) == mine
    processed.put(keeping(shared=True))
    mine = count(processed.ask("/x/said", b"{}"))
    assert count(processed.ask("/x/said", b"{}", client="app-b")) == mine


def test_callers_whom_the_gateway_does_not_know_are_not_one(processed: Processed) -> None:
    processed.put(keeping(), access=Access(contracts=False, public=Public("100000/1s")))

    def ask(path: str = "/x/said", **headers: str) -> int:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        return count(processed.mesh.ask(f"{API}api{path}", sent))

    mine = ask()
    assert ask() == mine
    assert ask(traceparent="00-1-2-3") == mine
    others = [{"cookie": "a=1"}, {"x_user": "ann"}, {"x_api_key": "1"}, {"x_api_key": "2"}, {"x_odd": "1"}]
    found = {ask(**headers) for headers in others}
    assert len(found) == 5
    assert mine not in found
    assert [ask(**headers) for headers in others] == [ask(**headers) for headers in others]


def test_credentials_that_a_service_reads_itself_tell_callers_apart(processed: Processed) -> None:
    processed.put(keeping(key={"query": ["q"]}))
    mine = count(processed.ask("/x/said?q=1", b"{}", x_other="1"))
    assert count(processed.ask("/x/said?q=1", b"{}", x_other="2")) == mine
    assert count(processed.ask("/x/said?q=1", b"{}", x_on_behalf_of="ann")) != mine
    assert count(processed.ask("/x/said?q=1", b"{}", x_session="1")) != mine
    assert count(processed.ask("/x/said?q=1&access_token=1", b"{}")) != mine
    processed.put(keeping(key={"query": ["q"]}, shared=True))
    mine = count(processed.ask("/x/said?q=1", b"{}"))
    assert count(processed.ask("/x/said?q=1&token=1", b"{}", x_session="1")) == mine


def test_queries_are_the_same_only_where_nobody_could_tell_them_apart(processed: Processed) -> None:
    processed.put(keeping())

    def ask(query: str) -> int:
        return count(processed.ask(f"/x/said?{query}", b"{}"))

    assert ask("a=1&b=2&a=3") == ask("b=2&a=1&a=3")
    different = ["a=1&a=2", "a=2&a=1", "a=%ff", "a=%fe", "a=%EF%BF%BD", "a", "a=", "a=+", "a=%20", "a=%2B"]
    assert len({ask(one) for one in different}) == len(different)


def test_a_host_that_a_caller_makes_up_is_in_no_answer_to_others(processed: Processed) -> None:
    processed.put(keeping(shared=True))
    mine = count(processed.ask("/x/said", b"{}"))
    assert count(processed.ask("/x/said", b"{}", host="evil.example")) != mine


def test_a_new_generation_is_asked_and_not_what_the_one_before_it_said(processed: Processed) -> None:
    def put(name: str) -> None:
        traffic = Traffic("single", (Share(name, 10_000),))
        backends = tuple(Backend(one, (SOCKET,)) for one in ("v1", "v2"))
        processed.put(
            Policy("caching", {"methods": ["POST"]}), upstreams=(), traffic=traffic, backends=backends
        )

    put("v1")
    mine = count(processed.ask("/x/said", b"{}"))
    assert count(processed.ask("/x/said", b"{}")) == mine
    put("v2")
    assert count(processed.ask("/x/said", b"{}")) != mine


def test_a_kept_answer_is_given_to_those_alone_who_may_call(processed: Processed) -> None:
    processed.put(keeping(shared=True))
    count(processed.ask("/x/said", b"{}"))
    check_error(
        processed.mesh.ask("/public/api/v1/api/x/said", method="POST", body=b"{}"), 401, "InvalidClient"
    )


def test_the_key_may_be_parts_of_the_request(processed: Processed) -> None:
    processed.put(keeping(key={"body": ["$.features.id", "$.on"], "query": ["q"], "headers": ["X-Team"]}))
    mine = count(processed.ask("/x/said?q=1&z=1", b'{"features": {"id": 1, "more": 1}}'))
    assert count(processed.ask("/x/said?z=2&q=1", b'{"features": {"more": 2, "id": 1}}')) == mine
    assert count(processed.ask("/x/said?q=2", b'{"features": {"id": 1}}')) != mine
    assert count(processed.ask("/x/said?q=1", b'{"features": {"id": 2}}')) != mine
    assert count(processed.ask("/x/said?q=1", b'{"features": {"id": 1}, "on": 1}')) != mine
    assert count(processed.ask("/x/said?q=1", b'{"features": {"id": 1}}', x_team="t")) != mine
    check_error(processed.ask("/x/said?q=1", b"{"), 400, "InvalidRequest")
    odd = "application/json; charset=utf-7"
    check_error(processed.ask("/x/said?q=1", b"{}", content_type=odd), 415, "UnsupportedContent")


def test_numbers_that_only_a_double_takes_for_one_have_answers_of_their_own(processed: Processed) -> None:
    processed.put(keeping(key={"body": ["$.id"]}))
    ids = ["0.1", "0.10000000000000001", "9007199254740993", "9007199254740993.0", "9007199254740992.0"]
    found = [count(processed.ask("/x/said", b'{"id": %b}' % one.encode())) for one in ids]
    assert len(set(found)) == len(ids)
    assert [count(processed.ask("/x/said", b'{"id": %b}' % one.encode())) for one in ids] == found


@pytest.mark.parametrize(
    "answer",
    [
        {"status": "201 Made"},
        {"cache-control": "no-store"},
        {"cache-control": "max-age=0"},
        {"cache-control": "max-age=soon"},
        {"expires": "0"},
        {"expires": "Sun, 06 Nov 1994 08:49:37 GMT"},
        {"cache-control": "max-age=60", "age": "60"},
        {"set-cookie": "a=1"},
        {"vary": "*"},
        {"vary": "accept-language, Accept"},
    ],
)
def test_what_is_not_to_be_kept_is_not(processed: Processed, answer: dict[str, str]) -> None:
    processed.put(keeping())
    found = {processed.ask("/x/said", b"{}", x_answer=json.dumps(answer)).json()["count"] for _ in range(3)}
    assert len(found) == 3


def test_how_old_an_answer_is_elsewhere_counts_here(processed: Processed) -> None:
    processed.put(keeping())
    date = "Sun, 06 Nov 1994 08:49:37 GMT"
    said = {"cache-control": "max-age=60", "expires": "0", "age": "30", "date": date}
    mine = processed.ask("/x/said", b"{}", x_answer=json.dumps(said))
    again = processed.ask("/x/said", b"{}", x_answer=json.dumps(said))
    assert count(again) == count(mine)
    assert 30 <= int(again.headers["age"]) < 60
    assert (mine.headers["age"], mine.headers["date"], again.headers["date"]) == ("30", date, date)
    said = {"expires": "Sun, 06 Nov 1994 08:50:37 GMT", "date": date}
    mine = processed.ask("/y/said", b"{}", x_answer=json.dumps(said))
    assert count(processed.ask("/y/said", b"{}", x_answer=json.dumps(said))) == count(mine)
    processed.put(keeping(use_cache_control=False))
    said = {"expires": "0", "cache-control": "max-age=60", "age": "100"}
    mine = processed.ask("/x/said", b"{}", x_answer=json.dumps(said))
    again = processed.ask("/x/said", b"{}", x_answer=json.dumps(said))
    assert count(again) == count(mine)
    assert int(again.headers["age"]) >= 100


def test_what_varies_by_the_key_is_kept(processed: Processed) -> None:
    processed.put(keeping(key={"headers": ["accept-language"]}))
    answer = {"x_answer": '{"vary": "Accept-Language, accept-encoding"}'}
    mine = count(processed.ask("/x/said", b"{}", accept_language="de", **answer))
    assert count(processed.ask("/x/said", b"{}", accept_language="de", **answer)) == mine
    assert count(processed.ask("/x/said", b"{}", accept_language="en", **answer)) != mine


def test_callers_may_ask_for_a_fresh_one(processed: Processed) -> None:
    processed.put(keeping())
    mine = count(processed.ask("/x/said", b"{}"))
    fresh = count(processed.ask("/x/said", b"{}", cache_control="no-cache"))
    assert fresh != mine
    assert count(processed.ask("/x/said", b"{}")) == fresh
    assert count(processed.ask("/x/said", b"{}", cache_control="no-store")) not in {mine, fresh}
    assert count(processed.ask("/x/said", b"{}")) == fresh
    processed.put(keeping(use_cache_control=False))
    mine = count(processed.ask("/x/said", b"{}"))
    assert count(processed.ask("/x/said", b"{}", cache_control="no-cache")) == mine


def test_those_who_may_have_answers_forgotten(processed: Processed) -> None:
    processed.put(keeping(invalidate={"header": "X-Forget", "clients": ["app-a"]}))
    one, other = count(processed.ask("/x/said", b"1")), count(processed.ask("/x/said", b"2"))
    processed.ask("/x/said", b"1", client="app-b", x_forget="all")
    assert count(processed.ask("/x/said", b"1")) == one
    assert count(processed.ask("/x/said", b"1", x_forget="this")) != one
    assert count(processed.ask("/x/said", b"2")) == other
    processed.ask("/x/said", b"1", x_forget="all")
    assert count(processed.ask("/x/said", b"2")) != other


def test_equal_requests_wait_for_the_one_that_is_under_way(processed: Processed) -> None:
    processed.put(keeping())
    found: list[int] = []
    callers = [
        threading.Thread(target=lambda: found.append(count(processed.ask("/x/slow", b"{}"))))
        for _ in range(5)
    ]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert len(found) == 5
    assert len(set(found)) == 1


def test_those_who_waited_for_nothing_ask_themselves(processed: Processed) -> None:
    processed.put(keeping())
    found: list[int] = []
    answer = {"x_answer": '{"cache-control": "no-store"}'}
    callers = [
        threading.Thread(target=lambda: found.append(count(processed.ask("/x/slow", b"{}", **answer))))
        for _ in range(3)
    ]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert len(set(found)) == 3


def test_what_is_kept_is_redacted_for_whoever_gets_it(processed: Processed) -> None:
    redacting = Policy("redaction", {"fields": [{"path": "$.ssn", "except": {"clients": ["app-b"]}}]})
    processed.put(redacting, keeping(shared=True))
    assert processed.ask("/x/echo", b'{"ssn": 1}', client="app-b").json() == {"ssn": 1}
    again = processed.ask("/x/echo", b'{"ssn": 1}')
    assert again.headers["x-tulle-cache"] == "hit"
    assert again.json() == {}


@pytest.mark.parametrize("body", [b'{"id": 1, "id": 2}', b'{"id": 2, "x": {"a": ":", "\\u0061": 1}}'])
def test_a_body_that_two_may_read_differently_is_neither_kept_nor_answered(
    processed: Processed, body: bytes
) -> None:
    processed.put(keeping(key={"body": ["$.id"]}))
    plain = processed.ask("/x/said", b'{"id": 2}')
    found = [processed.ask("/x/said", body) for _ in range(2)]
    assert len({count(one) for one in (plain, *found)}) == 3
    assert all("x-tulle-cache" not in one.headers for one in found)
    assert count(processed.ask("/x/said", b'{"id": 2}')) == count(plain)


def test_what_nobody_can_mean_is_refused(processed: Processed) -> None:
    for wrong, told in (
        ({"methods": ["PUT"]}, "PUT"),
        ({"key": {"body": ["a"]}}, "JSON path"),
        ({"ttl": "x"}, "ttl|float"),
    ):
        with pytest.raises(Broken, match=told):
            processed.put(Policy("caching", wrong))


# ── without Envoy ────────────────────────────────────────────────────────────────────────────────────────


def kept_of(kept: Kept, number: int, at: list[float], **settings: Any) -> str:
    """Ask once; whether it was kept."""
    step: Step = AnswerCache(caching_rules({"ttl": 10, **settings}), kept, clock=lambda: at[0])
    call = Call("GET", b"/%d" % number, [], b"", {})
    found = step.request(call)
    if isinstance(found, Answer):
        return "hit"
    answer = Answer(200, [], b"x" * 1000)
    if step.head(call, answer):
        step.body(call, answer)
    step.ended(call)
    return "miss"


def test_answers_are_too_old_after_their_time() -> None:
    kept, at = Kept(10, 10_000), [0.0]
    assert [kept_of(kept, 1, at), kept_of(kept, 1, at)] == ["miss", "hit"]
    at[0] = 9.9
    assert kept_of(kept, 1, at) == "hit"
    at[0] = 10
    assert kept_of(kept, 1, at) == "miss"


@pytest.mark.parametrize("is_kept", [True, False])
def test_an_answer_that_is_there_before_its_waiter_has_begun_is_not_missed(is_kept: bool) -> None:
    """Whoever waits does so in a task, which begins a turn of the loop later."""
    step = AnswerCache(caching_rules({"ttl": 10}), Kept(10, 10_000))

    async def meet() -> Answer | None:
        first, second = (Call("GET", b"/", [], b"", {}) for _ in range(2))
        assert step.request(first) is None
        turn: Any = step.request(second)
        waiting = asyncio.ensure_future(turn)
        answer = Answer(200 if is_kept else 500, [], b"said")
        if step.head(first, answer):
            step.body(first, answer)
        step.ended(first)
        found: Answer | None = await asyncio.wait_for(waiting, 5)
        return found

    found = asyncio.run(meet())
    assert (found.body if found is not None else None) == (b"said" if is_kept else None)


def test_no_more_is_kept_than_there_is_room_for() -> None:
    at = [0.0]
    kept = Kept(3, 1_000_000)
    for number in (1, 2, 3, 1, 4):
        kept_of(kept, number, at)
    assert len(kept) == 3
    assert kept_of(kept, 1, at) == "hit"
    assert kept_of(kept, 2, at) == "miss"
    kept = Kept(100, 4000)
    for number in range(20):
        kept_of(kept, number, at)
    assert kept.bytes <= 4000
    assert len(kept) == 3
    kept = Kept(100, 500)
    kept_of(kept, 1, at)
    assert (len(kept), kept.bytes) == (0, 0)


def test_all_policies_together_keep_no_more_than_there_is_room_for() -> None:
    room, at = Room(4000), [0.0]
    one, other = Kept(100, 1_000_000, room), Kept(100, 1_000_000, room)
    for number in range(5):
        kept_of(one, number, at)
    assert room.used == one.bytes <= 4000
    assert (kept_of(other, 1, at), kept_of(other, 1, at)) == (
        "miss",
        "hit",
    )  # whoever has the most makes room
    assert (len(one), len(other)) == (2, 1)
    del one
    assert room.used == other.bytes


def test_an_age_of_the_answer_is_heeded_up_to_the_policys() -> None:
    def seconds(said: str, *more: tuple[bytes, bytes], waited: float = 0.0, **settings: Any) -> float:
        step = AnswerCache(caching_rules({"ttl": 100, **settings}), Kept(1, 1))
        return step._seconds(Answer(200, [(b"cache-control", said.encode()), *more]), waited)

    assert seconds("max-age=10") == 10
    assert seconds("public, max-age=10, s-maxage=20") == 20
    assert seconds("max-age=1000") == 100
    assert seconds("public", (b"age", b"90"), waited=20.0) == 100  # it says nothing of how long
    assert seconds("max-age=50", (b"age", b"20"), waited=10.0) == 20
    assert seconds("max-age=1000", (b"age", b"20")) == 100
    assert seconds("max-age=50", (b"age", b"50")) <= 0
    assert seconds("max-age=50", waited=50.0) <= 0
    assert seconds("private, max-age=10") == 10
    assert seconds("private, max-age=10", shared=True) == 0
    assert seconds("no-store", use_cache_control=False) == 100
