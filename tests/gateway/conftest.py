"""A real Envoy with tiny workers behind it, on a free loopback port."""

from __future__ import annotations

import base64
import http.client
import json
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from tulle.config import Settings
from tulle.gateway import admitted
from tulle.gateway.admin import Admin
from tulle.gateway.envoy import Gateway
from tulle.gateway.envoy_values import ADMIN_SOCKET
from tulle.gateway.policy import Client, Contract, GatewayPolicy, ManagedService, RateLimit
from tulle.gateway.secret import hash_secret
from tulle.state.db import Database

WORKER = Path(__file__).with_name("tiny_worker.py")
PLENTY = RateLimit.parse("100000/1s")
SECRETS = {"app-a": "a1" * 20, "app-b": "b2" * 20, "app-c": "c3" * 20}
API = "/public/api/v1/"


@dataclass(frozen=True)
class Reply:
    """What a caller got."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


def wait_until(condition: Callable[[], bool], what: str, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what} took longer than {seconds} s"
        time.sleep(0.01)


def basic(user: str, password: str) -> dict[str, str]:
    return {"authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


def as_client(name: str) -> dict[str, str]:
    return basic(name, SECRETS[name])


def check_error(reply: Reply, status: int, error_type: str) -> dict[str, Any]:
    assert reply.status == status, reply
    assert reply.headers["content-type"] == "application/json"
    body = reply.json()
    assert set(body) == {"errorType", "message", "detailedMessage", "requestId"}
    assert body["errorType"] == error_type
    assert body["message"]
    assert body["detailedMessage"]
    assert str(uuid.UUID(body["requestId"])) == body["requestId"] == reply.headers["x-request-id"]
    assert reply.headers["dss-api-version"] == "1"
    assert reply.headers["dss-version"].startswith("tulle-")
    assert ".sock" not in reply.body.decode()  # nothing of the inside
    return dict(body)


def policy(
    workers: Mapping[str, tuple[str, ...]], contracts: Mapping[tuple[str, str], RateLimit], **service: Any
) -> GatewayPolicy:
    """A policy in which every client of SECRETS may sign in."""
    return GatewayPolicy.of(
        services=(ManagedService(name, sockets, 10_000, **service) for name, sockets in workers.items()),
        clients=(Client(name, hash_secret(secret)) for name, secret in SECRETS.items()),
        contracts=(Contract(client, name, limit) for (client, name), limit in contracts.items()),
    )


@dataclass
class Mesh:
    """A folder with a gateway that can run, and the workers behind it."""

    settings: Settings
    gateway: Gateway
    process: subprocess.Popen[bytes] | None = None
    workers: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start_worker(self, name: str, *sockets: str) -> None:
        folder = self.settings.state_folder
        (folder / "run/w").mkdir(parents=True, exist_ok=True)
        process = subprocess.Popen(
            [sys.executable, "-S", "-E", str(WORKER), name, *sockets], cwd=folder, stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        self.workers[name] = process

    def kill_worker(self, name: str) -> None:
        process = self.workers.pop(name)
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()

    def start(self) -> None:
        command = self.gateway.command()
        log = self.settings.log_folder / "gateway.log"
        with log.open("ab") as file:
            self.process = subprocess.Popen(command.argv, cwd=command.cwd, stdout=file, stderr=file)
        wait_until(self.gateway.ready, "starting the gateway")

    def stop(self, *, hard: bool = False) -> None:
        if self.process is not None:
            (self.process.kill if hard else self.process.terminate)()
            self.process.wait()
            self.process = None
            self.gateway.process.forget()

    def ask(
        self, target: str, headers: Mapping[str, str] | None = None, *, method: str = "GET", body: Any = None
    ) -> Reply:
        connection = http.client.HTTPConnection("127.0.0.1", self.settings.gateway_port, timeout=10)
        try:
            connection.request(method, target, body=body, headers=dict(headers or {}))
            answer = connection.getresponse()
            return Reply(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    def say(self, data: bytes) -> Reply:
        """Send bytes as they are."""
        with socket.create_connection(("127.0.0.1", self.settings.gateway_port), timeout=10) as wire:
            wire.sendall(data)
            answer = http.client.HTTPResponse(wire)
            answer.begin()
            return Reply(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())

    @property
    def admin(self) -> Admin:
        return Admin(self.settings.state_folder, ADMIN_SOCKET)

    def health(self, service: str) -> dict[str, bool]:
        """The addresses of a service's workers, and whether Envoy sends to them."""
        clusters = json.loads(self.admin.get("/clusters?format=json"))["cluster_statuses"]
        hosts = next(c for c in clusters if c["name"] == service).get("host_statuses", [])
        return {
            h["address"]["pipe"]["path"]: h["health_status"] == {"eds_health_status": "HEALTHY"}
            for h in hosts
        }

    def log_lines(self) -> list[dict[str, Any]]:
        text = (self.settings.log_folder / "gateway-access.jsonl").read_text()
        return [json.loads(line) for line in text.splitlines()]


class Load:
    """A few callers that keep asking, each on one connection, and everything they were answered."""

    def __init__(self, mesh: Mesh, callers: int = 3, *, pause: float = 0.002) -> None:
        self.answers: list[tuple[int, str]] = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(mesh, pause)) for _ in range(callers)]

    def _run(self, mesh: Mesh, pause: float) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", mesh.settings.gateway_port, timeout=10)
        while not self._stop.wait(pause):
            try:
                connection.request(
                    "POST", API + "first/x/predict", body=b'{"a":1}', headers=as_client("app-a")
                )
                reply = connection.getresponse()
                text = reply.read()
                self.answers.append((reply.status, json.loads(text).get("worker") or text.decode()))
            except (OSError, http.client.HTTPException) as exc:
                self.answers.append((0, repr(exc)))
                connection.close()
        connection.close()

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        wait_until(lambda: len(self.answers) > 20, "the first answers")
        return self

    def __exit__(self, *_exc: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def seen(self, worker: str) -> int:
        return sum(1 for _, who in list(self.answers) if who == worker)

    @property
    def lost(self) -> list[tuple[int, str]]:
        return [answer for answer in self.answers if answer[0] != 200]


def current_policy(database: Database, services: Iterable[ManagedService], **usual: str) -> GatewayPolicy:
    """What the control plane would publish for these services now, with all of which nothing is wrong."""
    deployed, wrong = admitted.as_deployed(database, services, **usual)
    assert not wrong
    return admitted.policy_of(database, deployed)


def folder_of(gateway: Gateway) -> Path:
    return Path(gateway.command().cwd) / "run" / "gateway"


def files_of(gateway: Gateway) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder_of(gateway).iterdir() if p.suffix in {".json", ".pb"}}


@pytest.fixture(scope="session")
def free_port() -> Callable[[], int]:
    def pick() -> int:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return int(probe.getsockname()[1])

    return pick


@pytest.fixture
def gateway(tmp_path: Path) -> Gateway:
    """A gateway that does not run."""
    return Gateway(Settings(folder=tmp_path))


@pytest.fixture(scope="session")
def idle(tmp_path_factory: pytest.TempPathFactory, free_port: Callable[[], int]) -> Iterator[Mesh]:
    """Two workers for `first`, one for `second`, and a gateway that does not run yet."""
    # A long path, as pytest's own are: sockets must be reached all the same.
    folder = tmp_path_factory.mktemp("a-mesh-folder-with-a-rather-long-name-" + "x" * 80)
    settings = replace(Settings(folder=folder), gateway_port=free_port())
    mesh = Mesh(settings, Gateway(settings))
    mesh.start_worker("first-1", "run/w/first-1.sock")
    mesh.start_worker("first-2", "run/w/first-2.sock")
    mesh.start_worker("second-1", "run/w/second-1.sock")
    yield mesh
    mesh.stop()
    for name in list(mesh.workers):
        mesh.kill_worker(name)


WORKERS = {
    "first": ("run/w/first-1.sock", "run/w/first-2.sock"),
    "second": ("run/w/second-1.sock",),
    "down": ("run/w/nobody.sock",),
    "empty": (),
}
CONTRACTS = {
    ("app-a", "first"): PLENTY,
    ("app-b", "first"): RateLimit.parse("3/1m"),
    ("app-b", "second"): PLENTY,
    ("app-a", "down"): PLENTY,
    ("app-a", "empty"): PLENTY,
}


@pytest.fixture(scope="session")
def running(idle: Mesh) -> Mesh:
    """The gateway, started with the usual policy."""
    idle.gateway.publish(policy(WORKERS, CONTRACTS))
    idle.start()
    return idle


@pytest.fixture
def mesh(running: Mesh) -> Mesh:
    """The running gateway with the usual policy, whatever the test before did to it."""
    if running.process is None or running.process.poll() is not None:
        running.stop()
        running.start()
    running.gateway.publish(policy(WORKERS, CONTRACTS))
    return running


@pytest.fixture
def full_buckets(mesh: Mesh) -> None:
    """Everybody may call again as often as the contract says: a changed limits file fills all buckets."""
    mesh.gateway.publish(policy(WORKERS, {**CONTRACTS, ("app-c", "second"): PLENTY}))
    mesh.gateway.publish(policy(WORKERS, CONTRACTS))
