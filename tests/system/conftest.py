"""The example mesh, built once by the real command in real processes, for every test of this folder."""

from __future__ import annotations

import json
import os
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

TULLE = str(Path(sys.executable).parent / "tulle")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True)
class Mesh:
    """A mesh folder, its ports, and the command line on it."""

    folder: Path
    control_plane: int
    gateway: int
    s3: int

    @property
    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "TULLE_CONTROL_PLANE_PORT": str(self.control_plane),
            "TULLE_GATEWAY_PORT": str(self.gateway),
            "TULLE_S3_PORT": str(self.s3),
        }

    def tulle(self, *args: str, check: bool = True, timeout: float = 240) -> subprocess.CompletedProcess[str]:
        command = [TULLE, "--mesh", str(self.folder), *args]
        done = subprocess.run(
            command, capture_output=True, text=True, env=self.environment, timeout=timeout, check=False
        )
        assert "Traceback" not in done.stdout + done.stderr
        if check:
            assert done.returncode == 0, done.stdout + done.stderr
        return done

    def demo(self) -> subprocess.CompletedProcess[str]:
        command = [TULLE, "demo", str(self.folder)]
        done = subprocess.run(
            command, capture_output=True, text=True, env=self.environment, timeout=280, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done

    def json(self, *args: str) -> Any:
        return json.loads(self.tulle(*args, "--json").stdout)

    def credentials(self, application: str = "storefront") -> dict[str, str]:
        kept = json.loads((self.folder / ".tulle" / "credentials" / f"{application}.json").read_text())
        return {"client_id": kept["client_id"], "client_secret": kept["client_secret"]}

    def call(self, path: str, body: object, headers: Mapping[str, str] | None = None) -> httpx.Response:
        trusted = self.folder / ".tulle" / "tls" / "authority.pem"  # where callers come by TLS
        scheme, verify = (
            ("https", ssl.create_default_context(cafile=str(trusted))) if trusted.exists() else ("http", True)
        )
        return httpx.post(
            f"{scheme}://127.0.0.1:{self.gateway}/public/api/v1/{path}",
            json=body,
            headers=headers if headers is not None else self.credentials(),
            timeout=20,
            verify=verify,
        )

    def processes(self) -> list[psutil.Process]:
        """Every process of this machine that belongs to this mesh."""
        found = []
        for process in psutil.process_iter():
            try:
                about = " ".join(process.cmdline()) + " " + process.cwd()
            except psutil.Error:
                continue
            if str(self.folder) in about and process.pid != os.getpid():
                found.append(process)
        return found


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Mesh, str]]:
    """The example mesh, up, and what `tulle demo` printed."""
    mesh = Mesh(tmp_path_factory.mktemp("system") / "demo-mesh", free_port(), free_port(), free_port())
    try:
        printed = mesh.demo().stdout
        yield mesh, printed
    finally:
        if (mesh.folder / "mesh.yaml").exists():
            mesh.tulle("down", check=False)
    assert mesh.processes() == []


@pytest.fixture
def mesh(demo: tuple[Mesh, str]) -> Mesh:
    """The running example mesh."""
    return demo[0]
