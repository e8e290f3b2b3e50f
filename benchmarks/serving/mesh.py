"""A mesh of one product, whose services answer what is measured: by single workers, or all of it behind the gateway."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
from benchmarks.serving.processes import free_port, posts, server

from tulle.server.app import open_workspace
from tulle.serving import package
from tulle.spec.mesh import load_settings

TULLE = str(Path(sys.executable).parent / "tulle")
PRODUCT = "customers"
LIMIT = "1000000000/1s"  # it is counted, and never met
DECLARED = """
apiVersion: core.oam.dev/v1beta1
kind: DataProduct
spec:
  components:
  - {name: shop, type: domain, properties: {description: the shop}}
  - {name: customers, type: data-product, properties: {definition: who buys}}
"""
DATA_SET = """  - name: %(name)s
    type: data-set
    properties: {description: one row each, columns: [%(columns)s]}
"""
TYPES = {"int64": "integer", "double": "double", "string": "string", "bool": "boolean"}


@dataclass(frozen=True)
class BenchMesh:
    """A mesh folder and its ports."""

    folder: Path
    ports: Mapping[str, int] = field(
        default_factory=lambda: {name: free_port() for name in ("GATEWAY", "CONTROL_PLANE", "S3")}
    )

    @property
    def environment(self) -> dict[str, str]:
        """What its commands are started with."""
        return {**os.environ, **{f"TULLE_{name}_PORT": str(port) for name, port in self.ports.items()}}

    def tulle(self, *words: str) -> str:
        """What a command prints; the benchmark ends where one fails."""
        done = subprocess.run(
            [TULLE, "--mesh", str(self.folder), *words],
            capture_output=True,
            text=True,
            env=self.environment,
            check=False,
        )
        if done.returncode:
            sys.exit(f"tulle {' '.join(words)} failed:\n{done.stdout}{done.stderr}")
        return done.stdout

    def begin(self, services: Mapping[str, str], tables: Mapping[str, pa.Table]) -> None:
        """Declare the product with its data sets and services."""
        home = self.folder / "products" / "shop" / PRODUCT
        (home / "services").mkdir(parents=True)
        (self.folder / "mesh.yaml").write_text(f"name: bench\ndefault_rate_limit: {LIMIT}\n")
        (home / "product.yaml").write_text(DECLARED + "".join(declared(*item) for item in tables.items()))
        for name, text in services.items():
            self.declare(name, text)
        self.tulle("apply")

    def declare(self, service: str, text: str) -> None:
        """What is said of a service from now on."""
        (self.folder / "products" / "shop" / PRODUCT / "services" / f"{service}.yaml").write_text(text)

    def publish(self, tables: Mapping[str, pa.Table], models: Mapping[str, Path]) -> None:
        """Put data sets and models where runs of the product would."""
        workspace = open_workspace(load_settings(self.folder))
        repository = workspace.lake.repository(PRODUCT)
        for name, table in tables.items():
            file = self.folder / f"{name}.parquet"
            pq.write_table(table, file)
            repository.put("main", f"{name}/part-0000.parquet", file)
            file.unlink()
        for name, folder in models.items():
            for file in sorted(path for path in folder.rglob("*") if path.is_file()):
                repository.put("main", f"models/{name}/{file.relative_to(folder)}", file)
        repository.commit("main", "what is served")
        workspace.database.close()

    def package(self, service: str) -> Path:
        """Make the next version of a service; the folder of its unpacked package."""
        built = json.loads(self.tulle("service", "package", service, "--json"))
        workspace = open_workspace(load_settings(self.folder))
        found = package.get(workspace.database, service, built["version"])
        folder = self.folder / "unpacked" / service / found.version
        package.unpack(workspace.settings.state_folder / found.path, folder, digest=found.digest)
        workspace.database.close()
        return folder

    @contextmanager
    def up(self, *services: str) -> Iterator[Mapping[str, str]]:
        """Everything runs, the services' newest versions answer; the headers of an application that may call them."""
        words = [word for name in services for word in ("--service", f"{name}={LIMIT}")]
        made = json.loads(self.tulle("app", "create", "load", *words, "--json"))
        try:
            self.tulle("up", "--detach")
            for name in services:
                self.tulle("service", "deploy", name)
            yield {
                "content-type": "application/json",
                "client_id": made["client_id"],
                "client_secret": made["client_secret"],
            }
        finally:
            self.tulle("down")

    def processes(self) -> list[psutil.Process]:
        """Everything of it that runs, the control plane and the gateway among it."""
        found = []
        for process in psutil.process_iter():
            try:
                about = " ".join(process.cmdline()) + " " + process.cwd()
            except psutil.Error:
                continue
            if str(self.folder) in about and process.pid != os.getpid():
                found.append(process)
        # Children are counted with those that started them.
        ids = {one.pid for one in found}
        return [one for one in found if one.ppid() not in ids]

    def gateway(self, path: str) -> str:
        """The address of service/endpoint/action at the gateway."""
        return f"http://127.0.0.1:{self.ports['GATEWAY']}/public/api/v1/{path}"


@contextmanager
def worker(
    package_folder: Path, scratch: Path, path: str, body: str, *, log: Path | None = None
) -> Iterator[tuple[str, psutil.Process, float]]:
    """One worker of an unpacked package: where service/endpoint/action answers, its process, seconds to its start.

    `log`: a folder for the query log; without one no query is kept.
    """
    port = free_port()
    argv = [sys.executable, "-m", "tulle.serving.worker", "--port", str(port)]
    argv += ["--package-folder", str(package_folder)]
    if log is not None:
        argv += ["--log-folder", str(log)]
    scratch.mkdir(parents=True, exist_ok=True)
    url = f"http://127.0.0.1:{port}/public/api/v1/{path}"
    begun = time.monotonic()
    with server(argv, scratch, posts(url, body)) as process:
        yield url, process, time.monotonic() - begun


def declared(name: str, table: pa.Table) -> str:
    """A data set as the product declares it."""
    columns = [f"{{name: {one.name}, type: {TYPES[str(one.type)]}}}" for one in table.schema]
    return DATA_SET % {"name": name, "columns": ", ".join(columns)}


def predictor(name: str, *, more: Sequence[str] = ()) -> str:
    """A service that predicts from all features, or from an id alone."""
    lines = [
        f"service: {name}",
        "endpoints:",
        "- name: predict",
        "  type: predict",
        "  model: will_return",
        "  enrich:",
        "  - {data_set: customers, key: customer_id}",
        *more,
    ]
    return "\n".join(lines) + "\n"


def answer(url: str, body: Any, headers: Mapping[str, str] | None = None) -> Any:
    """One answer, to be compared before anything is timed."""
    given = httpx.post(
        url,
        content=json.dumps(body),
        headers={"content-type": "application/json", **(headers or {})},
        timeout=30,
    )
    if given.status_code != 200:
        sys.exit(f"{url} answers {given.status_code}: {given.text[:500]}")
    return given.json()
