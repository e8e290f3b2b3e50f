"""What the lake and its peers are given to do, and what they must answer: files, changes of them, names, contents.

Files are of 1 KiB, 1,000 in a folder; what a file holds follows from its number and version. Knows nothing of who
does the work: the peers' own interpreter loads this module too.
"""

from __future__ import annotations

import hashlib
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PER_FOLDER = 1000
SIZE = 1024
OURS, THEIRS = 500, 600  # versions from here on are the two sides of a merge


@dataclass(frozen=True)
class Work:
    """How many files there are; a version changes one of every folder, version 1 the second one of each."""

    files: int

    def name(self, number: int) -> str:
        return f"data/part-{number // PER_FOLDER:05d}/object-{number:08d}.bin"

    def data(self, number: int, version: int = 0) -> bytes:
        return hashlib.shake_128(f"{number} {version}".encode()).digest(SIZE)

    def changed(self, version: int) -> range:
        return range(version, self.files, PER_FOLDER)

    @property
    def all(self) -> range:
        return range(self.files)

    def names(self, numbers: range) -> list[str]:
        return [self.name(number) for number in numbers]

    @property
    def folder(self) -> range:
        """The numbers of the files of the folder that is listed: one in the middle."""
        first = self.files // PER_FOLDER // 2 * PER_FOLDER
        return range(first, first + PER_FOLDER)

    @property
    def prefix(self) -> str:
        return str(Path(self.name(self.folder[0])).parent) + "/"

    @property
    def one(self) -> int:
        """The file that is read as it was at first; version 1 has changed it since."""
        return self.folder[1]

    def write(self, root: Path, numbers: range, version: int = 0) -> list[Path]:
        """Write files below a folder, each a new one in place of what was there."""
        written = []
        for number in numbers:
            path = root / self.name(number)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)
            path.write_bytes(self.data(number, version))
            written.append(path)
        return written


@dataclass
class Took:
    """Seconds on the clock and of processors, and how many processes were started meanwhile, by their kind."""

    wall: float = 0.0
    cpu: float = 0.0
    starts: dict[str, int] = field(default_factory=dict)


@dataclass
class Done:
    """What a step took, and what it answered."""

    took: Took
    answer: Any = None


@contextmanager
def timed(took: Took) -> Iterator[None]:
    """Add what is done inside to `took`: this process's time, and that of the ones it waited for."""
    began, used = time.perf_counter(), _cpu()
    yield
    took.wall += time.perf_counter() - began
    took.cpu += _cpu() - used


def doing(work: Callable[[], Any]) -> Done:
    """A step that is one call."""
    done = Done(Took())
    with timed(done.took):
        done.answer = work()
    return done


def _cpu() -> float:
    own, others = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + others.ru_utime + others.ru_stime
