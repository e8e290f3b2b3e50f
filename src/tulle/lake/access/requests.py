"""The log of every request at the lake's doors: one line of JSON each, in files that are rotated by size.

Who asked for what, and how it ended; never a header, a query or a body, so never a secret. Writing is buffered
and done by a thread: a request waits for no disk.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import threading
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from tulle.lake.door import Incoming

FILE_BYTES = 16 * 1024 * 1024
FILES = 5
GATHER_SECONDS = 0.1  # how long a line may wait for others to be written with
IDLE_ROUNDS = 10  # without a line, after which the thread ends; the next line starts another one
WAITING = 10_000  # lines; beyond, lines are counted and dropped rather than memory filled

log = logging.getLogger(__name__)


class AccessLog:
    """Writes `<name>.jsonl` in a folder, and the files before it as `<name>.1.jsonl` and so on."""

    def __init__(self, folder: Path, name: str, *, file_bytes: int = FILE_BYTES, files: int = FILES) -> None:
        self._folder = folder
        self._name = name
        self._file_bytes = file_bytes
        self._files = files
        self._waiting: deque[dict[str, object]] = deque()
        self._ended = threading.Event()
        self._dropped = 0
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def request(self, user: str, request: Incoming, operation: str, status: int, seconds: float) -> None:
        """Note one request."""
        self.write(
            user=user,
            client=request.client,
            method=request.method,
            path=request.path[:1200],
            operation=operation,
            status=status,
            ms=round(seconds * 1000, 2),
        )

    def write(self, **values: object) -> None:
        """Note one line of plain values; the time is added."""
        if len(self._waiting) >= WAITING:
            self._dropped += 1
        else:
            self._waiting.append({"at": round(time.time(), 3), **values})
        if self._thread is None:  # asked last: a thread that ends looks once more for lines after it said so
            self._start()

    def close(self) -> None:
        """Write what waits, and end."""
        thread = self._thread
        if thread is not None:
            self._ended.set()
            thread.join(5)
            self._thread = None

    def _start(self) -> None:
        with self._lock:
            if self._thread is None:
                self._ended.clear()
                self._thread = threading.Thread(target=self._work, name="access-log", daemon=True)
                self._thread.start()

    def _work(self) -> None:
        ended, idle = False, 0
        while not ended:  # nobody wakes this thread: being woken for every line would cost more than the line
            ended = self._ended.wait(GATHER_SECONDS)
            idle = 0 if self._waiting else idle + 1
            if idle > IDLE_ROUNDS and self._is_over():
                return
            try:
                self._append([_line(self._waiting.popleft()) for _ in range(len(self._waiting))])
            except OSError as exc:
                log.warning("the access log in %s cannot be written: %s", self._folder, exc.strerror)

    def _is_over(self) -> bool:
        """Whether this thread ends, as there is nothing to write."""
        with self._lock:
            self._thread = None
            if self._waiting:
                self._thread = threading.current_thread()
            return self._thread is None

    def _append(self, lines: list[str]) -> None:
        if not lines:
            return
        if self._dropped:
            lines.append(json.dumps({"at": round(time.time(), 3), "dropped": self._dropped}))
            self._dropped = 0
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        file = self._folder / f"{self._name}.jsonl"
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(handle, "a") as out:
            _write(out, lines)
            size = out.tell()
        if size > self._file_bytes:
            for number in range(self._files - 1, 0, -1):
                older = self._folder / f"{self._name}.{number}.jsonl"
                newer = file if number == 1 else self._folder / f"{self._name}.{number - 1}.jsonl"
                with contextlib.suppress(FileNotFoundError):
                    newer.replace(older)


def _line(values: dict[str, object]) -> str:
    return json.dumps(values, ensure_ascii=True, default=str)


def _write(out: TextIO, lines: list[str]) -> None:
    out.write("\n".join(lines) + "\n")
