"""What leaves a worker: requests to the mesh's gateway and to addresses that connections of the mesh name.

What a worker needs for that is in a file that only its user may read, written by the control plane, and anew when
something in it changes; nothing of it is ever logged or answered. Connections are kept alive, bounded in time and size,
and no redirect is followed. Knows nothing of compositions.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec

from tulle.errors import TulleError
from tulle.serving.own_certificate import Mutual, Stamp, context_of, pinned, reachable, stamp_of
from tulle.serving.request import RequestError

if TYPE_CHECKING:
    import httpcore

MOST_BYTES = 16 << 20  # of an answer
CONNECT_SECONDS = 5.0
UNREACHABLE = "Unreachable"  # nothing was sent: asking again does no harm
_KEPT = 32  # connections to one place
_KEPT_SECONDS = 60.0
_log = logging.getLogger("tulle.serving")


class Way(msgspec.Struct, frozen=True):
    """A connection as a worker uses it: an address, and the headers that sign in there; or why it cannot be used."""

    address: str
    headers: Mapping[str, str] = {}
    why_not: str = ""

    def __repr__(self) -> str:
        """Without the headers: values end up in tracebacks and logs."""
        return f"Way({self.address!r})"


class Outside(msgspec.Struct, frozen=True):
    """The contents of a worker's file; `allowed` are addresses that are not public and may be reached."""

    gateway: str
    client_id: str
    client_secret: str
    connections: Mapping[str, Way] = {}
    allowed: tuple[str, ...] = ()
    made_at: float = 0.0  # when the secret was
    mutual: Mutual | None = None  # how the gateway is reached, where it is not as everybody does
    shown: str = ""  # where callers meet the gateway by TLS: its certificate, PEM, and
    named: str = ""  # a name that it is for

    def __repr__(self) -> str:
        """Without the secret."""
        return f"Outside({self.client_id!r})"


@dataclass(frozen=True, slots=True)
class Got:
    """An answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)


class Door:
    """The one way out of a worker; connections belong to the event loop that uses it."""

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._read: tuple[tuple[int, int], Outside] | None = None
        self._pools: dict[tuple[str, tuple[str, ...] | None], httpcore.AsyncConnectionPool] = {}
        self._own: tuple[Mutual, Stamp] | None = None  # what the connections to other services were made with
        self._shown = ""  # the gateway's certificate that they were made with
        self._leaving: list[httpcore.AsyncConnectionPool] = []  # made with what was before
        self._sockets: dict[Path, tuple[str, int | None]] = {}

    def by(self) -> Outside:
        """What the file says now. RequestError where there is none, as when a package is tried without a mesh."""
        try:
            if self._file is None:
                raise FileNotFoundError
            found = self._file.stat()
            stamp = (found.st_mtime_ns, found.st_ino)
            if self._read is None or self._read[0] != stamp:
                self._read = (stamp, read_outside(self._file))
        except FileNotFoundError:
            message = "this service has no identity by which it could call others"
            raise RequestError(503, UNREACHABLE, message, "It gets one when it is deployed") from None
        except (OSError, msgspec.MsgspecError):
            raise RequestError(503, UNREACHABLE, "this service's identity cannot be read") from None
        return self._read[1]

    async def send(
        self,
        method: str,
        url: str,
        *,
        headers: Iterable[tuple[str, str]],
        content: bytes = b"",
        seconds: float,
        allowed: tuple[str, ...] | None,
        what: str,
    ) -> Got:
        """One request. `allowed` None: wherever it leads, which is for the mesh's own gateway only.

        RequestError: Unreachable when nothing was sent, else 502 or 504; `what` is how messages call the other side.
        """
        import httpcore  # noqa: PLC0415  only compositions that call out need it

        pool = self._pool(allowed, url)
        await self._close_leaving()
        patience = {
            "connect": min(CONNECT_SECONDS, seconds),
            "read": seconds,
            "write": seconds,
            "pool": seconds,
        }
        sent = [(name.encode(), value.encode()) for name, value in headers]
        try:
            async with asyncio.timeout(seconds):
                told_too: dict[str, Any] = {"timeout": patience}
                if allowed is None and (name := _named(self.by())):
                    told_too["sni_hostname"] = name
                async with pool.stream(
                    method, url, headers=sent, content=content, extensions=told_too
                ) as response:
                    body = bytearray()
                    async for piece in response.aiter_stream():
                        body += piece
                        if len(body) > MOST_BYTES:
                            message = f"{what} answered more than {MOST_BYTES >> 20} MB"
                            raise RequestError(502, "AnswerTooLarge", message)
                    told = {n.decode("latin-1").lower(): v.decode("latin-1") for n, v in response.headers}
                    return Got(response.status, told, bytes(body))
        except (httpcore.ConnectError, httpcore.ConnectTimeout, httpcore.PoolTimeout) as exc:
            # Where requests go is not for callers, and why they do not get there is for who runs the mesh.
            _log.warning("%s cannot be reached: %s", what, exc or type(exc).__name__)
            raise RequestError(503, UNREACHABLE, f"{what} cannot be reached") from None
        except (TimeoutError, httpcore.TimeoutException):
            message = f"{what} took longer than {seconds:g} seconds"
            raise RequestError(504, "TookTooLong", message) from None
        except (httpcore.UnsupportedProtocol, httpcore.LocalProtocolError, ValueError, TypeError):
            raise RequestError(502, "NotSendable", f"the request to {what} cannot be sent") from None
        except (httpcore.NetworkError, httpcore.ProtocolError):
            raise RequestError(502, "BrokeOff", f"{what} broke off before it had answered") from None

    async def close(self) -> None:
        """Close its connections."""
        for pool in (*self._pools.values(), *self._leaving):
            await pool.aclose()
        self._pools.clear()
        self._leaving.clear()
        for _, handle in self._sockets.values():
            if handle is not None:
                os.close(handle)
        self._sockets.clear()

    def _pool(self, allowed: tuple[str, ...] | None, url: str) -> httpcore.AsyncConnectionPool:
        """The connections to one place: who waits for a slow one takes none from the others."""
        import httpcore  # noqa: PLC0415

        parts = urlsplit(url)
        place = (f"{parts.scheme}://{parts.netloc}", allowed)
        by = self.by() if allowed is None else None
        if by is not None and by.mutual is not None:
            return self._by_mutual_tls(place, by.mutual)
        shown = by.shown if by is not None else ""
        if allowed is None and shown != self._shown and place in self._pools:
            self._leaving.append(self._pools.pop(place))
        if place not in self._pools:
            self._shown = shown if allowed is None else self._shown
            self._pools[place] = httpcore.AsyncConnectionPool(
                ssl_context=pinned(shown) if shown else None,
                max_connections=_KEPT,
                max_keepalive_connections=_KEPT,
                keepalive_expiry=_KEPT_SECONDS,
                network_backend=None if allowed is None else _guarded(allowed),
            )
        return self._pools[place]

    def _by_mutual_tls(
        self, place: tuple[str, tuple[str, ...] | None], own: Mutual
    ) -> httpcore.AsyncConnectionPool:
        """The connections to the gateway's door for services, made anew when this service's certificate is."""
        import httpcore  # noqa: PLC0415

        assert self._file is not None  # where else would `own` be from
        state = self._file.parents[2]
        try:
            made_with = (own, stamp_of(state, own))
            if place not in self._pools or self._own != made_with:
                context = context_of(state, own)
                socket = state / own.socket
                if socket not in self._sockets:
                    self._sockets[socket] = reachable(socket)
                if place in self._pools:
                    self._leaving.append(self._pools[place])
                self._pools[place] = httpcore.AsyncConnectionPool(
                    ssl_context=context,
                    uds=self._sockets[socket][0],
                    max_connections=_KEPT,
                    max_keepalive_connections=_KEPT,
                    keepalive_expiry=_KEPT_SECONDS,
                )
                self._own = made_with
        except (OSError, ValueError) as exc:
            _log.warning("this service's certificate cannot be used: %s", exc)
            raise RequestError(503, UNREACHABLE, "this service's certificate cannot be read") from None
        return self._pools[place]

    async def _close_leaving(self) -> None:
        """Close connections made with an old certificate, those that are not in use."""
        for pool in list(self._leaving):
            if all(one.is_idle() or one.is_closed() for one in pool.connections):
                self._leaving.remove(pool)
                await pool.aclose()


def _named(by: Outside) -> str:
    """Whom to expect where callers meet the gateway by TLS; the door for services is called by its own name."""
    return by.named if by.mutual is None else ""


def _guarded(allowed: Sequence[str]) -> Any:
    """A backend that connects to addresses that were judged, so that a name cannot lead elsewhere a moment later."""
    import httpcore  # noqa: PLC0415

    from tulle.lake.hooks.outbound import Outbound  # noqa: PLC0415

    judge = Outbound(allowed, who="http steps", setting="source_addresses")
    inner = httpcore.AnyIOBackend()

    class Guarded(httpcore.AsyncNetworkBackend):
        async def connect_tcp(
            self,
            host: str,
            port: int,
            timeout: float | None = None,  # noqa: ASYNC109  as it is called
            local_address: str | None = None,
            socket_options: Any = None,
        ) -> httpcore.AsyncNetworkStream:
            deadline = time.monotonic() + (timeout or CONNECT_SECONDS)
            try:
                found = await asyncio.to_thread(judge.addresses, host, port, deadline)
            except TulleError as exc:
                raise httpcore.ConnectError(
                    f"{exc.message}; {exc.hint}" if exc.hint else exc.message
                ) from None
            error: Exception | None = None
            for address in found:
                try:
                    return await inner.connect_tcp(address, port, timeout, local_address, socket_options)
                except (httpcore.ConnectError, httpcore.ConnectTimeout) as exc:
                    error = exc
            raise error or httpcore.ConnectError("it has no address")

    return Guarded()


def read_outside(file: Path) -> Outside:
    """What a worker's file says. OSError, msgspec.MsgspecError."""
    return msgspec.json.decode(file.read_bytes(), type=Outside)


def write_outside(file: Path, outside: Outside) -> None:
    """Put a worker's file in its place at once, readable by this user only."""
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    scratch = file.with_suffix(f".{os.getpid()}")
    with os.fdopen(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as out:
        out.write(msgspec.json.encode(outside))
    scratch.replace(file)


def outside_file(state_folder: Path, place: str) -> Path:
    """Where the file of a service's workers is; `place` is the service, and the environment where there is one."""
    return state_folder / "run/outside" / f"{place}.json"
