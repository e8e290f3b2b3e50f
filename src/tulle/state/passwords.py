"""Passwords that people choose, as they may be kept: scrypt, with a salt of each own. Knows nothing of whose they are.

A hash says how it was made, `scrypt:N:r:p:salt:hash` with the last two in base64, so that what is made later may be
made harder.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from typing import Final

from tulle.errors import Invalid

SHORTEST: Final = 12  # characters
LONGEST: Final = 200
_N, _R, _P = 1 << 15, 8, 1  # 32 MB and some 80 ms
_MOST_MEMORY: Final = 256 << 20
_SALT_BYTES: Final = 16


def hash_password(password: str) -> str:
    """The hash of a password that was chosen. Invalid for one that is too short, too long, or cannot be sent."""
    if not SHORTEST <= len(password) <= LONGEST:
        raise Invalid(
            f"a password of {len(password)} characters: expected {SHORTEST} to {LONGEST}",
            hint="several words are easy to remember and hard to guess",
        )
    if not password.isprintable():
        raise Invalid("a password has characters that cannot be typed")
    salt = secrets.token_bytes(_SALT_BYTES)
    hashed = _scrypt(password, salt, _N, _R, _P)
    return f"scrypt:{_N}:{_R}:{_P}:{base64.b64encode(salt).decode()}:{base64.b64encode(hashed).decode()}"


def is_password(password: str, hashed: str) -> bool:
    """Whether it is the one that was hashed; False for a hash that is not understood, too. Takes a while."""
    try:
        kind, n, r, p, salt, wanted = hashed.split(":")
        found = _scrypt(password, base64.b64decode(salt, validate=True), int(n), int(r), int(p))
        return kind == "scrypt" and hmac.compare_digest(found, base64.b64decode(wanted, validate=True))
    except (ValueError, MemoryError):
        return False


def _scrypt(password: str, salt: bytes, n: int, r: int, p: int) -> bytes:
    encoded = password.encode("utf-8", "surrogatepass")
    return hashlib.scrypt(encoded, salt=salt, n=n, r=r, p=p, maxmem=_MOST_MEMORY, dklen=32)
