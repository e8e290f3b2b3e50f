"""The queue of a warehouse: whether there is room in it for one more run, and what a run in it waits for.

Knows the rows of runs and nothing of their processes. What schedules and backfills start waits in their own book
until a warehouse has a turn, so only what people ask for is counted here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import func, select

from tulle.config import Settings, Warehouse
from tulle.errors import LimitExceeded
from tulle.pipeline.run import QUEUED, RUNNING, Run, request_in
from tulle.spec.mesh import MeshSpec
from tulle.state.db import Database, in_turn
from tulle.state.tables import runs


def told(bounds: Warehouse) -> str:
    """A warehouse's bounds in words."""
    threads = "1 thread" if bounds.threads == 1 else f"{bounds.threads} threads"
    return f"{threads}, {bounds.memory} memory, {bounds.temp_disk} disk, {bounds.concurrent_runs} at a time"


def request(
    database: Database,
    spec: MeshSpec,
    product: str,
    *,
    environment: str = "main",
    options: Mapping[str, Any] | None = None,
) -> str:
    """Ask for a run of a product in its warehouse; its id. LimitExceeded when the queue there is full."""
    warehouse = spec.product(product).warehouse_name
    bounds = spec.settings.warehouse_of(warehouse)
    with database.write() as cx:
        in_turn(cx, "starting a run")  # how many wait decides
        waiting = cx.execute(
            select(func.count()).where(
                runs.c.status == QUEUED,
                runs.c.options["warehouse"].as_string() == warehouse,
                runs.c.options["fired"].as_string().is_(None),
            )
        ).scalar_one()
        if waiting >= bounds.queue:
            raise LimitExceeded(
                f"the queue of warehouse '{warehouse}' is full: {waiting} of at most {bounds.queue} runs wait",
                hint="`tulle runs` shows them, `tulle runs ID --stop` takes one out; "
                f"'queue' and 'concurrent_runs' of warehouse '{warehouse}' in mesh.yaml bound it",
            )
        asked = {**(options or {}), "warehouse": warehouse}
        return request_in(cx, product, environment=environment, options=asked)


def what_for(database: Database, settings: Settings, run: Run) -> str:
    """What a queued run waits for, in words; empty when its turn has come or it waits no longer."""
    if run.status != QUEUED:
        return ""
    name = run.options.get("warehouse")
    bounds = settings.warehouse_of(str(name))
    with database.read() as cx:
        found = cx.execute(
            select(
                runs.c.id,
                runs.c.product,
                runs.c.environment,
                runs.c.status,
                runs.c.options,
                runs.c.requested_at,
            ).where(runs.c.status.in_([QUEUED, RUNNING]))
        ).all()
    for other in found:
        if other.status == RUNNING and (other.product, other.environment) == (run.product, run.environment):
            return f"run {other.id} of '{run.product}' on '{run.environment}' is under way"
    if name is None:
        return ""
    mine = [other for other in found if other.options.get("warehouse") == name]
    busy = sum(other.status == RUNNING for other in mine)
    if busy < bounds.concurrent_runs:
        return ""
    since = (run.requested_at, run.id)
    before = sum(other.status == QUEUED and (other.requested_at, other.id) < since for other in mine)
    more = f", and {before} came before" if before else ""
    return f"warehouse '{name}' has {busy} of {bounds.concurrent_runs} runs under way{more}"
