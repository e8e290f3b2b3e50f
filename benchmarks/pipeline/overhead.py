"""What branch, gate and publication cost over the bare engine: a model of ten million rows, and a tiny one.

    python benchmarks/pipeline/overhead.py [--rows 10000000] [--repeats 3]

The same statement, with the same threads and the same Parquet settings, is written by DuckDB itself to a file, with one
query beside it that counts what the checks count, and by a run of Tulle: turn, branch, model, checks at the gate,
durable publication. Both in this process, in turns; the least of each is compared, as a slow disk or a busy machine
only ever adds. What the disk takes to make so large a file durable is told apart: the bare engine does not wait for it.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import sys
import tempfile
import time
from pathlib import Path

import duckdb

from tulle.pipeline import run as runs
from tulle.pipeline.execute import execute
from tulle.pipeline.mesh_lake import open_mesh_lake
from tulle.spec.mesh import load_mesh
from tulle.state.db import open_database

TINY = 100
WANTED_SHARE = 1.10  # of the large one, the bare engine's time
WANTED_SECONDS = 0.050  # of the tiny one, more than the bare engine
DOCUMENT = """\
apiVersion: core.oam.dev/v1beta1
kind: DataProduct
metadata: {name: one}
spec:
  components:
  - {name: sales, type: domain, properties: {description: d}}
  - {name: one, type: data-product, properties: {definition: d}}
"""
CHECKS = """\
checks:
- {data_set: rows, type: not_null, columns: [id, customer]}
- {data_set: rows, type: range, column: amount, min: 0, max: 1000000}
- {data_set: rows, type: row_count, min: 1}
"""
COUNTED = (
    "count(*), count(*) FILTER (id IS NULL), count(*) FILTER (customer IS NULL), min(amount), max(amount)"
)


def statement(rows: int, salt: int) -> str:
    """Some work: hashes, text and a window over groups; `salt` makes it another one each time."""
    return (
        f"SELECT i AS id, 'customer-' || (hash(i + {salt}) % 500000) AS customer, "
        f"CAST((hash(i * 7 + {salt}) % 1000000) / 100 AS DECIMAL(10, 2)) AS amount, "
        f"sum(i % 100) OVER (PARTITION BY i // 1000) AS in_group "
        f"FROM range({rows}) AS t(i)"
    )


class Mesh:
    """A mesh with one product of one model."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.product = folder / "products/sales/one"
        for part in ("transform", "checks"):
            (self.product / part).mkdir(parents=True)
        (folder / "mesh.yaml").write_text("name: bench\nwarehouse: {threads: 2, memory: 4GB}\n")
        (self.product / "product.yaml").write_text(DOCUMENT)
        (self.product / "checks/all.yaml").write_text(CHECKS)
        spec = load_mesh(folder)
        self.database = open_database(spec.settings.database_url)
        self.lake = open_mesh_lake(spec.settings, self.database)
        self.lake.create_repository("one")

    def run(self, sql: str) -> float:
        """Seconds of a run, from asking for it to its end."""
        (self.product / "transform/rows.sql").write_text(sql + "\n")
        spec = load_mesh(self.folder)
        began = time.perf_counter()
        with contextlib.redirect_stdout(io.StringIO()):
            done = execute(self.database, self.lake, spec, runs.request(self.database, "one"))
        took = time.perf_counter() - began
        if done.status != "succeeded":
            raise SystemExit(f"the run {done.status}: {done.error}")
        return took


def bare(sql: str, target: Path) -> tuple[float, float]:
    """Seconds that the engine takes, and that the disk takes afterwards."""
    began = time.perf_counter()
    with duckdb.connect(":memory:", config={"threads": 2, "memory_limit": "4GB"}) as connection:
        connection.execute(
            f"COPY ({sql}) TO '{target}' (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE 122880)"
        )
        connection.execute(f"SELECT {COUNTED} FROM read_parquet('{target}')").fetchall()
    took = time.perf_counter() - began
    began = time.perf_counter()
    with target.open("rb") as stream:
        os.fsync(stream.fileno())
    synced = time.perf_counter() - began
    target.unlink()
    return took, synced


def measure(rows: int, repeats: int) -> tuple[float, float, float]:
    """The least seconds of the bare engine, of the disk after it, and of a run."""
    with tempfile.TemporaryDirectory(prefix="tulle-bench-") as name:
        mesh = Mesh(Path(name) / "mesh")
        theirs, synced, ours = [], [], []
        for turn in range(repeats + 1):
            took = bare(statement(rows, 2 * turn), Path(name) / "bare.parquet")
            run = mesh.run(statement(rows, 2 * turn + 1))
            if turn:  # the first of each warms up
                theirs.append(took[0])
                synced.append(took[1])
                ours.append(run)
        mesh.database.close()
    return min(theirs), min(synced), min(ours)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    engine, disk, run = measure(TINY, max(10, options.repeats))
    met = "met" if run - engine <= WANTED_SECONDS else "NOT MET"
    print(f"{TINY:>12,} rows: engine {engine * 1000:8.1f} ms   run {run * 1000:8.1f} ms")
    print(f"{'':12}       {(run - engine) * 1000:.1f} ms more, at most {WANTED_SECONDS * 1000:.0f}: {met}")
    engine, disk, run = measure(options.rows, options.repeats)
    met = "met" if run <= WANTED_SHARE * engine else "NOT MET"
    durable = run / (engine + disk)
    print(f"{options.rows:>12,} rows: engine {engine:8.2f} s    run {run:8.2f} s    disk {disk:.2f} s")
    print(f"{'':12}       {run / engine:.3f} of the engine, at most {WANTED_SHARE}: {met}")
    print(f"{'':12}       {durable:.3f} of engine and disk together, which is durable as well")
    return 0


if __name__ == "__main__":
    sys.exit(main())
