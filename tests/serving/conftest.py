"""A small mesh with customers, a model trained on them, and services over both."""

from __future__ import annotations

import datetime as dt
import decimal
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.ensemble import GradientBoostingClassifier
from tests.serving.redis_server import RedisServer

from tulle.config import Settings
from tulle.lake.repository import Lake, open_lake
from tulle.pipeline.model_file import ModelFile, save_model
from tulle.serving import package
from tulle.serving.loaded import Loaded, load
from tulle.serving.package import Package
from tulle.serving.service import HasFolder, Service, load_service
from tulle.state.db import Database, open_database

FEATURES = ["recency", "frequency", "spend"]
PREDICTOR = """
service: high-value-predictor
description: Will a customer be among the best?
endpoints:
- name: high-value
  type: predict
  description: Predict from features or from a customer id alone
  model: high_value
  enrich:
  - {product: customer-features, data_set: customer_features, key: customer_id}
  test_queries:
  - {name: a known customer, features: {customer_id: '00003'}}
  - {name: nobody, features: {customer_id: nobody}, expect: {error: NoMatch}}
"""
LOOKUPS = """
service: customer-features
endpoints:
- name: profile
  type: lookup
  product: customer-features
  data_set: customer_features
  key: [customer_id]
  test_queries:
  - {name: a known customer, data: {customer_id: '00003'}, expect: {recency: 9, spend: 5.25}}
- name: by-day
  type: lookup
  product: customer-features
  data_set: customer_features
  key: [first_on, number]
  columns: [customer_id, vip]
"""


@dataclass(frozen=True)
class Mesh:
    """What building and deploying needs."""

    settings: Settings
    database: Database
    lake: Lake

    def build(self, text: str, **more: Any) -> Package:
        """Package the service of a services file."""
        return self.build_service(load_service(text, name="services/s.yaml"), **more)

    def build_service(self, service: Service, *, product: HasFolder | None = None, **more: Any) -> Package:
        """Package a service, of the product high-value-customers unless another is given."""
        return package.build(
            service,
            product=product or Product(),
            lake=self.lake,
            database=self.database,
            settings=self.settings,
            code_version="c0de",
            **more,
        )

    def unpacked(self, built: Package) -> Path:
        """The folder of an unpacked package."""
        folder = self.settings.state_folder / "generations" / built.service / built.version
        package.unpack(self.settings.state_folder / built.path, folder, digest=built.digest)
        return folder


@dataclass(frozen=True)
class Product:
    """The product that owns the services."""

    name: str = "high-value-customers"
    folder: Path = Path()


def customers(rows: int = 200) -> pa.Table:
    """One row a customer, with a column of every kind of type."""
    numbers = range(rows)
    return pa.table(
        {
            "customer_id": [f"{i:05}" for i in numbers],
            "number": pa.array(numbers, pa.int64()),
            "recency": pa.array([i * 3 % 300 for i in numbers], pa.int64()),
            "frequency": pa.array([i * 7 % 29 + 1 for i in numbers], pa.int64()),
            "spend": pa.array([decimal.Decimal(i * 175).scaleb(-2) for i in numbers], pa.decimal128(10, 2)),
            "first_on": [dt.date(1997, 1, 1) + dt.timedelta(days=i % 90) for i in numbers],
            "seen_at": pa.array(
                [dt.datetime(1998, 6, 30, 12, 0, i % 60, tzinfo=dt.UTC) for i in numbers],
                pa.timestamp("us", "UTC"),
            ),
            "vip": [i % 2 == 0 for i in numbers],
            "note": [None if i % 5 else f"note «{i}»" for i in numbers],
            "score": [None if i % 4 == 1 else i / 3 for i in numbers],
        }
    )


def parquet(table: pa.Table) -> bytes:
    """The table as the bytes of a Parquet file."""
    out = io.BytesIO()
    pq.write_table(table, out)
    return out.getvalue()


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> tuple[ModelFile, Any]:
    """A saved model and the estimator in it."""
    table = customers()
    matrix = np.column_stack([np.asarray(table.column(f).to_pylist(), dtype=float) for f in FEATURES])
    target = (matrix[:, 1] * matrix[:, 2] > 1500).astype(int)
    estimator = GradientBoostingClassifier(n_estimators=20, max_depth=2, random_state=0).fit(matrix, target)
    folder = tmp_path_factory.mktemp("model")
    saved = save_model(
        folder, "high_value", estimator, features=FEATURES, sample=table, metrics={"roc_auc": 0.97}
    )
    return saved, estimator


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """A Redis for all tests that want one."""
    server = RedisServer()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def shared_mesh(tmp_path_factory: pytest.TempPathFactory, model: tuple[ModelFile, Any]) -> Iterator[Mesh]:
    """A mesh that tests only read."""
    made = make_mesh(tmp_path_factory.mktemp("mesh"), model[0])
    yield made
    made.database.close()


@pytest.fixture
def mesh(tmp_path: Path, model: tuple[ModelFile, Any]) -> Iterator[Mesh]:
    """A mesh of a test's own."""
    made = make_mesh(tmp_path, model[0])
    yield made
    made.database.close()


def make_mesh(folder: Path, model: ModelFile) -> Mesh:
    """A mesh whose lake has the customers and the model."""
    settings = Settings(folder=folder)
    database = open_database(settings.database_url)
    lake = open_lake(database, settings.storage_namespace)
    features = lake.create_repository("customer-features")
    features.put("main", "customer_features/part-0000.parquet", parquet(customers().slice(0, 120)))
    features.put("main", "customer_features/part-0001.parquet", parquet(customers().slice(120)))
    features.commit("main", "customers")
    own = lake.create_repository("high-value-customers")
    for name in model.files:
        own.put("main", f"models/high_value/{name}", model.folder / name)
    own.commit("main", "model")
    return Mesh(settings, database, lake)


@pytest.fixture(scope="session")
def predictor_folder(shared_mesh: Mesh) -> Path:
    """The unpacked predictor."""
    return shared_mesh.unpacked(shared_mesh.build(PREDICTOR))


@pytest.fixture(scope="session")
def lookups_folder(shared_mesh: Mesh) -> Path:
    """The unpacked lookups."""
    return shared_mesh.unpacked(shared_mesh.build(LOOKUPS))


@pytest.fixture(scope="session")
def predictor(predictor_folder: Path) -> Loaded:
    """The predictor, loaded."""
    return load(predictor_folder)


@pytest.fixture(scope="session")
def lookups(lookups_folder: Path) -> Loaded:
    """The lookups, loaded."""
    return load(lookups_folder)
