"""The plans that were carried out as their page shows them: who, when, what each step changed, and how it ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from tulle.catalog.hidden_names import NONE, HiddenNames
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


def plans_page(
    database: Database, product: str = "", *, limit: int = SHOWN, hidden: HiddenNames = NONE
) -> PlansPage:
    """The latest plans, without what names something `hidden`. NotFound, with the nearest name, for a product that
    neither is nor was applied."""
    found = tuple(_view(record, hidden) for record in plans.recent(database, product=product, limit=limit))
    if not product:
        return PlansPage(found, drift=hidden.drift(drift.found_of(database, drift.MESH)))
    known = [item.product for item in products.some(database, [product]).values()]
    if not known and not found:
        products.applied_product(database, product)
    tenancy = tenancy_of(known[0]) if known else None
    return PlansPage(found, product, hidden.drift(drift.found_of(database, product)), tenancy)


def _view(record: PlanRecord, hidden: HiddenNames) -> PlanView:
    said = dict(enumerate(record.document.get("steps", ()), 1))
    lines = tuple(_line(step, said.get(step.position, {}), hidden) for step in record.steps)
    hits = tuple(text for hit in record.document.get("hits", ()) if not hidden.are_in(text := str(hit)))
    notice = str(record.document.get("notice", ""))
    error = "" if hidden.are_in(record.error) else record.error
    return PlanView(replace(record, error=error), lines, hits, "" if hidden.are_in(notice) else notice)


def _line(step: StepRecord, said: Mapping[str, Any], hidden: HiddenNames) -> StepLine:
    def are_hidden(text: Any) -> bool:
        return hidden.are_in(str(text), step.subject)

    plain = f"{step.operation} {step.subject}"
    sentence = str(said.get("sentence", plain))
    details = tuple(
        {**one, "hits": [hit for hit in one.get("hits") or () if not are_hidden(hit)]}
        for one in said.get("details", ())
        if not are_hidden(one.get("sentence", ""))
    )
    message = "" if are_hidden(step.message) else step.message
    return StepLine(replace(step, message=message), plain if are_hidden(sentence) else sentence, details)
