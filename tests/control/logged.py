"""A mesh with one service that predicts and looks up, whose queries are logged, asked in this process."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import json
import shutil
import sqlite3
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
from click.testing import CliRunner
from sklearn.ensemble import GradientBoostingClassifier
from tests.control.conftest import opened
from tests.pipeline.conftest import Mesh
from tests.serving.asking import InProcess
from tests.serving.conftest import FEATURES, customers, parquet

from tulle.catalog.query_log import QueryLog
from tulle.cli.main import cli
from tulle.control import release
from tulle.pipeline.model_file import ModelFile, save_model
from tulle.serving import generation
from tulle.serving.app import App
from tulle.serving.loaded import load
from tulle.serving.package import Package
from tulle.serving.recorder import Recorder

PRODUCT = """
apiVersion: core.oam.dev/v1beta1
kind: DataProduct
spec:
  components:
  - {name: shop, type: domain, properties: {description: the shop}}
  - {name: scores, type: data-product, properties: {definition: who buys}}
  - name: people
    type: data-set
    properties:
      description: one row a customer
      columns:
      - {name: customer_id, type: string, key: true, pii: direct}
      - {name: recency, type: integer}
      - {name: frequency, type: integer}
      - {name: spend, type: 'decimal(10,2)'}
      - {name: note, type: string, classification: restricted}
"""
SERVICE = """
service: scores
endpoints:
- name: buys
  type: predict
  model: buys
  enrich:
  - {data_set: people, key: {who: customer_id}, columns: [recency, frequency, spend]}
- name: person
  type: lookup
  data_set: people
  key: customer_id
  columns: {since: recency, id: customer_id, note: note}
"""
HOME = "/public/api/v1/scores"


@cache
def trained() -> tuple[pa.Table, ModelFile]:
    """The rows and a model of them, made once."""
    table = customers().select(["customer_id", "recency", "frequency", "spend", "note"])
    matrix = np.column_stack([np.asarray(table.column(f).to_pylist(), dtype=float) for f in FEATURES])
    target = (matrix[:, 1] * matrix[:, 2] > 1500).astype(int)
    estimator = GradientBoostingClassifier(n_estimators=5, max_depth=2, random_state=0).fit(matrix, target)
    metrics = {"roc_auc": 0.97, "accuracy": 0.95}
    folder = Path(tempfile.mkdtemp(prefix="tulle-model-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return table, save_model(folder, "buys", estimator, features=FEATURES, sample=table, metrics=metrics)


@cache
def _pristine() -> Path:
    """A folder with the usual mesh and its first package, made once."""
    home = Path(tempfile.mkdtemp(prefix="tulle-logged-"))
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    made = LoggedMesh.__new__(LoggedMesh)
    made.make(home, SERVICE)
    made.package()
    made.workspace.database.close()
    return home


class LoggedMesh:
    """The mesh; `ask` has a worker's application answer, and leaves a segment. The usual one is a copy."""

    def __init__(self, folder: Path, service: str = SERVICE) -> None:
        if service != SERVICE:
            self.make(folder, service)
            return
        home = _pristine()
        shutil.copytree(home / "mesh", folder / "mesh")
        with contextlib.closing(sqlite3.connect(folder / "mesh/.tulle/state.db")) as cx, cx:
            # The one place that says where the mesh is.
            for column in ("folder", "document"):
                cx.execute(
                    f"UPDATE products SET {column} = replace({column}, ?, ?)", (str(home), str(folder))
                )
        self._open(folder)

    def make(self, folder: Path, service: str) -> None:
        """Make it anew."""
        mesh = Mesh(folder / "mesh")
        mesh.write("products/shop/scores/product.yaml", PRODUCT)
        mesh.write("products/shop/scores/services/scores.yaml", service)
        applied = CliRunner().invoke(cli, ["--mesh", str(mesh.folder), "apply"])
        assert applied.exit_code == 0, applied.output
        self._open(folder)
        repository = self.workspace.lake.repository("scores")
        _, model = trained()
        repository.put("main", "people/part-0.parquet", parquet(self.sample))
        for name in model.files:
            repository.put("main", f"models/buys/{name}", model.folder / name)
        repository.commit("main", "data and model")

    def _open(self, folder: Path) -> None:
        self.mesh = Mesh(folder / "mesh")
        self.workspace = opened(self.mesh)
        self.sample, _ = trained()
        self.log = QueryLog(self.workspace.settings, self.workspace.lake)

    def declare(self, service: str) -> None:
        self.mesh.write("products/shop/scores/services/scores.yaml", service)

    def package(self) -> Package:
        built, _ = release.build_package(self.workspace, "scores")
        return built

    def ask(
        self,
        requests: Sequence[tuple[str, Any]],
        *,
        version: Package | None = None,
        headers: Mapping[str, str] | None = None,
        ids: Sequence[str] = (),
    ) -> list[Any]:
        """The answers to paths below the service's own, with bodies; the segment they are in is complete."""
        built = version or self.package()
        loaded = load(generation.unpack(built, self.workspace.settings))
        folder = self.workspace.settings.queries_folder / "scores"
        recorder = Recorder(folder, "scores", built.version, built.version)
        app = App(loaded, max_request_bytes=1 << 20, recorder=recorder)

        async def all_of_them() -> list[Any]:
            recorder.start()
            found = []
            async with httpx.AsyncClient(transport=InProcess(app)) as client:
                for number, (path, body) in enumerate(requests):
                    sent = dict(headers or {})
                    sent["x-request-id"] = ids[number] if ids else f"r{number}"
                    content = body if isinstance(body, bytes) else json.dumps(body).encode()
                    method = "GET" if "?" in path else "POST"
                    answer = await client.request(
                        method, f"http://worker{HOME}{path}", content=content, headers=sent
                    )
                    found.append(answer.json())
            return found

        try:
            return asyncio.run(all_of_them())
        finally:
            recorder.close()
            loaded.close()

    def rows(self, sql: str = "SELECT * FROM queries ORDER BY request_id, item") -> list[dict[str, Any]]:
        """Rows of the log."""
        return self.log.rows("scores", sql)

    def tulle(self, *words: str) -> str:
        """The output of a command that goes well."""
        done = CliRunner().invoke(cli, ["--mesh", str(self.mesh.folder), *words])
        assert done.exit_code == 0, done.output
        return done.output
