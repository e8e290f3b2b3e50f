"""HTTP Basic against the users of the mesh: their passwords are hashed so that looking at one takes a while.

Few are looked at at a time, each on a thread of its own, so that nobody else waits; a user who is not there takes as
long as one who is. A password that is changed, or a user who is gone, opens nothing any more at once.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Callable, Mapping
from typing import Any, Final

from tulle.gateway.processing.checking import Check, Found, is_name
from tulle.gateway.processing.exchange import Call, Refusal
from tulle.gateway.processing.handed import Hands
from tulle.state.passwords import is_password

AT_ONCE: Final = 2  # that are looked at
PATIENCE: Final = 10.0  # seconds
NO_USER: Final = "scrypt:32768:8:1:AAAAAAAAAAAAAAAAAAAAAA==:" + "A" * 43 + "="  # nobody's
_CHALLENGE: Final = (b"www-authenticate", b'Basic realm="tulle", charset="UTF-8"')


class BasicCheck(Check):
    """Who shows a name and a password."""

    scheme = b"basic"

    def claimed(self, credentials: bytes) -> str:
        both = name_and_password(credentials)
        return both[0] if both is not None else ""


class BasicUsers(BasicCheck):
    """The users of one policy: those of the mesh, or of some of its groups."""

    def __init__(self, settings: Mapping[str, Any], key: bytes, hands: Callable[[], Hands | None]) -> None:
        super().__init__(key, float(settings.get("cache", 300)), missing_password(), patience=PATIENCE)
        self._hands = hands
        self._groups = frozenset(settings.get("groups", ()))
        self._turn = -1
        self._room = asyncio.Semaphore(AT_ONCE)

    def request(self, call: Call) -> Any:
        hands = self._hands()
        if hands is not None:
            hands.now()
            if hands.turn != self._turn:  # somebody's password is another one, it may be
                self._turn = hands.turn
                self.forget()
        return super().request(call)

    async def find(self, credentials: bytes) -> Found:
        both = name_and_password(credentials)
        hands = self._hands()
        if both is None or hands is None:
            raise wrong_password()
        name, password = both
        user = hands.now().users.get(name)
        turn = hands.turn
        async with self._room:
            fits = await asyncio.to_thread(is_password, password, user.password if user else NO_USER)
        if not fits or user is None:
            raise wrong_password()
        claims = {"sub": name, "groups": list(user.groups)}
        hands.now()
        if hands.turn != turn:  # changed meanwhile: it is looked at again the next time
            return Found(name, claims, self.clock())
        return Found(name, claims)

    def may(self, found: Found) -> None:
        if self._groups and not self._groups & set(found.claims["groups"]):
            raise not_in_group()


def name_and_password(credentials: bytes) -> tuple[str, str] | None:
    """What Basic credentials say (RFC 7617, in UTF-8); None when they are not understood."""
    try:
        name, colon, password = base64.b64decode(credentials, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return (name, password) if colon and is_name(name) and password else None


def missing_password() -> Refusal:
    """To who shows nothing."""
    advice = "Send them as Authorization: Basic"
    return Refusal(
        401, "MissingPassword", "The service is called with user and password", advice, [_CHALLENGE]
    )


def wrong_password() -> Refusal:
    """To who shows what opens nothing; not which part of it."""
    return Refusal(401, "WrongPassword", "User or password is not right", "", [_CHALLENGE])


def not_in_group() -> Refusal:
    """To who is right and may not."""
    return Refusal(403, "NotInGroup", "The user is in none of the groups that may call", "Ask its owner")
