"""How soon a policy is live that the control plane is asked for, with all that comes before the gateway is told.

In a mesh as `tulle up` runs it, two APIs lead to an upstream. A policy adds a header to the answers of one of them: set
for the version by hand, by the mesh's own policies in mesh.yaml, or by the API's file. The time begins with the request
to the control plane and ends with the first answer that has the new value; meanwhile 32 connections ask both APIs.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.gateway.changes import LIVE_MS, SHOWN, ask, asking, load_on
from benchmarks.gateway.upstream import upstream
from benchmarks.serving.load import verdict
from benchmarks.serving.processes import free_port
from tests.system.conftest import Mesh

from tulle.sdk.apis import ApiClient
from tulle.sdk.client import Client
from tulle.sdk.gateway import GatewayClient
from tulle.spec.skeleton import mesh_files, product_files

PATH, OTHER = "/bench-0/x", "/bench-1/x"
_API = """
api: {name}
versions:
- version: v1
  path: /{name}
  upstream: http://127.0.0.1:{behind}
  undeclared: allow
  publish: true
  access: {{public: {{limit: 1000000/1s}}}}
"""
_POLICIES = "  policies: [{{policy: header-injection, response: {{{shown}: '{value}'}}}}]\n"
_SET = """
policies:
  bench:
    policies: [{{policy: header-injection, response: {{{shown}: '{value}'}}}}]
"""


def measure(*, quick: bool) -> None:
    """Print how long each of the three takes until it is live, and how many requests failed meanwhile."""
    some = 3 if quick else 30
    with (
        tempfile.TemporaryDirectory(prefix="tulle-asked-") as name,
        upstream(Path(name) / "upstream") as behind,
    ):
        mesh = _mesh(Path(name) / "mesh", behind)
        try:
            with asking(mesh.gateway) as connection:
                while not all(ask(connection, path)[0] == 200 for path in (PATH, OTHER)):
                    time.sleep(0.05)  # what was applied before is published after the start
            with load_on(mesh.gateway, (PATH, OTHER)) as load, asking(mesh.gateway) as connection:
                print("\npolicy changes, asked of the control plane   live ms: median  p90")
                client = Client.connect(f"http://127.0.0.1:{mesh.control_plane}", token=_token(mesh))
                for what, (path, change) in _changes(mesh, behind, client).items():
                    took = []
                    for number in range(some):
                        value = f"{what} {number}"
                        began = time.perf_counter()
                        change(value)
                        while ask(connection, path)[1] != value:
                            pass
                        took.append((time.perf_counter() - began) * 1000)
                        time.sleep(0.05)
                    _tell(what, took)
            # Each run of the load is counted at its end.
            print(f"  {load.failed} of {load.answered:,} requests failed meanwhile", flush=True)
        finally:
            mesh.tulle("down", check=False)


def _tell(what: str, took: list[float]) -> None:
    median, p90 = statistics.median(took), statistics.quantiles(took, n=10)[-1]
    print(f"  {what:50} {median:>6.0f} {p90:>6.0f}   {len(took)} changes")
    print(f"    live: {verdict(median, LIVE_MS, at_most=True, unit=' ms')}", flush=True)


def _mesh(folder: Path, behind: int) -> Mesh:
    files = {folder / path: text for path, text in mesh_files("bench").items()}
    home = folder / "products/sales/bench"
    files |= {home / at: text for at, text in product_files("bench", domain="sales").items()}
    for name in ("bench-0", "bench-1"):
        files[home / f"apis/{name}.yaml"] = _API.format(name=name, behind=behind)
    files[folder / "mesh.yaml"] += f"source_addresses: ['127.0.0.1:{behind}']\n"
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    mesh = Mesh(folder, free_port(), free_port(), free_port())
    for command in ("apply", "up --detach"):
        mesh.tulle(*command.split())
    return mesh


def _token(mesh: Mesh) -> str:
    return (mesh.folder / ".tulle" / "token").read_text().strip()


def _changes(mesh: Mesh, behind: int, client: Client) -> dict[str, tuple[str, Callable[[str], object]]]:
    """Where, and what is asked for so that the header has a value; what is set by hand hides the file."""
    file = mesh.folder / "products/sales/bench/apis/bench-0.yaml"
    settings = mesh.folder / "mesh.yaml"
    usual = settings.read_text()

    def by_file(value: str) -> None:
        said = _POLICIES.format(shown=SHOWN, value=value)
        file.write_text(_API.format(name="bench-0", behind=behind) + said)
        client.apply()

    def by_hand(value: str) -> None:
        ApiClient(client).set_policies(
            "bench-0", "v1", [{"policy": "header-injection", "response": {SHOWN: value}}]
        )

    def by_mesh(value: str) -> None:
        settings.write_text(usual + _SET.format(shown=SHOWN, value=value))
        GatewayClient(client).reload()

    return {
        "file of the API": (PATH, by_file),
        "by hand": (PATH, by_hand),
        "mesh.yaml": (OTHER, by_mesh),
    }
