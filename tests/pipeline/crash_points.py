"""Kill a run at one database transaction after another, for real, and look at what is left.

    python crash_points.py FOLDER FIRST STRIDE

Each point: a child process carries out a run of `sales` (with new rows to publish) and kills itself just before or right
after one of its commits to the control-plane database. Then the survivors look: the published data is the old or the new
as a whole, and running again publishes the new. Prints one JSON line a point. A script of its own, because it
forks: it must not have started threads.
"""

from __future__ import annotations

import contextlib
import gc
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
from tulle.pipeline import run_end
from tulle.state.db import Database

NEW_ROW = "4,eve,04.02.2020,7\n"


def in_child(work: Callable[[], Any]) -> Any:
    """The JSON value `work` gives in a forked process; None when the process was killed."""
    read, write = os.pipe()
    gc.freeze()  # what is there already stays: a child that walked over it would have to copy it
    child = os.fork()
    if child == 0:
        gc.set_threshold(20_000, 20, 50)
        os.close(read)
        status = 1
        try:
            with os.fdopen(write, "w") as pipe:
                json.dump(work(), pipe)
            status = 0
        finally:
            os._exit(status)
    gc.unfreeze()
    os.close(write)
    with os.fdopen(read) as pipe:
        text = pipe.read()
    _, status = os.waitpid(child, 0)
    return json.loads(text) if status == 0 else None


def stride(some: int) -> str:
    """Every how many points are tried: so many, or each one where TULLE_TEST_CRASHES is set.

    An odd number tries both, what comes before a commit and what comes after one.
    """
    return "1" if "TULLE_TEST_CRASHES" in os.environ else str(some)


def killed_at(point: int) -> None:
    """From now on, this process dies at that point: 1 is just before its first commit, 2 right after it, and so on.

    Before a commit all that lies outside of the database is done, and nothing of it is recorded.
    """
    points = itertools.count(1)
    plain = Database.write

    def pass_one() -> None:
        if next(points) >= point:
            os.kill(os.getpid(), signal.SIGKILL)

    @contextlib.contextmanager
    def write(self: Database) -> Iterator[Connection]:
        with plain(self) as connection:
            yield connection
            pass_one()
        pass_one()

    Database.write = write  # type: ignore[method-assign]


def crash(mesh: Mesh, point: int) -> Any:
    world = World(mesh)
    killed_at(point)
    return world.run("sales").status


def look(mesh: Mesh) -> dict[str, Any]:
    world = World(mesh)
    run_end.recover(world.database)
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


def main(folder: Path, first: int, every: int) -> None:
    for point in itertools.count(first, every):
        mesh = Mesh(folder / str(point))
        mesh.sales("product.yaml", SALES)
        mesh.features("product.yaml", FEATURES)
        mesh.sales("data/sales.csv", ROWS)
        mesh.sales("transform/sales.sql", "SELECT id, customer, day, amount FROM till_rows\n")
        assert in_child(lambda mesh=mesh: World(mesh).run("sales").status) == "succeeded"  # type: ignore[misc]
        mesh.sales("data/sales.csv", ROWS + NEW_ROW)
        ended = in_child(lambda mesh=mesh, point=point: crash(mesh, point))  # type: ignore[misc]
        print(
            json.dumps({"point": point, "ended": ended, **in_child(lambda mesh=mesh: look(mesh))}),
            flush=True,
        )  # type: ignore[misc]
        if ended is not None:
            return  # the run was over before it came to that point


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
