"""Filling stores whenever their data set is published, for services that say so: a thread of the control plane looks.

    python -m tulle.serving.filler --mesh FOLDER --store ID

What is out of date is filled by a process of its own, so that neither memory nor time of it is the control plane's. A
store that cannot be filled keeps what is in it, the reason is written down, and it is tried again after a while.
"""

from __future__ import annotations

import argparse
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tulle.config import Settings, collector
from tulle.errors import Conflict, Invalid, NotFound, TulleError
from tulle.lake.repository import Lake
from tulle.serving import generation, package
from tulle.serving.fill import Fill, Filling, both, fills_of, read_done, record_of
from tulle.serving.keyed_rows import PUBLISHED
from tulle.state.connections import open_connections
from tulle.state.db import Database

EVERY = 1.0
AGAIN_SECONDS = 60.0  # after which what failed is tried again though nothing has changed
PAUSE_SECONDS = 2.0  # between two processes for one store
AT_ONCE = 2
_log = logging.getLogger("tulle.serving")


class Wanted:
    """Which stores deployed services want filled whenever something is published."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self._settings, self._database = settings, database
        self._known: dict[tuple[str, str], list[Fill]] = {}  # by service and version, which never changes

    def now(self) -> Mapping[str, Fill]:
        """They, by the name of their record; of versions that disagree the one that most requests meet."""
        found: dict[str, Fill] = {}
        for one in generation.everywhere(self._database):
            active = one.active.mounted if one.active else ()
            for version in dict.fromkeys((one.desired_version, *one.desired.mounted, *active)):
                for fill in self._of(one.service, version):
                    name = record_of(self._settings, fill).stem
                    try:
                        found[name] = both(found[name], fill) if name in found else fill
                    except Invalid as exc:
                        _log.warning("version %s of service '%s': %s", version, one.service, exc.message)
        return found

    def _of(self, service: str, version: str) -> list[Fill]:
        if (service, version) not in self._known:
            try:
                wanted = fills_of(package.get(self._database, service, version))
            except (NotFound, Invalid) as exc:
                _log.warning("version %s of service '%s': %s", version, service, exc.message)
                wanted = []
            self._known[service, version] = [fill for fill in wanted if fill.store.fill == PUBLISHED]
        return self._known[service, version]


class Filler:
    """Keeps the stores that are to be filled as new as what is published. One a control plane."""

    def __init__(
        self, settings: Settings, database: Database, lake: Lake, fill: Callable[[str], None] | None = None
    ) -> None:
        """`fill` fills the store of that name; without it a process of its own does."""
        self._settings, self._lake = settings, lake
        self._wanted = Wanted(settings, database)
        self._fill = fill or self._in_a_process
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="filler", daemon=True)
        self._pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="fill")
        self._busy: set[str] = set()
        self._not_before: dict[str, float] = {}  # not before then
        self._processes: set[subprocess.Popen[bytes]] = set()

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more; what is being filled goes on from there with the next start."""
        self._stop.set()
        for process in list(self._processes):
            process.terminate()
        self._pool.shutdown(wait=True, cancel_futures=True)
        if self._thread.is_alive():
            self._thread.join(5)

    def look(self) -> None:
        """Have filled what is out of date."""
        for name, fill in self._wanted.now().items():
            if (
                name not in self._busy
                and time.monotonic() >= self._not_before.get(name, 0.0)
                and self._is_old(fill)
            ):
                self._busy.add(name)
                self._pool.submit(self._one, name)

    def _is_old(self, fill: Fill) -> bool:
        done = read_done(self._settings, fill)
        try:
            commit = self._lake.repository(fill.product).resolve(fill.ref)
        except TulleError:
            return False
        if done.failed is not None:
            return done.failed.commit != commit or time.time() - done.failed.at > AGAIN_SECONDS
        names = {column.name for column in (*fill.key, *fill.columns)}
        return done.commit != commit or not names <= set(done.columns)

    def _one(self, name: str) -> None:
        try:
            self._fill(name)
        except Exception:  # noqa: BLE001  one that fails does not end the others
            _log.exception("store %s could not be filled", name)
            self._not_before[name] = time.monotonic() + AGAIN_SECONDS
        else:  # somebody else may be at it
            self._not_before[name] = time.monotonic() + PAUSE_SECONDS
        finally:
            self._busy.discard(name)

    def _run(self) -> None:
        while not self._stop.wait(EVERY):
            try:
                self.look()
            except Exception:  # noqa: BLE001  the next look may find what this one could not
                _log.exception("what is published could not be looked at")

    def _in_a_process(self, name: str) -> None:
        argv = [
            sys.executable,
            "-m",
            "tulle.serving.filler",
            "--mesh",
            str(self._settings.folder),
            "--store",
            name,
        ]
        with subprocess.Popen(argv, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:  # noqa: S603  our own module
            self._processes.add(process)
            try:
                _, said = process.communicate()
            finally:
                self._processes.discard(process)
        if process.returncode and not self._stop.is_set():
            lines = said.decode(errors="replace").strip().splitlines()[-1:] or ["no reason given"]
            raise RuntimeError(f"the process ended with {process.returncode}: {lines[0][:300]}")


def fill_one(name: str, settings: Settings, database: Database, lake: Lake) -> None:
    """Fill the store of a name, if it is still wanted; a failure is written down."""
    fill = Wanted(settings, database).now().get(name)
    if fill is None:
        return
    known = open_connections(settings, database)
    try:
        Filling(settings, lake, known.get).fill(fill)
    except Conflict as exc:  # somebody else is at it
        _log.info("%s: %s", fill.where, exc.message)
    except TulleError as exc:
        _log.warning("%s could not be filled: %s", fill.where, exc.message)


def main(arguments: list[str] | None = None) -> int:
    """Fill one store; 0 also when it could not be, which is written down."""
    parser = argparse.ArgumentParser(prog="tulle.serving.filler", description="Fill one store from the lake.")
    parser.add_argument("--mesh", type=Path, required=True, help="the mesh folder")
    parser.add_argument("--store", required=True, help="the name of its record")
    options = parser.parse_args(arguments)
    from tulle.pipeline.mesh_lake import open_mesh_lake  # noqa: PLC0415  heavy, and the control plane has one
    from tulle.spec.mesh import load_settings  # noqa: PLC0415
    from tulle.state.db import open_database  # noqa: PLC0415

    os.nice(10)
    settings = load_settings(options.mesh)
    database = open_database(settings.database_url)
    try:
        fill_one(options.store, settings, database, open_mesh_lake(settings, database))
    finally:
        database.close()
    return 0


if __name__ == "__main__":
    collector.keep()
    sys.exit(main())
