"""A million rows from a real PostgreSQL into the lake, against dlt's backends, turn by turn in one run.

    python -m benchmarks.pipeline.ingest --peer FOLDER/bin/python [--rows 1000000] [--turns 3]

`--peer` is the Python of an environment with `dlt[parquet,filesystem] connectorx "psycopg[binary]" sqlalchemy pandas`.
Ours is a whole run: branch, typed Parquet, checks, one published commit. Theirs is a pipeline that extracts the table,
normalises it and loads it as Parquet files into a folder. Both read over TCP from the same server. What is timed is the
work within a started Python, so neither pays for its imports. After each turn the rows are counted.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import socket
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import psycopg
import pyarrow.parquet as pq
import yaml
from tests.lake import databases
from tests.lake.databases import Postgres

from tulle.lake.repository import open_lake
from tulle.pipeline import run as runs
from tulle.pipeline.execute import execute
from tulle.pipeline.sources.address import made
from tulle.spec.mesh import load_mesh
from tulle.state.connections import open_connections
from tulle.state.db import open_database

TABLE = """
CREATE TABLE orders (
  id bigint PRIMARY KEY, customer text, amount numeric(12,2), ratio double precision, paid boolean, day date,
  updated_at timestamptz, note text);
INSERT INTO orders
SELECT n, 'customer-' || n % 50000, (n % 100000) / 100.0, n / 7.0, n % 3 = 0, date '2020-01-01' + n % 1000,
  timestamptz '2020-01-01' + n * interval '1 second', CASE WHEN n % 5 = 0 THEN NULL ELSE md5(n::text) END
FROM generate_series(1, %s::int) n;
"""
PRODUCT = """
apiVersion: core.oam.dev/v1beta1
kind: DataProduct
spec:
  components:
  - {name: shop, type: domain, properties: {description: the shop}}
  - {name: orders, type: data-product, properties: {definition: what was ordered}}
  - name: orders
    type: input-port
    properties: {description: orders, source: {type: sql, connection: db, table: orders}, data_set: orders}
"""
PEER = """
import json, sys, time
import dlt
from dlt.sources.sql_database import sql_table
url, folder, backend = sys.argv[1:]
began, cpu = time.perf_counter(), time.process_time()
pipeline = dlt.pipeline("p", destination=dlt.destinations.filesystem(bucket_url="file://" + folder + "/out"),
                        dataset_name="d", pipelines_dir=folder + "/state")
options = {"backend_kwargs": {"return_type": "arrow"}} if backend == "connectorx" else {}
table = sql_table(credentials=url, table="orders", backend=backend, chunk_size=100000,
                  reflection_level="full_with_precision", **options)
pipeline.run(table, loader_file_format="parquet", write_disposition="replace")
print(json.dumps({"seconds": time.perf_counter() - began, "cpu": time.process_time() - cpu}))
"""


@contextlib.contextmanager
def server(rows: int):  # type: ignore[no-untyped-def]
    """A PostgreSQL server on loopback with the table; its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    databases.SETTINGS.update(listen_addresses="127.0.0.1", port=str(port))
    os.environ["PGPORT"] = str(port)
    postgres = Postgres()
    address = f"127.0.0.1:{port}/postgres"
    try:
        with psycopg.connect(f"postgresql://postgres@{address}", autocommit=True) as cx:
            for statement in TABLE.split(";\n"):
                if statement.strip():
                    cx.execute(statement.replace("%s", str(rows)))
            cx.execute("VACUUM ANALYZE orders")
        yield address
    finally:
        postgres.stop()


def ours(address: str, folder: Path) -> tuple[float, float, int]:
    """Seconds, seconds of this process's own work, and rows of one run in a mesh of its own."""
    product = folder / "products/shop/orders"
    product.mkdir(parents=True)
    (product / "product.yaml").write_text(PRODUCT.lstrip("\n"))
    (folder / "mesh.yaml").write_text(yaml.safe_dump({"name": "bench"}))
    spec = load_mesh(folder)
    database = open_database(spec.settings.database_url)
    lake = open_lake(database, spec.settings.storage_namespace)
    lake.create_repository("orders")
    connection = made("db", "prod", "sql", f"postgresql://postgres@{address}", {}, {})
    open_connections(spec.settings, database).save(connection)
    began, cpu = time.perf_counter(), time.process_time()
    run = execute(database, lake, spec, runs.request(database, "orders"))
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    assert run.status == "succeeded", run.error
    files = lake.repository("orders").files("main", "orders/")
    count = sum(pq.read_metadata(file).num_rows for file in files)
    database.close()
    return seconds, cpu, count


def theirs(python: str, address: str, folder: Path, backend: str) -> tuple[float, float, int]:
    """Seconds, seconds of its own work, and rows of one pipeline with one of dlt's backends."""
    folder.mkdir(parents=True)
    url = f"postgresql://postgres@{address}"
    env = {"PATH": os.environ["PATH"], "HOME": str(folder), "RUNTIME__DLTHUB_TELEMETRY": "false"}
    done = subprocess.run(
        [python, "-c", PEER, url, str(folder), backend], env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    files = (folder / "out").rglob("orders/*.parquet")
    said = json.loads(done.stdout.splitlines()[-1])
    return said["seconds"], said["cpu"], sum(pq.read_metadata(f).num_rows for f in files)


def main() -> None:
    """Print a line a turn, then the medians."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--peer", required=True, help="Python of an environment with dlt")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--turns", type=int, default=3)
    options = parser.parse_args()
    found: dict[str, list[float]] = {"tulle": [], "dlt connectorx": [], "dlt pyarrow": []}
    work: dict[str, list[float]] = {name: [] for name in found}
    with server(options.rows) as address:
        for turn in range(options.turns):
            for name, seconds_of in found.items():
                folder = Path(tempfile.mkdtemp(prefix="ingest-"))
                if name == "tulle":
                    seconds, cpu, rows = ours(address, folder / "mesh")
                else:
                    seconds, cpu, rows = theirs(
                        options.peer, address, folder / "dlt", name.removeprefix("dlt ")
                    )
                shutil.rmtree(folder)
                assert rows == options.rows, f"{name} has {rows:,} rows"
                seconds_of.append(seconds)
                work[name].append(cpu)
                print(f"turn {turn + 1}: {name:<15} {seconds:6.2f} s, {cpu:5.2f} s of work", flush=True)
    medians = {name: statistics.median(seconds) for name, seconds in found.items()}
    worked = {name: statistics.median(seconds) for name, seconds in work.items()}
    best = min(value for name, value in medians.items() if name != "tulle")
    print(
        json.dumps(
            {
                "rows": options.rows,
                "median_seconds": medians,
                "median_work": worked,
                "times": round(best / medians["tulle"], 2),
            }
        )
    )


if __name__ == "__main__":
    main()
