"""Documents that were read and have not changed on disk since: a plan of a large mesh reads the few that did.

Told apart by size, time and inode. A file that was written within the clock's last tick is read again, as it may be
written once more in the same. Safe to share between threads.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

from tulle.spec.connect import Loaded

SETTLED_NS = 2_000_000_000
_Key = tuple[int, int, int, int]


class Remembered:
    """What product files say, by path."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[_Key, Loaded]] = {}
        self._lock = threading.Lock()

    def loaded(self, file: Path, types: int, load: Callable[[], Loaded]) -> Loaded:
        """What `load` gives for the file, or gave while it was the same and `types` (of components) were."""
        try:
            found = file.stat()
        except OSError:
            return load()
        key = (found.st_size, found.st_mtime_ns, found.st_ino, types)
        with self._lock:
            known = self._known.get(str(file))
        if known is not None and known[0] == key:
            return known[1]
        value = load()
        if value.product is not None and time.time_ns() - found.st_mtime_ns > SETTLED_NS:
            with self._lock:
                self._known[str(file)] = (key, value)
        return value

    def keep(self, files: set[str]) -> None:
        """Forget files that are no more."""
        with self._lock:
            for name in self._known.keys() - files:
                del self._known[name]
