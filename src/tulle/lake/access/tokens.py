"""Things that are good for a while because we signed them: tokens of users, and addresses of single objects. Pure.

A token is base64(JSON).base64(HMAC-SHA256); an address carries its expiry and the HMAC of method, path and expiry.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import parse_qs

from tulle.errors import Denied


@dataclass(frozen=True, slots=True)
class Claim:
    """What a token says: whom it stands for, since when, and the access key it was got with ("" for none)."""

    user: str
    issued: float
    key: str


class Signer:
    """Signs with one key."""

    __slots__ = ("_clock", "_key")

    def __init__(self, key: bytes, clock: Callable[[], float]) -> None:
        self._key = key
        self._clock = clock

    def sign(self, method: str, path: str, seconds: float) -> str:
        """The path with a query that makes it good for `method` for so long."""
        expires = math.ceil(self._clock() + seconds)
        return f"{path}?expires={expires}&signature={self._address(method, path, expires)}"

    def verify(self, method: str, path: str, query: str) -> None:
        """Denied unless the query is one we made for this method and path, and its time is not up."""
        found = parse_qs(query)
        expires, signature = found.get("expires", [""])[0], found.get("signature", [""])[0]
        if not expires.isascii() or not expires.isdigit() or len(expires) > 12:
            raise Denied("this address is not signed")
        if not hmac.compare_digest(self._address(method, path, int(expires)).encode(), _bytes(signature)):
            raise Denied("the signature of this address does not hold")
        if int(expires) < self._clock():
            raise Denied("the time of this address is up", hint="ask for a new one")

    def token(self, user: str, seconds: float, key: str = "") -> tuple[str, int]:
        """A token that stands for a user for so long, and when it expires (seconds since the epoch)."""
        issued = self._clock()
        expires = math.ceil(issued + seconds)
        body = _encoded(json.dumps({"sub": user, "exp": expires, "iat": issued, "key": key}).encode())
        return f"{body}.{self._mac('token', body)}", expires

    def claim_of(self, token: str) -> Claim:
        """What a token says. Denied when it is not ours or its time is up."""
        body, _, signature = token.partition(".")
        if not hmac.compare_digest(self._mac("token", body).encode(), _bytes(signature)):
            raise Denied("the token is not one of this mesh")
        try:
            value = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
            claim = Claim(str(value["sub"]), float(value["iat"]), str(value["key"]))
            expires = float(value["exp"])
        except (ValueError, KeyError, TypeError, binascii.Error):
            raise Denied("the token cannot be read") from None
        if expires < self._clock():
            raise Denied("the token's time is up", hint="sign in again")
        return claim

    def _address(self, method: str, path: str, expires: int) -> str:
        return self._mac("address", f"{method}\n{path}\n{expires}")

    def _mac(self, purpose: str, text: str) -> str:
        return _encoded(hmac.digest(self._key, _bytes(f"{purpose}\n{text}"), hashlib.sha256))


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")  # callers may send what is no UTF-8


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
