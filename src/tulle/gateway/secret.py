"""Secrets by which callers show who they are: made here, shown once, kept as the hash the gateway checks.

They may end, and there are two forms of them: who has one of each may change from one to the other in peace. A secret
of the second form ends in a tilde, by which the gateway knows with which of the two hashes to compare. Knows nothing of
whose they are.
"""

from __future__ import annotations

import base64
import hashlib
import math
import secrets
from typing import Final

from tulle.errors import Invalid

SECRET_BYTES: Final = 20  # 160 random bits, as many as the hash has
SECOND: Final = "~"  # no hexadecimal digit, and allowed in headers and Bearer keys
LATEST: Final = 253_402_214_400.0  # 9999-12-31, seconds since the epoch: no calendar goes further


def new_secret(*, second: bool = False) -> str:
    """160 random bits, hexadecimal; of the `second` form with the tilde."""
    return secrets.token_hex(SECRET_BYTES) + (SECOND if second else "")


def is_second(secret: str) -> bool:
    """Whether a secret is of the second form."""
    return secret.endswith(SECOND)


def check_end(expires_at: float, at: float, *, past: str, what: str = "the key") -> None:
    """Invalid for an end, in seconds since the epoch, that is `past` at a time, or that no calendar has."""
    if not math.isfinite(expires_at) or expires_at > LATEST:
        raise Invalid(
            f"{what} would end after the year 9999",
            hint="leave its end out: one without an end never expires",
        )
    if expires_at <= at:
        raise Invalid(past)


def hash_secret(secret: str) -> str:
    """The form secrets are kept in and the gateway checks: base64 of their SHA-1.

    A fast, unsalted hash is right for this one reason: a secret is 160 random bits, not a word a person chose.
    """
    return base64.b64encode(hashlib.sha1(secret.encode(), usedforsecurity=False).digest()).decode()
