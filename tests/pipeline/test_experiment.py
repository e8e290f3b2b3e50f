"""Experiments as they are kept: newest first, as long as the product's data is, and their runs with them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from tulle.config import Settings
from tulle.errors import NotFound
from tulle.pipeline import experiment, forget
from tulle.pipeline import run as runs
from tulle.state.db import Database, now, open_database
from tulle.state.tables import runs as run_table


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """A database of its own."""
    made = open_database(Settings(folder=tmp_path).database_url)
    yield made
    made.close()


def document(score: float, model: str = "m") -> dict[str, Any]:
    return {"model": model, "metric": "rmse", "metrics": {"rmse": score}}


def keep(
    database: Database, run_id: str, score: float = 1.0, *, product: str = "shop", model: str = "m"
) -> None:
    with database.write() as cx:
        experiment.record(cx, run_id, product, "main", "c0", document(score, model))


def test_they_are_found_by_product_and_model_newest_first(database: Database) -> None:
    keep(database, "1", 3.0)
    keep(database, "2", 2.5)
    keep(database, "3", model="other")
    keep(database, "4", product="people")
    assert [one.id for one in experiment.known(database, "shop", "m")] == ["2", "1"]
    assert [one.id for one in experiment.known(database)] == ["4", "3", "2", "1"]
    found = experiment.get(database, "1")
    assert (found.metric, found.score, found.document["metrics"]) == ("rmse", 3.0, {"rmse": 3.0})
    with pytest.raises(NotFound, match="no experiment '9'"):
        experiment.get(database, "9")


def test_they_go_with_the_data_of_their_product(database: Database) -> None:
    keep(database, "1")
    keep(database, "2", product="people")
    with database.write() as cx:
        forget.forget_rows(cx, "shop")
    assert [one.id for one in experiment.known(database)] == ["2"]


def test_a_run_that_has_one_is_not_forgotten(database: Database, tmp_path: Path) -> None:
    old = [runs.request(database, "shop") for _ in range(forget.NEWEST + 3)]
    with database.write() as cx:
        cx.execute(update(run_table).values(status="failed", finished_at=now() - 10 * 365 * 86_400))
    keep(database, old[0])
    forget.forget(Settings(folder=tmp_path), database, now())
    assert runs.get(database, old[0]).id == old[0]
    with pytest.raises(NotFound):
        runs.get(database, old[1])
