"""A real gateway and real sidecars on loopback, with certificates of a real authority, and tiny workers behind them."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import ssl
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from tests.gateway.conftest import PLENTY, SECRETS, Mesh, Reply, wait_until

from tulle.config import Settings
from tulle.gateway.admin import Admin
from tulle.gateway.envoy import Gateway
from tulle.gateway.policy import Backend, Client, Contract, GatewayPolicy, ManagedService
from tulle.gateway.secret import hash_secret
from tulle.gateway.trust.certificate import Pair
from tulle.gateway.trust.identity import Identity
from tulle.gateway.trust.keeper import Keeper
from tulle.gateway.trust.sidecar_files import ADMIN_SOCKET
from tulle.serving.traffic import Traffic, single
from tulle.state.db import open_database

SOCKETS = {"v1": ("run/w/first-1.sock", "run/w/first-2.sock"), "v2": ("run/w/second-1.sock",)}
PATH = "/public/api/v1/offers/x/predict"


@dataclass
class Trusted(Mesh):
    """A gateway before sidecars before workers, of which two answer as v1, one as v2."""

    keeper: Keeper = field(kw_only=True)
    sidecars: subprocess.Popen[bytes] | None = None
    published: GatewayPolicy = GatewayPolicy()

    def service(self, traffic: Traffic, *names: str, **more: Any) -> ManagedService:
        backends = tuple(Backend(name, SOCKETS[name]) for name in (*traffic.mounted, *names))
        values = {"traffic": traffic, "backends": backends, **more}
        return ManagedService("offers", (), 10_000, **values)

    def publish(self, *services: ManagedService) -> None:
        """As the switchboard does it."""
        self.keeper.keep({(one.name, one.environment) for one in services})
        self.keeper.put_before((), services)
        self.gateway.publish(
            GatewayPolicy.of(
                services=self.keeper.entrusted(services),
                clients=(Client(name, hash_secret(secret)) for name, secret in SECRETS.items()),
                contracts=[Contract("app-a", name, PLENTY) for name in {one.name for one in services}],
            )
        )

    def start_sidecars(self) -> None:
        command = self.keeper.sidecars.command()
        with (self.settings.log_folder / "sidecars.log").open("ab") as log:
            self.sidecars = subprocess.Popen(command.argv, cwd=command.cwd, stdout=log, stderr=log)
        wait_until(self.keeper.sidecars.ready, "starting the sidecars")

    def stop_sidecars(self, *, hard: bool = False) -> None:
        if self.sidecars is not None:
            (self.sidecars.kill if hard else self.sidecars.terminate)()
            self.sidecars.wait()
            self.sidecars = None

    @property
    def domain(self) -> str:
        return self.keeper.authorities.known()[0].domain

    @property
    def roots(self) -> str:
        return "".join(one.root for one in self.keeper.authorities.known())

    def pair(self, service: str = "", environment: str = "prod", *, at: float | None = None) -> Pair:
        """A certificate of a part of this mesh, made at a time."""
        own = Identity(self.domain, service, environment if service else "")
        return self.keeper.authorities.issue(own, at)

    def directly(
        self,
        sidecar: str,
        pair: Pair | None,
        target: str = "/public/api/v1/offers/x",
        *,
        roots: str | None = None,
        plain: bool = False,
    ) -> Reply:
        """What a sidecar, or another door of this mesh, answers to who shows a certificate; OSError when nothing."""
        connection = http.client.HTTPConnection("offers.prod.mesh", timeout=10)
        with self.wire(sidecar) as wire:
            connection.sock = wire if plain else context(pair, roots or self.roots).wrap_socket(wire)
            with contextlib.closing(connection):
                connection.request("GET", target, headers={"x-request-id": "r-1", "x-tulle-client": "app-a"})
                answer = connection.getresponse()
                return Reply(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())

    @contextlib.contextmanager
    def wire(self, relative: str) -> Iterator[socket.socket]:
        """A connection to a socket of this mesh, whatever the length of its path."""
        folder = os.open(self.settings.state_folder, os.O_RDONLY)
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as wire:
                wire.settimeout(10)
                wire.connect(f"/proc/self/fd/{folder}/{relative}")
                yield wire
        finally:
            os.close(folder)

    @property
    def sidecar_admin(self) -> Admin:
        return Admin(self.settings.state_folder, ADMIN_SOCKET)

    def sidecar_lines(self) -> list[dict[str, Any]]:
        text = (self.settings.log_folder / "sidecars-access.jsonl").read_text()
        return [json.loads(line) for line in text.splitlines()]


def context(pair: Pair | None, roots: str) -> ssl.SSLContext:
    """What a caller of its own making would use."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname = False
    made.load_verify_locations(cadata=roots)
    if pair is not None:
        with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
            file.write(pair.certificate + pair.key)
            file.flush()
            made.load_cert_chain(file.name)
    return made


def new_mesh(folder: Path, port: int) -> Trusted:
    settings = replace(Settings(folder=folder), gateway_port=port, mutual_tls=True, name="Shop")
    settings.state_folder.mkdir(parents=True)
    keeper = Keeper(settings, open_database(settings.database_url))
    keeper.prepare(())
    mesh = Trusted(settings, Gateway(settings), keeper=keeper)
    for name in ("first-1", "first-2", "second-1"):
        mesh.start_worker(name, f"run/w/{name}.sock")
    return mesh


def end(mesh: Trusted) -> None:
    mesh.stop()
    mesh.stop_sidecars()
    for name in list(mesh.workers):
        mesh.kill_worker(name)


@pytest.fixture(scope="package")
def trusted_mesh(tmp_path_factory: pytest.TempPathFactory, free_port: Callable[[], int]) -> Iterator[Trusted]:
    """Started once, with what is published last."""
    made = new_mesh(tmp_path_factory.mktemp("trusted-" + "x" * 90), free_port())
    made.start_sidecars()
    made.publish(made.service(single("v1")))
    made.start()
    yield made
    end(made)


@pytest.fixture
def trusted(trusted_mesh: Trusted) -> Trusted:
    """The mesh with the usual service, whatever the test before did to it."""
    if trusted_mesh.sidecars is None or trusted_mesh.sidecars.poll() is not None:
        trusted_mesh.stop_sidecars()
        trusted_mesh.start_sidecars()
    for name in ("first-1", "first-2", "second-1"):
        if name not in trusted_mesh.workers:
            trusted_mesh.start_worker(name, f"run/w/{name}.sock")
    trusted_mesh.publish(trusted_mesh.service(single("v1")))
    return trusted_mesh
