"""The gateway as who runs it sees it: how it fares, its versions and what differs, rollback and back again.

Plain values out. Knows what is recorded and asks the switchboard for what would be published; publishes nothing itself.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Final

from tulle.control.switchboard import Switchboard
from tulle.control.workspace import Workspace
from tulle.deploy import local
from tulle.deploy.room import refusal
from tulle.errors import Broken, Conflict, NotFound, Unavailable
from tulle.events import GATEWAY_RESTARTED, Event
from tulle.gateway import applications
from tulle.gateway.door_certificate import shown
from tulle.gateway.envoy_process import EnvoyProcess
from tulle.gateway.faults import read_faults
from tulle.gateway.policies.showing import policy_shown
from tulle.gateway.versions import pin as pins
from tulle.gateway.versions import recorded
from tulle.gateway.versions.difference import Change, difference
from tulle.gateway.versions.pin import pin_of
from tulle.gateway.versions.recorded import Version, policy_of_version
from tulle.gateway.versions.told import Pin
from tulle.gateway.vitals import vitals
from tulle.state import log
from tulle.state.db import now

LONGEST_REASON: Final = 500
RESTART_SECONDS: Final = 60.0  # within which another process answers; one from before may have to end first


def view(workspace: Workspace, switchboard: Switchboard) -> dict[str, Any]:
    """How the gateway fares: its process, its certificate, the version in force, the pin and what waits behind it."""
    settings = workspace.settings
    process, found = local.processes(settings).get("gateway"), vitals(settings)
    newest = next(iter(recorded.versions(workspace.database, limit=1)), None)
    pin, certificate = pin_of(workspace.database), shown(settings)
    waiting = _waiting(workspace, switchboard) if pin is not None else []
    return {
        "up": found is not None,
        "state": process.state if process is not None else "down",
        "url": f"{settings.gateway_url}/",
        "restarts": process.restarts if process is not None else 0,
        "draining": "gateway/before" in local.processes(settings),
        "trouble": process.trouble if process is not None else "",
        "envoy": asdict(found) if found is not None else None,
        "version": _version(newest) if newest is not None else None,
        "pin": _pin(pin),
        "waiting": [_change(one, _names(workspace)) for one in waiting],
        "certificate": {
            **asdict(certificate),
            "state": certificate.state(now()),
            "advice": certificate.advice,
        }
        if certificate
        else None,
        "faults": [asdict(one) | {"sentence": one.sentence} for one in read_faults(settings)],
    }


def versions(workspace: Workspace, *, limit: int = 50, before: int | None = None) -> list[dict[str, Any]]:
    """The versions that are kept, the newest first; the one that a pin holds is marked."""
    pin = pin_of(workspace.database)
    found = recorded.versions(workspace.database, limit=limit, before=before)
    return [{**_version(one), "pinned": pin is not None and pin.version == one.number} for one in found]


def show(workspace: Workspace, number: int | None = None) -> dict[str, Any]:
    """A version, by default the newest, with its services, clients and contracts, and what it changed. NotFound."""
    chosen = recorded.version(workspace.database, number)
    policy, names = policy_of_version(workspace.database, chosen.number), _names(workspace)
    before = next(iter(recorded.versions(workspace.database, limit=1, before=chosen.number)), None)
    changes = _between(workspace, before.number, chosen.number) if before is not None else []
    return {
        **_version(chosen),
        "changes": [_change(one, names) for one in changes],
        "content": {
            "services": [
                {
                    "name": one.known_as,
                    "environment": one.environment,
                    "address": one.address,
                    "ways_in": list(one.access.ways()),
                    "answered_by": str(one.traffic) if one.traffic is not None else "",
                    "stopped": one.stopped or "",
                    "policies": [policy_shown(policy) for policy in one.policies],
                }
                for one in policy.services
            ],
            "clients": [
                {"id": one.client_id, "name": names.get(one.client_id, "")} for one in policy.clients
            ],
            "contracts": [
                {
                    "client": one.client_id,
                    "name": names.get(one.client_id, ""),
                    "service": one.service,
                    "environment": one.environment,
                    "limits": [str(window) for window in one.windows],
                    "tier": one.tier,
                }
                for one in policy.contracts
            ],
        },
    }


def diff(
    workspace: Workspace, switchboard: Switchboard, first: int | None = None, second: int | None = None
) -> dict[str, Any]:
    """What differs between two versions; of one and the newest; of the one before `second` and that, where only it is
    given; without any of what is pinned and what waits, or of the last two. NotFound.
    """
    names = _names(workspace)
    if first is None and second is not None:
        first = _before(workspace, recorded.version(workspace.database, second).number)
    if first is None and pin_of(workspace.database) is not None:
        newest = recorded.version(workspace.database)
        changes = _waiting(workspace, switchboard)
        return {"from": newest.number, "to": None, "changes": [_change(one, names) for one in changes]}
    if first is None:
        known = recorded.versions(workspace.database, limit=2)
        if len(known) < 2:
            raise NotFound("the gateway has no two versions yet", hint="`tulle gateway versions`")
        second, first = (one.number for one in known)
    last = recorded.version(workspace.database, second).number
    changes = _between(workspace, first, last)
    return {"from": first, "to": last, "changes": [_change(one, names) for one in changes]}


def check(switchboard: Switchboard) -> dict[str, Any]:
    """Whether what is recorded now would be published, by Envoy's own word, and why not what would not."""
    began = time.monotonic()
    problems = switchboard.check()
    told = [{"service": service, "message": message} for service, message in sorted(problems.items())]
    return {"would_publish": not told, "problems": told, "seconds": round(time.monotonic() - began, 3)}


def rollback(
    workspace: Workspace,
    switchboard: Switchboard,
    number: int | None = None,
    *,
    reason: str = "",
    by: str = "",
) -> dict[str, Any]:
    """Have the gateway do as a version says until it is resumed; by default the one before that in force.

    It is checked as any other configuration first. NotFound; Broken, with Envoy's own words; Conflict where it is
    pinned to that version already.
    """
    pin = pin_of(workspace.database)
    if number is None:
        number = _one_before(workspace, pin)
    elif pin is not None and pin.version == number:
        raise Conflict(
            f"the gateway is pinned to version {number} already",
            hint="`tulle gateway resume` goes on from here",
        )
    chosen = recorded.version(workspace.database, number)
    known = switchboard.demand_fits(number)
    made = pins.put(workspace.database, number, known, reason=reason, by=by)
    return {"pin": _pin(made), "version": _version(chosen)}


def resume(workspace: Workspace, *, by: str = "") -> dict[str, Any]:
    """Have the gateway follow what is applied and deployed again; the pin that ended. Conflict when there is none."""
    return {"pin": _pin(pins.take_back(workspace.database, by=by))}


def restart(workspace: Workspace, *, by: str = "", seconds: float = RESTART_SECONDS) -> dict[str, Any]:
    """Have another process take the gateway over without a lost request; what came of it.

    The one before finishes what it has. Conflict where this machine cannot; Unavailable when the gateway is not up, or
    the new process does not answer in time; Broken when it could not start, and the one before goes on; LimitExceeded
    where the disk is full.
    """
    settings, began = workspace.settings, time.monotonic()
    process, before = EnvoyProcess(settings), local.processes(settings).get("gateway")
    if before is None or before.state != "running":
        raise Unavailable("the gateway does not run", hint="`tulle up`, `tulle status`")
    if not process.shares():
        why = process.hindrance() or "something was in the way when it started"
        raise Conflict(
            f"the gateway's process cannot be taken over: {why}",
            hint="`tulle down` and `tulle up` start another one; requests under way may end first",
        )
    process.check()
    try:
        word = process.ask_for_takeover()
    except OSError as exc:
        raise refusal(exc, settings.state_folder) from exc
    with workspace.database.write() as connection:
        log.append(connection, Event(GATEWAY_RESTARTED, "gateway"), actor=by)
    while time.monotonic() - began < seconds:
        found = local.processes(settings).get("gateway")
        if found is not None and found.asked == word and found.state == "running":
            if found.trouble:
                told = f"the gateway was not restarted: {found.trouble}"
                raise Broken(told, hint="`tulle logs gateway` shows why")
            took = round(time.monotonic() - began, 3)
            return {"pid": found.pid, "before": before.pid, "takeovers": found.taken, "seconds": took}
        time.sleep(0.05)
    raise Unavailable(
        f"no other process has taken the gateway over within {seconds:.0f} s",
        hint="the one before may still be finishing from the last restart; `tulle status`, `tulle logs gateway`",
    )


def _one_before(workspace: Workspace, pin: Pin | None) -> int:
    return _before(workspace, pin.version if pin is not None else recorded.version(workspace.database).number)


def _before(workspace: Workspace, number: int) -> int:
    found = next(iter(recorded.versions(workspace.database, limit=1, before=number)), None)
    if found is None:
        raise NotFound(
            f"no version before {number} is kept", hint="`tulle gateway versions` lists those that are"
        )
    return found.number


def _waiting(workspace: Workspace, switchboard: Switchboard) -> list[Change]:
    """What would be otherwise if the gateway were not pinned."""
    try:
        in_force = policy_of_version(workspace.database, recorded.version(workspace.database).number)
    except NotFound:
        return []
    return difference(in_force, switchboard.wanted())


def _between(workspace: Workspace, first: int, last: int) -> list[Change]:
    one, other = (policy_of_version(workspace.database, number) for number in (first, last))
    return difference(one, other)


def _names(workspace: Workspace) -> Mapping[str, str]:
    """The names of applications by their client ids."""
    return {id_: name for name, id_ in applications.client_ids(workspace.database, "").items()}


def _change(change: Change, names: Mapping[str, str]) -> dict[str, Any]:
    client = change.name.partition(" ")[0] if change.what in {"client", "contract"} else ""
    application = names.get(client, "")
    name = change.name.replace(client, application, 1) if application else change.name
    sentence = change.sentence.replace(change.name, name, 1)
    return {
        "what": change.what,
        "name": name,
        "client_id": client,
        "how": change.how,
        "details": list(change.details),
        "sentence": sentence,
    }


def _version(one: Version) -> dict[str, Any]:
    return {
        "number": one.number,
        "at": one.at,
        "by": one.by,
        "reason": one.reason,
        "digest": one.digest,
        "services": one.services,
        "clients": one.clients,
        "contracts": one.contracts,
        "causes": [asdict(cause) for cause in one.causes],
    }


def _pin(pin: Pin | None) -> dict[str, Any] | None:
    if pin is None:
        return None
    said = {"version": pin.version, "reason": pin.reason, "by": pin.by, "at": pin.at}
    return {**said, "sentence": pin.sentence}
