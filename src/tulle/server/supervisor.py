"""`python -m tulle.server.supervisor --mesh FOLDER`: the process that keeps a mesh's processes running.

Which workers should run follows from the recorded deployments, so a deployment made by any process is seen.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from tulle.config import Settings, collector
from tulle.deploy import gateway as gateway_process
from tulle.deploy import local, readiness, room
from tulle.deploy.generations import mounted
from tulle.deploy.supervise import Supervisor, Wanted, tell
from tulle.errors import TulleError
from tulle.gateway import settled
from tulle.gateway.door_certificate import DoorCertificate
from tulle.gateway.envoy import Gateway
from tulle.gateway.trust.keeper import Keeper
from tulle.pipeline import run as runs
from tulle.pipeline import run_end, worker
from tulle.serving import generation, package
from tulle.spec.mesh import load_settings
from tulle.state.db import Database, now, open_database


def supervise(settings: Settings, *, announce: Callable[[], None] | None = None) -> None:
    """Run the mesh until SIGTERM or SIGINT, then stop all of it.

    Raises AlreadyExists when the mesh is up, Unavailable when a port is taken, LimitExceeded on a full disk.
    """
    room.check_room(settings)
    with local.only_supervisor(settings):
        database = open_database(settings.database_url)
        local.end_leftovers(settings)
        local.check_ports(settings)
        settled.forget(settings)
        run_end.recover(database)
        trust = Keeper(settings, database)
        known = mounted(settings, generation.everywhere(database), now())
        trust.prepare({(one.service, one.environment) for one in known})
        DoorCertificate(settings).prepare()
        gateway = Gateway(settings)
        gateway.process.forget()  # what one of before shared, that was killed
        gateway.prepare()
        supervisor = Supervisor(
            local.table(settings),
            lambda: _wanted(settings, database, gateway, trust),
            about=local.about(settings),
        )
        if announce is not None:
            threading.Thread(target=_announce, args=(settings, announce), daemon=True).start()
        _repair_generations(settings, database)
        try:
            supervisor.run()
        finally:
            gateway.process.forget()
            stop_runs(database)
            database.close()


def stop_runs(database: Database) -> int:
    """Stop every run, those that wait first, or they would start when the others end; how many."""
    stopped = 0
    for status in ("queued", "running"):
        for run in runs.recent(database, status=status, limit=10_000):
            worker.stop(database, run.id)
            stopped += 1
    return stopped


def _repair_generations(settings: Settings, database: Database) -> None:
    """Before workers start: every deployed package is unpacked and whole, else it is unpacked again."""
    mounted = {(d.service, version) for d in generation.everywhere(database) for version in d.mounted}
    for service, version in sorted(mounted):
        _repair(settings, database, service, version)


def _repair(settings: Settings, database: Database, service: str, version: str) -> None:
    """Unpack a package again where its workers look for it, unless it is whole there."""
    try:
        generation.unpack(package.get(database, service, version), settings)
    except (TulleError, OSError) as exc:
        tell(f"{service} {version} cannot be unpacked: {exc}")


def _wanted(settings: Settings, database: Database, gateway: Gateway, trust: Keeper) -> Sequence[Wanted]:
    generations = mounted(settings, generation.everywhere(database), now())
    before = [local.sidecars(settings, trust.sidecars.command(), trust.sidecars.ready)] if trust.is_on else []
    return [
        local.control_plane(settings),
        local.s3_door(settings),
        *before,
        gateway_process.wanted(settings, gateway),
        *local.processors(settings, gateway.processor_sockets()),
        *local.wanted_workers(settings, generations, lambda *which: _repair(settings, database, *which)),
    ]


def _announce(settings: Settings, announce: Callable[[], None]) -> None:
    with contextlib.suppress(TulleError):  # what it still waits for is in the status
        readiness.await_ready(settings, look=lambda: None)
    announce()
    print("Ctrl-C stops it", flush=True)


def main() -> None:
    """Run detached; the last line of the log tells why it did not start."""
    parser = argparse.ArgumentParser(prog="tulle.server.supervisor")
    parser.add_argument("--mesh", type=Path, required=True)
    try:
        supervise(load_settings(parser.parse_args().mesh))
    except TulleError as exc:
        hint = f" ({exc.hint})" if exc.hint else ""
        sys.exit(f"{exc.message}{hint}")


if __name__ == "__main__":
    collector.leave_at_end()
    main()
