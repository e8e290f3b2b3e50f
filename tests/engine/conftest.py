"""An engine with small bounds, and one Parquet file to ask."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tulle.config import Warehouse
from tulle.engine.duck import DuckEngine
from tulle.engine.engine import Relation


@pytest.fixture(params=["a database a statement", "one database"])
def engine(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[DuckEngine]:
    own = DuckEngine(Warehouse(threads=1, memory="200MB", temp_disk="50MB"), tmp_path / "spill")
    if request.param == "a database a statement":
        yield own
        return
    with own.kept(tmp_path / "room") as kept:
        yield kept
    assert not (tmp_path / "room").exists()


@pytest.fixture
def purchases(tmp_path: Path) -> Relation:
    file = tmp_path / "it's purchases.parquet"  # a quote in a path must not become SQL
    pq.write_table(pa.table({"customer_id": ["a", "b", "b"], "amount": [1, 2, 3]}), file)
    return Relation("purchases", (str(file),))
