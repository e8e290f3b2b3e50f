"""The files of a product's code and their digests, read again only when they changed on disk.

Code is what lies beside the document and decides what a run makes or a package holds: transformations, checks,
services and what they use. Sample data and hidden files are not code.
"""

from __future__ import annotations

import hashlib
import os
import stat
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

CODE_SUFFIXES = frozenset({".sql", ".py", ".yaml", ".yml", ".json", ".toml", ".md", ".jinja", ".pem"})
SEEDS = "seeds"  # their files are code whatever their suffix
_NOT_CODE = frozenset({"data", "__pycache__", "target", "logs", "node_modules"})
_MAX_FILES = 5000
_SETTLED_NS = 2_000_000_000  # a file younger than this may be written again within the clock's last tick
_Stamp = tuple[int, int, int]


class FileDigests:
    """Digests of files, remembered by size, time and inode. Safe to share between threads."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[_Stamp, str]] = {}
        self._lock = threading.Lock()

    def of_product(self, folder: Path) -> Mapping[str, str]:
        """The digest of each file of a product's code, by path in its folder; product.yaml is not among them."""
        return {
            path.relative_to(folder).as_posix(): self.of(path)
            for path in sorted(code_files(folder))
            if path.name != "product.yaml" or path.parent != folder
        }

    def of(self, path: Path) -> str:
        """The digest of one file; empty when it cannot be read."""
        name = str(path)
        try:
            found = path.stat()
            stamp = (found.st_size, found.st_mtime_ns, found.st_ino)
            with self._lock:
                known = self._known.get(name)
            if known is not None and known[0] == stamp:
                return known[1]
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError:
            return ""
        if time.time_ns() - found.st_mtime_ns > _SETTLED_NS:
            with self._lock:
                self._known[name] = (stamp, digest)
        return digest


def code_files(folder: Path) -> Iterator[Path]:
    """Every file of a product's code."""
    left = _MAX_FILES
    for where, folders, names in os.walk(folder, followlinks=False):
        here = Path(where)
        folders[:] = sorted(f for f in folders if f not in _NOT_CODE and not f.startswith("."))
        in_seeds = SEEDS in here.relative_to(folder).parts
        for name in names:
            if name.startswith(".") or not (in_seeds or Path(name).suffix in CODE_SUFFIXES):
                continue
            path = here / name
            try:
                regular = stat.S_ISREG(path.stat().st_mode)
            except OSError:
                continue
            if regular:
                left -= 1
                if left < 0:
                    return
                yield path
