"""Kill a release, a promotion in every phase, a rollback or a retirement at one point after another, then do it again.

    python release_crashes.py FOLDER release,promote,carry,approve,rollback,retire FIRST STRIDE

`promote` is the asking, `carry` the asking and its run in one process, `approve` the last approval. Each point: a child
process does it and kills itself just before or right after one of its commits to the control-plane database. Then the
survivors look: what is in force and what the branch holds belong together. Doing it again ends it. Prints one
JSON line a point. Runs are processes that outlive who asked for them, as those of a mesh do.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import gc
import itertools
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy import update
from tests.control.released import Team, sales_at
from tests.control.test_promotion import OPEN
from tests.pipeline.crash_points import in_child, killed_at

from tulle.config import Settings
from tulle.control import environments, product_release, promotion, retirement
from tulle.errors import Conflict, NotFound
from tulle.pipeline import promotion as record
from tulle.pipeline import release, run_end
from tulle.pipeline import run as runs
from tulle.pipeline.execute import execute
from tulle.server.app import open_workspace
from tulle.spec.mesh import load_settings
from tulle.state import products
from tulle.state.db import Database
from tulle.state.tables import deprecations

FIRST = "SELECT id, customer, day, amount FROM till_rows\n"
SECOND = "SELECT id, customer, day, -amount AS amount FROM till_rows\n"
GUARDED = OPEN.replace("schedules: false", "schedules: false, approvers: [bob, eve], approvals: 1")


class Again(Team):
    """A mesh that is there already."""

    def __init__(self, folder: Path) -> None:
        from tests.pipeline.conftest import Mesh

        self.mesh = Mesh.__new__(Mesh)
        self.mesh.folder = folder
        self.workspace = open_workspace(load_settings(folder))


class Nursery:
    """Forks the processes of runs, in a fraction of the time that a new interpreter takes.

    A process of its own that never starts a thread, as one that has threads cannot be forked safely.
    """

    def __init__(self) -> None:
        read, self._write = os.pipe()
        if os.fork():
            os.close(read)
            return
        os.close(self._write)
        gc.freeze()  # what is there already stays: a child that walked over it would have to copy it
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        with os.fdopen(read) as asked:
            for line in asked:  # until nobody is left who could ask
                folder, run_id = json.loads(line)
                if os.fork() == 0:
                    os.setsid()
                    self._carry_out(Path(folder), run_id)
        os._exit(0)

    @staticmethod
    def _carry_out(folder: Path, run_id: str) -> None:
        try:
            workspace = open_workspace(load_settings(folder))
            execute(workspace.database, workspace.lake, workspace.spec(), run_id)
        finally:
            os._exit(0)

    def start(self, settings: Settings, run_id: str) -> int:
        """As `worker.start`."""
        os.write(self._write, (json.dumps([str(settings.folder), run_id]) + "\n").encode())
        return 0


def prepare(folder: Path, what: str) -> None:
    team = Team(folder, GUARDED if what == "approve" else OPEN)
    if what == "retire":
        retirement.deprecate(team.workspace, "features", sunset="2099-01-31", reason="moved", by="ann")
        today = dt.datetime.now(dt.UTC).date().isoformat()
        with team.workspace.database.write() as cx:
            cx.execute(update(deprecations).values(sunset=today))
        return
    environments.ensure_branches(team.workspace, "sales")
    for version, model in (("1.0.0", FIRST), ("1.1.0", SECOND)):
        team.mesh.sales("product.yaml", sales_at(version))
        team.mesh.sales("transform/sales.sql", model)
        assert team.run("dev").status == "succeeded"
        if version == "1.1.0" and what == "release":
            return
        product_release.make(team.workspace, "sales", by="ann")
        if version == "1.1.0" and what in {"promote", "carry"}:
            return
        asked = promotion.promote(team.workspace, "sales", version, to="prod", by="ann")
        if version == "1.1.0" and what == "approve":
            return
        team.wait(promotion.decide(team.workspace, asked.id, by="bob") if what == "approve" else asked)


def do(team: Team, what: str) -> str:
    workspace = team.workspace
    if what == "release":
        made, _ = product_release.make(workspace, "sales", by="ann")
        return made.version
    if what == "retire":
        return retirement.retire(workspace, "features", by="ann")
    if what in {"promote", "carry"}:
        return promotion.promote(workspace, "sales", "1.1.0", to="prod", by="ann").status
    if what == "approve":
        # The one that waits; asked for anew where the run of the last one was never started.
        asked = promotion.promote(workspace, "sales", "1.1.0", to="prod", by="ann")
        return promotion.decide(workspace, asked.id, by="bob").status
    return promotion.rollback(workspace, "sales", to="1.0.0", by="ann").status


def crash(folder: Path, what: str, point: int) -> str:
    team = Again(folder)
    workspace = team.workspace
    if what == "carry":

        def here(_settings: Settings, run_id: str) -> int:
            execute(workspace.database, workspace.lake, workspace.spec(), run_id)
            return 0

        promotion.worker.start = here  # type: ignore[assignment]
    killed_at(point)
    done = do(team, what)
    record.settle(workspace.database, workspace.lake)
    return done


def look(folder: Path, what: str) -> dict[str, Any]:
    team = Again(folder)
    workspace = team.workspace
    run_end.recover(workspace.database)
    for run in runs.recent(workspace.database, status=runs.QUEUED):
        run_end.finish(workspace.database, run.id, runs.STOPPED)  # what `recover` does to it a minute later
    if what == "retire":
        gone = _is_gone(workspace.database)
        sound = gone or retirement.find(workspace.database, "features") is not None
        with contextlib.suppress(NotFound):
            do(team, what)
        again = _is_gone(workspace.database) and not retirement.deprecations(workspace.database)
        return {"sound": sound, "again": "done" if again else "failed"}
    if what == "release":
        made, _ = product_release.make(workspace, "sales", by="ann")
        release.verify(workspace.lake, made, workspace.settings)
        tag = workspace.lake.repository("sales").tag("release-1.1.0")
        sound = tag.commit_id == made.data_commit and len(release.releases(workspace.database, "sales")) == 2
        return {"sound": sound, "again": "done"}
    # A run of anybody's comes next: it settles what is half done before it takes its code.
    last = record.recent(workspace.database, product="sales", limit=1)[0]
    if last.run_id is not None:
        team.wait(last)
    assert team.run("main").status in {"succeeded", "unchanged"}
    sound = is_sound(team)
    with contextlib.suppress(Conflict):
        do(team, what)
    last = record.recent(workspace.database, product="sales", limit=1)[0]
    if last.run_id is not None:
        last = team.wait(last)
    return {"sound": sound and is_sound(team), "again": last.status, "version": last.version}


def is_sound(team: Team) -> bool:
    version = record.in_force(team.workspace.database, "sales", "main")
    negative = min(map(float, team.amounts("main"))) < 0  # type: ignore[arg-type]
    return (version == "1.1.0") is negative


def _is_gone(database: Database) -> bool:
    return "features" not in products.named(database, ["features"])


def main(folder: Path, what: str, first: int, stride: int) -> None:
    base = folder / "base"
    assert in_child(lambda: prepare(base, what) or "done") == "done"
    run: Callable[[Callable[[], Any]], Any] = in_child
    for point in itertools.count(first, stride):
        mine = folder / str(point)
        shutil.copytree(base, mine)
        ended = run(lambda mine=mine, point=point: crash(mine, what, point))  # type: ignore[misc]
        found = run(lambda mine=mine: look(mine, what))  # type: ignore[misc]
        print(
            json.dumps({"what": what, "point": point, "ended": ended, **(found or {"sound": False})}),
            flush=True,
        )
        if ended is not None:
            return


if __name__ == "__main__":
    promotion.worker.start = Nursery().start  # type: ignore[assignment]
    for one in sys.argv[2].split(","):
        main(Path(sys.argv[1]) / one, one, int(sys.argv[3]), int(sys.argv[4]))
