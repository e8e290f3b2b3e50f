"""The routes of `/mesh/v1` about plans, their records, drift and the end of products: parse, call, render."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import asdict
from queue import SimpleQueue
from typing import Annotated, Any

from fastapi import Query
from pydantic import BaseModel, ConfigDict

from tulle.catalog.routes import Routes
from tulle.control import apis, apply, destroy, drift, grants, plan_file
from tulle.control.asking import AskedBy
from tulle.control.plan import Plan
from tulle.control.workspace import Workspace
from tulle.state import plans, products

Limit = Annotated[int, Query(ge=1, le=1000)]
Notice = Annotated[str, Query(max_length=2000)]


class ApplyBody(BaseModel):
    """Which plan to carry out: the present one, the one with a digest, or exactly the one that is sent."""

    model_config = ConfigDict(extra="forbid")

    digest: str | None = None
    plan: Mapping[str, Any] | None = None
    wait: bool = True  # for the end; else only for the first step, and `GET /plans/ID` tells the rest


def plan_routes(api: Routes, workspace: Workspace, settle: Callable[[], bool]) -> None:
    """Put the routes on `api`; `settle` makes the gateway follow what a call recorded."""

    @api.get("/plan")
    def plan() -> dict[str, Any]:
        return _plan(workspace, apply.current_plan(workspace)[0])

    settling: set[str] = set()  # records whose plans are carried out, or that the gateway does not follow yet

    @api.post("/apply")
    def carry_out(by: AskedBy, body: ApplyBody) -> dict[str, Any]:
        def work(begun: apply.Begun | None = None) -> dict[str, Any]:
            return _carried_out(workspace, body, by, settle, settling, begun)

        return work() if body.wait else _started(workspace, work)

    @api.get("/plans")
    def list_plans(product: str = "", limit: Limit = 20) -> dict[str, Any]:
        found = plans.recent(workspace.database, product=product, limit=limit)
        if product and not found:
            products.applied_product(workspace.database, product)  # it is most likely misspelt
        return {"plans": [_record(item, whole=False) for item in found]}

    @api.get("/plans/{name}")
    def one_plan(name: str) -> dict[str, Any]:
        # Asked first: what ended in between has its end in the record.
        busy, unsettled = apply.is_under_way(workspace), set(settling)
        found = plans.get(workspace.database, name)
        is_under_way = (busy and found.status == plans.RUNNING) or found.id in unsettled
        told = {"under_way": is_under_way, "warning": "" if is_under_way else apis.wanting(workspace)}
        return {**_record(found, whole=True), **told}

    @api.get("/drift")
    def drift_found() -> dict[str, Any]:
        return {"drift": [drift.as_plain(item) for item in drift.look(workspace)]}

    @api.get("/products/{name}/grants")
    def roles(name: str) -> dict[str, Any]:
        product = products.applied_product(workspace.database, name).product
        applied = [item.product for item in products.applied(workspace.database)]
        return grants.as_plain(workspace, product, applied)

    @api.get("/products/{name}/destruction")
    def destruction(name: str, data: bool = False) -> dict[str, Any]:
        return _destruction(destroy.preview(workspace, name, data=data))

    @api.delete("/products/{name}")
    def carry_out_destruction(
        by: AskedBy,
        name: str,
        data: bool = False,
        force: bool = False,
        notice: Notice = "",
        digest: str | None = None,
    ) -> dict[str, Any]:
        found, sentence = destroy.destroy(
            workspace, name, data=data, force=force, notice=notice, digest=digest, actor=by
        )
        return {**_destruction(found), "sentence": sentence, "in_force": settle()}


def _carried_out(
    workspace: Workspace,
    body: ApplyBody,
    actor: str,
    settle: Callable[[], bool],
    settling: set[str],
    begun: apply.Begun | None,
) -> dict[str, Any]:
    """Carry a plan out and have the gateway follow; until it does the record is among those that are `settling`."""
    mine: list[str] = []

    def noted(record: str) -> None:
        mine.append(record)
        settling.add(record)
        if begun is not None:
            begun(record)

    try:
        done = apply.apply_plan(workspace, body.digest, document=body.plan, actor=actor, begun=noted)
        settle()
    finally:
        settling.difference_update(mine)
    told = {"record": done.record, "done": list(done.done), "note": done.note, "under_way": False}
    return {**_plan(workspace, done.plan), **told, "warning": apis.wanting(workspace)}


def _started(workspace: Workspace, work: Callable[[Callable[[str], None]], dict[str, Any]]) -> dict[str, Any]:
    """Let a thread carry a plan out and answer when its record is there, or it has come to its end before."""
    told: SimpleQueue[str | None] = SimpleQueue()
    outcome: Future[dict[str, Any]] = Future()

    def run() -> None:
        try:
            outcome.set_result(work(told.put))
        except BaseException as exc:  # noqa: BLE001  whoever waits is told; the record has it for who asks later
            outcome.set_exception(exc)
        told.put(None)

    threading.Thread(target=run, name="apply", daemon=True).start()
    record = told.get()
    if record is None:
        return outcome.result()
    document = plans.get(workspace.database, record).document
    return {**document, "record": record, "done": [], "note": "", "warning": "", "under_way": True}


def _plan(workspace: Workspace, plan: Plan) -> dict[str, Any]:
    return plan_file.document_of(plan, workspace.settings.name)


def _record(record: plans.PlanRecord, *, whole: bool) -> dict[str, Any]:
    value = asdict(record)
    if not whole:
        value.pop("document")
    return value


def _destruction(found: destroy.Destruction) -> dict[str, Any]:
    return {**asdict(found), "digest": found.digest}
