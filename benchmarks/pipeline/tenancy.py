"""Can one domain's heavy runs slow another's beyond its share? Real runs, as `tulle run` starts them.

    python benchmarks/pipeline/tenancy.py [SECONDS]

The domain `light` has one run, measured alone, then beside the domain `heavy`, which has as many runs and threads at a
time as its warehouse allows. With two domains that want the machine, each has half of it: `light` may take twice as
long. SECONDS is about what `light` takes alone. Prints the times of the light run's model, and the share
of the processors it got, as the kernel counted it.
"""

from __future__ import annotations

import contextlib
import signal
import statistics
import sys
import tempfile
import time
from pathlib import Path

import psutil

from tulle.control.apply import apply_plan
from tulle.control.workspace import Workspace
from tulle.pipeline import run as runs
from tulle.pipeline import worker
from tulle.server.app import open_workspace
from tulle.spec.mesh import load_settings

DOCUMENT = """apiVersion: core.oam.dev/v1beta1
kind: DataProduct
spec:
  components:
  - {{name: {domain}, type: domain, properties: {{description: a domain}}}}
  - {{name: {name}, type: data-product, properties: {{definition: work}}}}
  - {{name: made, type: data-set, properties: {{description: made}}}}
"""
MESH = """name: shares
warehouses:
  light: {threads: 2, memory: 512MB, concurrent_runs: 1}
  heavy: {threads: 2, memory: 512MB, concurrent_runs: 3}
"""
ROWS_A_SECOND = 30_000_000
ROUNDS = 3


def add(folder: Path, domain: str, name: str, rows: int) -> None:
    """Write a product whose model computes for a while."""
    home = folder / "products" / domain / name
    (home / "transform").mkdir(parents=True)
    (home / "product.yaml").write_text(DOCUMENT.format(domain=domain, name=name))
    statement = f"SELECT sum(hash(i) % 1000) AS s, max(sqrt(i + sin(i))) AS m FROM range({rows}) t(i)\n"
    (home / "transform/made.sql").write_text(statement)


def start(workspace: Workspace, product: str) -> str:
    """A run in a process of its own."""
    run_id = runs.request(workspace.database, product, options={"full": True})
    worker.start(workspace.settings, run_id)
    return run_id


def ended(workspace: Workspace, run_id: str) -> tuple[float, float]:
    """Wait for a run; the seconds its model took, and how much of a processor it had meanwhile."""
    seen: list[tuple[float, float]] = []
    while not (run := runs.get(workspace.database, run_id)).ended:
        with contextlib.suppress(psutil.Error):
            times = psutil.Process(run.pid).cpu_times()
            seen.append((time.time(), times.user + times.system))
        time.sleep(0.1)
    if run.status != runs.SUCCEEDED:
        sys.exit(f"run of {run.product} is {run.status}: {run.error}")
    (step,) = [s for s in run.steps if s.name == "made"]
    began, over = step.started_at or 0.0, step.finished_at or 0.0
    inside = [(at, cpu) for at, cpu in seen if began <= at <= over]
    if len(inside) < 3:
        sys.exit("the light run was too short to look at: give more SECONDS")
    (first, had), (last, has) = inside[0], inside[-1]
    return over - began, (has - had) / (last - first)


def median(workspace: Workspace) -> tuple[float, float]:
    """Of the light run, several times."""
    found = [ended(workspace, start(workspace, "light-work")) for _ in range(ROUNDS)]
    return statistics.median(took for took, _ in found), statistics.median(had for _, had in found)


def main(seconds: float) -> None:
    """Measure and print."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # the runs are stopped whatever ends this
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "mesh.yaml").write_text(MESH)
        rows = int(ROWS_A_SECOND * seconds)
        add(folder, "light", "light-work", rows)
        heavy = [f"heavy-work-{number}" for number in range(3)]
        for product in heavy:
            add(folder, "heavy", product, rows * 40)
        workspace = open_workspace(load_settings(folder))
        apply_plan(workspace)
        alone, had_alone = median(workspace)
        burning = [start(workspace, product) for product in heavy]
        try:
            while any(runs.get(workspace.database, one).status == runs.QUEUED for one in burning):
                time.sleep(0.1)
            time.sleep(3)
            beside, had_beside = median(workspace)
            still = sum(not runs.get(workspace.database, one).ended for one in burning)
        finally:
            for one in burning:
                worker.stop(workspace.database, one)
        print(f"light alone               {alone:7.2f} s")
        print(f"light beside 3 heavy runs {beside:7.2f} s   ({still} of them ran all the time)")
        print(f"processors it had         {had_beside:7.2f} of {had_alone:.2f} alone")
        print(f"share of the processors   {had_beside / had_alone:7.0%}   (its fair share is 50%)")
        print(
            f"speed that it kept        {alone / beside:7.0%}   (less by what caches and memory are shared)"
        )


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 4.0)
