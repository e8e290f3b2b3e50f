"""Experiments: what every training that published a model was asked, what it read, what it tried and how good it is.

Kept in the control plane's database for ever, and beside the model in the lake for as long as it is that model's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, insert, select

from tulle.errors import Invalid, NotFound
from tulle.state.db import Database, now
from tulle.state.tables import experiments as table

FILE = "experiment.json"  # beside the model
SHORTEST = 6  # characters by which one may be named


@dataclass(frozen=True, slots=True)
class Experiment:
    """One training that published a model; `document` is all that is told of it."""

    id: str  # that of its run
    product: str
    environment: str
    model: str
    commit: str  # that published the model
    metric: str
    score: float  # on the hold-out
    created_at: float
    document: Mapping[str, Any]


def record(
    cx: Connection, run_id: str, product: str, environment: str, commit: str, document: Mapping[str, Any]
) -> None:
    """Keep an experiment, in the transaction that publishes its model."""
    metric = document["metric"]
    cx.execute(
        insert(table).values(
            id=run_id,
            product=product,
            environment=environment,
            model=document["model"],
            commit_id=commit,
            metric=metric,
            score=document["metrics"][metric],
            created_at=now(),
            document=dict(document),
        )
    )


def known(database: Database, product: str | None = None, model: str | None = None) -> tuple[Experiment, ...]:
    """Experiments, newest first: all, those of a product, or those of one of its models."""
    query = select(table).order_by(table.c.created_at.desc(), table.c.id.desc())
    if product is not None:
        query = query.where(table.c.product == product)
    if model is not None:
        query = query.where(table.c.model == model)
    with database.read() as cx:
        return tuple(_value(row) for row in cx.execute(query))


def get(database: Database, experiment_id: str) -> Experiment:
    """One experiment by its id, or by a beginning that only it has. NotFound; Invalid where several begin so."""
    exact, begins = table.c.id == experiment_id, table.c.id.startswith(experiment_id, autoescape=True)
    with database.read() as cx:
        row = cx.execute(select(table).where(exact)).first()
        if row is None and len(experiment_id) >= SHORTEST:
            rows = cx.execute(select(table).where(begins).limit(2)).all()
            if len(rows) > 1:
                raise Invalid(f"several experiments begin with '{experiment_id}'", hint="write more of it")
            row = rows[0] if rows else None
    if row is None:
        raise NotFound(
            f"there is no experiment '{experiment_id[:100]}'",
            hint="`tulle model show PRODUCT MODEL` lists them",
        )
    return _value(row)


def _value(row: Row[Any]) -> Experiment:
    return Experiment(
        row.id,
        row.product,
        row.environment,
        row.model,
        row.commit_id,
        row.metric,
        row.score,
        row.created_at,
        row.document,
    )
