"""Kill a run at one database transaction after another, for real, and look at what is left.

    python crash_points.py FOLDER FIRST STRIDE

Each point: a child process carries out a run of `sales` (with new rows to publish) and kills itself right after
its n-th commit to the control-plane database. Then the survivors look: the published data is the old or the new
as a whole, and running again publishes the new. Prints one JSON line a point. A script of its own, because it
forks: it must not have started threads.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import Connection
from tests.pipeline.conftest import FEATURES, ROWS, SALES, Mesh, World

from tulle.pipeline import run as runs
from tulle.state.db import Database

NEW_ROW = "4,eve,04.02.2020,7\n"


def in_child(work: Callable[[], Any]) -> Any:
    """The JSON value `work` gives in a forked process; None when the process was killed."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        status = 1
        try:
            with os.fdopen(write, "w") as pipe:
                json.dump(work(), pipe)
            status = 0
        finally:
            os._exit(status)
    os.close(write)
    with os.fdopen(read) as pipe:
        text = pipe.read()
    _, status = os.waitpid(child, 0)
    return json.loads(text) if status == 0 else None


def killed_after(commits: int) -> None:
    """From now on, this process dies right after that many commits."""
    left = itertools.count(commits, -1)
    plain = Database.write

    @contextlib.contextmanager
    def write(self: Database) -> Iterator[Connection]:
        with plain(self) as connection:
            yield connection
        if next(left) <= 1:
            os.kill(os.getpid(), signal.SIGKILL)

    Database.write = write  # type: ignore[method-assign]


def crash(mesh: Mesh, commits: int) -> Any:
    world = World(mesh)
    killed_after(commits)
    return world.run("sales").status


def look(mesh: Mesh) -> dict[str, Any]:
    world = World(mesh)
    runs.recover(world.database)
    last = runs.recent(world.database, limit=1)[0]
    published = {name: len(world.rows("sales", name)) for name in ("till_rows", "sales")}
    again = world.run("sales")
    return {
        "crashed": last.status,
        "published": published,
        "again": again.status,
        "error": again.error,
        "rows": {name: len(world.rows("sales", name)) for name in ("till_rows", "sales")},
        "alive": [run.id for run in runs.recent(world.database) if not run.ended],
    }


def main(folder: Path, first: int, stride: int) -> None:
    for commits in itertools.count(first, stride):
        mesh = Mesh(folder / str(commits))
        mesh.sales("product.yaml", SALES)
        mesh.features("product.yaml", FEATURES)
        mesh.sales("data/sales.csv", ROWS)
        mesh.sales("transform/sales.sql", "SELECT id, customer, day, amount FROM till_rows\n")
        assert in_child(lambda mesh=mesh: World(mesh).run("sales").status) == "succeeded"  # type: ignore[misc]
        mesh.sales("data/sales.csv", ROWS + NEW_ROW)
        ended = in_child(lambda mesh=mesh, commits=commits: crash(mesh, commits))  # type: ignore[misc]
        print(
            json.dumps({"point": commits, "ended": ended, **in_child(lambda mesh=mesh: look(mesh))}),
            flush=True,
        )  # type: ignore[misc]
        if ended is not None:
            return  # the run was over before its n-th commit


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
