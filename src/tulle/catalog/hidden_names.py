"""Texts that were written for a product's people, such as sentences of plans, read by somebody who may not see all.

What names an API that the reader does not find is left out. Pure; who finds what is `gateway.apis.sight`.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final

_API: Final = re.compile(r"\bAPI '([^']*)'")
_API_FILE: Final = re.compile(r"(?:^|/)apis/[^/]")
_WORD: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


@dataclass(frozen=True, slots=True)
class HiddenNames:
    """What one reader does not find. `known` are the APIs that there are: of one that is gone nobody knows any more who
    might have found it, so it is not told but to people of the product."""

    names: frozenset[str] = frozenset()
    known: frozenset[str] | None = None  # None: whoever reads knows them all
    products: Collection[str] = field(default_factory=frozenset)  # whose people the reader belongs to

    def are_in(self, text: str, product: str = "") -> bool:
        """Whether a text about a product names what the reader does not find."""
        if product in self.products:
            return False
        if self.known is not None and any(name not in self.known for name in _API.findall(text)):
            return True
        return bool(self.names) and not self.names.isdisjoint(_WORD.findall(text))

    def is_their_file(self, path: str, product: str) -> bool:
        """Whether a file of a product declares what the reader does not find, or an API that nobody has read yet."""
        if product in self.products:
            return False
        stem = path.rpartition("/")[2].split(".")[0]
        return stem in self.names or (_API_FILE.search(path) is not None and stem not in (self.known or ()))


NONE: Final = HiddenNames()
