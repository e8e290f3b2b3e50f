"""Building the indexes that workers want anew when more is published: `live` says where they lie and who reads them.

A thread of the control plane looks every second what the data sets are at. What changed is built by a process of its
own, so that neither memory nor time of a large one is the control plane's. A data set that did not change with a commit
is not built again; one that cannot be built leaves the index that is there, and the reason is written down.
"""

from __future__ import annotations

import argparse
import logging
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import psutil

from tulle.config import Settings, collector
from tulle.engine.duck import DuckEngine
from tulle.engine.engine import quoted
from tulle.errors import Invalid, NotFound, TulleError
from tulle.lake.repository import Lake
from tulle.pipeline.table import data_at
from tulle.serving import live
from tulle.serving.index_build import build_index
from tulle.serving.live import STATE, WANTED, Failed, State, Wanted
from tulle.serving.package import LakeSource

EVERY = 1.0
KEEP_SECONDS = 900.0  # what nobody wanted for so long is removed
AGAIN_SECONDS = 60.0  # after which what failed is tried again though nothing has changed
BUILD_SECONDS = 7200.0
AT_ONCE = 2
LIVE = "live"
_log = logging.getLogger("tulle.serving")


def live_folder(settings: Settings) -> Path:
    """Where the indexes lie that follow what is published."""
    return settings.state_folder / LIVE


def refresh(home: Path, lake: Lake, settings: Settings) -> State:
    """Build what is wanted in a folder from what is published now; what is recorded then, also of a failure."""
    before = live.read_state(home) or State()
    wanted = live.read_wanted(home)
    commit, now = "", time.time()
    try:
        commit = lake.repository(wanted.product).resolve(wanted.ref)
        state = _built(home, wanted, commit, before, lake, settings)
        state = replace(state, commit=commit, noticed_at=now)
    except TulleError as exc:
        state = replace(before, failed=Failed(commit, exc.message, now))
    live.write(home / STATE, state)
    _remove_old(home, {state.file, before.file})
    return state


def _built(home: Path, wanted: Wanted, commit: str, before: State, lake: Lake, settings: Settings) -> State:
    repository = lake.repository(wanted.product)
    data = data_at(repository, commit, wanted.data_set)
    if data is None:
        raise NotFound(f"product '{wanted.product}' publishes no data set '{wanted.data_set}' any more")
    if before.identity == data.identity and before.file and (home / before.file).exists():
        return replace(before, failed=None)
    began = time.time()
    scratch = home / f".build-{os.getpid()}-{threading.get_ident()}"
    scratch.mkdir()
    try:
        engine = DuckEngine(settings.warehouse, scratch / "spill")
        relation = LakeSource(lake, commit).relation(wanted.product, wanted.data_set, scratch / "data")
        described = engine.describe(f"SELECT * FROM {quoted(relation.name)}", [relation])  # noqa: S608
        _demand_types(wanted, {column.name: column.type for column in described})
        what = f"data set '{wanted.data_set}' of '{wanted.product}'"
        rows = build_index(scratch / "index.mdb", engine, relation, wanted.wish, what=what)
        file = f"{data.identity[:24]}.mdb"
        (scratch / "index.mdb").replace(home / file)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    done = time.time()
    return State(identity=data.identity, file=file, rows=rows, built_at=done, seconds=round(done - began, 3))


def _demand_types(wanted: Wanted, found: dict[str, str]) -> None:
    """Answers have the types they were packaged with."""
    for column in wanted.types:
        if found.get(column.name) != column.type:
            now = f"is {found[column.name]} now" if column.name in found else "is gone"
            raise Invalid(
                f"column '{column.name}' of '{wanted.data_set}' {now}, the service was packaged with {column.type}",
                hint="package and deploy the service again",
            )
    for name in (*(n.removeprefix("-") for n in wanted.wish.order_by), wanted.wish.event_time):
        if name and name not in found:
            raise Invalid(f"column '{name}' of '{wanted.data_set}' is gone", hint="package the service again")


def _remove_old(home: Path, keep: set[str]) -> None:
    """Workers that have another file open can read it on; none opens it any more."""
    for file in home.glob("*.mdb"):
        if file.name not in keep:
            file.unlink(missing_ok=True)
    for left in home.glob(".build-*"):  # by one that was killed
        if not psutil.pid_exists(int(left.name.split("-")[1])):
            shutil.rmtree(left, ignore_errors=True)


class Refresher:
    """Keeps the indexes that are wanted as new as what is published. One a control plane."""

    def __init__(self, settings: Settings, lake: Lake, build: Callable[[Path], None] | None = None) -> None:
        """`build` builds what is wanted in a folder; without it a process of its own does."""
        self._settings, self._lake = settings, lake
        self._build = build or self._in_a_process
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="refresher", daemon=True)
        self._pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="refresh")
        self._busy: set[Path] = set()
        self._failed: dict[Path, float] = {}  # when what could not even be written down had failed
        self._process: set[subprocess.Popen[bytes]] = set()

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more; what is being built is given up."""
        self._stop.set()
        for process in list(self._process):
            process.terminate()
        self._pool.shutdown(wait=True, cancel_futures=True)
        if self._thread.is_alive():
            self._thread.join(5)

    def look(self) -> None:
        """Have built what is out of date, and remove what nobody wants any more."""
        for home in list(_homes(live_folder(self._settings))):
            if home in self._busy:
                continue
            if time.time() - (home / WANTED).stat().st_mtime > KEEP_SECONDS:
                shutil.rmtree(home, ignore_errors=True)
            elif time.monotonic() >= self._failed.get(home, 0.0) and self._is_old(home):
                self._busy.add(home)
                self._pool.submit(self._one, home)

    def _is_old(self, home: Path) -> bool:
        state = live.read_state(home) or State()
        try:
            wanted = live.read_wanted(home)
            commit = self._lake.repository(wanted.product).resolve(wanted.ref)
        except TulleError:
            commit = ""
        if state.failed is not None:
            return state.failed.commit != commit or time.time() - state.failed.at > AGAIN_SECONDS
        return state.commit != commit

    def _one(self, home: Path) -> None:
        try:
            self._build(home)
        except Exception:  # noqa: BLE001  one that fails does not end the others
            _log.exception("%s could not be refreshed", home.name)
            self._failed[home] = time.monotonic() + AGAIN_SECONDS
        else:
            self._failed.pop(home, None)
        finally:
            self._busy.discard(home)

    def _run(self) -> None:
        while not self._stop.wait(EVERY):
            try:
                self.look()
            except Exception:  # noqa: BLE001  the next look may find what this one could not
                _log.exception("what is published could not be looked at")

    def _in_a_process(self, home: Path) -> None:
        folder = str(self._settings.folder)
        argv = [sys.executable, "-m", "tulle.serving.refresh", "--mesh", folder, "--home", str(home)]
        with subprocess.Popen(argv, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:  # noqa: S603  our own module
            self._process.add(process)
            try:
                _, said = process.communicate(timeout=BUILD_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                said = b"it took too long"
                process.wait()
            finally:
                self._process.discard(process)
        if process.returncode and not self._stop.is_set():
            lines = said.decode(errors="replace").strip().splitlines()[-1:] or ["no reason given"]
            state = live.read_state(home) or State()
            message = f"the process that built it ended with {process.returncode}: {lines[0][:300]}"
            wanted = live.read_wanted(home)
            commit = self._lake.repository(wanted.product).resolve(wanted.ref)
            live.write(home / STATE, replace(state, failed=Failed(commit, message, time.time())))


def _homes(folder: Path) -> Iterator[Path]:
    for file in folder.glob(f"*/*/{WANTED}"):
        yield file.parent


def main(arguments: list[str] | None = None) -> int:
    """Build what is wanted in one folder; 0 also when it could not be, which is written down there."""
    parser = argparse.ArgumentParser(prog="tulle.serving.refresh", description="Build one index anew.")
    parser.add_argument("--mesh", type=Path, required=True, help="the mesh folder")
    parser.add_argument("--home", type=Path, required=True, help="the folder of the index")
    options = parser.parse_args(arguments)
    from tulle.pipeline.mesh_lake import open_mesh_lake  # noqa: PLC0415  heavy, and the control plane has one
    from tulle.spec.mesh import load_settings  # noqa: PLC0415
    from tulle.state.db import open_database  # noqa: PLC0415

    os.nice(10)
    settings = load_settings(options.mesh)
    database = open_database(settings.database_url)
    try:
        refresh(options.home, open_mesh_lake(settings, database), settings)
    finally:
        database.close()
    return 0


if __name__ == "__main__":
    collector.keep()
    sys.exit(main())
