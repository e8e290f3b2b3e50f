"""When a mesh is ready: its processes run, and what is recorded is in force at its gateway, or closed with a fault.

Told from files, so that it costs neither a database nor a token. Knows nothing of what is recorded.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Final

from tulle.config import Settings
from tulle.deploy import local
from tulle.deploy.local import Process
from tulle.errors import Unavailable
from tulle.gateway.settled import settled

READY_SECONDS: Final = 90.0  # for all of it; a deployment whose workers do not answer has failed by then
ENDED_OFTEN: Final = 3  # times: a process that cannot be kept running is told as such, and not waited for
_NAMED: Final = 5  # of many that are waited for


def waiting(settings: Settings) -> tuple[str, ...]:
    """What a running mesh is not ready for yet, a sentence each; nothing where it is."""
    running = local.processes(settings)
    found = [
        f"{name} {_state(running.get(name))}" for name in local.needed(settings) if _waits(running, name)
    ]
    others = [name for name in running if name not in local.needed(settings) and _waits(running, name)]
    found += [f"{name} {_state(running[name])}" for name in others]
    if "control_plane" in running and not _waits(running, "control_plane"):
        found += _recorded(settings, running["control_plane"])
    return tuple(found)


def troubles(settings: Settings) -> tuple[str, ...]:
    """What went wrong beside that when what is recorded was put in force the last time, and is tried again."""
    told, process = settled(settings), local.processes(settings).get("control_plane")
    if told is None or process is None or told.pid != process.pid or not told.trouble:
        return ()
    return (told.trouble,) if told.is_published else ()


def await_ready(settings: Settings, *, seconds: float = READY_SECONDS, look: Callable[[], None]) -> None:
    """Return when the mesh is ready. Unavailable, with what it waits for, when it is not in time.

    `look` is called again and again meanwhile, and may end it by raising.
    """
    deadline = time.monotonic() + seconds
    while True:
        look()
        left = waiting(settings)
        if not left:
            return
        if time.monotonic() > deadline:
            raise Unavailable(
                f"the mesh is not ready after {seconds:.0f} s: {in_short(left)}",
                hint=f"it goes on starting: `tulle status` tells how far it is, the logs in "
                f"{settings.log_folder} why; `tulle down` stops it",
            )
        time.sleep(0.05)


def in_short(sentences: tuple[str, ...]) -> str:
    """The first of them in one line, and how many more there are."""
    more = len(sentences) - _NAMED
    return "; ".join(sentences[:_NAMED]) + (f"; and {more} more" if more > 0 else "")


def _waits(running: Mapping[str, Process], name: str) -> bool:
    """Whether a process is not there yet. One that is on its way out, or ends again and again, is not waited for."""
    process = running.get(name)
    if process is None:
        return True
    if name.endswith("/before") or process.state in {"running", "taking over", "stopping"}:
        return False
    return process.restarts < ENDED_OFTEN or process.kind in {
        "control_plane",
        "gateway",
        "sidecars",
        "s3_door",
    }


def _state(process: Process | None) -> str:
    if process is None or process.state == "starting":
        return "is starting"
    return f"is started again ({process.why})" if process.why else "is started again"


def _recorded(settings: Settings, control_plane: Process) -> list[str]:
    told = settled(settings)
    if told is None or told.pid != control_plane.pid:
        return ["what is recorded is not in force at the gateway yet"]
    why = f": {told.trouble}" if told.trouble else ""
    found = [] if told.is_published else [f"what is recorded is not in force at the gateway yet{why}"]
    return [*found, *(f"the deployment of {path} is starting" for path in told.starting)]
