"""OAuth 2 token introspection (RFC 7662): an issuer is asked whether a token is good, and whose it is.

Within a time, a number of connections and a size. What it said holds for a while, never beyond the end of the token. An
issuer that does not answer, or not as the RFC has it, lets nobody in: 503.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec

from tulle.errors import Invalid
from tulle.gateway.processing.checking import Check, Found, is_name, unavailable_now
from tulle.gateway.processing.exchange import Refusal
from tulle.gateway.processing.handed import HandedConnection
from tulle.gateway.processing.redaction import said

if TYPE_CHECKING:
    import httpx

MOST_CONNECTIONS: Final = 20
LARGEST: Final = 65_536  # bytes of an issuer's answer
_CLOSING: set[asyncio.Task[None]] = (
    set()
)  # of policies that are over; a task that nobody holds may be dropped
_CHALLENGE: Final = b"www-authenticate"
Connect = Callable[[], HandedConnection | None]


class Introspection(Check):
    """One issuer. Asked with the connection that a policy names."""

    scheme = b"bearer"

    def __init__(self, settings: Mapping[str, Any], key: bytes, connect: Connect, trusted: str) -> None:
        self._seconds_each = float(settings.get("timeout", 5))
        super().__init__(key, float(settings.get("cache", 60)), _missing(), patience=self._seconds_each)
        self._connect = connect
        self._trusted = trusted
        self._issuer = settings.get("issuer")
        self._audiences = _texts(settings.get("audience", ()))
        self._scopes = tuple(settings.get("scopes", ()))
        self._client_claim = str(settings.get("client_claim", "client_id"))
        self._claims = {
            name: frozenset(_texts(values)) for name, values in settings.get("claims", {}).items()
        }
        self._client: httpx.AsyncClient | None = None
        self._loop: asyncio.AbstractEventLoop  # that the client's connections are in

    async def find(self, credentials: bytes) -> Found:
        told = await self._told(credentials)
        now = time.time()
        if told.get("active") is not True:
            raise _wrong("It may have expired, or been withdrawn")
        left = _left(told, now)
        if left <= 0:
            raise _wrong("It is over, or not to be used yet")
        if self._issuer is not None and told.get("iss") != self._issuer:
            raise _wrong("It is of another issuer")
        if self._audiences and not set(self._audiences) & set(_texts(told.get("aud", ()))):
            raise _wrong("It is meant for another audience")
        name = told.get(self._client_claim)
        if not isinstance(name, str) or not is_name(name):
            raise _forbidden("The token does not name its client")
        return Found(name, told, self.clock() + left)

    def may(self, found: Found) -> None:
        scope = found.claims.get("scope", "")
        held = set(scope.split() if isinstance(scope, str) else _texts(scope))
        if not set(self._scopes) <= held:
            raise _forbidden("The token lacks a scope", self._scopes)
        for name, wanted in self._claims.items():
            if not said(found.claims, name) & wanted:
                raise _forbidden("The token lacks a claim")

    async def _told(self, token: bytes) -> Mapping[str, Any]:
        connection = self._connect()
        if connection is None:
            raise RuntimeError("the connection that the policy names is not there")
        import httpx  # noqa: PLC0415  heavy, and few services have such a policy

        headers = {"accept": "application/json", **connection.headers}
        asked = {"token": token.decode("latin-1"), "token_type_hint": "access_token"}
        try:
            client = self._opened()
            async with client.stream("POST", connection.address, data=asked, headers=headers) as answer:
                if answer.status_code != 200:
                    raise unavailable_now("The issuer of tokens does not answer as it should")
                body = b""
                async for piece in answer.aiter_bytes():
                    body += piece
                    if len(body) > LARGEST:
                        raise unavailable_now("The issuer of tokens does not answer as it should")
        except (httpx.HTTPError, httpx.InvalidURL):
            raise unavailable_now("The issuer of tokens does not answer now") from None
        try:
            told = msgspec.json.decode(body)
        except (msgspec.MsgspecError, RecursionError):
            told = None
        if not isinstance(told, dict) or not isinstance(told.get("active"), bool):
            raise unavailable_now("The issuer of tokens does not answer as it should")
        return told

    def close(self) -> None:
        super().close()
        if self._client is not None and self._loop.is_running():
            closing = self._loop.create_task(self._client.aclose())
            _CLOSING.add(closing)
            closing.add_done_callback(_CLOSING.discard)
        self._client = None

    def _opened(self) -> httpx.AsyncClient:
        if self._client is None:
            import ssl  # noqa: PLC0415  as above

            import httpx  # noqa: PLC0415

            self._loop = asyncio.get_running_loop()
            self._client = httpx.AsyncClient(
                timeout=self._seconds_each,
                limits=httpx.Limits(
                    max_connections=MOST_CONNECTIONS, max_keepalive_connections=MOST_CONNECTIONS
                ),
                verify=ssl.create_default_context(cafile=self._trusted),
                follow_redirects=False,
                trust_env=False,
            )
        return self._client


def introspection(settings: Mapping[str, Any], key: bytes, connect: Connect, trusted: str) -> Introspection:
    """The step of a policy's settings. Invalid when they cannot be meant."""
    if not settings.get("connection"):
        raise Invalid("introspection: the connection to the issuer is not said", hint="connection: NAME")
    return Introspection(settings, key, connect, trusted)


def _left(told: Mapping[str, Any], now: float) -> float:
    """Seconds for which a token is good; zero where what is said of it is not understood."""
    end, begin = told.get("exp", now + 86_400.0), told.get("nbf", 0)
    if not all(isinstance(one, int | float) and not isinstance(one, bool) for one in (end, begin)):
        return 0
    return float(end) - now if begin <= now else 0


def _texts(value: Any) -> tuple[str, ...]:
    values: Sequence[Any] = (
        [value] if isinstance(value, str) else value if isinstance(value, list | tuple) else ()
    )
    return tuple(one for one in values if isinstance(one, str))


def _missing() -> Refusal:
    return Refusal(
        401,
        "MissingToken",
        "The service is called with a token",
        "Send it as Authorization: Bearer",
        [(_CHALLENGE, b"Bearer")],
    )


def _wrong(detail: str) -> Refusal:
    challenge = (_CHALLENGE, b'Bearer error="invalid_token"')
    return Refusal(401, "InvalidToken", "The token is not accepted", detail, [challenge])


def _forbidden(detail: str, scopes: Sequence[str] = ()) -> Refusal:
    wanted = f', scope="{" ".join(scopes)}"' if scopes else ""
    challenge = (_CHALLENGE, f'Bearer error="insufficient_scope"{wanted}'.encode())
    return Refusal(403, "InsufficientScope", "The token does not allow this", detail, [challenge])
