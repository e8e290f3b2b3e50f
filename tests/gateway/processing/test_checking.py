"""Finding out who calls: how many at once, for whom others wait, and what becomes of what takes too long."""

from __future__ import annotations

import asyncio
import base64
from collections import Counter
from collections.abc import Coroutine
from typing import Any

from tulle.gateway.processing.attempts import MOST_OF_NAME, MOST_UNDER_WAY
from tulle.gateway.processing.basic_users import BasicCheck, missing_password, wrong_password
from tulle.gateway.processing.checking import AT_ONCE_OF_ADDRESS, Found
from tulle.gateway.processing.exchange import ADDRESS_HEADER, Answer, Call, Refusal


class Asked(BasicCheck):
    """Asks somebody who answers when `open` is set; `right` are the credentials that are good."""

    def __init__(self, right: str = "", patience: float = 5.0, seconds: float = 60.0) -> None:
        super().__init__(b"k", seconds, missing_password(), patience=patience)
        self.open = asyncio.Event()
        self.right = base64.b64encode(right.encode())
        self.at_once = self.most = self.asked = 0

    async def find(self, credentials: bytes) -> Found:
        self.asked += 1
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        try:
            await self.open.wait()
        finally:
            self.at_once -= 1
        if credentials != self.right:
            raise wrong_password()
        return Found("ann")

    async def say(self, who: str, address: str = "10.0.0.1") -> int:
        """The status that these credentials are answered from an address."""
        sent = [(b"authorization", b"Basic " + base64.b64encode(who.encode()))]
        try:
            outcome = self.request(Call("GET", b"/", [*sent, (ADDRESS_HEADER, address.encode())], b"", {}))
            answer: Answer = await outcome if isinstance(outcome, Coroutine) else outcome
        except Refusal as refusal:
            return refusal.status
        return answer.status


async def several(*asked: Coroutine[Any, Any, int], check: Asked) -> Counter[int]:
    """What is answered to these, sent at once; who is asked answers when all are there."""
    tasks = [asyncio.ensure_future(one) for one in asked]
    await asyncio.sleep(0.01)
    check.open.set()
    return Counter(await asyncio.gather(*tasks))


def test_many_passwords_for_a_name_sent_at_once_are_no_more_than_one_after_the_other() -> None:
    async def run() -> None:
        check = Asked("ann:right")
        found = await several(*(check.say(f"ann:guess {n}") for n in range(1000)), check=check)
        assert (found, check.asked) == ({401: MOST_OF_NAME, 503: 1000 - MOST_OF_NAME}, MOST_OF_NAME)
        assert await check.say("ann:right") == 429
        assert await check.say("ann:right", "10.0.0.2") == 200

    asyncio.run(run())


def test_one_address_shuts_out_no_other_one() -> None:
    async def run() -> None:
        check = Asked("ann:right")
        crowd = [check.say(f"user{n}:x") for n in range(2000)]
        found = await several(*crowd, check.say("ann:right", "10.0.0.2"), check=check)
        assert found == {401: MOST_UNDER_WAY, 503: 2000 - MOST_UNDER_WAY, 200: 1}
        assert check.most == AT_ONCE_OF_ADDRESS + 1

    asyncio.run(run())


def test_callers_with_the_same_credentials_wait_for_one_answer_and_are_no_guessers() -> None:
    async def run() -> None:
        check = Asked("ann:right")
        found = await several(*(check.say("ann:right") for _ in range(200)), check=check)
        assert (found, check.asked) == ({200: 200}, 1)
        check.forget()
        assert await check.say("ann:right") == 200

    asyncio.run(run())


def test_what_takes_too_long_is_counted() -> None:
    async def run() -> None:
        check = Asked("ann:right", patience=0.01)
        for number in range(MOST_OF_NAME):
            assert await check.say(f"ann:{number}") == 503
        assert await check.say("ann:right") == 429
        check.open.set()
        assert await check.say("ann:right", "10.0.0.2") == 200

    asyncio.run(run())


def test_the_same_wrong_ones_again_are_no_guess_and_whoever_was_right_is_held_up_by_nobody() -> None:
    async def run() -> None:
        for seconds in (60.0, 0.0):
            check = Asked("ann:right", seconds=seconds)
            check.open.set()
            assert await check.say("ann:right") == 200
            assert {await check.say("ann:stale") for _ in range(MOST_OF_NAME * 3)} == {401}
            assert {await check.say(f"ann:{number}") for number in range(MOST_OF_NAME - 1)} == {401}
            assert await check.say("ann:more") == 429
            check.forget()
            assert await check.say("ann:right") == 200  # was right before
            check.right = b""
            check.forget()
            assert await check.say("ann:right") == 401  # and is not any more
            assert await check.say("ann:right", "10.0.0.2") == 401
            check.forget()
            assert await check.say("ann:right") == 429

    asyncio.run(run())
