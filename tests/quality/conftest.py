"""An engine, and a way to make relations out of columns."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tulle.config import Warehouse
from tulle.engine.duck import DuckEngine
from tulle.engine.engine import Relation

Relations = Callable[..., dict[str, Relation]]


@pytest.fixture
def engine(tmp_path: Path) -> DuckEngine:
    return DuckEngine(Warehouse(threads=1, memory="200MB"), tmp_path / "spill")


@pytest.fixture
def relations(tmp_path: Path) -> Relations:
    """`relations(name={column: values})` writes each data set and gives them by name."""

    def make(**data_sets: Any) -> dict[str, Relation]:
        made = {}
        for name, columns in data_sets.items():
            file = tmp_path / f"{name}.parquet"
            pq.write_table(columns if isinstance(columns, pa.Table) else pa.table(columns), file)
            made[name] = Relation(name, (str(file),))
        return made

    return make
