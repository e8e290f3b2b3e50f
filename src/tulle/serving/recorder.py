"""The worker's side of the query log: requests are noted in passing, and a thread writes them to segments.

Noting never waits for the disk, and is next to nothing for most requests: a few are put by, then encoded together in
one call, which the processor does several times faster than one between any two answers. The thread only hands bytes
to the system; one that encoded would take turns with the one that answers. What is noted is with the system after
PAUSE_SECONDS and complete for whoever collects after ROTATE_SECONDS. When the disk or the collector cannot follow,
requests are dropped from the log, never refused, and how many is written down. Knows nothing of what requests mean.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import threading
import time
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from tulle.serving.log_segment import (
    CLOSED,
    DROPPED,
    FEEDBACK,
    OPEN,
    SegmentHeader,
    SegmentRoute,
    SegmentWriter,
    Told,
)

PAUSE_SECONDS = 0.2  # what a kill of the process may lose
ROTATE_SECONDS = 2.0
SEGMENT_BYTES = 16 << 20
WAITING_BYTES = 32 << 20  # in memory
FOLDER_BYTES = 512 << 20  # on the disk, until it is collected
CONTENT_BYTES = 1 << 20  # of body and answer together; those of a larger request are not kept
BATCH = 32  # requests that are put by: more would be out of the processor's cache when they are encoded
BATCH_BYTES = 16 << 10  # of body and answer: a larger request is not kept waiting
_log = logging.getLogger("tulle.serving")


class Recorder:
    """Keeps the queries of one worker. Noting is for the thread that answers."""

    def __init__(self, folder: Path, service: str, version: str, generation: str) -> None:
        self._folder = folder
        self._header = SegmentHeader(service, version, generation, [])
        self._told: list[Told] = []
        # Put by, as `Record` has them. Whoever notes appends without the lock; what is taken off is under it.
        self.pending: list[tuple[Any, ...]] = []
        # Encoded, and not taken by the thread yet; under the lock, as a buffer must not grow while it is taken.
        self._buffer = bytearray()
        self._count = 0
        self._encode = msgspec.msgpack.Encoder().encode
        # Refused is counted under the lock, by whoever settles; the others by the one thread that writes.
        self._refused = 0
        self._told_refused = 0
        self.written = 0
        self.dropped = 0
        self._unwritten = 0  # dropped, and not written down yet
        # The clock of requests is the one that measures them.
        self.offset = time.time_ns() - time.perf_counter_ns()
        self._is_open = False  # whether what is told is written
        self._stop = threading.Event()
        self._wake = threading.Event()
        self._writer: SegmentWriter | None = None
        self._begun = 0.0
        self._failed = ""
        self._confirmed: list[asyncio.Future[bool]] = []
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="query-log", daemon=True)

    def route(
        self, endpoint: str, kind: str, action: str, features: Sequence[str], classes: Sequence[str] = ()
    ) -> int:
        """The number of an address in records; all are told before the first record."""
        self._header.routes.append(SegmentRoute(endpoint, kind, action, list(features), list(classes)))
        return len(self._header.routes) - 1

    def start(self) -> None:
        """Begin to write."""
        self._is_open = True
        self._thread.start()

    def note(
        self,
        route: int,
        start: int,
        spent: int,
        request_id: str,
        status: int,
        caller: bytes | None,
        way: bytes | None,
        host: bytes | None,
        content: Any,
        answer: bytes | None,
        rows: Any,
    ) -> None:
        """Keep one request; `content` is a body or the pairs of a query string, None where it is not kept."""
        size = (len(answer) if answer else 0) + (len(content) if content else 0)
        if size > CONTENT_BYTES:
            content, answer, rows, size = None, None if status == 200 else answer, None, 0
        began = start + self.offset
        self.pending.append(
            (route, began, spent, request_id, status, caller, host, content, answer, rows, way)
        )
        if size > BATCH_BYTES or len(self.pending) >= BATCH:
            self.settle()

    def settle(self) -> None:
        """Encode what is put by."""
        with self._lock:
            self._settle()

    def _settle(self) -> None:
        """As `settle`, for who has the lock."""
        number = len(self.pending)
        batch = self.pending[:number]
        del self.pending[:number]
        if not batch:
            return
        if len(self._buffer) > WAITING_BYTES:
            self._refused += number
            return
        try:
            encoded = self._encode(batch)
        except (TypeError, ValueError, OverflowError):
            self._settle_apart(batch)
            return
        # Without what says that it is a list, and how long: all of a frame are one.
        self._buffer += memoryview(encoded)[1 if number < 16 else 3 :]
        self._count += number

    def _settle_apart(self, batch: Sequence[tuple[Any, ...]]) -> None:
        """Encode each by itself: one cannot be."""
        for record in batch:
            try:
                self._buffer += self._encode(record)
            except (TypeError, ValueError, OverflowError) as exc:
                self._refused += 1
                self._say(f"a query of a form that cannot be written: {exc}")
            else:
                self._count += 1

    async def tell(self, told: Sequence[Told]) -> bool:
        """Keep what turned out; whether it is on the disk. Of a log that was not started, or has ended, nothing is."""
        done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        with self._lock:
            if not self._is_open:
                return False
            self._told += told
            self._confirmed.append(done)
        self._wake.set()
        return await done

    def close(self) -> None:
        """Write all that was noted; nothing is lost then."""
        self._stop.set()
        self._wake.set()
        if self._thread.ident is not None:
            self._thread.join()

    # ── the thread ───────────────────────────────────────────────────────────────────────────────────────

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                self._wake.wait(PAUSE_SECONDS)
                self._wake.clear()
                self._write()
            self._write(final=True)
        finally:
            with self._lock:  # nobody waits for what is not written any more
                self._is_open = False
                confirmed, self._confirmed = self._confirmed, []
            _settle(confirmed, is_told=False)

    def _write(self, *, final: bool = False) -> None:
        """Write what is noted; what cannot be written is dropped and counted."""
        self.offset = time.time_ns() - time.perf_counter_ns()
        with self._lock:
            self._settle()
            records, self._buffer = self._buffer, bytearray()
            number, self._count = self._count, 0
            told, self._told = self._told, []
            confirmed, self._confirmed = self._confirmed, []
        is_told = False
        try:
            if number or told or self._refused > self._told_refused:
                writer = self._opened()
                if told:
                    writer.add(FEEDBACK, told)
                    writer.sync()
            is_told = True
            if number:
                writer.add_queries(number, records)
                self.written += number
                number = 0
            self._tell_refused()
            self._rotate(final=final)
            self._failed = ""
        except Exception as exc:  # noqa: BLE001  whatever it is, requests are answered and the next are tried
            self.dropped += number
            self._unwritten += number
            self._abandon()
            self._say(str(exc))
        _settle(confirmed, is_told=is_told)

    def _say(self, why: str) -> None:
        if why != self._failed:  # once, not five times a second
            self._failed = why
            _log.warning("queries cannot be logged, requests are answered all the same: %s", why)

    def _tell_refused(self) -> None:
        """Write down how many requests are not in the log."""
        refused = self._refused
        missing = refused - self._told_refused + self._unwritten
        if missing and self._writer is not None:
            self._writer.add(DROPPED, missing)
            self.dropped += refused - self._told_refused
            self._told_refused, self._unwritten = refused, 0

    def _opened(self) -> SegmentWriter:
        if self._writer is None:
            kept = sum(map(_size, _files(self._folder)))
            if kept > FOLDER_BYTES:
                raise OSError(f"{kept >> 20} MB of queries in {self._folder} wait to be collected")
            # Names sort by the time they were begun.
            name = f"{time.time_ns():020}-{os.getpid()}-{secrets.token_hex(4)}"
            self._writer = SegmentWriter(self._folder, name, self._header)
            self._begun = time.monotonic()
        return self._writer

    def _rotate(self, *, final: bool) -> None:
        writer = self._writer
        if writer is None:
            return
        is_old = time.monotonic() - self._begun > ROTATE_SECONDS
        if final or is_old or writer.bytes > SEGMENT_BYTES:
            self._writer = None
            writer.close()

    def _abandon(self) -> None:
        """Leave the segment as it is: what is whole in it is read, and the next begins anew."""
        writer, self._writer = self._writer, None
        if writer is not None:
            with contextlib.suppress(OSError):
                writer.abandon()
                if writer.is_empty:  # a disk that stays full would have one more of them with each try
                    writer.path.unlink(missing_ok=True)


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.glob("*") if path.suffix in (CLOSED, OPEN)] if folder.is_dir() else []


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # it was collected just now
        return 0


def _settle(confirmed: Sequence[asyncio.Future[bool]], *, is_told: bool) -> None:
    for one in confirmed:
        with contextlib.suppress(RuntimeError):  # its loop has ended, and nobody waits
            one.get_loop().call_soon_threadsafe(_confirm, one, is_told)


def _confirm(done: asyncio.Future[bool], is_told: bool) -> None:
    if not done.done():
        done.set_result(is_told)


def is_sampled(request_id: str, sample: float) -> bool:
    """Whether a request is among the share that is kept: the same for every generation that answers it."""
    return zlib.crc32(request_id.encode()) < sample * 4294967296.0
