"""A mesh with both doors of its lake open, in real processes, for tests."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import yaml


def free_port() -> int:
    """A port of this machine nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True)
class LakeServer:
    """Where the doors are, and the administrator's key."""

    folder: Path
    api: str  # ends in /api/v1
    s3: str
    key: str
    secret: str
    processes: tuple[subprocess.Popen[bytes], ...]

    def kill(self) -> None:
        """End it as a power cut does."""
        for process in self.processes:
            process.kill()
            process.wait()

    def client(self) -> httpx.Client:
        """A plain HTTP client signed in at the REST door."""
        return httpx.Client(base_url=self.api, auth=(self.key, self.secret), timeout=30)

    def make_repository(self, name: str) -> str:
        """A repository with a branch main."""
        with self.client() as client:
            body = {"name": name, "storage_namespace": f"local://{name}", "default_branch": "main"}
            assert client.post("/repositories", json=body).status_code == 201
        return name

    def environment(self, home: Path) -> dict[str, str]:
        """What stock clients are configured by, and nothing of whoever runs the tests."""
        kept = {name: os.environ[name] for name in ("PATH", "LANG", "TZ") if name in os.environ}
        return {
            **kept,
            "HOME": str(home),
            "LAKECTL_CONFIG_FILE": str(self.folder / ".tulle" / "lakectl.yaml"),
            "LAKEFS_ENDPOINT": self.api.removesuffix("/api/v1"),
            "AWS_ACCESS_KEY_ID": self.key,
            "AWS_SECRET_ACCESS_KEY": self.secret,
            "AWS_ENDPOINT_URL": self.s3,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }


@contextmanager
def lake_server(
    folder: Path, settings: Mapping[str, object] | None = None, *, beside: LakeServer | None = None
) -> Iterator[LakeServer]:
    """Make a mesh in `folder`, open its lake's doors, and close them in the end.

    One `beside` another has the same users: what keeps their keys is copied, as whoever sets it up does.
    """
    ports = {"control_plane_port": free_port(), "s3_port": free_port(), "gateway_port": free_port()}
    (folder / ".tulle").mkdir(parents=True, mode=0o700)
    for name in ("secret.key", "lakectl.yaml") if beside is not None else ():
        shutil.copy(beside.folder / ".tulle" / name, folder / ".tulle" / name)
    (folder / "mesh.yaml").write_text(yaml.safe_dump({"name": "lake", **ports, **(settings or {})}))
    api = f"http://127.0.0.1:{ports['control_plane_port']}/api/v1"
    s3 = f"http://127.0.0.1:{ports['s3_port']}"
    running: list[subprocess.Popen[bytes]] = []
    try:
        # Both at once, as the supervisor does.
        running.extend(_start(module, folder) for module in ("tulle.server", "tulle.server.s3_door"))
        for url, process in zip((f"{api}/healthcheck", s3), running, strict=True):
            _wait(url, process, folder)
        key, secret = _administrator(folder)
        yield LakeServer(folder, api, s3, key, secret, tuple(running))
    finally:
        for process in running:
            process.terminate()
        for process in running:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _start(module: str, folder: Path) -> subprocess.Popen[bytes]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TULLE_")}
    with (folder / f"{module}.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", module, "--mesh", str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=environment,
        )


def _wait(url: str, process: subprocess.Popen[bytes], folder: Path) -> None:
    deadline = time.monotonic() + 150
    while True:
        try:
            httpx.get(url, timeout=5)
        except httpx.TransportError:
            logs = "\n".join(log.read_text() for log in folder.glob("*.log"))
            assert process.poll() is None, logs
            assert time.monotonic() < deadline, logs
            time.sleep(0.05)
        else:
            return


def _administrator(folder: Path) -> tuple[str, str]:
    credentials = yaml.safe_load((folder / ".tulle" / "lakectl.yaml").read_text())["credentials"]
    return credentials["access_key_id"], credentials["secret_access_key"]
