"""`mesh.yaml` taken up while the mesh runs: what differs from what is in force, whether all of it holds, and doing it.

All of what can be taken up is, or nothing. Knows nothing of how the gateway is told.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from tulle.config import Settings
from tulle.control import offers
from tulle.control.application_people import contact_problems
from tulle.control.policy_names import PolicyNames
from tulle.control.policy_problems import Judged, mesh_policies_judged
from tulle.control.switchboard import Switchboard
from tulle.control.watches import watch_problems
from tulle.control.workspace import Workspace
from tulle.deploy import local
from tulle.errors import Problem, TulleError
from tulle.events import MESH_TAKEN_UP, Event
from tulle.gateway.mesh_changes import SettingChange, at_next_start, changes, taken_up
from tulle.gateway.versions.pin import pin_of
from tulle.spec.document import Document, refuse
from tulle.spec.load import load_document
from tulle.spec.mesh import MESH_FILE, load_settings
from tulle.spec.tier import mesh_tier_problems
from tulle.state import log, products

_MOST_NOTED: Final = 50  # sentences in one event
_one_at_a_time = threading.Lock()


@dataclass(frozen=True, slots=True)
class Waiting:
    """What mesh.yaml says otherwise than what is in force, and what would be in force with it.

    `next_start` names settings that are read only when the mesh starts.
    """

    changes: tuple[SettingChange, ...]
    next_start: tuple[str, ...]
    settings: Settings
    warnings: tuple[Problem, ...] = ()  # what is most likely not meant


def waiting(workspace: Workspace) -> Waiting:
    """What waits to be taken up. Invalid, with every problem of the file at its place, where it does not hold."""
    now = workspace.settings
    wanted = load_settings(now.folder)
    found = Waiting(changes(now, wanted), at_next_start(now, wanted), taken_up(now, wanted))
    judged = _judged(workspace, found, wanted)
    refuse(MESH_FILE, judged.problems)
    return replace(found, warnings=judged.warnings)


def view(workspace: Workspace) -> dict[str, Any]:
    """The same for whoever looks, who is told of problems instead of refused."""
    try:
        found = waiting(workspace)
    except TulleError as exc:
        told = [str(problem) for problem in exc.problems] or [exc.message]
        return {"changes": [], "at_next_start": [], "warnings": [], "problems": told}
    return {**_as_plain(found), "problems": []}


def take_up(
    workspace: Workspace, switchboard: Switchboard, *, by: str = "", is_dry: bool = False
) -> dict[str, Any]:
    """Take up what waits, as far as it needs no restart; with `is_dry` only say what that is.

    Invalid, with every reason, where any of the file does not hold or the gateway would not take a service with it:
    what is in force stays then. The next settling publishes.
    """
    with _one_at_a_time:
        changed = _changed(workspace.settings)  # before it is read
        found = waiting(workspace)

        def record() -> None:
            told = [one.sentence for one in found.changes[:_MOST_NOTED]]
            with workspace.database.write() as cx:
                offers.record_tiers_of(cx, found.settings, actor=by)
                log.append(cx, Event(MESH_TAKEN_UP, MESH_FILE, {"changes": told}), actor=by)
            workspace.take_up(found.settings)

        if found.changes:
            problems = switchboard.take_up(found.settings, None if is_dry else record)
            refuse(MESH_FILE, _refused(problems))
        if not is_dry and not found.next_start:
            local.note_taken_up(workspace.settings, changed)
    pin = pin_of(workspace.database)
    return {
        **_as_plain(found),
        "dry_run": is_dry,
        "taken_up": bool(found.changes) and not is_dry,
        "waits_for_resume": pin.sentence if pin is not None else "",
    }


def _changed(settings: Settings) -> int:
    """When the file was changed last; that there is none is told when it is read."""
    with contextlib.suppress(OSError):
        return (settings.folder / MESH_FILE).stat().st_mtime_ns
    return 0


def _as_plain(found: Waiting) -> dict[str, Any]:
    return {
        "changes": [
            {
                "setting": one.setting,
                "name": one.name,
                "how": one.how,
                "details": list(one.details),
                "sentence": one.sentence,
            }
            for one in found.changes
        ],
        "at_next_start": list(found.next_start),
        "warnings": [str(problem) for problem in found.warnings],
    }


def _refused(problems: Mapping[str, str]) -> Iterator[Problem]:
    for path, said in sorted(problems.items()):
        told = f"service '{path}' could not be had with it: {said}" if path else said
        yield Problem(told, None, "what is in force stays; mend mesh.yaml or the service, and try again")


def _judged(workspace: Workspace, found: Waiting, wanted: Settings) -> Judged:
    document = load_document(wanted.folder / MESH_FILE, name=MESH_FILE)
    problems = mesh_tier_problems(document)
    if problems:  # the mesh's tiers cannot be looked at
        return Judged(tuple(problems))
    new = found.settings
    judged = mesh_policies_judged(PolicyNames(workspace, new))
    problems += judged.problems
    problems += contact_problems(new)
    problems += watch_problems(new)
    problems += offers.mesh_tiers_taken_out(workspace, new, document)
    problems += _channels_taken_out(workspace, new, document)
    coming = set(wanted.environments) - set(new.environments)
    return Judged(tuple(_with_hint(problem, coming) for problem in problems), judged.warnings)


def _with_hint(problem: Problem, coming: set[str]) -> Problem:
    """Of what names an environment that mesh.yaml has and the running mesh has not."""
    if any(problem.message.startswith(f"there is no environment '{name}'") for name in coming):
        return replace(problem, hint="environments are read when the mesh starts: `tulle down`, `tulle up`")
    return problem


def _channels_taken_out(workspace: Workspace, new: Settings, document: Document) -> Iterator[Problem]:
    gone = set(workspace.settings.alerts) - set(new.alerts)
    for item in products.applied(workspace.database) if gone else ():
        for name in sorted(gone & set(item.product.alerts)):
            message = f"channel '{name}' is taken out, and product '{item.product.name}' names it"
            yield document.problem(message, ("alerts",) if new.alerts else (), hint="take it out there first")
