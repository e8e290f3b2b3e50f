"""Deployments that start: active once the workers of all their generations answer, failed when they do not in time.

Knows nothing of what is published beside; that is given to it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from sqlalchemy import Connection

from tulle.config import Settings
from tulle.control import deployment_hooks, deployment_queries
from tulle.control.workspace import Workspace
from tulle.deploy.generations import mounted_of
from tulle.deploy.local import Mounted, Process
from tulle.gateway.faults import Fault
from tulle.serving import generation
from tulle.serving.generation import Deployment
from tulle.serving.traffic import Traffic

START_SECONDS = 60.0  # a generation whose workers do not answer by then has failed
_Place = tuple[str, str]  # service, environment


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A traffic whose workers do not answer yet: since when, and how often each had been started again by then."""

    since: float
    restarts: Mapping[str, int]


class Activation:
    """One a control plane; not safe to call from several threads at once.

    `publish` lets a traffic be answered by the gateway, `fault_of` tells what the gateway cannot take of a place then.
    """

    def __init__(
        self,
        workspace: Workspace,
        publish: Callable[[Mapping[_Place, Traffic], list[Exception]], None],
        fault_of: Callable[[_Place], Fault | None],
    ) -> None:
        self._workspace, self._settings = workspace, workspace.settings
        self._publish, self._fault_of = publish, fault_of
        self._waiting: dict[tuple[_Place, Traffic], _Waiting] = {}

    def take_up(self, settings: Settings) -> None:
        """Go by other settings of the mesh."""
        self._settings = settings

    def begin(self, starting: Collection[Deployment]) -> None:
        """See what is wanted now; what no more is forgotten: when it is wanted again it has its whole time again."""
        wanted = {((d.service, d.environment), d.desired) for d in starting}
        self._waiting = {key: kept for key, kept in self._waiting.items() if key in wanted}

    def take(self, deployment: Deployment, running: Mapping[str, Process], hindered: list[Exception]) -> None:
        """Activate a deployment that is starting if its workers answer; it has failed where they do not in time.

        What goes wrong beside it is added to `hindered`.
        """
        settings, database = self._settings, self._workspace.database
        place, wanted = (deployment.service, deployment.environment), deployment.desired
        known = mounted_of(settings, deployment)
        names = {version: self._starting(known[version]) for version in wanted.mounted}
        waiting = [v for v in names if not all(_is_running(name, running) for name in names[v])]
        if not waiting:
            # The gateway first: it is confirmed to send to the new workers before the old ones are let go.
            self._publish({place: wanted}, hindered)
            if (fault := self._fault_of(place)) is not None:
                told = f"the gateway cannot take it: {fault.message}"
                generation.fail(
                    database, deployment.service, wanted, told, environment=deployment.environment
                )
                return
            saved = deployment_queries.saved_in(self._workspace, deployment.service, wanted.mounted)

            def noted(cx: Connection) -> None:
                deployment_hooks.tell(cx, settings, deployment)
                deployment_queries.begin(cx, settings, deployment.service, deployment.environment, saved)

            generation.activate(
                database, deployment.service, wanted, environment=deployment.environment, noted=noted
            )
            self._waiting.pop((place, wanted), None)
            return
        restarts = {n: running[n].restarts for v in wanted.mounted for n in names[v] if n in running}
        kept = self._waiting.setdefault((place, wanted), _Waiting(time.monotonic(), restarts))
        # A worker that has run for long may have ended before: what counts is how often it did since.
        tried = {v: sum(restarts.get(n, 0) - kept.restarts.get(n, 0) for n in names[v]) for v in waiting}
        worst = max(waiting, key=lambda version: tried[version])
        said = f"a worker of {worst} ended {tried[worst]} times while starting" if tried[worst] >= 3 else ""
        if not said and running and time.monotonic() - kept.since > START_SECONDS:
            said = f"the workers of {', '.join(waiting)} did not answer within {START_SECONDS:.0f} s"
        if said:
            del self._waiting[place, wanted]
            told = f"{said}; `tulle logs {deployment.service}` shows why"
            generation.fail(database, deployment.service, wanted, told, environment=deployment.environment)

    def _starting(self, one: Mounted) -> list[str]:
        """The workers that must answer before a generation does."""
        return [one.worker(number) for number in range(one.workers)]


def _is_running(name: str, running: Mapping[str, Process]) -> bool:
    return name in running and running[name].state == "running"
