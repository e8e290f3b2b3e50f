"""Asking and telling other systems of deployments: addresses that an environment names.

Before a deployment each address is asked, in order, and anything but 2xx refuses it. When a service answers anew, the
others are told by a task of the durable queue, tried again for some hours. Both get the same JSON.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection

from tulle.config import Environment, Settings
from tulle.control.workspace import Workspace
from tulle.errors import Conflict, Denied, Invalid, TulleError, Unavailable
from tulle.lake.hooks.outbound import Outbound
from tulle.serving.generation import Deployment
from tulle.serving.tested import Tested
from tulle.serving.traffic import Traffic
from tulle.spec import environment as declared
from tulle.state import tasks
from tulle.state.tasks import Again, Running, Worker

LOG = logging.getLogger("tulle")
TASK = "deployment-told"
SECONDS = 30.0  # an address has to answer
TRIES = (5.0, 30.0, 300.0, 1800.0, 3600.0)  # seconds until the next one
_SHOWN = 300  # characters of what an address answered


class DeploymentHooks:
    """Tells what was noted by `tell`."""

    def __init__(self, workspace: Workspace) -> None:
        self._outbound = _outbound(workspace.settings)
        self._worker = Worker(workspace.database, {TASK: self.send}, pause=0.5)

    def start(self) -> None:
        """Begin."""
        self._worker.start()

    def stop(self) -> None:
        """End; what is not told is told by the next one."""
        self._worker.stop(timeout=2)

    def send(self, running: Running) -> Mapping[str, Any]:
        """The task: tell one address. Raises Again while that may help."""
        task = running.task
        url, said = str(task.request["url"]), dict(task.request["said"])
        try:
            status, answer = _post(self._outbound, url, said, task.id)
            if 200 <= status < 300:
                return {"status": status}
            raise Unavailable(f"{url} answered {status}: {answer}")
        except TulleError as exc:
            LOG.warning("a deployment of '%s' was not told: %s", task.subject, exc.message)
            if isinstance(exc, Unavailable) and task.attempts <= len(TRIES):
                raise Again(TRIES[task.attempts - 1], exc) from exc
            raise


def ask(settings: Settings, place: Environment, service: str, traffic: Traffic, *, by: str, id_: str) -> None:
    """Ask every address that an environment names. Conflict, with what it said, when one refuses."""
    outbound = _outbound(settings)
    said = {"event": "before-deploy", "by": by, **_said(place.name, service, traffic)}
    for url in place.before_deploy:
        try:
            status, answer = _post(outbound, url, said, id_)
        except (Denied, Invalid):
            raise
        except TulleError as exc:
            raise Conflict(
                f"'{service}' was not deployed to '{place.name}': {exc.message}",
                hint="`before_deploy` of the environment names the address; deploy again when it answers",
            ) from exc
        if not 200 <= status < 300:
            raise Conflict(
                f"'{service}' was not deployed to '{place.name}': {url} answered {status}: {answer}"
            )


def tell(connection: Connection, settings: Settings, deployment: Deployment) -> None:
    """Note, in the transaction that puts a traffic in force, that others are to be told."""
    _note(connection, settings, deployment, {"event": "after-deploy"}, deployment.desired)


def tell_tested(
    connection: Connection, settings: Settings, deployment: Deployment, version: str, tested: Tested
) -> None:
    """Note, in the transaction that records it, that others are to be told that test queries fail, or are unasked."""
    said = {"event": f"test-queries-{tested.status}", "generation": version, "message": str(tested)}
    _note(connection, settings, deployment, said, deployment.active or deployment.desired)


def _note(
    connection: Connection, settings: Settings, found: Deployment, more: Mapping[str, Any], traffic: Traffic
) -> None:
    if found.environment and found.environment not in settings.environments:
        return  # it is in mesh.yaml no more, and says nothing of others
    place = (
        declared.environment(settings, found.environment)
        if found.environment
        else declared.production(settings)
    )
    said = {**_said(place.name, found.service, traffic), **more}
    for url in place.after_deploy:
        tasks.ask(connection, TASK, found.service, {"url": url, "said": said})


def _said(environment: str, service: str, traffic: Traffic) -> dict[str, Any]:
    return {
        "service": service,
        "environment": environment,
        "version": traffic.main,
        "traffic": traffic.as_plain(),
    }


def _post(outbound: Outbound, url: str, said: Mapping[str, Any], id_: str) -> tuple[int, str]:
    headers = {"Content-Type": "application/json", "User-Agent": "Tulle", "Idempotency-Key": id_}
    body = json.dumps(said).encode()
    answer = outbound.send("POST", url, headers=headers, body=body, deadline=time.monotonic() + SECONDS)
    return answer.status, answer.text[:_SHOWN]


def _outbound(settings: Settings) -> Outbound:
    return Outbound(settings.hook_addresses, who="deployments")
