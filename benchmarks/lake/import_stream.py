"""An import of a sorted stream of references, in a process of its own: how quick, and how much memory it needs.

    python benchmarks/lake/import_stream.py ENTRIES FOLDER

The stream is made while it is read, a batch at a time, so that what is measured is not the benchmark's own table.
Prints JSON: seconds and memory of the import and its commit, without the making of the batches, above one of them.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tulle.lake.repository import open_lake
from tulle.state.db import open_database

BATCH_ROWS = 100_000
OUTSIDE = "s3://warehouse/"


def batch(first: int, end: int, version: int = 0) -> pa.Table:
    """References for some numbers; their paths are those of `engine.path_of`."""
    numbers = pa.array(np.arange(first, end))
    name = pc.utf8_lpad(numbers.cast(pa.string()), 10, "0")
    part = pc.utf8_lpad(pc.divide(numbers, 1000).cast(pa.string()), 6, "0")
    path = pc.binary_join_element_wise("tables/part=", part, "/object-", name, ".parquet", "")
    address = pc.binary_join_element_wise(f"{OUTSIDE}v{version}/object-", name, "")
    return pa.table({"path": path, "address": address, "size": pc.add(numbers, 1_000_000)})


def batches(size: int) -> Iterator[pa.Table]:
    """All references, in path order."""
    for first in range(0, size, BATCH_ROWS):
        yield batch(first, min(first + BATCH_ROWS, size))


class Making:
    """A stream that keeps count of what making it takes."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.wall = self.cpu = 0.0

    def __iter__(self) -> Iterator[pa.Table]:
        made = batches(self.size)
        while True:
            began, used = time.perf_counter(), time.thread_time()
            table = next(made, None)
            self.wall += time.perf_counter() - began
            self.cpu += time.thread_time() - used
            if table is None:
                return
            yield table


def memory(field: str) -> float:
    """MiB of this process: VmRSS now, VmHWM at most so far. Where there is no /proc, the most so far."""
    status = Path("/proc/self/status")
    if not status.exists():  # macOS counts bytes
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 * 1024)
    lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
    return int(lines[field].split()[0]) / 1024


def main() -> None:
    size, folder = int(sys.argv[1]), Path(sys.argv[2])
    database = open_database(f"sqlite:///{folder / 'state.db'}")
    lake = open_lake(database, f"local://{folder / 'objects'}", external=[OUTSIDE], cache=folder / "cache")
    repository = lake.create_repository("stream")
    held = batch(0, min(BATCH_ROWS, size))
    before = memory("VmRSS")
    lake.create_repository("first").replace_prefixes(
        "main", [held], [""], "what is loaded at the first import"
    )
    stream = Making(size)
    began, used = time.perf_counter(), time.process_time()
    ended = repository.replace_prefixes("main", stream, [""], "import")
    wall, cpu = time.perf_counter() - began - stream.wall, time.process_time() - used - stream.cpu
    above = memory("VmHWM") - before
    last = batch(size - 1, size).to_pylist()[0]
    found = repository.stat("main", last["path"])
    if ended.added != size or (found.address, found.size) != (last["address"], last["size"]):
        raise SystemExit(f"{size:,} entries were imported, {ended.added:,} arrived")
    told = {"wall": wall, "cpu": cpu, "making": stream.wall, "above": above, "before": before}
    print(json.dumps({**told, "batch": held.nbytes / 1024**2}))
    database.close()


if __name__ == "__main__":
    main()
