"""Python's collector of cycles in a process of ours: what is imported is not walked over for nothing.

That is two hundred thousand values which stay as long as the process. To look through them while they come takes a
fifth of a start, and once more at the end a quarter of a short command. Knows nothing of what a process does.
"""

from __future__ import annotations

import atexit
import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def importing() -> Iterator[None]:
    """Nothing is looked through while modules are imported, and later only what came after them."""
    gc.disable()
    try:
        yield
        keep()
    finally:
        gc.enable()


def keep() -> None:
    """What there is stays: neither later nor at the end is it looked through."""
    gc.freeze()


def leave_at_end() -> None:
    """All that there is at the end of this process is given back as it is, after whatever has to be done then.

    For processes that run no code but ours: a file that somebody's module leaves open would lose what is not flushed.
    """
    atexit.register(gc.freeze)
