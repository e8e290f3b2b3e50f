"""One row by its key: our worker beside Feast's feature server, and what a large index costs.

    python -m benchmarks.serving.lookup [--quick] [--rows 1000000,10000000] [--feast-rows 1000000]
        [--redis-rows 100000] [--peers FOLDER]

Ten columns under sparse 40-bit keys; 5,000 different keys are asked for, at 1 and at 32 connections, one worker process
each, answers compared before anything is timed. Feast (with SQLite, with Redis) holds the first rows of the same table:
it fills its stores slowly, and what it takes for a request does not depend on how many there are.

With the largest index also: seconds from the start of a worker's process to its first answer, and the memory a second
worker adds once both have read half a million rows (PSS: what they share is divided among them).

--quick: runs of a second, 20,000 rows.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
from benchmarks.serving.customers import KEYS, wide_rows
from benchmarks.serving.environments import DEFAULT
from benchmarks.serving.feast_peer import feast, row_of
from benchmarks.serving.load import CONNECTIONS, TITLE, Pace, Side, in_turn, need_wrk, told, verdict
from benchmarks.serving.mesh import BenchMesh, answer, worker
from benchmarks.serving.processes import pss

SERVICE = "rows"
PATH = f"{SERVICE}/row/lookup"
DECLARED = "service: rows\nendpoints:\n- {name: row, type: lookup, data_set: wide, key: key}\n"
TIMES_FEAST = 30
START_SECONDS = 1
SECOND_WORKER = 0.2  # of the memory of the first
DEMANDED = 10_000_000  # rows: below, start and memory are those of Python
READ = 500_000  # rows, before memory is measured
LINE = "{:>11} {:<34} {:>3}  {:>36}  {:>36}  {}"


def main() -> None:
    """Build what is needed, compare, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="short runs that only show that all works")
    parser.add_argument("--rows", help="how many ours holds, with commas; default 1000000,10000000")
    parser.add_argument("--feast-rows", type=int)
    parser.add_argument("--redis-rows", type=int)
    parser.add_argument("--no-feast", action="store_true")
    parser.add_argument("--peers", type=Path, default=DEFAULT, help=f"where peers live; default {DEFAULT}")
    options = parser.parse_args()
    need_wrk()
    pace = Pace.of(quick=options.quick)
    usual = "20000" if options.quick else "1000000,10000000"
    sizes = [int(size) for size in (options.rows or usual).split(",")]
    stores = {
        "sqlite": options.feast_rows or (20_000 if options.quick else 1_000_000),
        "redis": options.redis_rows or (20_000 if options.quick else 100_000),
    }
    if options.no_feast:
        stores = {}
    with tempfile.TemporaryDirectory(prefix="tulle-lookup-") as name:
        for size in sizes:
            scratch = Path(name) / str(size)
            table = wide_rows(size)
            folder = packaged(table, scratch)
            measure(table, folder, scratch, stores, options.peers.absolute(), pace)
            if size == max(sizes):
                cost(table, folder, scratch)


def packaged(table: pa.Table, scratch: Path) -> Path:
    """The unpacked package of the service over the table."""
    mesh = BenchMesh(scratch / "mesh")
    mesh.begin({SERVICE: DECLARED}, {"wide": table})
    mesh.publish({"wide": table}, {})
    return mesh.package(SERVICE)


@contextmanager
def ours(folder: Path, scratch: Path, keys: Sequence[int]) -> Iterator[tuple[Side, Any, float]]:
    """A worker as a side; its process, and how long it took to answer."""
    bodies = [json.dumps({"data": {"key": key}}) for key in keys]
    with worker(folder, scratch, PATH, bodies[0]) as (url, process, seconds):
        yield Side("ours", url, bodies, processes=[process]), process, seconds


def measure(
    table: pa.Table, folder: Path, scratch: Path, stores: dict[str, int], peers: Path, pace: Pace
) -> None:
    """Against Feast with each store."""
    print(LINE.format("rows", "peer", "c", f"ours {TITLE}", f"peer {TITLE}", "ratio"))
    for store, count in stores.items():
        rows = table.slice(0, count)
        keys = chosen(rows)
        with (
            ours(folder, scratch / f"worker-{store}", keys) as (side, _, _),
            feast(store, wide_rows(count) if count > len(table) else rows, keys, peers, scratch) as peer,
        ):
            compare(table, side, keys)
            if peer is None:
                continue
            for key, body in list(zip(keys, peer.bodies, strict=True))[:50]:
                same(row_of(answer(peer.url, json.loads(body))), row(table, key), peer.name)
            for connections in CONNECTIONS:
                a, b = in_turn([side, peer], connections, pace)
                wanted = TIMES_FEAST if connections > 1 else None
                ratio = verdict(a.rps / b.rps, wanted)
                print(
                    LINE.format(f"{len(table):,}", peer.name, connections, told(a), told(b), ratio),
                    flush=True,
                )


def cost(table: pa.Table, folder: Path, scratch: Path) -> None:
    """Start and memory of workers."""
    keys = chosen(table)
    starts = []
    for number in range(3):
        with ours(folder, scratch / f"start-{number}", keys) as (_, _, seconds):
            starts.append(seconds)
    is_large = len(table) >= DEMANDED
    wanted = START_SECONDS if is_large else None
    start = verdict(statistics.median(starts), wanted, at_most=True, unit=" s")
    print(f"start of a worker with {len(table):,} rows: {start}")
    with ours(folder, scratch / "first", keys) as (first, one, _):
        read(table, first.url)
        alone = pss(one)
        with ours(folder, scratch / "second", keys) as (second, other, _):
            read(table, second.url)
            both = pss(one) + pss(other)
    share = SECOND_WORKER if is_large else None
    more = verdict((both - alone) / alone, share, at_most=True, unit=" of the first's")
    print(f"memory of one worker {alone / 1e6:,.0f} MB, a second adds {(both - alone) / 1e6:,.0f} MB: {more}")


def read(table: pa.Table, url: str) -> None:
    """Ask for many rows all over the index, a thousand a request."""
    random = np.random.default_rng(1)
    keys = table.column("key").to_numpy()[random.integers(0, len(table), READ)]
    with httpx.Client(timeout=60) as client:
        for start in range(0, READ, 1000):
            items = [{"data": {"key": int(key)}} for key in keys[start : start + 1000]]
            found = client.post(url + "-multi", json={"items": items})
            if found.status_code != 200 or b'"error"' in found.content:
                sys.exit(f"{url}-multi answers {found.status_code}: {found.text[:500]}")


def chosen(table: pa.Table) -> list[int]:
    """Some of its keys, in no order."""
    places = np.random.default_rng(5).integers(0, len(table), KEYS)
    return [int(key) for key in table.column("key").to_numpy()[places]]


def row(table: pa.Table, key: int) -> dict[str, Any]:
    """The row of a key, by other means."""
    place = int(np.searchsorted(table.column("key").to_numpy(), key))
    found = table.slice(place, 1).to_pylist()[0]
    assert found.pop("key") == key
    return found


def compare(table: pa.Table, side: Side, keys: Sequence[int]) -> None:
    """Refuse to time what answers other rows."""
    for key, body in list(zip(keys, side.bodies, strict=True))[:50]:
        (result,) = answer(side.url, json.loads(body))["results"]
        same(
            {name: value for name, value in result["data"].items() if name != "key"}, row(table, key), "ours"
        )


def same(found: dict[str, Any], wanted: dict[str, Any], who: str) -> None:
    """The same values under the same names."""
    plain = {name.rpartition("__")[2]: value for name, value in found.items()}
    if plain != wanted:
        sys.exit(f"{who} answers {plain} where the table has {wanted}")


if __name__ == "__main__":
    main()
