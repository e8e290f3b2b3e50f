"""Secrets by which callers show who they are: made here, shown once, kept as the hash the gateway checks."""

from __future__ import annotations

import base64
import hashlib
import secrets
from typing import Final

SECRET_BYTES: Final = 20  # 160 random bits, as many as the hash has


def new_secret() -> str:
    """160 random bits, hexadecimal."""
    return secrets.token_hex(SECRET_BYTES)


def hash_secret(secret: str) -> str:
    """The form secrets are kept in and the gateway checks: base64 of their SHA-1.

    A fast, unsalted hash is right for this one reason: a secret is 160 random bits, not a word a person chose.
    """
    return base64.b64encode(hashlib.sha1(secret.encode(), usedforsecurity=False).digest()).decode()
