"""The gateway's access log as a file that grows: it is put aside when it is large.

Knows nothing of what a line says, and not who reads it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from tulle.errors import Unavailable
from tulle.gateway.admin import Admin

LARGEST: Final = 256 << 20  # bytes; then it is put aside and a new one begun
KEPT: Final = 4  # that were put aside


class AccessLog:
    """One file. Not for several threads at once."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._to_reopen = False

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
