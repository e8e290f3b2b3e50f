"""The lake's side of what its peers are measured with: in this process, on a local disk, durable at every return."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
from peers_work import OURS, SIZE, THEIRS, Done, Took, Work, doing, timed

from tulle.lake import onboard
from tulle.lake.onboard import Source
from tulle.lake.repository import Repository, open_lake
from tulle.state import tasks
from tulle.state.db import open_database

OUTSIDE = "s3://warehouse/"


class Tulle:
    """A lake with its refs in SQLite and its objects in a folder.

    The imported files stay as they are: changes are written to another folder, and put into the lake from there.
    """

    name = "tulle"

    def __init__(self, work: Work, folder: Path) -> None:
        self.work = work
        self.source = folder / "source"
        self.changes = folder / "changes"
        self.database = open_database(f"sqlite:///{folder / 'state.db'}")
        self.lake = open_lake(
            self.database,
            f"local://{folder / 'lake'}",
            external=[OUTSIDE],
            stores=[f"local://{self.source}"],
            cache=folder / "cache",
        )
        work.write(self.source, work.all)
        self.commits: list[str] = []

    def starts(self) -> dict[str, Took]:
        """No process is started for a step."""
        return {}

    def add(self, turn: int) -> Done:
        """The whole of an import of the folder: listed, each file looked at, committed, by a task as servers do."""
        self.files = self.lake.create_repository(f"files{turn}")
        name = self.files.record.name
        took = Took()
        with timed(took):
            source = Source(f"local://{self.source}/data", "data/")
            id_ = onboard.start(self.lake, name, "main", [source], "files")
            tasks.run_one(self.database, onboard.handlers(self.lake), "bench")
        ended = onboard.status(self.lake, name, "main", id_)
        if ended.error is not None or ended.commit is None:
            raise SystemExit(f"tulle: the import ended {ended.status}: {ended.error}")
        self.commits = [ended.commit.id]
        return Done(took, sum(1 for _ in self.files.entries(ended.commit.id)))

    def register(self, turn: int) -> Done:
        """A list that is ready becomes a commit: nothing is looked at."""
        self.ready = self.lake.create_repository(f"ready{turn}")
        names = self.work.names(self.work.all)
        took = Took()
        with timed(took):
            self._link(names, "")
            commit = self.ready.commit("main", "register")
        return Done(took, sum(1 for _ in self.ready.entries(commit.id)))

    def relink(self, turn: int) -> Done:
        """Some paths come to lead elsewhere."""
        names = self.work.names(self.work.changed(turn))
        took = Took()
        with timed(took):
            self._link(names, f".{turn}")
            self.ready.commit("main", "change")
        return Done(took)

    def _link(self, names: list[str], suffix: str) -> None:
        columns = {
            "path": names,
            "address": [f"{OUTSIDE}{name}{suffix}" for name in names],
            "size": [SIZE] * len(names),
        }
        self.ready.link_table("main", pa.table(columns))

    def change(self, turn: int) -> Done:
        """Changed files are written into the lake, hashed and synced, and committed."""
        took = self._version(self.files, "main", turn)
        self.commits.append(self.files.branch("main").commit_id)
        return Done(took)

    def diff(self, turn: int) -> Done:
        before, after = self.commits[turn - 1], self.commits[turn]
        done = doing(lambda: self.files.diff(before, after))
        done.answer = [change.path for change in done.answer]
        return done

    def list(self, _: int) -> Done:
        prefix = self.work.prefix
        done = doing(lambda: self.files.list(self.commits[0], prefix, limit=len(self.work.folder)))
        done.answer = [entry.path for entry in done.answer.entries]
        return done

    def read(self, _: int) -> Done:
        name = self.work.name(self.work.one)
        done = doing(lambda: self.files.get(self.commits[0], name))
        done.answer = done.answer.hex()
        return done

    def merge(self, turn: int) -> Done:
        branch = f"try{turn}"
        self.files.create_branch(branch)
        self._version(self.files, branch, THEIRS + turn)
        self._version(self.files, "main", OURS + turn)
        took = Took()
        with timed(took):
            self.files.merge(branch, "main")
        for version in (OURS + turn, THEIRS + turn):
            for number in self.work.changed(version):
                if self.files.get("main", self.work.name(number)) != self.work.data(number, version):
                    raise SystemExit(f"tulle: {self.work.name(number)} is not what version {version} wrote")
        return Done(took)

    def _version(self, repository: Repository, branch: str, version: int) -> Took:
        numbers = self.work.changed(version)
        written = self.work.write(self.changes, numbers, version)
        took = Took()
        with timed(took):
            repository.put_many(branch, zip(self.work.names(numbers), written, strict=True))
            repository.commit(branch, f"version {version}")
        return took

    def close(self) -> None:
        self.database.close()
