"""Runs of hooks and what they wrote."""

from __future__ import annotations

from typing import Any

from tulle.errors import Invalid, NotFound
from tulle.lake.door import Outgoing
from tulle.lake.hooks import record
from tulle.lake.hooks.kind import rfc3339
from tulle.lake.rest.call import Call, cut, json_answer, page_of
from tulle.lake.rest.router import Route


def list_runs(call: Call) -> Outgoing:
    """Runs that have ended, newest first, of a branch or of a commit or of all."""
    call.demand_repository("ci:ReadAction")
    branch, commit_id = call.query("branch"), call.query("commit")
    if branch and commit_id:
        raise Invalid("give a branch or a commit, not both")
    amount = call.amount()
    found, more = cut(
        record.list_runs(
            call.lake.database,
            call.repository().record.id,
            after=call.query("after"),
            limit=amount + 1,
            branch=branch,
            commit_id=commit_id,
        ),
        amount,
    )
    forms = [_run_form(run) for run in found]
    return json_answer(page_of(forms, has_more=more, next_offset=found[-1].id if found else ""))


def get_run(call: Call) -> Outgoing:
    """One run."""
    return json_answer(_run_form(_run(call)))


def list_hooks(call: Call) -> Outgoing:
    """The hooks of a run."""
    run = _run(call)
    after, amount = call.query("after"), call.amount()
    hooks = [hook for hook in record.hooks_of(call.lake.database, run.id) if hook.id > after]
    found, more = cut(hooks, amount)
    forms = [_hook_form(hook, run) for hook in found]
    return json_answer(page_of(forms, has_more=more, next_offset=found[-1].id if found else ""))


def output(call: Call) -> Outgoing:
    """What a hook wrote."""
    run = _run(call)
    for hook in record.hooks_of(call.lake.database, run.id):
        if hook.id == call["hook_run_id"]:
            return Outgoing(200, hook.output.encode(), (("content-type", "application/octet-stream"),))
    raise NotFound(f"there is no hook '{call['hook_run_id']}' in run '{run.id}'")


def _run(call: Call) -> record.Run:
    call.demand_repository("ci:ReadAction")
    run = record.get_run(call.lake.database, call.repository().record.id, call["run_id"])
    if run.status == "running":  # lakeFS's clients know of ended ones only
        raise NotFound(f"run '{run.id}' of hooks has not ended yet")
    return run


def _run_form(run: record.Run) -> dict[str, Any]:
    return {
        "run_id": run.id,
        "branch": run.branch,
        "start_time": rfc3339(run.started_at),
        **({"end_time": rfc3339(run.finished_at)} if run.finished_at is not None else {}),
        "event_type": run.event,
        "status": "completed" if run.status == "completed" else "failed",
        "commit_id": run.commit_id,
    }


def _hook_form(hook: record.HookRun, run: record.Run) -> dict[str, Any]:
    ended = hook.finished_at or run.finished_at
    return {
        "hook_run_id": hook.id,
        "action": hook.action,
        "hook_id": hook.hook,
        "start_time": rfc3339(hook.started_at or run.started_at),
        **({"end_time": rfc3339(ended)} if ended is not None else {}),
        "status": "completed" if hook.status == "completed" else "failed",
    }


_RUNS = "/repositories/{repository}/actions/runs"
ROUTES = [
    Route("GET", _RUNS, list_runs, "listRepositoryRuns"),
    Route("GET", _RUNS + "/{run_id}", get_run, "getRun"),
    Route("GET", _RUNS + "/{run_id}/hooks", list_hooks, "listRunHooks"),
    Route("GET", _RUNS + "/{run_id}/hooks/{hook_run_id}/output", output, "getRunHookOutput"),
]
