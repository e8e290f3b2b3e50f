"""Test queries of generations that were deployed: asked of their workers once they answer, whoever deployed them.

What is asked for is a task of the durable queue, noted in the transaction that puts a traffic in force. How it went is
kept with the deployment; what fails is told, and where the deployment or its environment says so, what answered before
answers again. Bounded in time and number. Knows nothing of how an endpoint answers.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import msgspec
from sqlalchemy import Connection

from tulle.config import Environment, Settings
from tulle.control import deployment, deployment_hooks
from tulle.control.deployment import name_of, place_of
from tulle.control.release import declared_service
from tulle.control.workspace import Workspace
from tulle.deploy.generations import mounted_of
from tulle.deploy.local import Mounted
from tulle.deploy.supervise import READY_TIMEOUT
from tulle.errors import Conflict, NotFound, TulleError, Unavailable, did_you_mean
from tulle.events import GENERATION_TESTED, Event
from tulle.serving import generation, package
from tulle.serving.answers import questions_of
from tulle.serving.app import TEST_PATH
from tulle.serving.generation import Deployment
from tulle.serving.loaded import Verdict
from tulle.serving.tested import Tested, of_verdicts
from tulle.spec import environment as declared
from tulle.state import log, tasks
from tulle.state.db import in_turn, now
from tulle.state.tasks import Again, Running, Task, Worker

LOG = logging.getLogger("tulle")
TASK = "generation-tested"
MOST = 200  # queries of a generation that are asked after a deployment
SECONDS = 20.0  # that all of them may take; within a task's lease
MOST_BY_HAND, SECONDS_BY_HAND = 10_000, 60.0
# For which its workers may not answer: they start, or are started again, and one may take `READY_TIMEOUT` for that.
PATIENCE = 1.5 * READY_TIMEOUT
AGAIN = 1.0  # seconds after which they are tried again
BY = "test queries"  # who goes back, in the log
_KEPT = ("passed", "waiting", "none")  # how they went when they need not be asked again


@dataclass(frozen=True, slots=True)
class TestedGeneration:
    """Verdicts of a generation that runs, and the environment in which it was asked, as people know it."""

    __test__ = False  # not a test case of pytest's

    environment: str
    version: str
    saved: int  # test queries that it has: there was no time for those without a verdict
    verdicts: Sequence[Verdict]


class DeploymentQueries:
    """Asks what was noted by `begin`."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._worker = Worker(workspace.database, {TASK: self.ask})
        self._since: dict[
            str, float
        ] = {}  # task → when it was tried first, here: whoever died waited for nobody

    def start(self) -> None:
        """Begin."""
        self._worker.start()

    def stop(self) -> None:
        """End; what is not asked is asked by the next one."""
        self._worker.stop(timeout=2)

    def ask(self, running: Running) -> Mapping[str, Any]:
        """The task: ask the test queries of one generation, and do what follows. Raises Again while it is tried."""
        try:
            status = self._status(running.task)
        except Again:
            raise
        except BaseException:
            self._since.pop(running.task.id, None)
            raise
        self._since.pop(running.task.id, None)
        return {"status": status}

    def _status(self, task: Task) -> str:
        """What came of it; `gone` where the generation runs no more."""
        service, version = task.subject, str(task.request["version"])
        found = self._running(task)
        if found is None:
            return "gone"
        saved = saved_in(self._workspace, service, [version])[version]
        if found.has_ended(now()):
            tested = Tested("skipped", now(), saved=saved)
        else:
            try:
                tested = self._tested(found, version, saved)
            except TulleError as exc:
                began = self._since.setdefault(task.id, time.monotonic())
                if time.monotonic() - began < PATIENCE:
                    raise Again(AGAIN, exc) from exc
                tested = Tested("unasked", now(), saved=saved, message=exc.message)
        found = self._running(task)  # which took a while
        if found is None or found.active is None:
            return "gone"
        if tested.status == "failed" and found.active.parts_of(version):
            self._follow(found, version, tested)
        else:
            record(self._workspace, service, found.environment, {version: tested})
        return tested.status

    def _running(self, task: Task) -> Deployment | None:
        """The deployment in which the generation runs; None when it runs no more."""
        found = generation.find(self._workspace.database, task.subject, str(task.request["environment"]))
        runs = (
            found is not None and found.active is not None and task.request["version"] in found.active.mounted
        )
        return found if runs else None

    def _tested(self, found: Deployment, version: str, saved: int) -> Tested:
        verdicts = _asked(self._workspace, _worker(self._workspace, found, version), MOST, SECONDS)
        is_short = len(verdicts) < min(saved, MOST)
        late = f"there was no time for more when {SECONDS:g} s were over" if is_short else ""
        return of_verdicts(verdicts, saved, now(), late)

    def _follow(self, found: Deployment, version: str, tested: Tested) -> None:
        """Tell what failed, and go back where that is to follow.

        Told first: once what answered before answers again, nothing is known of a generation that does not.
        """
        back = found.way_back
        if way_of(self._workspace.settings, found) != "rollback":
            then = f"`tulle service rollback {found.service}` lets what answered before answer again"
        elif found.desired != found.active:
            then = f"it is not gone back from: '{found.desired}' is wanted by now"
        elif back is None:
            then = "it is not gone back from: there is no earlier active version to go back to"
        else:
            self._record(found, version, tested, f"it goes back to {back}")
            try:
                deployment.rollback(
                    self._workspace,
                    found.service,
                    environment=name_of(self._workspace.settings, found.environment),
                    actor=BY,
                    before=found.active,
                )
            except TulleError as exc:
                then = f"it is not gone back from: {exc.message}"
            else:
                return
        self._record(found, version, tested, then)

    def _record(self, found: Deployment, version: str, tested: Tested, then: str) -> None:
        told = "; ".join(part for part in (tested.message, then) if part)
        kept = {version: replace(tested, message=told)}
        record(self._workspace, found.service, found.environment, kept)


def way_of(settings: Settings, found: Deployment) -> str:
    """What test queries of a deployment lead to: as was said when it was deployed, else as its environment says."""
    if found.test_queries:
        return found.test_queries
    place = _place(settings, found.environment)
    return place.test_queries if place is not None else "tell"


def saved_in(workspace: Workspace, service: str, versions: Collection[str]) -> dict[str, int]:
    """How many test queries versions have; 0 for one whose package is gone."""
    counts = {}
    for version in versions:
        try:
            chosen = package.get(workspace.database, service, version)
        except NotFound:
            counts[version] = 0
        else:
            counts[version] = len(questions_of(chosen.manifest.endpoints))
    return counts


def begin(
    cx: Connection, settings: Settings, service: str, environment: str, saved: Mapping[str, int]
) -> None:
    """Note, in the transaction that puts a traffic in force, what is to be asked of the generations that run now.

    One that ran before and passed, as one that is preloaded has, is not asked again. `saved`: how many test queries
    each has. Where what was wrong runs no more and nothing is asked, that is told: nobody else will.
    """
    found = generation.deployment_in(cx, service, environment)
    if found.active is None:
        return
    before = found.previous.mounted if found.previous else ()
    # What answered before is told of on: why it was gone back from. Nobody will ask what runs no more and waits to be.
    tested = {
        version: found.tested[version]
        for version in before
        if version in found.tested
        if found.tested[version].status != "waiting" or version in found.active.mounted
    }
    for version in found.active.mounted:
        known = tested.get(version)
        if known is not None and known.status in _KEPT:
            continue
        if not saved.get(version):
            tested[version] = Tested("none", now())
        elif way_of(settings, found) == "skip":
            tested[version] = Tested("skipped", now(), saved=saved[version])
        else:
            tested[version] = Tested("waiting", now(), saved=saved[version])
            tasks.ask(cx, TASK, service, {"environment": environment, "version": version})
    after = generation.note_tested(cx, service, environment, tested, anew=True)
    main = found.active.main
    if any(one.verb for one in found.tested.values()) and _is_well(after):
        log.append(cx, _event(settings, after, main, tested[main]), actor=BY)


def record(
    workspace: Workspace,
    service: str,
    environment: str,
    found: Mapping[str, Tested],
    *,
    by_hand: bool = False,
) -> None:
    """Keep how it went with the deployment, and tell who is to be told; nothing where it has been withdrawn.

    Systems that are told of deployments are not told of what somebody asked by hand, who sees it.
    """
    settings = workspace.settings
    with workspace.database.write() as cx:
        in_turn(cx, f"deployment of {service}")
        try:
            known = generation.deployment_in(cx, service, environment)
        except NotFound:
            return
        running = known.active.mounted if known.active else ()
        kept = {version: one for version, one in found.items() if version in running}
        after = generation.note_tested(cx, service, environment, kept)
        for version, one in kept.items():
            log.append(cx, _event(settings, after, version, one), actor=BY)
            if one.status in {"failed", "unasked"}:
                LOG.warning("service '%s' %s: %s", service, version, one)
                if not by_hand:
                    deployment_hooks.tell_tested(cx, settings, known, version, one)


def _is_well(found: Deployment) -> bool:
    """Whether nothing that runs fails, or may: what nobody wants asked fails nothing."""
    running = found.active.mounted if found.active else ()
    return all(
        found.tested[one].status in {"passed", "none", "skipped"} for one in running if one in found.tested
    )


def _event(settings: Settings, found: Deployment, version: str, tested: Tested) -> Event:
    place = _place(settings, found.environment)
    data = {
        "version": version,
        "environment": found.environment,
        "branch": place.branch if place is not None else found.environment,
        "product": found.product,
        "status": tested.status,
        "asked": tested.asked,
        "passed": tested.passed,
        "message": str(tested),
        "all_pass": _is_well(found),
    }
    return Event(GENERATION_TESTED, found.service, data)


def ask_running(
    workspace: Workspace, name: str, version: str | None = None, *, environment: str | None = None
) -> TestedGeneration:
    """Ask the workers of a generation that runs its test queries, and keep with its deployment how it went.

    Without a version the one that most requests meet, without an environment that of consumers, else the first in
    which it runs. NotFound when none runs; Unavailable when it answers none in time, which is not kept.
    """
    declared_service(workspace, name)
    settings = workspace.settings
    wanted = place_of(settings, environment) if environment else None
    rank = {"": -1} | {one.name: number for number, one in enumerate(declared.environments(settings))}
    running = sorted(
        (
            one
            for one in generation.everywhere(workspace.database)
            if one.service == name and one.active is not None and not one.has_ended(now())
            if wanted is None or one.environment == wanted
        ),
        key=lambda one: rank.get(one.environment, len(rank)),
    )
    found = next((one for one in running if version is None or version in one.mounted), None)
    if found is None:
        raise _runs_not(workspace, name, version, environment, running)
    chosen = version or found.active_version or found.desired_version
    verdicts = _asked(workspace, _worker(workspace, found, chosen), MOST_BY_HAND, SECONDS_BY_HAND)
    saved = saved_in(workspace, name, [chosen])[chosen]
    is_short = len(verdicts) < min(saved, MOST_BY_HAND)
    late = f"there was no time for more when {SECONDS_BY_HAND:g} s were over" if is_short else ""
    tested = of_verdicts(verdicts, saved, now(), late)
    if tested.status == "unasked":
        raise Unavailable(
            f"generation '{chosen}' of service '{name}' answered none of its {saved} test queries within "
            f"{SECONDS_BY_HAND:g} s",
            hint=f"`tulle logs` shows what it does; `tulle service test {name} --version {chosen}` asks the package",
        )
    record(workspace, name, found.environment, {chosen: tested}, by_hand=True)
    return TestedGeneration(name_of(settings, found.environment), chosen, saved, verdicts)


def _runs_not(
    workspace: Workspace,
    name: str,
    version: str | None,
    environment: str | None,
    running: Sequence[Deployment],
) -> NotFound:
    where = f" in '{environment}'" if environment else ""
    if version is None:
        hint = f"`tulle service deploy {name}` deploys it, `tulle service test {name}` asks its package"
        return NotFound(f"no generation of service '{name}' runs{where}", hint=hint)
    package.get(workspace.database, name, version)
    known = sorted({one for found in running for one in found.mounted})
    hint = did_you_mean(version, known) or f"`tulle service test {name} --version {version}` asks the package"
    return NotFound(f"generation '{version}' of service '{name}' does not run{where}", hint=hint)


def _worker(workspace: Workspace, found: Deployment, version: str) -> Mounted:
    return mounted_of(workspace.settings, found)[version]


def _asked(workspace: Workspace, one: Mounted, most: int, seconds: float) -> tuple[Verdict, ...]:
    """The verdicts of one of its workers, over its own socket. Conflict when it does not answer."""
    socket = workspace.settings.state_folder / one.socket(0)
    try:
        with _connected(socket, seconds + 5) as client:
            answer = client.get(TEST_PATH, params={"most": most, "seconds": seconds})
        answer.raise_for_status()
        return msgspec.json.decode(answer.content, type=tuple[Verdict, ...])
    except (httpx.HTTPError, msgspec.DecodeError) as exc:
        raise Conflict(
            f"generation '{one.version}' of service '{one.service}' does not answer: {exc}",
            hint="`tulle status` shows whether the mesh is up",
        ) from None


def _connected(socket: Path, timeout: float) -> httpx.Client:
    # A socket's address holds 107 bytes at most, so a path that is longer is given relative to where we are.
    path = str(socket) if len(os.fsencode(socket)) <= 107 else os.path.relpath(socket)
    transport = httpx.HTTPTransport(uds=path)
    return httpx.Client(transport=transport, base_url="http://worker", timeout=timeout)


def _place(settings: Settings, environment: str) -> Environment | None:
    """The environment of a deployment; None for one that is in mesh.yaml no more."""
    if not environment:
        return declared.production(settings)
    return settings.environments.get(environment)
