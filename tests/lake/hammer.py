"""Several processes with several threads each hammer one branch and record what they did and were told.

Times are of the monotonic clock, which all processes of a machine share.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.lake.linearizable import Operation

from tulle.errors import AlreadyExists, Conflict, Invalid, NotFound, PreconditionFailed
from tulle.lake.collect import collect
from tulle.lake.repository import Repository, open_lake
from tulle.state.db import open_database

KEYS = ("a", "b/1", "b/2", "c")
BRANCHES = ("main", "trunk")  # one that is written to and committed, one that is merged into


@dataclass(frozen=True)
class Place:
    """Where the repository is that is hammered."""

    database: str
    objects: str
    repository: str


def run(
    place: Place, *, processes: int, rounds: int, grace: float | None = None, seconds: float = 100
) -> dict[str, list[Operation]]:
    """Hammer with so many processes of six threads each, and return by branch what all of them did.

    With a `grace`, garbage is collected all the while, after so many seconds.
    """
    command = [sys.executable, "-m", "tests.lake.hammer"]
    running = [
        subprocess.Popen(
            [*command, json.dumps({**asdict(place), "name": f"p{number}", "rounds": rounds, "grace": grace})],
            stdout=subprocess.PIPE,
            stdin=subprocess.PIPE,
            cwd=Path(__file__).parents[2],
            text=True,
        )
        for number in range(processes)
    ]
    try:
        for process in running:  # all of them are ready before any begins
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in running:
            assert process.stdin is not None
            process.stdin.close()
            process.stdin = None
        done = []
        for process in running:
            out, _ = process.communicate(timeout=seconds)
            assert process.returncode == 0
            done += [Operation(**item) for item in json.loads(out)]
    finally:
        for process in running:
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()
    return {branch: [o for o in done if o.who.startswith(f"{branch} ")] for branch in BRANCHES}


class Hammer:
    """One process's part."""

    def __init__(
        self, repository: Repository, name: str, rounds: int, collect: Callable[[], None] | None = None
    ) -> None:
        self.repository = repository
        self.name = name
        self.rounds = rounds
        self.collect = collect
        self.pause = 0.0 if collect is None else 0.1  # what is collected has to grow old first
        self.done: list[Operation] = []
        self.stop = threading.Event()

    def run(self) -> None:
        """Writers and readers for so many rounds; who commits and folds goes on for as long as they do."""
        passing = [self.write, self.write, self.read, self.merge]
        lasting = [self.commit, self.fold]
        failures: list[BaseException] = []

        def guarded(work: Callable[[str, random.Random], None], who: str) -> None:
            try:
                work(who, random.Random(who))
            except BaseException as exc:  # noqa: BLE001  raised in the main thread
                failures.append(exc)

        threads = [
            threading.Thread(target=guarded, args=(work, f"{self.name}.{number}"))
            for number, work in enumerate([*passing, *lasting])
        ]
        for thread in threads:
            thread.start()
        for thread in threads[: len(passing)]:
            thread.join()
        self.stop.set()
        for thread in threads[len(passing) :]:
            thread.join()
        if failures:
            raise failures[0]

    def note(self, who: str, branch: str, start: float, *events: tuple[str, str, Any]) -> None:
        """Record what was done from `start` until now."""
        end = time.monotonic()
        self.done += [
            Operation(f"{branch} {who}", kind, start, end, key, value) for kind, key, value in events
        ]

    # ── writers and readers ──────────────────────────────────────────────────────────────────────────────

    def write(self, who: str, chance: random.Random) -> None:
        """Put, put on a condition, move or delete; and look at it afterwards."""
        for number in range(self.rounds):
            time.sleep(self.pause)
            key, data = chance.choice(KEYS), f"{who}:{number}".encode()
            kind = chance.choice(["put", "put", "put if absent", "put if match", "move", "delete"])
            start = time.monotonic()
            if kind == "move":
                self.move(who, key, chance.choice([other for other in KEYS if other != key]))
            elif kind == "put if match":
                self.replace(who, key, data)
            elif kind == "delete":
                try:
                    self.repository.delete("main", key)
                except NotFound:
                    self.note(who, "main", start, ("get", key, None))
                else:  # the lake looks first, then removes
                    self.note(who, "main", start, ("exists", key, None), ("delete", key, None))
            else:
                try:
                    entry = self.repository.put("main", key, data, if_absent=kind != "put")
                except AlreadyExists:
                    self.note(who, "main", start, (kind, key, None))
                else:
                    self.note(who, "main", start, (kind, key, entry.checksum))
            self.look(who, "main", chance.choice(["get", "list"]), key)

    def move(self, who: str, key: str, to: str) -> None:
        """Move what is at a key."""
        start = time.monotonic()
        try:
            moved = self.repository.move("main", key, to)
        except NotFound:
            self.note(who, "main", start, ("get", key, None))
        except Conflict:
            pass  # others wrote to it all the time
        else:
            self.note(who, "main", start, ("move", key, [to, moved.checksum]))

    def replace(self, who: str, key: str, data: bytes) -> None:
        """Put where what was seen is still there."""
        try:
            seen = self.repository.stat("main", key)
        except NotFound:
            return
        start = time.monotonic()
        try:
            entry = self.repository.put("main", key, data, if_match=seen.etag)
        except PreconditionFailed:
            self.note(who, "main", start, ("not", key, seen.checksum))
        else:
            self.note(who, "main", start, ("put if match", key, [seen.checksum, entry.checksum]))

    def read(self, who: str, chance: random.Random) -> None:
        """Look at this and that."""
        for _ in range(self.rounds * 2):
            branch = chance.choice(["main", "main", "trunk"])
            self.look(who, branch, chance.choice(["get", "list", "head"]), chance.choice(KEYS))

    def look(self, who: str, branch: str, kind: str, key: str) -> None:
        """Look at one key, at all of them, or at the branch's head."""
        start = time.monotonic()
        if kind == "head":
            self.note(who, branch, start, ("head", "", self.repository.branch(branch).commit_id))
        elif kind == "list":
            told = {entry.path: entry.checksum for entry in self.repository.list(branch).entries}
            self.note(who, branch, start, ("list", "", told))
        else:
            try:
                found = self.repository.stat(branch, key).checksum
            except NotFound:
                found = None
            self.note(who, branch, start, ("get", key, found))

    # ── who moves branches ───────────────────────────────────────────────────────────────────────────────

    def commit(self, who: str, _chance: random.Random) -> None:
        """Commit whatever is staged, again and again."""
        while not self.stop.wait(0.02):
            start = time.monotonic()
            try:
                commit = self.repository.commit("main", who)
            except Invalid:
                continue  # nothing was staged
            end = time.monotonic()
            content = {entry.path: entry.checksum for entry in self.repository.entries(commit.id)}
            self.done += [
                Operation(f"main {who}", "seal", start, end, commit.id, content),
                Operation(f"main {who}", "publish", start, end, commit.id, (commit.parents[0], {})),
            ]

    def merge(self, who: str, chance: random.Random) -> None:
        """Make branches that add something each, and merge them."""
        for number in range(self.rounds // 2):
            name = f"side-{self.name}-{number}"
            self.repository.create_branch(name, "trunk")
            entry = self.repository.put(name, f"from/{name}", name.encode())
            self.repository.commit(name, name)
            start = time.monotonic()
            commit = self.repository.merge(name, "trunk").commit
            brought = {entry.path: entry.checksum}
            self.note(who, "trunk", start, ("publish", commit.id, (commit.parents[0], brought)))
            self.look(who, "trunk", chance.choice(["list", "head"]), "")

    def fold(self, _who: str, _chance: random.Random) -> None:
        """Give commits other manifests while they are read, and remove what nothing names any more."""
        while not self.stop.wait(0.05):
            for branch in BRANCHES:
                self.repository.fold(f"{branch}@")
            if self.collect is not None:
                self.collect()


def main() -> None:
    """What one process does: say that it is ready, wait for the others, hammer, tell."""
    options = json.loads(sys.argv[1])
    database = open_database(options["database"])
    lake = open_lake(database, options["objects"])
    name, grace = options["repository"], options["grace"]

    def garbage() -> None:
        with suppress(Conflict):  # the other process is at it
            collect(lake, name, grace_seconds=grace)

    part = Hammer(
        lake.repository(name), options["name"], options["rounds"], garbage if grace is not None else None
    )
    print("ready", flush=True)
    sys.stdin.read()
    part.run()
    print(json.dumps([asdict(operation) for operation in part.done]))
    database.close()


if __name__ == "__main__":
    main()
