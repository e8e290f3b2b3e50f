"""How soon the gateway does what it is told, and whether anybody notices: in a small mesh and in large ones.

A change is another value of a header that a policy adds to the answers of one service. It is live when the first answer
has it; the time begins when the policy is handed to the gateway. Meanwhile 32 connections ask that service and another.
"""

from __future__ import annotations

import http.client
import json
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from benchmarks.gateway.envoys import BODY, CLIENT, SECRET
from benchmarks.gateway.meshes import PLENTY, Running, basic, policies, running, started
from benchmarks.gateway.upstream import upstream
from benchmarks.serving.load import Side, run, verdict

from tulle.gateway.envoy import Gateway
from tulle.gateway.front import External, Front, Upstream
from tulle.gateway.policy import Client, Contract, GatewayPolicy, ManagedService
from tulle.gateway.secret import hash_secret

SHOWN = "x-change"
PATH = "/public/api/v1/bench-0/x/predict"
OTHER = "/public/api/v1/bench-1/x/predict"
METHODS = ("GET", "POST", "DELETE")
# 14 operations on paths as APIs have them, some with parameters
PATHS = ("/items", "/items/{id}", "/items/{id}/files/{file}", "/orders/{id}")
OPERATIONS = (
    *((method, path) for path in PATHS for method in METHODS),
    ("GET", "/items/mine"),
    ("GET", "/status"),
)
LIVE_MS, REVOKED_MS, START_SECONDS = 300, 1000, 3


def measure(*, quick: bool) -> None:
    """Print how long changes take and how many requests failed, for each mesh; of the large one more."""
    some, requests = (5, 2_000) if quick else (60, 100_000)
    with (
        tempfile.TemporaryDirectory(prefix="tulle-changes-") as name,
        upstream(Path(name) / "upstream") as behind,
    ):
        print("\npolicy changes, handed to the gateway (without the control plane)")
        print("                     live ms: median  p90     failed requests")
        small = _mesh(behind, services=3, applications=3)
        with running(Path(name) / "small", small) as mesh:
            _changes("3 services", mesh, small, some, requests)
        wide = _mesh(behind, services=2, applications=10_000, apis=1_000)
        with running(Path(name) / "wide", wide) as mesh:
            _changes("1,000 APIs of 14 operations, 10,000 applications", mesh, wide, some, requests)
        large = _mesh(behind, services=1_000, applications=10_000)
        with running(Path(name) / "large", large) as mesh:
            _changes("1,000 services, 10,000 applications", mesh, large, some, requests)
            _revocations(mesh, large, 3 if quick else 10)
        _starts(mesh.gateway, mesh.port, 1 if quick else 5)


def _mesh(behind: int, *, services: int, applications: int, apis: int = 0) -> GatewayPolicy:
    """Services and external APIs with applications of contracts for them, spread evenly; the benchmark's for two."""
    worker = (f"127.0.0.1:{behind}",)
    made = [ManagedService(f"bench-{n}", worker, 100_000) for n in range(services)]
    made += [_api(n, behind) for n in range(apis)]
    clients = [Client(f"app-{n:05}", hash_secret(f"{n:040x}")) for n in range(applications)]
    contracts = [Contract(one.client_id, made[n % len(made)].name, PLENTY) for n, one in enumerate(clients)]
    contracts += [Contract(CLIENT, f"bench-{n}", PLENTY) for n in (0, 1)]
    return GatewayPolicy.of(
        services=made, clients=[*clients, Client(CLIENT, hash_secret(SECRET))], contracts=contracts
    )


def _api(number: int, behind: int) -> ManagedService:
    external = External((Upstream(f"http://127.0.0.1:{behind}"),))
    front = Front("v1", f"/api-{number}/v1", external=external, only_declared=True, operations=OPERATIONS)
    return ManagedService(f"api-{number}", (), 100_000, front=front)


def _changed(policy: GatewayPolicy, value: str) -> GatewayPolicy:
    """The policy with this value in the answers of the first service."""
    listed = policies(f'- {{policy: header-injection, response: {{{SHOWN}: "{value}"}}}}')
    return replace(
        policy,
        services=tuple(
            replace(one, policies=listed) if one.name == "bench-0" else one for one in policy.services
        ),
    )


def _changes(what: str, mesh: Running, policy: GatewayPolicy, count: int, requests: int) -> None:
    for _ in range(2):  # whoever has nothing to do gets ready for what comes next
        mesh.gateway.publish(_changed(policy, "first"))
    took: list[float] = []
    with load_on(mesh.port, (PATH, OTHER)) as load, asking(mesh.port) as connection:
        number = 0
        while number < count or load.answered < requests:
            wanted = _changed(policy, str(number))
            began = time.perf_counter()
            mesh.gateway.publish(wanted)
            while ask(connection, PATH)[1] != str(number):
                pass
            took.append((time.perf_counter() - began) * 1000)
            number += 1
            mesh.gateway.publish(wanted)  # nothing to do: a control plane looks five times a second
            time.sleep(0.2)
    told = f"{load.failed} of {load.answered:,}, {len(took)} changes"
    median, p90 = statistics.median(took), statistics.quantiles(took, n=10)[-1]
    print(f"  {what:50} {median:>6.0f} {p90:>6.0f}   {told}")
    print(f"    live: {verdict(median, LIVE_MS, at_most=True, unit=' ms')}", flush=True)


def _revocations(mesh: Running, policy: GatewayPolicy, count: int) -> None:
    """Until an application is refused that is admitted no more."""
    took: list[float] = []
    with asking(mesh.port) as connection:
        for number in range(count):
            name = f"app-{number * 1000:05}"
            path = PATH.replace("bench-0", f"bench-{number * 1000 % 1000}")
            secret = basic(name, f"{number * 1000:040x}")
            mesh.gateway.publish(policy)
            if ask(connection, path, secret)[0] != 200:
                raise SystemExit(f"{name} is not admitted at {path}")
            without = replace(
                policy,
                clients=tuple(one for one in policy.clients if one.client_id != name),
                contracts=tuple(one for one in policy.contracts if one.client_id != name),
            )
            began = time.perf_counter()
            with ThreadPoolExecutor(1) as publishing:
                done = publishing.submit(mesh.gateway.publish, without)
                while ask(connection, path, secret)[0] == 200:
                    time.sleep(0.002)
                took.append((time.perf_counter() - began) * 1000)
                done.result()
    median = statistics.median(took)
    print(f"  revoked, of 10,000 applications: {verdict(median, REVOKED_MS, at_most=True, unit=' ms')}")


def _starts(gateway: Gateway, port: int, count: int) -> None:
    """From nothing to an answer."""
    took: list[float] = []
    for _ in range(count):
        began = time.perf_counter()
        with started(gateway), asking(port) as connection:
            while ask(connection, PATH)[0] != 200:
                time.sleep(0.005)
            took.append(time.perf_counter() - began)
    median = statistics.median(took)
    print(f"  start with 10,000 applications: {verdict(median, START_SECONDS, at_most=True, unit=' s')}")


class Load:
    """What was answered and what was not, so far."""

    def __init__(self) -> None:
        self.answered = 0
        self.failed = 0
        self.over = threading.Event()


@contextmanager
def load_on(port: int, paths: tuple[str, str]) -> Iterator[Load]:
    """32 connections that ask without a pause, half of them what changes, half of them another service."""
    load, lock = Load(), threading.Lock()

    def go_on(path: str) -> None:
        side = Side(path, f"http://127.0.0.1:{port}{path}", [BODY], basic())
        while not load.over.is_set():
            found = run(side, 16, 2)
            with lock:
                load.answered += found.answered
                load.failed += found.failed

    with ThreadPoolExecutor(2) as running_:
        both = [running_.submit(go_on, path) for path in paths]
        try:
            yield load
        finally:
            load.over.set()
    for one in both:
        one.result()


@contextmanager
def asking(port: int) -> Iterator[http.client.HTTPConnection]:
    """A connection that stays open."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        yield connection
    finally:
        connection.close()


def ask(
    connection: http.client.HTTPConnection, path: str, headers: dict[str, str] | None = None
) -> tuple[int, str]:
    """Status, and what the policy has put into the answer."""
    connection.request("POST", path, BODY, headers or basic())
    answer = connection.getresponse()
    content = answer.read()
    if answer.status == 200:
        json.loads(content)
    return answer.status, answer.headers.get(SHOWN, "")
