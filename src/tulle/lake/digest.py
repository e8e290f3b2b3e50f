"""What is told of data by its digests: SHA-256, and the MD5 that S3's clients expect, of pieces as they pass.

Knows nothing of where the pieces come from and go to.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

LARGE = 256 * 1024  # bytes of a piece from which a thread of its own is worth it


class Digests:
    """The digests of all that went through it."""

    def __init__(self) -> None:
        self._sha256 = hashlib.sha256()
        self._md5 = hashlib.md5(usedforsecurity=False)

    @property
    def sha256(self) -> str:
        """In hex."""
        return self._sha256.hexdigest()

    @property
    def md5(self) -> str:
        """In hex."""
        return self._md5.hexdigest()

    def update(self, piece: bytes) -> None:
        """Take a piece in."""
        self._sha256.update(piece)
        self._md5.update(piece)

    def passing(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        """The pieces. A large one is taken in while whoever asked for it uses it, and before the next one."""
        beside: ThreadPoolExecutor | None = None
        coming: Future[None] | None = None
        try:
            for piece in pieces:
                if coming is not None:
                    coming.result()
                    coming = None
                if len(piece) < LARGE:
                    self.update(piece)
                else:
                    if beside is None:
                        beside = ThreadPoolExecutor(1, thread_name_prefix="lake-digest")
                    coming = beside.submit(self.update, piece)
                yield piece
            if coming is not None:
                coming.result()
        finally:
            if beside is not None:
                beside.shutdown()
