"""Ranges as uncompressed files on this disk, mapped into memory: opening one costs no decoding and no heap.

Every process of the machine shares them, and the system forgets pages nobody uses. What is here can be lost at
any time: it is a copy of what the store has, and what a file says is checked when it is opened. A mapped file
must not become shorter: here files are only put in place by a rename and removed by name, never written to.
Files of an earlier boot are not trusted, because nothing here is synced. Knows nothing of stores.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import threading
from pathlib import Path
from uuid import uuid4

import pyarrow as pa

from tulle.lake.ranges import SCHEMA, Range, identity

DEFAULT_BYTES = 4 * 1024**3


class RangeFiles:
    """A folder of ranges, the longest unused removed when they exceed `capacity` bytes."""

    def __init__(self, folder: Path, capacity: int = DEFAULT_BYTES) -> None:
        self._top = folder
        self._folder = folder / _boot()
        self._capacity = capacity
        self._lock = threading.Lock()
        self._kept = 0
        self._ready = False

    def open(self, id_: str) -> Range | None:
        """The range, mapped; None when it is not here."""
        try:
            with (self._folder / id_[:2] / id_).open("rb") as file:
                mapped = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
        except (OSError, ValueError):
            return None
        # Whatever was done to the file: what is used says what its name promises, or the store is asked.
        try:
            batch = pa.ipc.open_file(pa.BufferReader(pa.py_buffer(mapped))).get_batch(0)
            if not batch.schema.equals(SCHEMA):
                return None
            batch.validate(full=True)  # before anything follows its offsets
            content = Range(batch)
            return content if identity(content) == id_ else None
        except (pa.ArrowException, OSError, ValueError, IndexError):
            return None

    def keep(self, id_: str, content: Range) -> Range:
        """Put a range here, as far as there is room on the disk, and return it mapped."""
        target = self._folder / id_[:2] / id_
        beside = target.with_name(f"{id_}.{uuid4().hex[:8]}")
        try:
            self._prepare()
            target.parent.mkdir(exist_ok=True)
            with beside.open("xb") as file, pa.ipc.new_file(file, content.batch.schema) as writer:
                writer.write_batch(content.batch)
            size = beside.stat().st_size
            beside.replace(target)
        except OSError:  # a full disk is no reason not to read
            with contextlib.suppress(OSError):
                beside.unlink()
            return content
        with self._lock:
            self._kept += size
            is_full = self._kept > self._capacity
        if is_full:
            self._sweep()
        return self.open(id_) or content

    def _prepare(self) -> None:
        with self._lock:
            if self._ready:
                return
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            for other in self._top.iterdir():
                if other != self._folder:
                    _remove(other)
            self._kept = sum(size for _, size, _ in _files(self._folder))
            self._ready = True

    def _sweep(self) -> None:
        """Remove what was not read for the longest time, until three quarters of the room are used."""
        with self._lock:
            found = sorted(_files(self._folder))
            total = sum(size for _, size, _ in found)
            for _, size, file in found:
                if total <= self._capacity * 3 // 4:
                    break
                with contextlib.suppress(OSError):
                    file.unlink()  # who has it mapped keeps it
                    total -= size
            self._kept = total


def _files(folder: Path) -> list[tuple[float, int, Path]]:
    found = []
    for file in folder.glob("*/*"):
        with contextlib.suppress(OSError):
            status = file.stat()
            found.append((max(status.st_atime, status.st_mtime), status.st_size, file))
    return found


def _remove(folder: Path) -> None:
    for file in [*folder.glob("*/*"), *folder.glob("*")]:
        with contextlib.suppress(OSError):
            file.rmdir() if file.is_dir() else file.unlink()
    with contextlib.suppress(OSError):
        folder.rmdir()


def _boot() -> str:
    """What tells this run of the machine from any other."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return f"process-{os.getpid()}"
