"""The real Envoy with the processor behind it, and a target that answers what it is told to."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from tests.gateway.conftest import API, SECRETS, Mesh, Reply, as_client, wait_until

from tulle.config import Settings
from tulle.gateway.envoy import Gateway
from tulle.gateway.policies.entry import Policy
from tulle.gateway.policy import Client, Contract, GatewayPolicy, ManagedService, RateLimit
from tulle.gateway.processors import Processors
from tulle.gateway.secret import hash_secret

TARGET = Path(__file__).with_name("target.py")
SOCKET = "run/w/target.sock"
PLENTY = RateLimit.parse("1000000/1s")


@dataclass
class Processed:
    """A gateway, a processor and a target; `put` publishes which steps the service `api` has."""

    mesh: Mesh
    processor: subprocess.Popen[bytes] | None = None
    service: Mapping[str, Any] = field(default_factory=dict)

    def put(self, *policies: Policy, **service: Any) -> None:
        """Publish `api` with these policies, and `plain` with none."""
        common: dict[str, Any] = {
            "upstreams": (SOCKET,),
            "max_request_bytes": 1 << 20,
            "timeout_seconds": 5.0,
        }
        self.mesh.gateway.publish(
            GatewayPolicy.of(
                services=(
                    ManagedService("api", **common | {"policies": policies} | service),
                    ManagedService("plain", **common),
                ),
                clients=(Client(name, hash_secret(secret)) for name, secret in SECRETS.items()),
                contracts=(
                    Contract(name, api, PLENTY, tier="gold" if name == "app-b" else "")
                    for name in SECRETS
                    for api in ("api", "plain")
                ),
            )
        )

    def ask(
        self,
        path: str,
        body: Any = None,
        *,
        client: str = "app-a",
        method: str = "POST",
        api: str = "api",
        **headers: str,
    ) -> Reply:
        """Ask the API as a client; names of headers have underscores for hyphens."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.mesh.ask(f"{API}{api}{path}", as_client(client) | sent, method=method, body=body)

    def start(self) -> None:
        """Run the processor."""
        with (self.mesh.settings.log_folder / "processor.log").open("ab") as log:
            self.processor = subprocess.Popen(
                [sys.executable, "-m", "tulle.gateway.processing.process"],
                cwd=self.mesh.settings.state_folder,
                stdout=log,
                stderr=log,
            )
        wait_until(lambda: Processors(self.mesh.settings.state_folder, 1).states() != [None], "the processor")

    def stop(self, *, hard: bool = False) -> None:
        """End the processor."""
        if self.processor is not None:
            (self.processor.kill if hard else self.processor.terminate)()
            self.processor.wait()
            self.processor = None

    def log(self) -> str:
        """What the processor has written."""
        return (self.mesh.settings.log_folder / "processor.log").read_text()


@pytest.fixture(scope="session")
def _processed(tmp_path_factory: pytest.TempPathFactory, free_port: Callable[[], int]) -> Iterator[Processed]:
    folder = tmp_path_factory.mktemp("processed")
    settings = replace(Settings(folder=folder), gateway_port=free_port())
    mesh = Mesh(settings, Gateway(settings))
    (settings.state_folder / "run/w").mkdir(parents=True)
    target = subprocess.Popen(
        [sys.executable, "-S", "-E", str(TARGET), SOCKET], cwd=settings.state_folder, stdout=subprocess.PIPE
    )
    assert target.stdout is not None
    assert target.stdout.readline() == b"ready\n"
    made = Processed(mesh)
    made.put()
    made.start()
    mesh.start()
    yield made
    mesh.stop()
    made.stop()
    target.kill()
    target.wait()
    target.stdout.close()


@pytest.fixture
def processed(_processed: Processed) -> Processed:
    """All of it running, whatever the test before did to it."""
    if _processed.processor is None or _processed.processor.poll() is not None:
        _processed.start()
    mesh = _processed.mesh
    if mesh.process is None or mesh.process.poll() is not None:
        mesh.start()
    return _processed
