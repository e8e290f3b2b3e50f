"""The example mesh built: its jobs carried out one after the other, its checks evaluated, its services packaged."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tulle.config import Settings, Warehouse
from tulle.engine.duck import DuckEngine
from tulle.engine.engine import Relation
from tulle.lake.repository import Lake, open_lake
from tulle.pipeline.graph import ProductCode, load_code
from tulle.pipeline.ingest import ingest, source_files
from tulle.pipeline.job import INGEST, PORT, PYTHON, SQL
from tulle.pipeline.model import ModelRun, call_model
from tulle.quality.verdict import CheckResult, evaluate
from tulle.serving import package
from tulle.serving.loaded import Loaded, load
from tulle.serving.service import load_services
from tulle.spec.mesh import MeshSpec, load_mesh
from tulle.state.db import open_database

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "cdnow"


@pytest.fixture(scope="session")
def spec() -> MeshSpec:
    """The example's documents."""
    return load_mesh(EXAMPLE)


@dataclass(frozen=True)
class Built:
    """The data sets of the example by product and name, and the verdicts of all its checks."""

    folder: Path  # <product>/<data set>/part-0000.parquet and <product>/models/<model>/…
    engine: DuckEngine
    code: Mapping[str, ProductCode]
    relations: Mapping[str, Mapping[str, Relation]]
    verdicts: tuple[CheckResult, ...]

    def table(self, product: str, data_set: str) -> pa.Table:
        """The rows of one data set."""
        return pq.read_table(self.folder / product / data_set / "part-0000.parquet")


@pytest.fixture(scope="session")
def built(spec: MeshSpec, tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Everything the example makes, by the same code a run uses, without the branches of a run."""
    folder = tmp_path_factory.mktemp("built")
    engine = DuckEngine(Warehouse(), tmp_path_factory.mktemp("spill"))
    code = {product.name: load_code(product, spec=spec) for product in spec.order()}
    relations: dict[str, dict[str, Relation]] = {name: {} for name in code}
    verdicts: list[CheckResult] = []
    for product in spec.order():
        mine = relations[product.name]
        for job in code[product.name].jobs:
            target = folder / product.name / job.name / "part-0000.parquet"
            inputs = {name: mine[name] for name in job.inputs}
            if job.kind == PORT:
                assert job.upstream is not None
                files = relations[job.upstream[0]][job.upstream[1]].files
                mine[job.name] = Relation(job.name, files)
                continue
            if job.kind == INGEST:
                assert job.port is not None
                assert job.port.source is not None
                ingest(source_files(job.port, product.folder, product.name), job.port.source, target)
            elif job.kind == SQL:
                types = {c.name: c.type for d in product.data_sets if d.name == job.name for c in d.columns}
                engine.write(job.text, list(inputs.values()), target, types=types)
            elif job.kind == PYTHON:
                run = ModelRun("a-run", job, engine, inputs, folder / product.name / "models", lambda _: None)
                target.parent.mkdir(parents=True)
                pq.write_table(call_model(job, code[product.name].shared, run), target)
            mine[job.name] = Relation(job.name, (str(target),))
        checks = [
            check for job in code[product.name].jobs for check in code[product.name].checks_of(job.name)
        ]
        verdicts += evaluate(engine, checks, mine)
    return Built(folder, engine, code, relations, tuple(verdicts))


@pytest.fixture(scope="session")
def services(
    built: Built, spec: MeshSpec, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Loaded]]:
    """Every service of the example, packaged from a lake that holds what was built, and loaded."""
    settings = Settings(folder=tmp_path_factory.mktemp("mesh"))
    database = open_database(settings.database_url)
    lake: Lake = open_lake(database, settings.storage_namespace)
    for name in built.code:
        repository = lake.create_repository(name)
        for file in sorted((built.folder / name).rglob("*.*")):
            repository.put("main", file.relative_to(built.folder / name).as_posix(), file)
        repository.commit("main", "built")
    made: dict[str, Loaded] = {}
    for product in spec.products:
        for service in load_services(product):
            build: Any = package.build(
                service, product=product, lake=lake, database=database, settings=settings, code_version="test"
            )
            folder = settings.state_folder / "generations" / service.name
            package.unpack(settings.state_folder / build.path, folder, digest=build.digest)
            made[service.name] = load(folder)
    yield made
    database.close()
