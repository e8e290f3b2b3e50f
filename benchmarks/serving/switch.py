"""Generations that change back and forth under full load: how many requests fail, and what they notice.

    python -m benchmarks.serving.switch [--quick] [--requests 100000]

32 connections ask for predictions through the whole gateway, as quickly as they are answered, while the generations
that answer are split, deployed and rolled back by the command line, one change after the other, until so many requests
were answered and each change was made several times. Every answer is counted by its status and its generation: each
must be 200, and all generations must have answered.

--quick: 5,000 requests, each change once.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

from benchmarks.serving.customers import Trained, features_bodies, train
from benchmarks.serving.load import Figures, Side, need_wrk, run, told
from benchmarks.serving.mesh import BenchMesh, answer, predictor

SERVICE = "will-return"
PATH = f"{SERVICE}/predict/predict"
CONNECTIONS = 32
DEMANDED = 100_000
SECONDS = 10  # of one run of the load; the next follows at once
# Each leaves another state than the one before it.
CHANGES = (
    ("traffic", SERVICE, "v1=50%", "v2=50%"),
    ("deploy", SERVICE, "--version", "v2"),
    ("rollback", SERVICE),
    ("deploy", SERVICE, "--version", "v1"),
)


def main() -> None:
    """Build two versions, change between them under load, count."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="short runs that only show that all works")
    parser.add_argument("--requests", type=int, help=f"to be answered; default {DEMANDED:,}")
    options = parser.parse_args()
    need_wrk()
    wanted = options.requests or (5_000 if options.quick else DEMANDED)
    with tempfile.TemporaryDirectory(prefix="tulle-switch-") as name:
        scratch = Path(name)
        trained = train(scratch / "model")
        mesh = two_versions(trained, scratch)
        with mesh.up(SERVICE) as headers:
            side = Side("gateway", mesh.gateway(PATH), features_bodies(trained), headers)
            mesh.tulle("service", "deploy", SERVICE, "--version", "v1")
            if (found := generation_of(side)) != "v1":
                sys.exit(f"{found} answers where v1 is deployed")
            quiet = run(side, CONNECTIONS, 1 if options.quick else SECONDS, counted=True)
            print(f"without changes {told(quiet)}   (p50, p99: ms)", flush=True)
            measure(mesh, side, wanted, 1 if options.quick else 3)


def two_versions(trained: Trained, scratch: Path) -> BenchMesh:
    """The service in two versions that differ in what is said of it alone."""
    mesh = BenchMesh(scratch / "mesh")
    tables = {"customers": trained.table}
    text = predictor(SERVICE)
    mesh.begin({SERVICE: text}, tables)
    mesh.publish(tables, {"will_return": trained.saved.folder})
    mesh.package(SERVICE)
    mesh.declare(SERVICE, text + "  description: the same again\n")
    mesh.package(SERVICE)
    return mesh


def generation_of(side: Side) -> str:
    """The generation that answers."""
    found = answer(side.url, json.loads(side.bodies[0]), side.headers)
    return str(found["apiContext"]["serviceGeneration"])


def measure(mesh: BenchMesh, side: Side, wanted: int, rounds: int) -> None:
    """Load until enough was answered and changed."""
    stop, made = threading.Event(), []

    def change() -> None:
        while not stop.is_set():
            words = CHANGES[len(made) % len(CHANGES)]
            begun = time.monotonic()
            mesh.tulle("service", *words)
            made.append((words[0], time.monotonic() - begun))

    changes = threading.Thread(target=change)
    changes.start()
    runs: list[Figures] = []
    try:
        while sum(one.answered for one in runs) < wanted or len(made) < rounds * len(CHANGES):
            if not changes.is_alive():
                sys.exit("a change failed")
            runs.append(run(side, CONNECTIONS, SECONDS, counted=True))
    finally:
        stop.set()
        changes.join()
    report(runs, made)


def report(runs: list[Figures], made: list[tuple[str, float]]) -> None:
    """What was answered, and what was not."""
    counts: Counter[str] = Counter()
    for one in runs:
        counts.update(one.counts)
        print(f"while changing  {told(one)}")
    kinds = Counter(kind for kind, _ in made)
    seconds = max(took for _, took in made)
    print(f"changes: {dict(kinds)}, the longest took {seconds:.1f} s from the command to its end")
    print(f"answers by status and generation: {dict(counts)}")
    answered, failed = sum(one.answered for one in runs), sum(one.failed for one in runs)
    print(f"failed: {failed} of {answered:,} requests (wanted 0: {'MISSED' if failed else 'met'})")
    if failed or set(counts) != {"200 v1", "200 v2"}:
        sys.exit("requests failed, or one of the generations never answered")


if __name__ == "__main__":
    main()
