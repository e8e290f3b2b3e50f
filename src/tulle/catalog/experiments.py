"""The experiments of a product as their page shows them: to choose some from, and those beside one another."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tulle.catalog.curves_compared import Overlaid, letter, overlaid, side_by_side
from tulle.catalog.look import amount
from tulle.catalog.model_charts import Chart
from tulle.errors import NotFound
from tulle.pipeline import experiment
from tulle.pipeline.experiment import Experiment
from tulle.pipeline.experiments_compared import MOST, compared
from tulle.spec.product import DataProduct
from tulle.state import products
from tulle.state.db import Database

SHOWN = 100  # of a product, the newest
_DIGEST = re.compile("[0-9a-f]{64}")  # of a commit or of code: its beginning tells it apart


@dataclass(frozen=True, slots=True)
class Row:
    """A line of a comparison: what of each experiment, in their order; `best` are places of the best ones."""

    name: str
    values: tuple[str, ...]
    best: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Compared:
    """Some experiments beside one another."""

    experiments: tuple[Experiment, ...]
    metrics: tuple[Row, ...]
    differing: tuple[tuple[str, tuple[Row, ...]], ...]  # by title, those that have something to tell
    importance: tuple[Row, ...]
    charts: tuple[Overlaid, ...]
    scatters: tuple[tuple[int, Chart], ...]
    same_rows: bool

    @staticmethod
    def letter(number: int) -> str:
        """How an experiment is called on the page."""
        return letter(number)


@dataclass(frozen=True, slots=True)
class ExperimentsPage:
    """What the page shows; `compared` when at least two were chosen, `problem` says why not."""

    product: DataProduct
    experiments: tuple[Experiment, ...]
    chosen: tuple[str, ...]
    compared: Compared | None
    is_cut: bool
    model: str = ""  # all that are compared are of it
    most: int = MOST


class ExperimentsReader:
    """Answers questions about experiments. Safe to share between threads."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def page(self, product: str, ids: Sequence[str] = ()) -> ExperimentsPage:
        """The experiments of a product, those of `ids` compared. NotFound; Invalid for too many of them."""
        owner = products.applied_product(self._database, product).product
        known = experiment.known(self._database, product)
        by_id = {one.id: one for one in known}
        for name in ids:
            if name not in by_id:
                raise NotFound(
                    f"product '{product}' has no experiment '{name[:100]}'",
                    hint=f"/products/{product}/experiments lists them",
                )
        chosen = tuple(by_id[name] for name in dict.fromkeys(ids))
        models = {one.model for one in chosen}
        return ExperimentsPage(
            owner,
            known[:SHOWN],
            tuple(one.id for one in chosen),
            _compared(chosen) if len(chosen) > 1 else None,
            len(known) > SHOWN,
            next(iter(models)) if len(models) == 1 else "",
        )


def _compared(chosen: Sequence[Experiment]) -> Compared:
    found = compared(chosen)
    differing = (
        ("Settings of the model", found["parameters"]),
        ("What was asked", found["asked"]),
        ("What it was made of", found["made"]),
    )
    return Compared(
        tuple(chosen),
        _rows(found["metrics"], found["best"]),
        tuple((title, _rows(part)) for title, part in differing if part),
        _rows(found["importance"]),
        overlaid(found["curves"]),
        side_by_side(found["curves"]),
        found["same_rows"],
    )


def _rows(
    part: Mapping[str, Sequence[Any]], best: Mapping[str, Sequence[int]] | None = None
) -> tuple[Row, ...]:
    return tuple(
        Row(name, tuple(_told(value) for value in values), tuple((best or {}).get(name, ())))
        for name, values in part.items()
    )


def _told(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_told(one)}" for name, one in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_told(one) for one in value) or "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return f"{value:.4g}" if isinstance(value, float) else amount(value)
    text = "–" if value is None else str(value)
    return text[:12] if _DIGEST.fullmatch(text) else text
