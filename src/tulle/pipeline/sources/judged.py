"""Connections to addresses that were judged, so that a name cannot lead elsewhere a moment later.

Public addresses are reached, others only where the mesh says so. Knows nothing of what is asked there.
"""

from __future__ import annotations

import socket
import time
from typing import Any, Final

import httpcore

from tulle.config import Settings
from tulle.errors import Unavailable
from tulle.lake.hooks.outbound import Outbound

USUAL_SECONDS: Final = 15.0  # for a connection, where whoever asks says nothing


class Judged(httpcore.NetworkBackend):
    """How sources and those who sign in for them reach the network. Denied for an address that is not allowed."""

    def __init__(self, settings: Settings) -> None:
        self._judge = Outbound(settings.source_addresses, who="http sources", setting="source_addresses")
        self._inner = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Any = None,
    ) -> httpcore.NetworkStream:
        """A connection to the first address that answers."""
        wait = timeout or USUAL_SECONDS
        error: Exception | None = None
        for address in self._addresses(host, port, wait):
            try:
                return self._inner.connect_tcp(address, port, wait, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as exc:
                error = exc
        raise error or httpcore.ConnectError("it has no address")

    def _addresses(self, host: str, port: int, wait: float) -> list[str]:
        try:
            return self._judge.addresses(host, port, time.monotonic() + wait)
        except Unavailable as exc:
            reason = exc.__cause__
            if isinstance(reason, UnicodeError) or getattr(reason, "errno", None) == socket.EAI_NONAME:
                raise  # there is no such name, and there will be none in a moment
            raise httpcore.ConnectError(exc.message) from None
