"""A run as a process of its own: `python -m tulle.pipeline.worker --mesh FOLDER --run ID`.

The process lives in its own session, so it outlives whoever started it, within its warehouse's bounds: threads,
memory, niceness. Its output is the run's log, `.tulle/log/run-<id>.log`.
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil

from tulle.config import Settings, Warehouse, collector
from tulle.errors import TulleError, Unavailable
from tulle.pipeline import run as runs
from tulle.pipeline import run_end, run_turn
from tulle.pipeline.alive import Heart, machine
from tulle.pipeline.share import take_share
from tulle.state.db import Database, open_database

_STOP_SECONDS = 5.0
_LEAST_DATA_BYTES = 4 << 30
_THREAD_SETTINGS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "POLARS_MAX_THREADS",
)


def start(settings: Settings, run_id: str) -> int:
    """Start the process of a queued run and return its id at once; `run.get` tells how it goes on."""
    settings.log_folder.mkdir(parents=True, exist_ok=True)
    with log_file(settings, run_id).open("ab") as output:
        process = subprocess.Popen(  # noqa: S603  our own module, with a run id we made
            [sys.executable, "-m", "tulle.pipeline.worker", "--mesh", str(settings.folder), "--run", run_id],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    # Somebody has to take note of its end, or it stays a zombie as long as we live.
    threading.Thread(target=process.wait, daemon=True).start()
    return process.pid


def log_file(settings: Settings, run_id: str) -> Path:
    """Where the output of a run is."""
    return settings.log_folder / f"run-{run_id}.log"


def stop(database: Database, run_id: str) -> None:
    """Stop a run that has not ended: its process and all that it started. What is published stays as it is."""
    run = runs.get(database, run_id)
    if run.ended:
        return
    # On another machine its process finds within seconds that the run was stopped, and ends itself.
    if run.pid is not None and run.machine in {None, machine()} and _is_worker(run.pid, run_id):
        _end_group(run.pid)
    error = Unavailable(
        f"run {run_id} was stopped; nothing was published", hint="its branches are kept to look at"
    )
    run_end.settle(database, run_id, error, runs.CANCELLED)


def _is_worker(pid: int, run_id: str) -> bool:
    """Whether that process is the worker of that run: an id alone may belong to somebody else by now."""
    try:
        command = psutil.Process(pid).cmdline()
    except psutil.Error:
        return False
    return "tulle.pipeline.worker" in command and run_id in command


def _end_group(pid: int) -> None:
    for sign in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(pid, sign)
        except ProcessLookupError:
            return
        deadline = time.monotonic() + _STOP_SECONDS
        while time.monotonic() < deadline:
            try:
                if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                    return
            except psutil.Error:
                return
            time.sleep(0.02)


def bound(warehouse: Warehouse) -> None:
    """Keep this process within a warehouse's bounds."""
    for name in _THREAD_SETTINGS:
        os.environ[name] = str(warehouse.threads)
    import pyarrow as pa  # noqa: PLC0415  brings numpy, which reads those settings once, when it is loaded

    take_share(warehouse)
    pa.set_cpu_count(warehouse.threads)
    pa.set_io_thread_count(warehouse.threads)
    # Generous: the SQL engine keeps its own limit; this one stops code that would take the whole machine.
    most = max(_LEAST_DATA_BYTES, 4 * bytes_of(warehouse.memory))
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(
        resource.RLIMIT_DATA, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard)
    )
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))


def bytes_of(size: str) -> int:
    """A size such as `2GB` or `512MiB` in bytes; 0 when it is none (the engine will say so)."""
    match = re.fullmatch(r"\s*([0-9.]+)\s*([kmgt]?)(i?)b?\s*", size, re.IGNORECASE)
    if not match:
        return 0
    power = " kmgt".index(match[2].lower() or " ")
    return int(float(match[1]) * (1024 if match[3] else 1000) ** power)


def main(arguments: list[str] | None = None) -> int:
    """Carry a run out; 0 when it succeeded or nothing was to be done."""
    parser = argparse.ArgumentParser(prog="tulle.pipeline.worker", description="Carry out one run.")
    parser.add_argument("--mesh", type=Path, required=True, help="the mesh folder")
    parser.add_argument("--run", required=True, help="the id of a queued run")
    options = parser.parse_args(arguments)
    # The heavy parts are imported late: the process is registered first, so that it can be seen and stopped.
    from tulle.spec.mesh import load_mesh, load_settings  # noqa: PLC0415

    settings = load_settings(options.mesh)
    database = open_database(settings.database_url)
    try:
        run_turn.register_process(database, options.run)
        try:
            spec = load_mesh(options.mesh)
            product = spec.product(runs.get(database, options.run).product)
            bound(settings.warehouse_of(product.warehouse_name))
            # After that: they bring libraries that count processors when they are loaded.
            with collector.importing():
                from tulle.pipeline.execute import execute  # noqa: PLC0415
                from tulle.pipeline.mesh_lake import open_mesh_lake  # noqa: PLC0415

            lake = open_mesh_lake(settings, database)
        except TulleError as exc:
            print(exc.message, *exc.problems, sep="\n  ", flush=True)
            run_end.finish(database, options.run, runs.FAILED, error=exc)
            return 1
        with Heart(database, options.run):
            run = execute(database, lake, spec, options.run)
        return 0 if run.status in {runs.SUCCEEDED, runs.UNCHANGED} else 1
    finally:
        database.close()


if __name__ == "__main__":
    collector.keep()
    sys.exit(main())
