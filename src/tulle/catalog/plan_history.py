"""The plans that were carried out as their page shows them: who, when, what each step changed, and how it ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tulle.spec.tenancy import Tenancy, tenancy_of
from tulle.state import drift, plans, products
from tulle.state.db import Database
from tulle.state.drift import Drift
from tulle.state.plans import PlanRecord, StepRecord

SHOWN = 40


@dataclass(frozen=True, slots=True)
class StepLine:
    """A step: its outcome, and what the plan said of it."""

    record: StepRecord
    sentence: str
    details: tuple[dict[str, Any], ...] = ()

    @property
    def breaking(self) -> bool:
        """Whether it could break a consumer."""
        return any(detail.get("breaking") for detail in self.details)


@dataclass(frozen=True, slots=True)
class PlanView:
    """A plan with its steps."""

    record: PlanRecord
    steps: tuple[StepLine, ...]
    hits: tuple[str, ...] = ()
    notice: str = ""


@dataclass(frozen=True, slots=True)
class PlansPage:
    """What the page of plans shows; of one product or of all."""

    plans: tuple[PlanView, ...]
    product: str = ""
    drift: Drift | None = None
    tenancy: Tenancy | None = None


def plans_page(database: Database, product: str = "", *, limit: int = SHOWN) -> PlansPage:
    """The latest plans. NotFound, with the nearest name, for a product that neither is nor was applied."""
    found = tuple(_view(record) for record in plans.recent(database, product=product, limit=limit))
    if not product:
        return PlansPage(found, drift=drift.found_of(database, drift.MESH))
    known = [item.product for item in products.some(database, [product]).values()]
    if not known and not found:
        products.applied_product(database, product)
    tenancy = tenancy_of(known[0]) if known else None
    return PlansPage(found, product, drift.found_of(database, product), tenancy)


def _view(record: PlanRecord) -> PlanView:
    said = dict(enumerate(record.document.get("steps", ()), 1))
    lines = tuple(
        StepLine(
            step,
            str(said.get(step.position, {}).get("sentence", f"{step.operation} {step.subject}")),
            tuple(said.get(step.position, {}).get("details", ())),
        )
        for step in record.steps
    )
    hits = tuple(str(hit) for hit in record.document.get("hits", ()))
    return PlanView(record, lines, hits, str(record.document.get("notice", "")))
