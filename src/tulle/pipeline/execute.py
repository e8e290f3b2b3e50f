"""A run as a whole: claimed, carried out within its bounds, ended, whatever happens.

Consumers see all of a run or nothing of it: the environment's branch moves once, at the end. Whatever goes wrong
before leaves it where it was and keeps the run's branches for inspection. What is done in between is in `carry`.
"""

from __future__ import annotations

import contextlib
import shutil
import time
import traceback
from pathlib import Path

from tulle.config import Warehouse
from tulle.engine.duck import DuckEngine
from tulle.errors import Broken, LimitExceeded, NotFound, TulleError, Unavailable
from tulle.lake.hooks.sandbox import Sandbox
from tulle.lake.repository import Lake, Repository
from tulle.pipeline import run as runs
from tulle.pipeline import run_end, run_turn
from tulle.pipeline.carry import Execution, disk_error, log_line, opened
from tulle.pipeline.environment import code_of_run, upstream_branch
from tulle.pipeline.gather import Sources
from tulle.pipeline.inspect import CHECKS, inspect
from tulle.pipeline.queue import told
from tulle.pipeline.run import Run
from tulle.pipeline.training import TRAIN
from tulle.pipeline.watchdog import Watchdog
from tulle.spec.mesh import MeshSpec
from tulle.state.db import Database

RECORD_TRIES = 15
RECORD_AGAIN_SECONDS = 2.0  # after it could not be recorded that a run failed


def execute(database: Database, lake: Lake, spec: MeshSpec, run_id: str) -> Run:
    """Carry out a queued run in this process, in its turn, and tell how it ended.

    What goes wrong is recorded with the run, not raised; only a defect of ours is both.
    """
    asked = runs.get(database, run_id)
    log_line(f"run {run_id} of {asked.product} on {asked.environment}")
    folder = spec.settings.run_folder / "tmp" / run_id
    _clear_spill(database, folder.parent)
    try:
        product = spec.product(asked.product)
        name = product.warehouse_name
        warehouse = spec.settings.warehouse_of(name)
        run_turn.claim(database, run_id, warehouse=name, bounds=warehouse)
        log_line(f"warehouse {name}: {told(warehouse)}")
        with (
            Watchdog(
                lambda error: _fail(database, run_id, error, runs.TIMEOUT), _seconds(asked, warehouse)
            ) as watchdog,
            DuckEngine(warehouse, folder / "spill").kept(folder / "room") as engine,
        ):
            code = code_of_run(database, lake, spec, asked, engine)
            code.require_valid()
            repository = opened(lake, asked.product)

            def branch_of(upstream: Repository, data_set: str) -> str:
                return upstream_branch(database, spec.settings, upstream, asked.environment, data_set)

            sandbox = Sandbox(environments=spec.settings.hook_environments)
            if asked.options.get("only") == CHECKS:
                inspect(database, lake, code, engine, asked, branch_of, sandbox, folder=folder)
                watchdog.disarm()
                return runs.get(database, run_id)
            if asked.options.get("only") == TRAIN:
                from tulle.pipeline.train import train  # noqa: PLC0415  only where a model is trained

                train(
                    database,
                    code,
                    repository,
                    engine,
                    asked,
                    watchdog,
                    folder=folder,
                    threads=warehouse.threads,
                )
                return runs.get(database, run_id)
            execution = Execution(
                database, lake, repository, code, engine, asked, folder, watchdog, warehouse.threads
            )
            execution.data_folders = spec.settings.data_folders
            execution.mesh = spec.settings.folder
            execution.sources = Sources.of(spec.settings, database, asked.environment)
            execution.upstream_branch = branch_of
            execution.judge.sandbox = sandbox
            execution.carry_out()
    except TulleError as exc:
        _fail(database, run_id, exc)
    except OSError as exc:
        _fail(database, run_id, disk_error(exc))
    except MemoryError:
        hint = "raise 'memory' of its warehouse in mesh.yaml, or read less at once"
        _fail(
            database, run_id, LimitExceeded("the run needs more memory than its warehouse allows", hint=hint)
        )
    except Exception as exc:
        traceback.print_exc()
        hint = f"this is a defect of Tulle; the full trace is in .tulle/log/run-{run_id}.log"
        _fail(
            database, run_id, Broken(f"the run stopped unexpectedly: {type(exc).__name__}: {exc}", hint=hint)
        )
        raise
    except BaseException:
        stopped = Unavailable(f"run {run_id} was interrupted; nothing was published", hint="run again")
        run_end.settle(database, run_id, stopped, runs.LOST)
        raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return runs.get(database, run_id)


def _seconds(asked: Run, warehouse: Warehouse) -> int:
    """How long a run may take: by its warehouse, or less where its schedule says so."""
    most = warehouse.run_timeout_seconds
    return min(most, int(asked.options.get("timeout") or most))


def _clear_spill(database: Database, folder: Path) -> None:
    """Remove what the engine spilled for runs that were killed before they could."""
    for left in folder.iterdir() if folder.is_dir() else ():
        with contextlib.suppress(NotFound):
            if runs.get(database, left.name).ended:
                shutil.rmtree(left, ignore_errors=True)


def _fail(database: Database, run_id: str, error: TulleError, cause: str = runs.ERROR) -> None:
    """Record why the run failed. A database that is away may be why: it has a while to come back."""
    log_line(f"failed: {error.message}")
    for problem in error.problems:
        log_line(f"  {problem}")
    for _ in range(RECORD_TRIES - 1):
        try:
            run_end.finish(database, run_id, runs.FAILED, error=error, cause=cause)
        except Unavailable as exc:
            log_line(f"that cannot be recorded yet: {exc.message}")
            time.sleep(RECORD_AGAIN_SECONDS)
        else:
            return
    run_end.finish(database, run_id, runs.FAILED, error=error, cause=cause)
