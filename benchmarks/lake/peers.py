"""The lake beside git, git-lfs, DVC, delta-rs and icechunk, on the same files, in one run.

    python benchmarks/lake/peers.py [--files 100000] [--only git,git-lfs,dvc,delta-rs,icechunk]

Prints for every step what each side took (median, on the clock and of processors), how many times as long as the
lake's that is, and whether that is what is wanted. Answers are compared with what they must be before anything is
told. Sides take turns where a step is repeated. Everything happens in one temporary folder, which is removed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from peers_commands import Dvc, Git, GitLfs
from peers_environment import git_lfs, python_of
from peers_lake import Tulle
from peers_work import PER_FOLDER, Done, Took, Work

HERE = Path(__file__).parent
PEERS = ("git", "git-lfs", "dvc", "delta-rs", "icechunk")
DEMANDED = 100_000  # files
SHORT = 0.05  # seconds; a step that changes nothing and is shorter is repeated
REPEATS = 10


@dataclass(frozen=True)
class Step:
    """A step, how often it is done by each side, and what is wanted: the peer's time over the lake's."""

    name: str
    told: str
    turns: int
    wanted: dict[str, float]
    changes: bool = False
    warm: bool = False
    patience: float = math.inf  # seconds; whom one turn takes longer is given no other


STEPS = (
    Step(
        "add",
        "import + commit of {files:,} files in a folder. Tulle lists the folder, looks at each file and keeps"
        " references (3 times, median);\nthe commands hash all contents and copy them into their stores",
        1,
        {"git": 10, "git-lfs": 40, "dvc": 40},
        changes=True,
    ),
    Step(
        "register",
        "register a ready list of {files:,} references + commit, from lists of names to a durable commit, nothing"
        " looked at (only Tulle\nsyncs it to the disk)",
        1,
        {},
        changes=True,
    ),
    Step(
        "change",
        "new contents for {changed} files + commit; Tulle and git are told which, DVC looks for itself (named one"
        " by one\nit takes ten times as long). Tulle syncs data and commit to disk, the commands leave loose objects"
        " and caches to the system",
        3,
        {"git-lfs": 5, "dvc": 50},
        changes=True,
    ),
    Step("relink", "{changed} references lead elsewhere + commit (delta-rs: are added)", 3, {}, changes=True),
    Step("diff", "diff of two commits that are {changed} changes apart", 3, {"git": 1, "dvc": 500}),
    Step(
        "list",
        "list the 1,000 files of one folder in the middle at the first commit, warm. delta-rs and icechunk have no"
        " folders: all\nnames are asked for and sifted; beside it the quickest other way that was found (of"
        " icechunk: positions, not files)",
        3,
        {"dvc": 200, "delta-rs": 20, "icechunk": 50},
        warm=True,
    ),
    Step(
        "read",
        "read one file of 1 KiB as it was at the first commit, warm",
        3,
        {"git-lfs": 50, "dvc": 500},
        warm=True,
    ),
    Step(
        "merge",
        "three-way merge of {changed} and {changed} changes; the commands also update their work tree",
        2,
        {"git-lfs": 10, "dvc": 100},
        changes=True,
        patience=5.0,
    ),
)


class Registers:
    """The peers that are libraries: a process of the peers' interpreter that does one step at a time."""

    STEPS: ClassVar = {
        "delta-rs": {"register", "relink", "diff", "list"},
        "delta-rs, Arrow": {"list"},
        "icechunk": {"register", "relink", "diff", "list", "read"},
        "icechunk, coordinates": {"list"},
    }

    def __init__(self, name: str, process: subprocess.Popen[str]) -> None:
        self.name = name
        self._process = process

    def starts(self) -> dict[str, Took]:
        """No process is started for a step."""
        return {}

    def ask(self, step: str, turn: int) -> Done:
        """Have a step done. Ends the benchmark when it cannot be."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"side": self.name, "step": step, "turn": turn}) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.name}: {step} failed, see above")
        done = json.loads(line)
        return Done(Took(**done["took"]), done["answer"])


Side = Tulle | Git | Registers


def work_of(side: Side, step: str) -> Callable[[int], Done] | None:
    """What does a step on a side, if it can."""
    if isinstance(side, Registers):
        return partial(side.ask, step) if step in side.STEPS[side.name] else None
    found: Callable[[int], Done] | None = getattr(side, step, None)
    return found


@contextlib.contextmanager
def registers(names: list[str], work: Work, folder: Path, source: Path) -> Iterator[list[Registers]]:
    """The libraries that can be had, in one process."""
    python = None
    packages = {"delta-rs": ("deltalake", "pyarrow"), "icechunk": ("icechunk",)}
    wanted = []
    for name in names:
        found = python_of(*packages[name])
        if found is not None:
            python = found
            wanted += [side for side in Registers.STEPS if side.partition(",")[0] == name]
    if python is None:
        yield []
        return
    folder.mkdir()
    argv = [str(python), str(HERE / "peers_registers.py"), str(work.files), str(folder), str(source)]
    environment = {**os.environ, "ICECHUNK_LOG": "error"}
    process = subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    )
    try:
        yield [Registers(name, process) for name in wanted]
    finally:
        process.communicate()


def commands(names: list[str], work: Work, folder: Path) -> list[Git]:
    """The commands that can be had, each with its work tree."""
    if shutil.which("git") is None:
        print("  git is not installed: git, git-lfs and DVC are left out", file=sys.stderr)
        return []
    found: list[Git] = []
    if "git" in names:
        found.append(Git(work, folder, []))
    if "git-lfs" in names and (binaries := git_lfs()) is not None:
        found.append(GitLfs(work, folder, [binaries]))
    if "dvc" in names and (python := python_of("dvc")) is not None:
        found.append(Dvc(work, folder, [python.parent]))
    return found


def expected(step: Step, turn: int, work: Work) -> Any:
    """What a step must answer; None where it answers nothing."""
    match step.name:
        case "add" | "register":
            return work.files
        case "diff":
            return work.names(work.changed(turn))
        case "list":
            return work.names(work.folder)
        case "read":
            return work.data(work.one).hex()
    return None


def measured(step: Step, sides: list[Side], work: Work) -> dict[str, list[Took]]:
    """Everybody's turns at a step, one side after the other, and again."""
    took: dict[str, list[Took]] = {}

    def once(side: Side, do: Callable[[int], Done], turn: int) -> Took:
        done = do(turn)
        answer = sorted(done.answer) if isinstance(done.answer, list) else done.answer
        if answer != expected(step, turn, work):
            raise SystemExit(f"{side.name}: {step.name} answered {str(done.answer)[:200]}")
        return done.took

    doing = [(side, do) for side in sides if (do := work_of(side, step.name)) is not None]
    if step.warm:
        for side, do in doing:
            once(side, do, 1)
    for turn in range(1, step.turns + 1):
        for side, do in doing:
            kept = took.setdefault(side.name, [])
            if kept and kept[-1].wall > step.patience:
                continue
            kept.append(once(side, do, turn))
            if kept[-1].wall < SHORT and not step.changes:
                kept.extend(once(side, do, turn) for _ in range(REPEATS - 1))
            if isinstance(side, Tulle) and step.turns == 1:
                kept.extend(once(side, do, again) for again in (2, 3))
    return took


def net(took: list[Took], starts: dict[str, Took]) -> tuple[float, float]:
    """Median seconds, on the clock and of processors, without what starting commands costs."""
    walls, cpus = [], []
    for one in took:
        counted = [(starts[name], times) for name, times in one.starts.items()]
        walls.append(one.wall - sum(start.wall * times for start, times in counted))
        cpus.append(one.cpu - sum(start.cpu * times for start, times in counted))
    return max(statistics.median(walls), 1e-6), max(statistics.median(cpus), 1e-6)


def tell(
    step: Step, sides: list[Side], took: dict[str, list[Took]], starts: dict[str, dict[str, Took]]
) -> int:
    """Print a step's table; returns how many wanted ratios were missed."""
    missed = 0
    ours = net(took["tulle"], {})
    print(f"{'':24}{'seconds':>11}{'cpu':>11}{'times':>7}{'ratio':>11}{'of cpu':>10}{'wanted':>10}")
    for side in sides:
        if side.name not in took:
            continue
        wall, cpu = net(took[side.name], starts[side.name])
        line = f"  {side.name:22}{wall:11.5f}{cpu:11.5f}{len(took[side.name]):7}"
        if side.name != "tulle":
            ratio = wall / ours[0]
            line += f"{ratio:10,.1f}x{cpu / ours[1]:9,.1f}x"
            wanted = step.wanted.get(side.name.partition(",")[0])
            if wanted is not None:
                line += f"{wanted:9g}x  {'met' if ratio >= wanted else 'NOT MET'}"
                missed += ratio < wanted
        print(line, flush=True)
    return missed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=DEMANDED, help="a multiple of 1,000")
    parser.add_argument("--only", default=",".join(PEERS), help="which peers, separated by commas")
    options = parser.parse_args()
    names = options.only.split(",")
    if options.files < PER_FOLDER or options.files % PER_FOLDER or not set(names) <= set(PEERS):
        parser.error(f"files go by thousands, and peers are {', '.join(PEERS)}")
    work = Work(options.files)
    began = time.monotonic()
    print(f"load {os.getloadavg()[0]:.1f} before, {os.cpu_count()} processors")
    print(
        "Commands are run as processes; what starting them costs is measured and taken off. Tulle, delta-rs and"
    )
    print(
        "icechunk are called in a process that runs. 'ratio' is the peer's seconds over Tulle's, of the median."
    )
    if work.files != DEMANDED:
        print(f"What is wanted is wanted of {DEMANDED:,} files.")
    missed = 0
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        ours = Tulle(work, folder)
        libraries = [name for name in names if name in {"delta-rs", "icechunk"}]
        with registers(libraries, work, folder / "registers", ours.source) as asked:
            sides: list[Side] = [ours, *commands(names, work, folder), *asked]
            starts = {side.name: side.starts() for side in sides}
            for found in starts.values():
                for command, start in found.items():
                    print(f"starting {command}: {start.wall:.4f} s, {start.cpu:.4f} s of cpu")
            for step in STEPS:
                print(f"\n{step.told.format(files=work.files, changed=work.files // PER_FOLDER)}")
                missed += tell(step, sides, measured(step, sides, work), starts)
        ours.close()
    print(
        f"\nall answers agree; {missed or 'no'} wanted ratio(s) missed; {time.monotonic() - began:,.0f} s in all"
    )


if __name__ == "__main__":
    main()
