"""Collections of what deleted repositories left: asked for by whoever is sure, and run by the server."""

from __future__ import annotations

from typing import Any

import msgspec

from tulle.lake import leftovers
from tulle.lake.collect import Collection
from tulle.lake.door import Outgoing
from tulle.lake.rest.call import Call, json_answer, page_of
from tulle.lake.rest.gc import COLLECT, form_of
from tulle.lake.rest.router import Route


class _Run(msgspec.Struct):
    dry_run: bool = False


def start_run(call: Call) -> Outgoing:
    """Ask for a collection."""
    call.demand(COLLECT, "*")
    id_ = leftovers.start(call.lake, dry_run=call.json(_Run).dry_run, actor=call.user)
    return json_answer({"id": id_}, 202)


def list_runs(call: Call) -> Outgoing:
    """The latest collections, newest first."""
    call.demand(COLLECT, "*")
    found = leftovers.collections(call.lake, limit=call.amount())
    return json_answer(page_of([_form(run) for run in found], has_more=False))


def get_run(call: Call) -> Outgoing:
    """One collection."""
    call.demand(COLLECT, "*")
    return json_answer(_form(leftovers.status(call.lake, call["run"])))


def _form(run: Collection) -> dict[str, Any]:
    return {**form_of(run), "storages": run.storages, "left": dict(run.left)}


ROUTES = [
    Route("POST", "/gc/deleted/runs", start_run, "tulle.startCollectionOfDeleted"),
    Route("GET", "/gc/deleted/runs", list_runs, "tulle.listCollectionsOfDeleted"),
    Route("GET", "/gc/deleted/runs/{run}", get_run, "tulle.getCollectionOfDeleted"),
]
