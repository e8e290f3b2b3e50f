"""Putting a file in its place at once, readable by its owner alone, whole even after a power cut."""

from __future__ import annotations

import os
import threading
from pathlib import Path


def replace_private(path: Path, content: bytes) -> None:
    """Write beside and rename, which is what Envoy watches for. OSError; what was there stays then."""
    fresh = beside(path)
    fresh.unlink(missing_ok=True)
    try:
        _write(fresh, content, is_lasting=True)
        fresh.rename(path)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise
    handle = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_passing(path: Path, content: bytes) -> None:
    """Write a file that is read once and then removed: nothing waits until it would outlast a power cut. OSError."""
    path.unlink(missing_ok=True)
    _write(path, content, is_lasting=False)


def _write(path: Path, content: bytes, *, is_lasting: bool) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
        if is_lasting:
            file.flush()
            os.fsync(file.fileno())


def beside(path: Path) -> Path:
    """Where it is written before it is renamed: another place for each thread."""
    return path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}")
