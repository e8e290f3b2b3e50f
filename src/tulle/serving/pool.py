"""Processes that run what users wrote, a request each at a time, so that it can neither hang nor break the worker.

A pool keeps between `floor` and `ceil` processes. Who finds none free waits in line; a full line, or a wait that is too
long, is refused with 503. A process that takes too long is killed, one that dies is replaced, and one that has grown
past its memory is replaced after it has answered. Knows nothing of what is asked: bytes in, bytes out.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from tulle.serving.bounds import MOST_REPLY, Bounds
from tulle.serving.request import RequestError

START_SECONDS = 60.0
END_SECONDS = 0.01  # that the loop waits for a process to be gone: one with much memory takes longer
IDLE_SECONDS = 60.0  # after which a process beyond the floor ends
AGAIN_SECONDS = 1.0  # after a process could not be started
BUSY = frozenset({"QueueFull", "NoProcessFree"})  # errors of who has enough to do, and is well
_LENGTH = struct.Struct("!I")
_ABOUT = 1 << 16  # bytes that may be about a reply
_PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "VIRTUAL_ENV")
_log = logging.getLogger("tulle.serving")


class Told(msgspec.Struct, array_like=True):
    """What a process says of itself: that it is ready, or why it cannot be; with a reply, or why there is none, how
    large it has been."""

    reply: bytes
    peak: int = 0
    problem: str = ""


class Pool:
    """The processes of one endpoint. For one event loop at a time; none needs to run when it is made."""

    def __init__(self, argv: Sequence[str], bounds: Bounds, name: str) -> None:
        """`argv`: the arguments of `python`; what is started gets `--socket N`, the number of an open socket."""
        self._argv = tuple(argv)
        self.bounds = bounds
        self._name = name
        self._free: deque[_Process] = deque()
        self._line: deque[asyncio.Future[_Process]] = deque()
        self._count = 0
        self._starts: set[asyncio.Task[bool]] = set()
        self._not_before = 0.0
        self._is_closed = False
        self._look: asyncio.TimerHandle | None = None  # for processes that are idle

    @property
    def processes(self) -> int:
        """How many there are, also those that are about to be."""
        return self._count

    @property
    def is_busy(self) -> bool:
        """Whether there are as many as there may be, and every one is at a request."""
        return self._count >= self.bounds.ceil and not self._free and not self._starts

    @property
    def waiting(self) -> int:
        """How many requests wait for one."""
        return len(self._line)

    async def ready(self) -> None:
        """Start what there is to be at least. RequestError when it cannot be."""
        process = await self._taken()
        self._give_back(process)

    async def ask(self, request: bytes, *, again: bool) -> bytes:
        """The reply to a request. `again`: it may be asked twice, so that a process that dies loses nothing.

        RequestError: 503 when there is no process for it, 504 when it takes too long, 500 when the process died.
        """
        for attempt in range(2 if again else 1):
            process = await self._taken()
            try:
                told = await asyncio.wait_for(process.ask(request), self.bounds.seconds)
            except TimeoutError:
                self._end(process)
                raise RequestError(
                    504,
                    "TookTooLong",
                    f"the endpoint took longer than {self.bounds.seconds:g} seconds",
                    "Its process was stopped; send less at once, or have `timeout` of the endpoint raised",
                ) from None
            except (OSError, EOFError, msgspec.MsgspecError):
                self._end(process)
                _log.error("a process of %s died at a request%s", self._name, self._last_words(process))
                if attempt or not again:
                    break
            except BaseException:  # nobody waits for it any more
                self._end(process)
                raise
            else:
                if told.peak > self.bounds.memory:
                    _log.warning("a process of %s had %d MB and is replaced", self._name, told.peak >> 20)
                    self._end(process)
                else:
                    self._give_back(process)
                if told.problem:
                    raise RequestError(500, "AnswerTooLarge", told.problem, f"{MOST_REPLY >> 20} MB are sent")
                return told.reply
        raise RequestError(
            500,
            "EndpointCrashed",
            "the endpoint's process ended while it was at this request",
            "It has been started again; its log may say why it ended",
        )

    def close(self) -> None:
        """End all processes, those at a request as soon as it is over; who asks after that has new ones started."""
        self._is_closed = True
        if self._look is not None:
            self._look.cancel()
        for start in self._starts:
            start.cancel()
        while self._free:
            self._free.pop().end()
            self._count -= 1

    # ── who gets a process ───────────────────────────────────────────────────────────────────────────────

    async def _taken(self) -> _Process:
        self._is_closed = False
        while self._free:
            process = self._free.pop()  # the one used last: the others may go
            if process.is_alive():
                return process
            self._end(process)
        # Those for whom there is a process, as soon as it is started, do not queue.
        if len(self._line) >= self.bounds.queue + self.bounds.ceil - self._count + len(self._starts):
            message = f"{len(self._line)} requests wait for this endpoint already"
            raise RequestError(503, "QueueFull", message, "Try again in a moment")
        place: asyncio.Future[_Process] = asyncio.get_running_loop().create_future()
        self._line.append(place)
        self._start_some()
        starting = self._count == len(self._starts)  # none has ever answered
        try:
            return await asyncio.wait_for(place, START_SECONDS if starting else self.bounds.wait_seconds)
        except TimeoutError:
            if place.done() and not place.cancelled():  # at the last moment
                return place.result()
            raise RequestError(
                503,
                "NoProcessFree",
                f"no process of this endpoint was free within {self.bounds.wait_seconds:g} seconds",
                "Try again in a moment",
            ) from None
        except asyncio.CancelledError:
            if place.done() and not place.cancelled() and place.exception() is None:
                self._give_back(place.result())
            raise
        finally:
            with contextlib.suppress(ValueError):
                self._line.remove(place)

    def _give_back(self, process: _Process) -> None:
        while self._line:
            place = self._line.popleft()
            if not place.done():
                place.set_result(process)
                return
        if self._is_closed:
            self._end(process)
            return
        process.since = time.monotonic()
        self._free.append(process)
        self._end_idle()

    def _end_idle(self) -> None:
        """End what is beyond the floor and has not been asked for long; look again when more may be."""
        if self._look is not None:
            self._look.cancel()
            self._look = None
        while self._free and self._count > self.bounds.floor:
            rest = IDLE_SECONDS - (time.monotonic() - self._free[0].since)
            if rest > 0:
                self._look = asyncio.get_running_loop().call_later(rest, self._end_idle)
                return
            self._end(self._free.popleft())

    def _end(self, process: _Process) -> None:
        process.end()
        self._count -= 1
        self._start_some()

    # ── starting ─────────────────────────────────────────────────────────────────────────────────────────

    def _start_some(self) -> None:
        """Start what is missing to the floor, or to have one for everybody in line."""
        if self._is_closed:
            return
        wanted = max(self.bounds.floor - self._count, len(self._line) - len(self._starts))
        for _ in range(min(wanted, self.bounds.ceil - self._count)):
            self._count += 1
            task = asyncio.get_running_loop().create_task(self._start())
            self._starts.add(task)
            task.add_done_callback(self._started)

    def _started(self, task: asyncio.Task[bool]) -> None:
        self._starts.discard(task)
        if task.cancelled():  # perhaps before it was begun
            self._count -= 1
        elif task.exception() or not task.result():
            self._count -= 1
            if self._line:  # who came since the others were told
                self._start_some()

    async def _start(self) -> bool:
        """Start one; whether there is one more now."""
        await asyncio.sleep(max(0.0, self._not_before - time.monotonic()))
        try:
            process = _Process(
                self._argv, self.bounds.memory
            )  # not in a thread: it ends with what started it
        except OSError as exc:
            self._refuse_all(f"no process can be made: {exc.strerror}")
            return False
        try:
            told = await asyncio.wait_for(process.told(), START_SECONDS)
        except (TimeoutError, OSError, EOFError, msgspec.MsgspecError) as exc:
            problem = "it took too long" if isinstance(exc, TimeoutError) else "its process ended"
            told = Told(b"", problem=problem + self._last_words(process))
        except BaseException:
            process.end()
            raise
        if told.peak > self.bounds.memory:  # it would be replaced after every request
            problem = f"it needs {told.peak >> 20:,} MB before it is asked anything: raise `memory`"
            told = Told(b"", problem=problem)
        if told.problem:
            process.end()
            self._refuse_all(told.problem)
            return False
        self._give_back(process)
        return True

    def _refuse_all(self, problem: str) -> None:
        """Tell those in line that there will be no process for them."""
        self._not_before = time.monotonic() + AGAIN_SECONDS
        _log.error("a process of %s cannot be started: %s", self._name, problem)
        error = RequestError(503, "NotStarted", f"the endpoint cannot be started: {problem}")
        while self._line:
            place = self._line.popleft()
            if not place.done():
                place.set_exception(error)

    @staticmethod
    def _last_words(process: _Process) -> str:
        code = process.code()
        return "" if code is None else f" ({_in_words(code)})"


class _Process:
    """One process and the socket on which it is asked."""

    def __init__(self, argv: Sequence[str], memory: int) -> None:
        ours, theirs = socket.socketpair()
        life, self._life = os.pipe()  # nothing is ever written to it; our end closes with us, however we end
        argv = (*argv, "--socket", str(theirs.fileno()), "--life", str(life), "--memory", str(memory))
        try:
            self._process = subprocess.Popen(  # noqa: S603  our own module
                [sys.executable, *argv],
                pass_fds=(theirs.fileno(), life),
                stdin=subprocess.DEVNULL,
                stdout=2,  # what users print goes to the log, as what they log does
                env=users_environment(),
                start_new_session=True,  # so that what it starts ends with it
            )
        except BaseException:
            ours.close()
            os.close(self._life)
            raise
        finally:
            theirs.close()
            os.close(life)
        ours.setblocking(False)
        self._socket = ours
        self.since = time.monotonic()

    async def ask(self, request: bytes) -> Told:
        """Send a request and wait for what is told."""
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(self._socket, _LENGTH.pack(len(request)) + request)
        return await self.told()

    async def told(self) -> Told:
        """What the process says next. EOFError when it ended."""
        loop = asyncio.get_running_loop()
        data = await loop.sock_recv(self._socket, 1 << 16)
        while len(data) < _LENGTH.size:
            data += await self._more(loop, 1 << 16, data)
        (length,) = _LENGTH.unpack_from(data)
        if length > MOST_REPLY + _ABOUT:
            raise EOFError
        if len(data) < _LENGTH.size + length:
            pieces, missing = [data], _LENGTH.size + length - len(data)
            while missing:
                pieces.append(await self._more(loop, min(missing, 1 << 20), pieces[-1]))
                missing -= len(pieces[-1])
            data = b"".join(pieces)
        return msgspec.msgpack.decode(data[_LENGTH.size :], type=Told)

    async def _more(self, loop: asyncio.AbstractEventLoop, most: int, before: bytes) -> bytes:
        piece = await loop.sock_recv(self._socket, most) if before else b""
        if not piece:
            raise EOFError
        return piece

    def is_alive(self) -> bool:
        """Whether it has not ended by itself."""
        return self._process.poll() is None

    def code(self) -> int | None:
        """How it ended; None while it runs, or as long as nobody knows."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._process.wait(0.2)
        return None

    def end(self) -> None:
        """Kill it and what it has started: it holds nothing that could be lost."""
        self._socket.close()
        if self._process.returncode is None:  # till then its number is nobody else's
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            threading.Thread(target=self._process.wait, daemon=True).start()
        finally:
            if self._life >= 0:
                os.close(self._life)
                self._life = -1


def users_environment() -> Mapping[str, str]:
    """What code of users sees of ours: where programs are, and nothing that might be a secret."""
    passed = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    return passed | {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1"}


def _in_words(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"


def pool_of(folder: Path, endpoint: str, bounds: Bounds) -> Pool:
    """The processes of an endpoint of an unpacked package; none is started yet."""
    argv = ("-m", "tulle.serving.child", "--package-folder", str(folder), "--endpoint", endpoint)
    return Pool(argv, bounds, f"endpoint '{endpoint}'")
