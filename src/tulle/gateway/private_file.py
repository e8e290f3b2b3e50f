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
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        fresh.rename(path)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise
    handle = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def beside(path: Path) -> Path:
    """Where it is written before it is renamed: another place for each thread."""
    return path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}")
