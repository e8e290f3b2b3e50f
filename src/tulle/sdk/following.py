"""Following a run of a mesh to its end, for programs that wait: orchestrators, notebooks, scripts.

Knows the client alone. A network that fails for a while, or a control plane that is started anew, is waited for.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from tulle.errors import LimitExceeded, Unavailable
from tulle.sdk.client import Client

ENDED = frozenset({"succeeded", "failed", "unchanged", "stopped"})
GOOD = frozenset({"succeeded", "unchanged"})
AWAY_SECONDS = 300.0  # for which the mesh may not answer


def wait_for_run(
    client: Client,
    run_id: str,
    *,
    timeout: float = 3600.0,
    pause: float = 1.0,
    sleep: Callable[[float], None] = time.sleep,
) -> dict[str, Any]:
    """The run when it has ended, however it did.

    LimitExceeded when it takes longer than `timeout` seconds, Unavailable when the mesh does not answer for long;
    the run goes on in both cases.
    """
    began = answered = time.monotonic()
    while True:
        try:
            run = client.run(run_id)
            answered = time.monotonic()
            if run["status"] in ENDED:
                return run
        except Unavailable:
            if time.monotonic() - answered > AWAY_SECONDS:
                raise
        if time.monotonic() - began > timeout:
            raise LimitExceeded(
                f"run {run_id} goes on after {timeout:,.0f} s", hint="wait longer, or stop it"
            )
        sleep(pause)


def is_good(run: Mapping[str, Any]) -> bool:
    """Whether the run published, or found everything up to date."""
    return run["status"] in GOOD


def failing_checks(run: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The checks that stopped the run."""
    checks = [check for step in run["steps"] for check in step["checks"]]
    return [check for check in checks if not check["passed"] and check["severity"] == "error"]


def why(run: Mapping[str, Any]) -> str:
    """Why the run did not succeed, with the checks that failed. No rows: logs of others are read by others."""
    error = run.get("error") or {}
    lines = [
        f"run {run['id']} of '{run['product']}' {run['status']}: {error.get('message', '')}".rstrip(": ")
    ]
    lines += [f"  {check['name']}: {check['message']}" for check in failing_checks(run)]
    if error.get("hint"):
        lines.append(f"  hint: {error['hint']}")
    return "\n".join(lines)
