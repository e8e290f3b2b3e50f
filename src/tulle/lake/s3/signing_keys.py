"""The keys that version 4 signs with, derived from secrets. Knows nothing of requests."""

from __future__ import annotations

import hmac
import threading


class SigningKeys:
    """Keys derived from secrets for a day, region and service. Deriving one costs four hashes, so they are kept."""

    def __init__(self, most: int = 1024) -> None:
        self._most = most
        self._known: dict[tuple[str, str, str], bytes] = {}
        self._lock = threading.Lock()

    def get(self, secret: str, day: str, region: str) -> bytes:
        """The key for signatures of S3."""
        name = (secret, day, region)
        found = self._known.get(name)
        if found is None:
            found = derived_key(secret, day, region)
            with self._lock:
                if len(self._known) >= self._most:
                    self._known.clear()
                self._known[name] = found
        return found


def derived_key(secret: str, day: str, region: str) -> bytes:
    """The signing key of a secret for a day (yyyymmdd) and a region."""
    key = f"AWS4{secret}".encode()
    for part in (day, region, "s3", "aws4_request"):
        key = hmac.digest(key, part.encode("utf-8", "surrogateescape"), "sha256")
    return key
