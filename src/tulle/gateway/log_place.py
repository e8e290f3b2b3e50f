"""The access log read on from a place that somebody remembers, over restarts and however often it was put aside.

A file is known by the digest of its first line, which has a time and a request's id: names move on when a log is put
aside, and numbers of files are used again. Knows nothing of what a line says.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tulle.gateway.access_log import KEPT

CHUNK: Final = 1 << 20
_FIRST: Final = 1 << 16  # bytes within which the first line ends


@dataclass(frozen=True, slots=True)
class Piece:
    """Whole lines with their ends, and where they end: the digest of the file's first line, and the bytes up to there.

    `lost`: what came before them in the log is gone.
    """

    data: bytes
    file: str
    position: int
    lost: bool = False


class LogReader:
    """Reads one log and what was put aside of it. Remembers nothing."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def pieces(self, file: str = "", position: int = 0) -> Iterator[Piece]:
        """What comes after a place, or all there is, in order; ends where the log ends now."""
        known = file
        lost = False
        while True:
            files = self._files()  # the oldest first
            names = [name for name, _ in files]
            number = names.index(known) if known in names else None
            if number is None:
                lost = lost or bool(known)
                if not files:
                    return
                number, position = 0, 0
            known, path = files[number]
            # Looked at before reading: when there is a newer one by now, nobody writes to this one any more.
            is_last = number == len(files) - 1
            for piece in self._rest(known, path, position):
                position = piece.position
                yield Piece(piece.data, piece.file, piece.position, lost)
                lost = False
            if is_last:
                return
            known, position = files[number + 1][0], 0

    def is_before(self, file: str, other: str) -> bool:
        """Whether a file is older than another one; one that is forgotten is older than those that are there."""
        names = [name for name, _ in self._files()]
        if other not in names:
            return False
        return file not in names or names.index(file) < names.index(other)

    def newest(self, most: int) -> tuple[str, int]:
        """The place of who comes late: at most so many bytes before the end of the newest file, maybe within a line."""
        files = self._files()
        if not files:
            return "", 0
        name, path = files[-1]
        try:
            return name, max(0, path.stat().st_size - most)
        except FileNotFoundError:  # it is put aside just now
            return name, 0

    def _rest(self, name: str, path: Path, position: int) -> Iterator[Piece]:
        try:
            with path.open("rb") as file:
                if _first_line(file.read(_FIRST)) != name:  # another one has its name by now
                    return
                file.seek(position)
                while True:
                    chunk = file.read(CHUNK)
                    whole = chunk.rfind(b"\n") + 1
                    if not whole:
                        if len(chunk) < CHUNK:
                            return
                        position += len(chunk)  # longer than any line of ours: passed over
                        continue
                    position += whole
                    file.seek(position)
                    yield Piece(chunk[:whole], name, position)
        except FileNotFoundError:
            return

    def _files(self) -> list[tuple[str, Path]]:
        """Files that have a line, by name; read until nothing moves meanwhile."""
        found = self._listed()
        while (again := self._listed()) != found:
            found = again
        return found

    def _listed(self) -> list[tuple[str, Path]]:
        stem, suffix = self._file.stem, self._file.suffix
        paths = [self._file.with_name(f"{stem}.{number}{suffix}") for number in range(KEPT, 0, -1)]
        found = []
        for path in [*paths, self._file]:
            try:
                with path.open("rb") as file:
                    name = _first_line(file.read(_FIRST))
            except FileNotFoundError:
                continue
            if name:
                found.append((name, path))
        return found


def _first_line(head: bytes) -> str:
    line, end, _ = head.partition(b"\n")
    return hashlib.blake2b(line, digest_size=16).hexdigest() if end else ""
