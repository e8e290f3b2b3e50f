"""Checks over HTTP, below `/mesh/v1`: what there is with its last result, what was found before, judging anew.

Knows HTTP and the names of the functions; whether data is good is decided in a run.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

from fastapi import Query
from pydantic import BaseModel, ConfigDict, Field

from tulle.catalog.routes import Routes
from tulle.control.workspace import Workspace
from tulle.pipeline import queue, run_end, worker
from tulle.pipeline.graph import ProductCode, load_code
from tulle.pipeline.inspect import CHECKS
from tulle.quality.check import Check
from tulle.quality.history import Outcome, history, latest
from tulle.state import products

Limit = Annotated[int, Query(ge=1, le=10_000)]
Name = Annotated[str | None, Query(max_length=255)]
Environment = Annotated[str, Query(max_length=255)]
_OF_COLUMNS = "schema"  # judged with every data set, and written nowhere


class CheckBody(BaseModel):
    """What to judge: all checks, or those with one of `tags`."""

    model_config = ConfigDict(extra="forbid")

    environment: str = Field("main", max_length=255)
    tags: list[Annotated[str, Field(max_length=63)]] = Field(default=[], max_length=100)


def router(workspace: Workspace) -> Routes:
    """The routes on one mesh."""
    api = Routes(prefix="/mesh/v1")
    database = workspace.database

    @api.get("/checks")
    def known(product: Name = None, environment: Environment = "main") -> dict[str, Any]:
        spec = workspace.spec()
        wanted = [spec.product(product)] if product is not None else list(spec.products)
        found = latest(database, product=product, environment=environment)
        checks = [
            one
            for declared in wanted
            for one in _with_results(
                load_code(declared), [outcome for outcome in found if outcome.product == declared.name]
            )
        ]
        return {"environment": environment, "checks": checks}

    @api.get("/checks/{product}/history")
    def earlier(
        product: str,
        check: Name = None,
        data_set: Name = None,
        environment: Environment = "main",
        limit: Limit = 100,
    ) -> dict[str, Any]:
        workspace.spec().product(product)
        found = history(database, product, check, data_set=data_set, environment=environment, limit=limit)
        return {"product": product, "environment": environment, "results": [one.as_dict() for one in found]}

    @api.post("/checks/{product}", status_code=202)
    def judge(product: str, body: CheckBody) -> dict[str, Any]:
        products.applied_product(database, product)
        workspace.lake.repository(product).resolve(body.environment)
        run_end.recover(database)
        options = {"only": CHECKS, "tags": body.tags}
        run_id = queue.request(
            database, workspace.spec(), product, environment=body.environment, options=options
        )
        worker.start(workspace.settings, run_id)
        return {"id": run_id}

    return api


def _with_results(code: ProductCode, found: list[Outcome]) -> Iterator[dict[str, Any]]:
    """Every check a product has, with its last result; what was taken out of the code is left out."""
    results = {(outcome.data_set, outcome.check): outcome for outcome in found}
    names = dict.fromkeys([*(job.name for job in code.jobs), *(d.name for d in code.product.data_sets)])
    for data_set in names:
        for check in code.checks_of(data_set):
            outcome = results.pop((check.data_set, check.name), None)
            yield _told(code.product.name, check, outcome)
    yield from (one.as_dict() for one in results.values() if one.kind == _OF_COLUMNS)


def _told(product: str, check: Check, outcome: Outcome | None) -> dict[str, Any]:
    known = {
        "product": product,
        "data_set": check.data_set,
        "check": check.name,
        "kind": check.kind,
        "severity": check.severity,
        "tags": list(check.tags),
        "place": str(check.place) if check.place else None,
    }
    if outcome is None:
        return {"state": "waiting", "message": "not judged yet", "at": None, "run": None, **known}
    return {**outcome.as_dict(), **known}
