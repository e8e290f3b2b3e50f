"""What is said of a call that the control plane did not answer: whether it can have done anything is told.

Knows nothing of what was asked for.
"""

from __future__ import annotations

from typing import Final

import httpx

from tulle.errors import Unavailable

_READS: Final = frozenset({"GET", "HEAD"})
_NOT_SENT: Final = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol)


def unanswered(http: httpx.Client, method: str, exc: httpx.TransportError) -> Unavailable:
    """A call of this method had no answer; one that changes something may have been carried out all the same."""
    message = f"the control plane at {http.base_url} does not answer: {exc}"
    if method in _READS or isinstance(exc, _NOT_SENT):
        hint = "`tulle status` shows what runs, `tulle logs control_plane` what it says"
        return Unavailable(message, hint=hint)
    return Unavailable(
        f"{message}; whether it did what it was asked is not known",
        hint="look whether it was done before you ask again; `tulle status` shows what runs, "
        "`tulle logs control_plane` what it says",
    )
