"""What came of sending one request to a service through the gateway, from a page. Knows nothing of how it was sent."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

Credentials = tuple[str, str]  # client id and client secret


@dataclass(frozen=True, slots=True)
class TryAnswer:
    """The answer as it came; `milliseconds` from sending the request to having all of the answer."""

    status: int
    headers: Mapping[str, str]
    body: str
    milliseconds: float


# (service, endpoint, action, body, credentials or None for the portal's own) → the answer.
# Unavailable when the gateway does not answer.
Caller = Callable[[str, str, str, bytes, Credentials | None], TryAnswer]
