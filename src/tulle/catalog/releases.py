"""What is where, what waits for approval, and what was released, promoted and rolled back: for pages, read only."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select

from tulle.catalog.known import KnownProducts
from tulle.config import Environment, Settings
from tulle.errors import NotFound
from tulle.lake.repository import Lake
from tulle.pipeline import promotion, release
from tulle.pipeline.promotion import Promotion
from tulle.pipeline.release import Release
from tulle.spec.environment import environments
from tulle.state import products
from tulle.state.db import Database
from tulle.state.tables import approvals, deprecations
from tulle.state.tables import environments as placed

SHOWN = 50


@dataclass(frozen=True, slots=True)
class Place:
    """A product in an environment: the release in force (None: its folder as it is) and the commit of its branch."""

    environment: str
    version: str | None
    commit: str | None
    since: float | None


@dataclass(frozen=True, slots=True)
class ProductPlaces:
    """A product in all environments, in the order releases go through them."""

    product: str
    places: tuple[Place, ...]


@dataclass(frozen=True, slots=True)
class PromotionView:
    """A promotion or rollback with what people decided: (name, approved, note); `approvers` may still do so."""

    promotion: Promotion
    decisions: tuple[tuple[str, bool, str], ...]
    wanted: int
    approvers: tuple[str, ...]

    @property
    def missing(self) -> int:
        """How many must still approve."""
        return max(0, self.wanted - sum(1 for _, approved, _ in self.decisions if approved))


@dataclass(frozen=True, slots=True)
class PreviewView:
    """A short-lived branch."""

    product: str
    name: str
    branch: str
    source: str
    created_by: str
    created_at: float


@dataclass(frozen=True, slots=True)
class Ending:
    """A product that will end."""

    product: str
    sunset: str
    reason: str
    successor: str
    told: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ReleasesPage:
    """What the page of releases shows, of one product or of all."""

    product: str
    environments: tuple[Environment, ...]
    where: tuple[ProductPlaces, ...]
    waiting: tuple[PromotionView, ...]
    history: tuple[PromotionView, ...]
    releases: tuple[Release, ...]
    previews: tuple[PreviewView, ...]
    endings: tuple[Ending, ...]
    next: str = ""  # of `where`: there are more products, after this one


class ReleaseReader:
    """Answers the portal's questions about releases. Safe to share between threads."""

    def __init__(self, settings: Settings, database: Database, lake: Lake, known: KnownProducts) -> None:
        self._settings = settings
        self._database = database
        self._lake = lake
        self._known = known

    def page(self, product: str = "", after: str = "") -> ReleasesPage:
        """Everything about releases, of one product where it is named; products from `after` on. NotFound."""
        if product:
            products.applied_product(self._database, product)
        names = [product] if product else sorted(name for name in self._known.all() if name > after)
        found = promotion.recent(self._database, product=product or None, limit=SHOWN)
        waiting = promotion.recent(
            self._database, product=product or None, status=promotion.WAITING, limit=SHOWN
        )
        decided = self._decisions([one.id for one in (*found, *waiting)])
        order = environments(self._settings)
        rows = self._rows(product)
        return ReleasesPage(
            product=product,
            environments=order,
            where=tuple(self._places(name, order, rows) for name in names[:SHOWN]),
            next=names[SHOWN - 1] if len(names) > SHOWN else "",
            waiting=tuple(self._view(one, decided) for one in waiting),
            history=tuple(self._view(one, decided) for one in found if one.status != promotion.WAITING),
            releases=release.releases(self._database, product or None)[:SHOWN],
            previews=tuple(
                PreviewView(r.product, r.name, r.branch, r.source, r.created_by, r.created_at)
                for r in rows
                if r.kind == "preview"
            ),
            endings=self._endings(product),
        )

    def _rows(self, product: str) -> Sequence[Any]:
        query = select(placed).order_by(placed.c.created_at)
        if product:
            query = query.where(placed.c.product == product)
        with self._database.read() as cx:
            return cx.execute(query).all()

    def _places(self, product: str, order: Sequence[Environment], rows: Sequence[Any]) -> ProductPlaces:
        try:
            heads = {b.name: b.commit_id for b in self._lake.repository(product).branches()}
        except NotFound:
            heads = {}
        known = {r.branch: r for r in rows if r.product == product}
        return ProductPlaces(
            product,
            tuple(
                Place(
                    environment.name,
                    row.version if (row := known.get(environment.branch)) is not None else None,
                    heads.get(environment.branch),
                    row.changed_at if row is not None and row.version else None,
                )
                for environment in order
            ),
        )

    def _decisions(self, ids: Sequence[str]) -> Mapping[str, list[tuple[str, bool, str]]]:
        found: dict[str, list[tuple[str, bool, str]]] = defaultdict(list)
        query = select(approvals).where(approvals.c.promotion_id.in_(ids)).order_by(approvals.c.at)
        with self._database.read() as cx:
            for row in cx.execute(query):
                found[row.promotion_id].append((row.approver, bool(row.approved), row.note))
        return found

    def _view(self, one: Promotion, decided: Mapping[str, list[tuple[str, bool, str]]]) -> PromotionView:
        environment = self._settings.environments.get(one.environment)
        wanted = environment.approvals if environment and one.kind == promotion.PROMOTION else 0
        given = tuple(decided.get(one.id, ()))
        said = {one.requested_by, one.credential, *(name for name, _, _ in given)}
        may = tuple(name for name in environment.approvers if name not in said) if environment else ()
        return PromotionView(one, given, wanted, may)

    def _endings(self, product: str) -> tuple[Ending, ...]:
        query = select(deprecations).order_by(deprecations.c.sunset)
        if product:
            query = query.where(deprecations.c.product == product)
        with self._database.read() as cx:
            return tuple(
                Ending(r.product, r.sunset, r.reason, r.successor, tuple(r.told)) for r in cx.execute(query)
            )
