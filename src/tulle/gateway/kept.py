"""What was made of something, until it is another: most of what the gateway is told is as it was a moment ago.

Knows nothing of what is made. Safe for several threads: at worst something is made twice.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

_T = TypeVar("_T")


class Kept(Generic[_T]):
    """The newest of each name, of so many names at most. What is kept is shared: nobody changes it."""

    def __init__(self, most: int = 20_000) -> None:
        self._most = most
        self._known: dict[str, tuple[tuple[object, ...], _T]] = {}

    def of(self, name: str, made_of: tuple[object, ...], make: Callable[[], _T]) -> _T:
        """What `make` made of these values, now or before; what is the same object is not compared."""
        known = self._known.get(name)
        if known is None or known[0] != made_of:
            if len(self._known) >= self._most:
                self._known.clear()
            known = self._known[name] = made_of, make()
        return known[1]

    def __len__(self) -> int:
        """How many names are known."""
        return len(self._known)
