"""As many workers of a generation as its load asks for, between the bounds of its deployment.

A worker's load is what its processes use of a processor, or the requests it has at once of the many that it may well
have, whichever is more: a model computes, a function may only wait. More come at once, fewer only after a while.
Called again and again by the control plane; the supervisor starts and ends what is noted here.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import psutil

from tulle.control.workspace import Workspace
from tulle.deploy import local
from tulle.deploy.generations import mounted_of
from tulle.deploy.local import Mounted
from tulle.errors import Unavailable
from tulle.gateway.admin import Admin
from tulle.gateway.envoy_values import ADMIN_SOCKET
from tulle.serving import generation

EVERY_SECONDS = 1.0
FULL, AIM = 0.75, 0.6  # load of a worker: above the one more are wanted, until it is about the other
AT_ONCE = 16  # requests of one worker that are a full load, if it uses no processor at all
UP_SECONDS, DOWN_SECONDS = 2.0, 30.0  # for which a load has to last

_Key = tuple[str, str, str]  # service, environment, generation


@dataclass(slots=True)
class _Watched:
    busy_since: float | None = None
    calm_since: float | None = None


class Autoscaler:
    """One a control plane."""

    def __init__(self, workspace: Workspace, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._workspace = workspace
        self._clock = clock
        self._admin = Admin(workspace.settings.state_folder, ADMIN_SOCKET)
        self._watched: dict[_Key, _Watched] = {}
        self._used: dict[tuple[int, float], tuple[float, float]] = {}  # process → when, seconds used
        self._next = 0.0
        self._turn = threading.Lock()

    def look(self) -> None:
        """Note what the loads ask for, once a second at most; nothing while another thread does."""
        if not self._turn.acquire(blocking=False):
            return
        try:
            self._look()
        finally:
            self._turn.release()

    def _look(self) -> None:
        at = self._clock()
        if at < self._next:
            return
        self._next = at + EVERY_SECONDS
        settings, database = self._workspace.settings, self._workspace.database
        usual = settings.service_workers
        scaled = [d for d in generation.everywhere(database) if d.active and d.most(usual) > d.least(usual)]
        if not scaled:
            self._watched.clear()
            self._used.clear()
            return
        pids = {p.name: p.pid for p in local.processes(settings).values() if p.state == "running"}
        seen: set[_Key] = set()
        for found in scaled:
            for version, one in mounted_of(settings, found).items():
                key = (found.service, found.environment, version)
                seen.add(key)
                load = self._load(one, pids, at)
                asked = self.asked(key, one.workers, load, at)
                asked = min(found.most(usual), max(found.least(usual), asked))
                if asked != one.workers:
                    generation.scale(database, found.service, version, asked, environment=found.environment)
        self._watched = {key: value for key, value in self._watched.items() if key in seen}
        # Functions' processes come and go: those that were not met just now are gone.
        self._used = {key: value for key, value in self._used.items() if value[0] == at}

    def asked(self, key: _Key, workers: int, load: float, at: float) -> int:
        """How many workers a generation should have that has had `load` in all, in workers, at a time."""
        watched = self._watched.setdefault(key, _Watched())
        if load > FULL * workers:
            watched.calm_since = None
            watched.busy_since = at if watched.busy_since is None else watched.busy_since
            if at - watched.busy_since >= UP_SECONDS:
                watched.busy_since = None
                return max(workers + 1, math.ceil(load / AIM))
            return workers
        watched.busy_since = None
        if workers == 1 or load > AIM * (workers - 1):
            watched.calm_since = None
            return workers
        watched.calm_since = at if watched.calm_since is None else watched.calm_since
        if at - watched.calm_since >= DOWN_SECONDS:
            watched.calm_since = None
            return workers - 1
        return workers

    def _load(self, one: Mounted, pids: Mapping[str, int | None], at: float) -> float:
        """The load of a generation's workers, all together."""
        computing = sum(
            self._computing(pid, at)
            for number in range(one.workers)
            if (pid := pids.get(one.worker(number))) is not None
        )
        return max(computing, self._requests(one) / AT_ONCE)

    def _computing(self, pid: int, at: float) -> float:
        """The share of a processor that a worker and the processes beside it have used since the last look."""
        try:
            worker = psutil.Process(pid)
            family = [worker, *worker.children(recursive=True)]
        except psutil.Error:
            return 0.0
        share = 0.0
        for process in family:
            try:
                times, key = process.cpu_times(), (process.pid, process.create_time())
            except psutil.Error:
                continue
            used = times.user + times.system
            before = self._used.get(key)
            self._used[key] = (at, used)
            if before is not None and at > before[0]:
                share += max(0.0, used - before[1]) / (at - before[0])
        return share

    def _requests(self, one: Mounted) -> int:
        """How many requests a generation has now, as the gateway counts them."""
        path = f"{one.environment}/{one.service}" if one.environment else one.service
        name = f"cluster.{path}/{one.version}.upstream_rq_active"
        try:
            found = self._admin.stats("^" + name.replace(".", "\\.") + "$", "Gauges")
        except Unavailable:
            return 0
        return int(found.get(name, 0))
