"""A mesh whose lake stock clients use, and how their programs are run."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from tests.system.lake_server import LakeServer, lake_server

HERE = Path(__file__).parent
CLIENTS = HERE.parents[2] / ".venv-clients" / "bin"

Run = Callable[..., str]


@pytest.fixture(scope="session")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder outside of the mesh whose files are imported."""
    folder = tmp_path_factory.mktemp("outside")
    (folder / "sub").mkdir()
    (folder / "a b.txt").write_bytes(b"outside 1")
    (folder / "sub" / "c%+.txt").write_bytes(b"outside 2")
    return folder


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, outside: Path) -> Iterator[LakeServer]:
    """The doors of a mesh's lake."""
    folder = tmp_path_factory.mktemp("clients") / "mesh"
    settings = {
        "object_stores": [f"local://{outside}/"],
        "hook_environments": {"expectations": str(CLIENTS.parent)},
    }
    with lake_server(folder, settings) as opened:
        yield opened


@pytest.fixture
def run(server: LakeServer, outside: Path, tmp_path: Path) -> Run:
    """Run a program of the clients' environment, or of the system, and return what it printed."""

    def program(*command: str, cwd: Path = tmp_path, status: int = 0, **more: str) -> str:
        assert (CLIENTS / "python").exists(), "the clients are not installed: run `make .venv-clients/.made`"
        environment: Mapping[str, str] = {
            **server.environment(tmp_path),
            "KEY": server.key,
            "SECRET": server.secret,
            "OUTSIDE": f"local://{outside}/",
            "PYTHONPYCACHEPREFIX": str(HERE.parents[2] / ".venv-clients" / "pycache"),
            **more,
        }
        found = CLIENTS / command[0]
        done = subprocess.run(
            [str(found) if found.exists() else command[0], *command[1:]],
            cwd=cwd,
            env=environment,
            capture_output=True,
            text=True,
            timeout=250,
            check=False,
        )
        assert done.returncode == status, done.stdout[-3000:] + done.stderr[-6000:]
        return done.stdout

    return program
