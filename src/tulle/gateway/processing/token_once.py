"""Tokens that open once: the `jti` of each is noted until the token is over, and the same again is refused.

Carried out after the gateway, or the issuer, has found the token good, whose claims stand in the call. A token that
cannot be told from another one, or that holds too long to be remembered, is refused. Knows nothing of files.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from tulle.errors import LimitExceeded, TulleError
from tulle.gateway.processing.exchange import BY_CONTRACT, WAY_HEADER, Call, Refusal, unavailable
from tulle.gateway.processing.step import Step

LONGEST: Final = 86_400.0  # seconds that a token may hold, where nothing is said
LATE_SECONDS: Final = 120.0  # a token is remembered beyond its end: Envoy takes it for 60 s more
_NO_TOKENS: Final = frozenset({b"public", b"user", b"ldap"})  # ways of callers who show no token
Use = Callable[[str, float], bool]


class TokenOnce(Step):
    """One policy. `use` notes a token until then; False where it was noted before."""

    def __init__(self, use: Use, longest: float, *, clock: Callable[[], float] = time.time) -> None:
        self._use = use
        self._longest = longest
        self._clock = clock

    def request(self, call: Call) -> None:
        way = call.header(WAY_HEADER) or b""
        if way in _NO_TOKENS or (way == BY_CONTRACT.encode() and not call.claims):
            return
        name, end = call.claims.get("jti"), call.claims.get("exp")
        if not isinstance(name, str) or not name:
            raise _wrong("It has no id (jti), and tokens open once here")
        if not isinstance(end, int | float) or isinstance(end, bool) or not math.isfinite(end):
            raise _wrong("It does not say when it ends (exp), and tokens open once here")
        if end - self._clock() > self._longest:
            raise _wrong(f"It holds for longer than {self._longest:g} s, and tokens open once here")
        issuer = call.claims.get("iss")
        try:
            fresh = self._use(f"{issuer if isinstance(issuer, str) else ''}\0{name}", end + LATE_SECONDS)
        except LimitExceeded:
            raise unavailable("More tokens are under way than can be told apart") from None
        except TulleError:
            raise unavailable() from None
        if not fresh:
            raise _wrong("It has been used: get another one for each request")


def token_once(settings: Mapping[str, Any], use: Use) -> TokenOnce:
    """The step of a policy's settings."""
    return TokenOnce(use, float(settings.get("longest", LONGEST)))


def _wrong(detail: str) -> Refusal:
    challenge = (b"www-authenticate", b'Bearer error="invalid_token"')
    return Refusal(401, "InvalidToken", "The token is not accepted", detail, [challenge])
