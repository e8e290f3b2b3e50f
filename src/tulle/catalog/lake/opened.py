"""A repository opened for a page, with what every page of it needs. Knows no page."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tulle.catalog.hidden_names import NONE, HiddenNames
from tulle.config import Settings, Warehouse
from tulle.engine.duck import DuckEngine
from tulle.errors import NotFound, did_you_mean
from tulle.lake.entry import checked_text
from tulle.lake.repository import Lake, Repository
from tulle.spec.product import DataProduct

REFS_OFFERED = 200


@dataclass(frozen=True, slots=True)
class Head:
    """What stands above every page of a repository."""

    name: str
    is_product: bool
    default_branch: str
    read_only: bool


@dataclass(frozen=True, slots=True)
class Opened:
    """One repository; `product` is the one that declares what it holds, if any does."""

    lake: Lake
    repository: Repository
    head: Head
    product: DataProduct | None
    engine: DuckEngine

    def known(self) -> tuple[str, ...]:
        """Names of branches and tags to choose from."""
        names = [branch.name for branch in self.repository.branches(limit=REFS_OFFERED, show_hidden=False)]
        return (*names, *(tag.name for tag in self.repository.tags(limit=REFS_OFFERED)))


class LakeBrowser:
    """Opens repositories for their pages. Safe to share between threads."""

    def __init__(self, settings: Settings, lake: Lake, product: Callable[[str], DataProduct | None]) -> None:
        bounds = Warehouse(threads=1, memory="512MB", temp_disk="1GB")
        self._engine = DuckEngine(bounds, settings.run_folder / "portal-lake")
        self._lake = lake
        self._product = product

    def open(self, name: str, *texts: str, hidden: HiddenNames = NONE) -> Opened:
        """A repository. NotFound; Invalid for texts of a request that no database could look for.

        What is kept of a service that is `hidden` is met as what is not there.
        """
        for text in (name, *texts):
            checked_text(text, "the request")
        try:
            if hidden.hides(name):
                raise NotFound(f"there is no repository '{name}'")
            repository = self._lake.repository(name)
        except NotFound as exc:
            known = [one.name for one in self._lake.repositories() if not hidden.hides(one.name)]
            raise NotFound(exc.message, hint=did_you_mean(name, known)) from None
        product = self._product(name)
        head = Head(name, product is not None, repository.default_branch, repository.read_only)
        return Opened(self._lake, repository, head, product, self._engine)
