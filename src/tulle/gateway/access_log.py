"""The gateway's access log as a file that grows: what is new in it, and putting it aside when it is large.

Knows nothing of what a line says.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

from tulle.errors import Unavailable
from tulle.gateway.admin import Admin

LARGEST: Final = 256 << 20  # bytes; then it is put aside and a new one begun
KEPT: Final = 4  # that were put aside
NEWEST: Final = 64 << 20  # bytes; who comes late begins so far from its end
_CHUNK: Final = 1 << 20


class AccessLog:
    """One file, read on from where it was left. Not for several threads at once."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._open: BinaryIO | None = None
        self._is_known = False  # a file that is met later begins where it begins
        self._to_reopen = False

    def pieces(self) -> Iterator[bytes]:
        """Whole lines that were not told yet, many at once, also of a file that was put aside meanwhile."""
        while self._open is not None or self._found():
            # Looked at before reading: when there is another file by now, nobody writes to this one any more.
            is_over = self._is_put_aside()
            yield from self._rest()
            if not is_over:
                return
            self.close()

    def close(self) -> None:
        """Read no more; the next time begins with the file that is there then."""
        if self._open is not None:
            self._open.close()
            self._open = None

    def put_aside_when_large(self, admin: Admin) -> None:
        """Begin a new file when this one is large, and forget the oldest of those before it."""
        if not self._to_reopen:
            try:
                if self._file.stat().st_size < LARGEST:
                    return
            except FileNotFoundError:
                return
            for number in range(KEPT - 1, 0, -1):
                if self._aside(number).exists():
                    self._aside(number).replace(self._aside(number + 1))
            self._file.replace(self._aside(1))
        self._to_reopen = True
        try:
            admin.post("/reopen_logs")
        except Unavailable:  # one that does not run begins a new file when it starts; else the next time
            return
        self._to_reopen = False

    def _aside(self, number: int) -> Path:
        return self._file.with_name(f"{self._file.stem}.{number}{self._file.suffix}")

    def _found(self) -> bool:
        try:
            self._open = self._file.open("rb")
        except FileNotFoundError:
            return False
        size = os.fstat(self._open.fileno()).st_size
        if not self._is_known and size > NEWEST:
            self._open.seek(size - NEWEST)
            self._open.readline()  # the rest of a line
        self._is_known = True
        return True

    def _is_put_aside(self) -> bool:
        assert self._open is not None
        try:
            return self._file.stat().st_ino != os.fstat(self._open.fileno()).st_ino
        except FileNotFoundError:  # no other one is there yet
            return False

    def _rest(self) -> Iterator[bytes]:
        assert self._open is not None
        while True:
            before = self._open.tell()
            chunk = self._open.read(_CHUNK)
            whole = chunk.rfind(b"\n") + 1
            if not whole and len(chunk) == _CHUNK:  # longer than any of ours: passed over
                continue
            if not whole:  # the end, or a line that is being written
                self._open.seek(before)
                return
            self._open.seek(before + whole)
            yield chunk[:whole]
