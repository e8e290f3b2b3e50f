"""How long nobody is answered when the gateway's process is killed under load, by the supervisor that `tulle up` has.

Callers ask without a pause and connect anew when they are cut off. A gap is the time in which a caller got no answer:
from its last one before the kill to its first one after it. Of each kill the longest of all callers is told.
"""

from __future__ import annotations

import http.client
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path

import psutil
from benchmarks.gateway.envoys import BODY, CLIENT, SECRET, TARGET
from benchmarks.gateway.meshes import PLENTY, basic, for_one, settings_in
from benchmarks.gateway.upstream import upstream
from benchmarks.serving.load import Side, run, verdict

from tulle.config import Settings
from tulle.deploy import gateway as gateway_process
from tulle.deploy import local
from tulle.deploy.supervise import Supervisor
from tulle.gateway.envoy import Gateway
from tulle.gateway.policy import Client, Contract, GatewayPolicy
from tulle.gateway.secret import hash_secret

BACK_SECONDS = 1
CALLERS = 4
STEP = 0.1  # seconds between looks, as the supervisor has them
BETWEEN = 11.0  # seconds from one kill to the next: who dies sooner is started later each time


def measure(*, quick: bool) -> None:
    """Print the gaps of several kills, for a small policy and one of 10,000 applications."""
    kills = 2 if quick else 8
    with (
        tempfile.TemporaryDirectory(prefix="tulle-kills-") as name,
        upstream(Path(name) / "upstream") as behind,
    ):
        print("\nkilled under load    without an answer, s: median  longest   kills")
        for what, applications in (("1 application", 1), ("10,000 applications", 10_000)):
            gaps = _gaps(Path(name) / str(applications), _policy(behind, applications), kills)
            print(f"  {what:40} {statistics.median(gaps):>6.2f}  {max(gaps):>6.2f}   {len(gaps):>5}")
            print(f"    back: {verdict(max(gaps), BACK_SECONDS, at_most=True, unit=' s')}", flush=True)


def _policy(behind: int, applications: int) -> GatewayPolicy:
    one = for_one(behind)
    names = [f"app-{n:05}" for n in range(applications - 1)]
    return GatewayPolicy.of(
        services=one.services,
        clients=[Client(CLIENT, hash_secret(SECRET)), *(Client(n, hash_secret(f"{n:0>40}")) for n in names)],
        contracts=[Contract(n, "bench", PLENTY) for n in (CLIENT, *names)],
    )


def _gaps(folder: Path, policy: GatewayPolicy, kills: int) -> list[float]:
    settings = settings_in(folder)
    Gateway(settings).publish(policy)
    found: list[float] = []
    with _supervised(settings), _load(settings.gateway_port), _callers(settings.gateway_port) as callers:
        for _ in range(kills):
            time.sleep(BETWEEN)
            pid = local.processes(settings)["gateway"].pid
            if pid is None:
                raise SystemExit("the gateway does not run")
            killed = time.monotonic()
            psutil.Process(pid).kill()
            for one in callers:
                one.wait_for_answer_after(killed)
            found.append(max(one.gap_around(killed) for one in callers))
    return found


class Caller:
    """One that asks without a pause, and the moments at which it was answered."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._answered: list[float] = []

    def ask_until(self, over: threading.Event) -> None:
        headers = {"content-type": "application/json", **basic()}
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=10)
        while not over.is_set():
            try:
                connection.request("POST", TARGET, body=BODY, headers=headers)
                answer = connection.getresponse()
                answer.read()
                if answer.status == 200:
                    self._answered.append(time.monotonic())
            except (OSError, http.client.HTTPException):
                connection.close()
                time.sleep(0.002)  # whoever listens comes back no sooner for being asked more often
        connection.close()

    def wait_for_answer_after(self, moment: float) -> None:
        """Return when it was answered more than a moment after; SystemExit after half a minute."""
        deadline = moment + 30
        while not self._answered or self._answered[-1] < moment + STEP:
            if time.monotonic() > deadline:
                raise SystemExit("nobody was answered for 30 s")
            time.sleep(0.01)

    def gap_around(self, moment: float) -> float:
        """Seconds of the longest time without an answer that ended after it."""
        times = [at for at in self._answered if at > moment - 1]
        return max(after - before for before, after in pairwise(times) if after > moment)


@contextmanager
def _supervised(settings: Settings) -> Iterator[None]:
    """The gateway's Envoy, started, watched and started again as in a mesh."""
    gateway, over = Gateway(settings), threading.Event()
    gateway.prepare()
    supervisor = Supervisor(
        local.table(settings),
        lambda: [gateway_process.wanted(settings, gateway)],
        about=local.about(settings),
    )

    def keep() -> None:
        while not over.is_set():
            supervisor.tick()
            supervisor.rest(STEP)
        supervisor.stop_all()  # by the thread that started it, with which it ends

    keeper = threading.Thread(target=keep)
    keeper.start()
    try:
        local.wait_until(
            lambda: (one := local.processes(settings).get("gateway")) is not None and one.state == "running",
            timeout=60,
            what="the gateway did not start",
            hint="",
        )
        yield
    finally:
        over.set()
        keeper.join()
        gateway.process.forget()


@contextmanager
def _load(port: int) -> Iterator[None]:
    """16 connections that ask as fast as they are answered."""
    over = threading.Event()
    side = Side(
        "load", f"http://127.0.0.1:{port}{TARGET}", [BODY], {"content-type": "application/json", **basic()}
    )

    def ask() -> None:
        while not over.is_set():
            with suppress(subprocess.CalledProcessError):  # it gives up when nobody listens as it begins
                run(side, 16, 2)

    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(ask)
        try:
            yield
        finally:
            over.set()
    asking.result()


@contextmanager
def _callers(port: int) -> Iterator[list[Caller]]:
    over, callers = threading.Event(), [Caller(port) for _ in range(CALLERS)]
    with ThreadPoolExecutor(CALLERS) as pool:
        asking = [pool.submit(one.ask_until, over) for one in callers]
        try:
            yield callers
        finally:
            over.set()
    for one in asking:
        one.result()
