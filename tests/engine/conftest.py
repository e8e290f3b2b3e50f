"""An engine with small bounds, and one Parquet file to ask."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tulle.config import Warehouse
from tulle.engine.duck import DuckEngine
from tulle.engine.engine import Relation


@pytest.fixture
def engine(tmp_path: Path) -> DuckEngine:
    return DuckEngine(Warehouse(threads=1, memory="200MB", temp_disk="50MB"), tmp_path / "spill")


@pytest.fixture
def purchases(tmp_path: Path) -> Relation:
    file = tmp_path / "it's purchases.parquet"  # a quote in a path must not become SQL
    pq.write_table(pa.table({"customer_id": ["a", "b", "b"], "amount": [1, 2, 3]}), file)
    return Relation("purchases", (str(file),))
