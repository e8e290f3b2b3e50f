"""A process beside another, which runs what users wrote: loads it, then answers one request at a time.

It is told requests on an open socket and ends with it, or with whoever started it. What it may take of memory is
bounded by the kernel. Knows nothing of what it runs; `pool` is the other end.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import fcntl
import gc
import os
import resource
import signal
import socket
import struct
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import msgspec

from tulle.errors import TulleError
from tulle.serving.bounds import MOST_REPLY
from tulle.serving.pool import Told

_LENGTH = struct.Struct("!I")
_F_SETSIG = 10  # of Linux; Python has no name for it
_RESERVED = 4 << 30  # bytes that libraries may reserve while they are loaded, whether or not they use them
Handler = Callable[[bytes], bytes]


def with_options(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """The arguments, with those that a pool adds."""
    parser.add_argument("--socket", type=int, required=True)
    parser.add_argument("--life", type=int, required=True)
    parser.add_argument("--memory", type=int, required=True)
    return parser.parse_args()


def answer_requests(options: argparse.Namespace, load: Callable[[], Handler]) -> int:
    """Answer by what `load` gives until the socket closes; the exit code."""
    connection = socket.socket(fileno=options.socket)
    end_with_parent(connection, options.life)
    bound_loading(options.memory)
    try:
        handle = load()
    except BaseException as exc:  # noqa: BLE001  whatever users' code raises, or a library that is missing
        traceback.print_exc()
        message = exc.message if isinstance(exc, TulleError) else f"{type(exc).__name__}: {exc}"
        if isinstance(exc, MemoryError):
            message = "it needs far more memory than it may have before it is asked anything: raise `memory`"
        _send(connection, Told(b"", problem=message[:2000]))
        return 1
    # Only now: what was loaded is the endpoint's own, and libraries reserve more than they use.
    bound_asked(options.memory)
    gc.collect()
    gc.freeze()
    _send(connection, Told(b"", _peak(options.memory)))
    while (request := _received(connection)) is not None:
        told = Told(handle(request), _peak(options.memory))
        if len(told.reply) > MOST_REPLY:
            told = Told(b"", told.peak, f"the answer has {len(told.reply) >> 20:,} MB")
        _send(connection, told)
    return 0


def bound_loading(memory: int) -> None:
    """What is loaded may be anybody's: one that would take the whole machine fails by itself."""
    most = 2 * memory + _RESERVED
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(
        resource.RLIMIT_DATA, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard)
    )


def bound_asked(memory: int) -> None:
    """More data than that raises MemoryError; twice as much as is replaced for, so that one request may pass it."""
    used = _peak(0)
    resource.setrlimit(resource.RLIMIT_DATA, (2 * memory + used, 2 * memory + used))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _peak(usual: int) -> int:
    """The most memory it has had, in bytes; where that is no more than `usual`, perhaps too much.

    The kernel counts what the process that started it had, so that more than usual is looked up.
    """
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    if peak > usual and sys.platform == "linux":
        for line in Path("/proc/self/status").read_bytes().splitlines():
            if line.startswith(b"VmHWM:"):
                return int(line.split()[1]) * 1024
    return peak


def end_with_parent(connection: socket.socket, life: int) -> None:
    """A worker that is killed leaves nobody behind; where the kernel cannot say so, its closed socket does.

    `life` is a pipe whose other end closes with the worker. The kernel then kills this process and all that users'
    code has started in its group, whatever any of them is at.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of the terminal: the worker ends us
    if sys.platform == "linux":
        fcntl.fcntl(life, fcntl.F_SETOWN, -os.getpgid(0))
        fcntl.fcntl(life, _F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(life, fcntl.F_SETFL, fcntl.fcntl(life, fcntl.F_GETFL) | os.O_ASYNC)
        ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)
    with contextlib.suppress(BlockingIOError):
        if not connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT):
            os._exit(0)  # it was killed before we could say so


def _received(connection: socket.socket) -> bytes | None:
    head = _exactly(connection, _LENGTH.size)
    return None if head is None else _exactly(connection, _LENGTH.unpack(head)[0])


def _exactly(connection: socket.socket, count: int) -> bytes | None:
    pieces = []
    while count:
        piece = connection.recv(min(count, 1 << 20))
        if not piece:
            return None
        pieces.append(piece)
        count -= len(piece)
    return b"".join(pieces)


def _send(connection: socket.socket, told: Told) -> None:
    data = msgspec.msgpack.encode(told)
    try:
        connection.sendall(_LENGTH.pack(len(data)) + data)
    except OSError:
        os._exit(0)  # the worker has given up on us
