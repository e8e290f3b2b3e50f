"""The lake on this machine's disk: import, commit, get, list, diff, merge, at several sizes.

    python benchmarks/lake/engine.py [--sizes 100000,1000000] [--json FILE]

Prints one line a measurement: what, how often or long, and for commits how many objects were written and read.
Figures depend on the machine; the same work at two sizes is what to compare, and at the end what costs how much
more at the largest than at the smallest is told beside what is allowed (`--sizes 100000,10000000` is the demand).
An import is also measured in a process of its own, of a stream that nobody holds whole: its rate, its memory.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from import_stream import OUTSIDE, batch, batches

from tulle.lake.blobs import BlobInfo, Blobs, open_blobs
from tulle.lake.repository import Lake, Link, Repository
from tulle.state.db import open_database

FIGURES: dict[str, float] = {}
LINKED = 1_000_000  # rows of one table at most
RATE = 1_000_000  # entries a second that an import is to reach, of a million and more
MEMORY = 1024  # MiB that an import may need above a batch of its input
AT_MOST = {"stat, warm p50": 0.1, "list 1,000, warm p50": 2.0}  # ms, at every size
GROWTH = {
    "commit of 1,000 scattered changes": 2.0,
    "diff of one commit of 1,000 p50": 2.0,
    "three-way merge of 1,000 and 1,000 changes": 3.0,
    "stat, warm p50": 2.0,
    "list 1,000, warm p50": 2.0,
}


class CountingBlobs:
    """Counts what goes to and comes from the store."""

    def __init__(self, inner: Blobs) -> None:
        self.inner = inner
        self.puts = self.gets = self.bytes_out = 0

    def put(self, path: str, data: object) -> int:
        self.puts += 1
        size = self.inner.put(path, data)  # type: ignore[arg-type]
        self.bytes_out += size
        return size

    def get(self, path: str, start: int = 0, end: int | None = None) -> bytes:
        self.gets += 1
        return self.inner.get(path, start, end)

    def stat(self, path: str, *, settle: bool = False) -> BlobInfo:
        return self.inner.stat(path, settle=settle)

    def refresh(self, path: str, data: bytes) -> None:
        self.puts += 1  # in a store it is a PUT
        self.bytes_out += len(data)
        self.inner.refresh(path, data)

    def delete(self, path: str) -> None:
        self.inner.delete(path)

    def list(self, folder: str = "") -> Iterator[BlobInfo]:
        return self.inner.list(folder)

    def url(self, path: str, *, for_writing: bool = False) -> str:
        return self.inner.url(path, for_writing=for_writing)


def note(name: str, value: float, unit: str, more: str = "") -> None:
    FIGURES[f"{name} ({unit})"] = value
    print(f"{name:<58}{value:>12,.2f} {unit}{'   ' + more if more else ''}", flush=True)


@contextmanager
def timed(name: str, rows: int = 0) -> Iterator[None]:
    began = time.perf_counter()
    yield
    seconds = time.perf_counter() - began
    note(name, seconds * 1000, "ms", f"{rows / seconds:,.0f} entries/s" if rows else "")


def path_of(number: int) -> str:
    return f"tables/part={number // 1000:06d}/object-{number:010d}.parquet"


def links(numbers: range | list[int], version: int) -> Iterator[Link]:
    for number in numbers:
        yield Link(path_of(number), f"{OUTSIDE}v{version}/object-{number:010d}", 1_000_000 + number)


def repeat(name: str, times: int, work: Callable[[int], object]) -> None:
    took = []
    for turn in range(times):
        began = time.perf_counter()
        work(turn)
        took.append((time.perf_counter() - began) * 1000)
    took.sort()
    note(f"{name} p50", statistics.median(took), "ms", f"p99 {took[int(len(took) * 0.99) - 1]:.2f} ms")


def measure(size: int, folder: Path) -> None:
    database = open_database(f"sqlite:///{folder / 'state.db'}")
    blobs = CountingBlobs(open_blobs(f"local://{folder / 'objects'}"))
    lake = Lake(database, blobs, external=[OUTSIDE], cache=folder / "cache")
    repository = lake.create_repository("bench")
    label = f"{size:,}: "
    streamed(size, label)
    with timed(f"{label}import of a stream, its making included", size):
        repository.replace_prefixes("main", batches(size), [""], "import")
    repository.create_branch("other")
    table = batch(0, min(size, LINKED), version=1)
    with timed(f"{label}link_table of {len(table):,}, one batch, staged durably", len(table)):
        repository.link_table("other", table)
    del table
    with timed(f"{label}commit of those"):
        repository.commit("other", "linked")
    with timed(f"{label}link_many of 100,000, one batch, staged durably", 100_000):
        repository.link_many("other", links(range(100_000), 0))
    repository.delete_branch("other")
    random.seed(1)
    os.sync()  # what an import of ten millions left to be written is not to be waited for by the first commits
    commits(repository, blobs, size, label)
    reads(lake, repository, size, label)
    branches(repository, size, label)
    note(f"{label}highest memory", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, "MiB")
    database.close()


def streamed(size: int, label: str) -> None:
    """An import in a process of its own, beside what it may take."""
    with tempfile.TemporaryDirectory() as folder:
        argv = [sys.executable, str(Path(__file__).parent / "import_stream.py"), str(size), folder]
        told = json.loads(subprocess.run(argv, capture_output=True, text=True, check=True).stdout)
    rate = size / told["wall"]
    verdict = "met" if rate >= RATE else "NOT MET"
    wanted = f"at least {RATE:,}: {verdict}" if size >= RATE else f"{RATE:,} are wanted of a million and more"
    note(f"{label}import of a stream", told["wall"] * 1000, "ms", f"{rate:,.0f} entries/s   {wanted}")
    note(
        f"{label}processors meanwhile",
        told["cpu"] * 1000,
        "ms",
        f"{size / told['cpu']:,.0f} entries/s of cpu",
    )
    verdict = "met" if told["above"] <= MEMORY else "NOT MET"
    more = f"at most {MEMORY:,}: {verdict}; a batch has {told['batch']:.0f}, {told['before']:.0f} before"
    note(f"{label}memory of the import above a batch", told["above"], "MiB", more)


def commits(repository: Repository, blobs: CountingBlobs, size: int, label: str) -> None:
    took = []
    for version in range(1, 7):
        repository.link_many("main", links(random.sample(range(size), 1000), version))
        puts, gets, written = blobs.puts, blobs.gets, blobs.bytes_out
        began = time.perf_counter()
        repository.commit("main", f"change {version}")
        took.append((time.perf_counter() - began) * 1000)
        counts = f"{blobs.puts - puts} puts, {blobs.gets - gets} gets, {blobs.bytes_out - written:,} bytes"
    note(f"{label}commit of 1,000 scattered changes", statistics.median(took), "ms", counts)


def reads(lake: Lake, repository: Repository, size: int, label: str) -> None:
    paths = [path_of(random.randrange(size)) for _ in range(2000)]
    for path in paths:  # warm is what was read before
        repository.stat("main", path)
    repeat(f"{label}stat, warm", len(paths), lambda turn: repository.stat("main", paths[turn]))
    after = path_of(size // 2)
    repeat(f"{label}list 1,000, warm", 100, lambda _: repository.list("main", after=after, limit=1000))
    repeat(f"{label}list by folder, warm", 20, lambda _: repository.list("main", "tables/", delimiter="/"))
    fresh = Lake(lake.database, lake.stores, external=[OUTSIDE]).repository("bench")  # its own, empty caches
    with timed(f"{label}stat, nothing cached"):
        fresh.stat("main", path_of(size // 3))
    with timed(f"{label}all entries", size):
        for _ in repository.entries("main"):
            pass
    repeat(f"{label}diff of one commit of 1,000", 9, lambda _: repository.diff("main~1", "main"))
    with timed(f"{label}diff over six commits"):
        repository.diff("main~6", "main")


def branches(repository: Repository, size: int, label: str) -> None:
    repeat(f"{label}create a branch", 50, lambda turn: repository.create_branch(f"b{turn}"))
    repository.create_branch("ours")
    repository.link_many("ours", links(random.sample(range(0, size, 2), 1000), 8))
    repository.commit("ours", "ours")
    repository.link_many("main", links(random.sample(range(1, size, 2), 1000), 9))
    repository.commit("main", "theirs")
    with timed(f"{label}three-way merge of 1,000 and 1,000 changes"):
        repository.merge("ours", "main")
    repository.create_branch("ahead")
    repository.link_many("ahead", links(random.sample(range(size), 1000), 10))
    repository.commit("ahead", "ahead")
    with timed(f"{label}merge of 1,000 changes into what did not move"):
        repository.merge("ahead", "main")
    with timed(f"{label}fold", size):
        repository.fold("main")


def small_puts(folder: Path) -> None:
    database = open_database(f"sqlite:///{folder / 'puts.db'}")
    repository = Lake(database, open_blobs(f"local://{folder / 'puts'}")).create_repository("puts")
    data = b"x" * 4096
    repeat("put of 4 KiB", 500, lambda turn: repository.put("main", f"a/{turn}", data))
    repeat("get of 4 KiB, warm", 500, lambda turn: repository.get("main", f"a/{turn}"))
    with timed("put_many of 1,000 × 4 KiB", 1000):
        repository.put_many("main", ((f"b/{number}", data) for number in range(1000)))
    database.close()


def growth(sizes: list[str]) -> None:
    """What costs how many times as much at the largest size as at the smallest."""
    least, most = f"{int(sizes[0]):,}: ", f"{int(sizes[-1]):,}: "
    if least == most:
        return
    for name, allowed in GROWTH.items():
        ratio = FIGURES[f"{most}{name} (ms)"] / FIGURES[f"{least}{name} (ms)"]
        verdict = "ok" if ratio <= allowed else "MORE THAN ALLOWED"
        print(f"growth of {name:<48}{ratio:>12.2f} x    at most {allowed:g}: {verdict}")


def limits(sizes: list[str]) -> None:
    """What may cost no more than so much, however large the repository."""
    for size in map(int, sizes):
        for name, allowed in AT_MOST.items():
            took = FIGURES[f"{size:,}: {name} (ms)"]
            verdict = "ok" if took < allowed else "MORE THAN ALLOWED"
            print(f"{f'{size:,}: {name}':<58}{took:>12.3f} ms   less than {allowed:g}: {verdict}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", default="100000,1000000")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    for size in map(int, options.sizes.split(",")):
        with tempfile.TemporaryDirectory() as folder:
            measure(size, Path(folder))
    with tempfile.TemporaryDirectory() as folder:
        small_puts(Path(folder))
    limits(options.sizes.split(","))
    growth(options.sizes.split(","))
    if options.json:
        options.json.write_text(json.dumps(FIGURES, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
