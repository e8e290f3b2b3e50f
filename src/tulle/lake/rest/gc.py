"""Retention rules and collections. Ours need no Spark job: they are asked for here and run by the server."""

from __future__ import annotations

from typing import Any

import msgspec

from tulle.errors import NotFound
from tulle.lake import collect
from tulle.lake.collect import Collection, Tally
from tulle.lake.door import Outgoing
from tulle.lake.rest.call import Call, json_answer, no_content, page_of
from tulle.lake.rest.failure import message_of, unsupported
from tulle.lake.rest.imports import time_form
from tulle.lake.rest.router import Handler, Route

READ = "retention:GetGarbageCollectionRules"
WRITE = "retention:SetGarbageCollectionRules"
COLLECT = "retention:PrepareGarbageCollectionCommits"
_NO_SPARK = (
    "no job of yours removes data here: the server collects by itself, "
    "see POST /repositories/{repository}/gc/runs"
)


class _Rule(msgspec.Struct):
    branch_id: str
    retention_days: int


class _Rules(msgspec.Struct):
    default_retention_days: int
    branches: list[_Rule] = msgspec.field(default_factory=list)


class _Run(msgspec.Struct):
    dry_run: bool = False


def get_rules(call: Call) -> Outgoing:
    """How long what branches held is kept."""
    call.demand_repository(READ)
    rules = call.repository().retention()
    if rules is None:
        raise NotFound(f"repository '{call['repository']}' has no retention rules")
    return json_answer(rules)


def set_rules(call: Call) -> Outgoing:
    """Set how long what branches held is kept."""
    call.demand_repository(WRITE)
    call.repository().set_retention(msgspec.to_builtins(call.json(_Rules)))
    return no_content()


def delete_rules(call: Call) -> Outgoing:
    """Keep everything that was committed."""
    call.demand_repository(WRITE)
    call.repository().set_retention(None)
    return no_content()


def may_set(call: Call) -> Outgoing:
    """Whether the caller may set the rules."""
    call.demand_repository(WRITE)
    call.repository()
    return no_content()


def config(call: Call) -> Outgoing:
    """How many seconds what is written is left alone, whatever names it."""
    call.demand("fs:ReadConfig", "*")
    return json_answer({"grace_period": int(collect.GRACE_SECONDS)})


def start_run(call: Call) -> Outgoing:
    """Ask for a collection."""
    call.demand_repository(COLLECT)
    wanted = call.json(_Run)
    id_ = collect.start(call.lake, call["repository"], dry_run=wanted.dry_run, actor=call.user)
    return json_answer({"id": id_}, 202)


def list_runs(call: Call) -> Outgoing:
    """The latest collections, newest first."""
    call.demand_repository(COLLECT)
    found = collect.collections(call.lake, call["repository"], limit=call.amount())
    return json_answer(page_of([form_of(run) for run in found], has_more=False))


def get_run(call: Call) -> Outgoing:
    """One collection."""
    call.demand_repository(COLLECT)
    return json_answer(form_of(collect.status(call.lake, call["repository"], call["run"])))


def form_of(run: Collection) -> dict[str, Any]:
    """A collection as callers are told of it."""
    return {
        "id": run.id,
        "status": run.status,
        "dry_run": run.dry_run,
        "started_at": time_form(run.started_at),
        "expired_commits": run.expired,
        "kept_commits": run.kept_commits,
        "seconds": run.seconds,
        "removed": {kind: _tally(tally) for kind, tally in run.removed.items()},
        "waiting": {kind: _tally(tally) for kind, tally in run.waiting.items()},
        **({"error": message_of(run.error)} if run.error is not None else {}),
    }


def _tally(tally: Tally) -> dict[str, Any]:
    return {
        "count": tally.count,
        "bytes": tally.bytes,
        "oldest": time_form(tally.oldest),
        "samples": tally.samples,
    }


def _refuse(action: str) -> Handler:
    def refuse(call: Call) -> Outgoing:
        call.demand_repository(action)
        raise unsupported(_NO_SPARK)

    return refuse


_R = "/repositories/{repository}"
_UNCOMMITTED = "retention:PrepareGarbageCollectionUncommitted"

ROUTES = [
    Route("GET", "/config/garbage-collection", config, "getGarbageCollectionConfig"),
    Route("GET", f"{_R}/settings/gc_rules", get_rules, "getGCRules"),
    Route("PUT", f"{_R}/settings/gc_rules", set_rules, "setGCRules"),
    Route("DELETE", f"{_R}/settings/gc_rules", delete_rules, "deleteGCRules"),
    Route("GET", f"{_R}/gc/rules", get_rules, "internalGetGarbageCollectionRules"),
    Route("POST", f"{_R}/gc/rules", set_rules, "internalSetGarbageCollectionRules"),
    Route("DELETE", f"{_R}/gc/rules", delete_rules, "internalDeleteGarbageCollectionRules"),
    Route("GET", f"{_R}/gc/rules/set_allowed", may_set, "setGarbageCollectionRulesPreflight"),
    Route("POST", f"{_R}/gc/prepare_commits", _refuse(COLLECT), "prepareGarbageCollectionCommits"),
    Route("POST", f"{_R}/gc/prepare_commits/async", _refuse(COLLECT), "prepareGarbageCollectionCommitsAsync"),
    Route(
        "GET", f"{_R}/gc/prepare_commits/status", _refuse(COLLECT), "prepareGarbageCollectionCommitsStatus"
    ),
    Route(
        "POST", f"{_R}/gc/prepare_uncommited", _refuse(_UNCOMMITTED), "prepareGarbageCollectionUncommitted"
    ),
    Route("POST", f"{_R}/gc/runs", start_run, "tulle.startCollection"),
    Route("GET", f"{_R}/gc/runs", list_runs, "tulle.listCollections"),
    Route("GET", f"{_R}/gc/runs/{{run}}", get_run, "tulle.getCollection"),
]
