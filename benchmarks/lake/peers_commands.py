"""Peers that are commands with a work tree: git, git-lfs, and DVC beside git.

Each works in a folder of its own that holds the same files, as its manual tells, with its defaults; only git's
collecting in the background is off, which would go on during the next step.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

from peers_work import OURS, THEIRS, Done, Took, Work, timed


class Git:
    """git alone; the others add to it."""

    name = "git"

    def __init__(self, work: Work, folder: Path, binaries: list[Path]) -> None:
        self.work = work
        self.folder = folder
        self.root = folder / self.name
        self.root.mkdir()
        self.environment = {
            "HOME": str(folder),
            "PATH": os.pathsep.join([*map(str, binaries), os.environ["PATH"]]),
            "GIT_CONFIG_NOSYSTEM": "1",
            "DVC_NO_ANALYTICS": "1",
            "DVC_SITE_CACHE_DIR": str(folder / "dvc-site"),
        }
        self.run(Took(), "git init -q -b main")
        for setting in (
            "user.name bench",
            "user.email bench@localhost",
            "gc.auto 0",
            "advice.detachedHead false",
        ):
            self.run(Took(), f"git config {setting}")
        self.prepare()
        work.write(self.root, work.all)

    def prepare(self) -> None:
        """What is set up once, before there is a file."""

    def run(self, took: Took, command: str, stdin: str | None = None) -> str:
        """Run a command in the work tree, its time added to `took`; returns what it printed."""
        argv = command.split()
        took.starts[argv[0]] = took.starts.get(argv[0], 0) + 1
        with timed(took):
            done = subprocess.run(
                argv,
                cwd=self.root,
                env=self.environment,
                input=stdin,
                capture_output=True,
                text=True,
                check=False,
            )
        if done.returncode:
            raise SystemExit(f"{self.name}: {command} failed: {(done.stderr or done.stdout).strip()[-600:]}")
        return done.stdout

    def starts(self) -> dict[str, Took]:
        """What starting each of its commands costs, without work."""
        return {"git": self._start("git --version")}

    def _start(self, command: str) -> Took:
        several = []
        for _ in range(5):
            several.append(Took())
            self.run(several[-1], command)
        return sorted(several, key=lambda took: took.wall)[2]

    # ── steps ────────────────────────────────────────────────────────────────────────────────────────────

    def add(self, _: int) -> Done:
        took = Took()
        self.track_all(took)
        self.run(took, "git commit -q -m files")
        self.run(Took(), "git tag v0")
        return Done(took, len(self.run(Took(), "git ls-files data").splitlines()) or self.count())

    def change(self, turn: int) -> Done:
        took = self.version(turn)
        self.run(Took(), f"git tag v{turn}")
        return Done(took)

    def diff(self, turn: int) -> Done:
        took = Took()
        return Done(took, self.run(took, f"git diff --name-only v{turn - 1} v{turn}").split())

    def merge(self, turn: int) -> Done:
        self.switch(f"-b try{turn}")
        self.version(THEIRS + turn)
        self.switch("main")
        self.version(OURS + turn)
        took = Took()
        self.join(took, f"try{turn}")
        self.check((OURS + turn, THEIRS + turn))
        return Done(took)

    def list(self, _: int) -> Done:
        took = Took()
        return Done(took, self.run(took, f"git ls-tree -r --name-only v0 {self.work.prefix}").split())

    def read(self, _: int) -> Done:
        return self.shown(f"git cat-file blob v0:{self.work.name(self.work.one)}")

    # ── what differs with the others ─────────────────────────────────────────────────────────────────────

    def track_all(self, took: Took) -> None:
        self.run(took, "git add .")

    def track(self, took: Took, names: list[str]) -> None:
        self.run(took, "git add --pathspec-from-file=-", "\n".join(names))

    def switch(self, to: str) -> None:
        self.run(Took(), f"git checkout -q {to}")

    def join(self, took: Took, branch: str) -> None:
        self.run(took, f"git merge -q --no-ff -m merge {branch}")

    def count(self) -> int:
        return 0

    # ── parts of steps ───────────────────────────────────────────────────────────────────────────────────

    def version(self, number: int) -> Took:
        """Write a version's files (not timed) and commit them."""
        self.work.write(self.root, self.work.changed(number), number)
        took = Took()
        self.track(took, self.work.names(self.work.changed(number)))
        self.run(took, f"git commit -q -m version-{number}")
        return took

    def shown(self, command: str) -> Done:
        """The bytes a command prints, as hex digits."""
        target = self.folder / "shown"
        took = Took(starts={"git": 1})
        with timed(took), target.open("wb") as out:
            subprocess.run(command.split(), cwd=self.root, env=self.environment, stdout=out, check=True)
        return Done(took, target.read_bytes().hex())

    def check(self, versions: tuple[int, ...]) -> None:
        """Ends the benchmark unless the work tree holds what versions wrote."""
        for version in versions:
            for number in self.work.changed(version):
                if (self.root / self.work.name(number)).read_bytes() != self.work.data(number, version):
                    raise SystemExit(
                        f"{self.name}: {self.work.name(number)} is not what version {version} wrote"
                    )


class GitLfs(Git):
    """git with git-lfs for all of the files."""

    name = "git-lfs"

    def prepare(self) -> None:
        self.run(Took(), "git lfs install --local")

    def track_all(self, took: Took) -> None:
        self.run(took, "git lfs track -- *.bin")
        self.run(took, "git add .")

    def read(self, _: int) -> Done:
        return self.shown(f"git cat-file --filters v0:{self.work.name(self.work.one)}")


class Dvc(Git):
    """DVC for the folder of files, git for what DVC keeps of it."""

    name = "dvc"

    def prepare(self) -> None:
        self.run(Took(), "dvc init -q")
        self.run(Took(), "dvc config core.analytics false")
        self.run(Took(), "dvc config core.check_update false")
        self.run(Took(), "dvc install")
        (self.root / ".gitattributes").write_text("*.dvc merge=dvc\n")
        hooks = self.root / ".git" / "hooks"
        for name in (
            "post-checkout",
            "pre-commit",
            "pre-push",
        ):  # they would do our steps' work a second time
            (hooks / name).unlink(missing_ok=True)

    def starts(self) -> dict[str, Took]:
        return {"git": self._start("git --version"), "dvc": self._start("dvc --version")}

    def diff(self, turn: int) -> Done:
        took = Took()
        told = json.loads(self.run(took, f"dvc diff --json v{turn - 1} v{turn}"))
        names = [item["path"] for kind in ("added", "deleted", "modified") for item in told[kind]]
        return Done(took, [name for name in names if not name.endswith("/")])

    def list(self, _: int) -> Done:
        took = Took()
        told = self.run(took, f"dvc list --rev v0 . {self.work.prefix.rstrip('/')}")
        return Done(took, [self.work.prefix + name for name in told.split()])

    def read(self, _: int) -> Done:
        target = self.folder / "got"
        took = Took()
        self.run(took, f"dvc get -q -f --rev v0 -o {target} . {self.work.name(self.work.one)}")
        return Done(took, target.read_bytes().hex())

    def track_all(self, took: Took) -> None:
        self.run(took, "dvc add -q data")
        self.run(took, "git add .")

    def track(self, took: Took, _: list[str]) -> None:
        self.run(took, "dvc add -q data")  # to name the files one by one takes it ten times as long
        self.run(took, "git add data.dvc")

    def switch(self, to: str) -> None:
        super().switch(to)
        self.run(Took(), "dvc checkout -q")

    def join(self, took: Took, branch: str) -> None:
        super().join(took, branch)
        self.run(took, "dvc checkout -q")

    def count(self) -> int:
        (listed,) = (self.root / ".dvc" / "cache").rglob("*.dir")
        return len(json.loads(listed.read_text()))
