"""Texts that were written for a product's people, such as sentences of plans, read by somebody who may not see all.

What names an API that the reader does not find is left out; in a text that is needed whole, such as why a run failed,
the name is `••••`. Pure; who finds what is `gateway.apis.sight`.
"""

from __future__ import annotations

import re
from collections.abc import Container
from dataclasses import dataclass, field, replace
from typing import Any, Final

from tulle.catalog.history import RunView, StepView
from tulle.errors import from_dict
from tulle.state.drift import Drift

_API: Final = re.compile(r"\bAPI '([^']*)'")
_API_FILE: Final = re.compile(r"(?:^|/)apis/[^/]")
_MASK: Final = "••••"
_WORD: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


@dataclass(frozen=True, slots=True)
class HiddenNames:
    """What one reader does not find. `known` are the APIs that there are: of one that is gone nobody knows any more who
    might have found it, so it is not told but to people of the product."""

    names: frozenset[str] = frozenset()
    repositories: frozenset[str] = frozenset()  # what is kept of services of these names
    known: frozenset[str] | None = None  # None: whoever reads knows them all
    products: Container[str] = field(default_factory=frozenset)  # whose people the reader belongs to

    def hides(self, repository: str) -> bool:
        """Whether a repository is one that the reader does not find."""
        return repository in self.repositories

    def are_in(self, text: str, product: str = "") -> bool:
        """Whether a text about a product names what the reader does not find."""
        is_gone = self.known is not None and any(name not in self.known for name in _API.findall(text))
        is_named = is_gone or (bool(self.names) and not self.names.isdisjoint(_WORD.findall(text)))
        return is_named and product not in self.products

    def masked(self, text: str, product: str = "") -> str:
        """A text about a product with `••••` for each name that the reader does not find."""
        if not self.names or product in self.products:
            return text
        return _WORD.sub(lambda word: _MASK if word[0] in self.names else word[0], text)

    def run(self, run: RunView) -> RunView:
        """A run with the names masked in what it said."""
        if not self.names or run.product in self.products:
            return run
        error = None if run.error is None else from_dict(self._plain(run.error.as_dict()))
        return replace(run, error=error, steps=tuple(map(self._step, run.steps)))

    def _step(self, step: StepView) -> StepView:
        return replace(step, message=self.masked(step.message), log=tuple(map(self.masked, step.log)))

    def _plain(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.masked(value)
        if isinstance(value, dict):
            return {name: self._plain(one) for name, one in value.items()}
        return [self._plain(one) for one in value] if isinstance(value, list | tuple) else value

    def drift(self, found: Drift | None) -> Drift | None:
        """What is not as it was applied, without the findings that name one."""
        if found is None:
            return None
        kept = [one for one in found.findings if not self.are_in(f"{one.sentence} {one.hint}", found.subject)]
        return replace(found, findings=tuple(kept))

    def is_their_file(self, path: str, product: str) -> bool:
        """Whether a file of a product declares what the reader does not find, or an API that nobody has read yet."""
        if product in self.products:
            return False
        stem = path.rpartition("/")[2].split(".")[0]
        return stem in self.names or (_API_FILE.search(path) is not None and stem not in (self.known or ()))


NONE: Final = HiddenNames()
