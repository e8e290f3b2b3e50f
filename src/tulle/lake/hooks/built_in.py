"""The types of hooks the lake brings. Types from above are added to these by whoever composes the mesh."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tulle.lake.hooks.airflow import airflow
from tulle.lake.hooks.command import command
from tulle.lake.hooks.kind import HookKind
from tulle.lake.hooks.outbound import Outbound
from tulle.lake.hooks.sandbox import Sandbox
from tulle.lake.hooks.webhook import webhook


def built_in_kinds(*, allowed: Sequence[str] = (), sandbox: Sandbox | None = None) -> Mapping[str, HookKind]:
    """Types by name. `allowed` are the addresses hooks may reach beside public ones, see `Outbound`."""
    outbound = Outbound(allowed)
    return {
        "webhook": webhook(outbound),
        "airflow": airflow(outbound),
        "command": command(sandbox or Sandbox()),
    }
