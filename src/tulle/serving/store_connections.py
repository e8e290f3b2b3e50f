"""A worker's few connections for one look-up or query: opened when needed, bounded, replaced when they were lost.

Whoever waits longer than is declared is told so, and only so many may wait. All of it waits in the loop, so no other
request stands in line behind a database. Knows nothing of what is asked, and of no driver.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar

from tulle.errors import TulleError
from tulle.serving.request import RequestError

_WAITING = 256  # requests of a worker that may wait for its connections
R = TypeVar("R")
Work = Callable[[Any], Awaitable[R]]


class Driver(Protocol):
    """How connections of one kind are opened and dropped."""

    @property
    def lost(self) -> type[Exception] | tuple[type[Exception], ...]:
        """What is raised when a connection is gone."""

    async def connect(self) -> Any:
        """A new connection."""

    async def drop(self, connection: Any) -> None:
        """Let go of one, whatever it is at. Waits for nobody."""


class StoreConnections:
    """The connections of one look-up or query. For one thread."""

    def __init__(
        self, what: str, connection: str, driver: Driver, *, connections: int, seconds: float
    ) -> None:
        """`what` is asked for, as requests are told; `connection` of the mesh, so many at most, so long at most."""
        self._what, self._name, self._driver, self._seconds = what, connection, driver, seconds
        self._turns = asyncio.Semaphore(connections)
        self._idle: list[tuple[asyncio.AbstractEventLoop, Any]] = []
        self._waiting = 0
        self._working: set[asyncio.Task[Any]] = set()

    async def asked(self, work: Work[R]) -> R:
        """What work finds on a connection. RequestError 503 when too many wait, or it takes too long."""
        if self._waiting >= _WAITING:
            raise self.unavailable(f"{self._waiting} requests wait for it already")
        self._waiting += 1
        try:
            async with asyncio.timeout(self._seconds):
                await self._turns.acquire()
                # A task of its own: a driver that is told to stop may wait for the server to agree, which a hanging one
                # never does. The request is over then, and its turn with the end of that.
                task = asyncio.get_running_loop().create_task(self._with(work))
                self._working.add(task)
                task.add_done_callback(self._done)
                try:
                    return await asyncio.shield(task)
                except asyncio.CancelledError:
                    task.cancel()
                    raise
        except TimeoutError:
            raise self.unavailable(f"it did not answer within {self._seconds:g} s") from None
        finally:
            self._waiting -= 1

    def unavailable(self, why: str) -> RequestError:
        """What a request is told."""
        message = f"{self._what} cannot be asked for now"
        detail = f"Connection '{self._name}': {why}. It is tried again with every request"
        return RequestError(503, "StoreUnavailable", message, detail)

    def taken(self) -> list[Any]:
        """The idle connections, which are the caller's from now on."""
        idle, self._idle = self._idle, []
        return [connection for _, connection in idle]

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._working.discard(task)
        self._turns.release()
        if not task.cancelled():
            task.exception()  # whoever asked was told already, or is told now

    async def _with(self, work: Work[R]) -> R:
        """Do work on a connection; one that was lost while it was idle is replaced, once."""
        loop = asyncio.get_running_loop()
        while True:
            opened, connection = self._idle.pop() if self._idle else (None, None)
            if opened is not None and opened is not loop:  # of a loop that has ended
                await self._driver.drop(connection)
                continue
            if opened is None:
                try:
                    connection = await self._driver.connect()
                except TulleError as exc:  # it was removed meanwhile, or leads elsewhere now
                    raise self.unavailable(exc.message) from None
            try:
                result = await work(connection)
            except self._driver.lost:
                await self._driver.drop(connection)
                if opened is None:
                    raise
            except BaseException:  # also when nobody waits any more: nobody knows what it is at
                await self._driver.drop(connection)
                raise
            else:
                self._idle.append((loop, connection))
                return result
