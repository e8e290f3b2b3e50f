"""Load on servers: one run of `wrk`, several sides in turn, and what is told of them.

A side is an address that takes the same requests over and over: bodies in a file, one a line, rendered before the
run begins. Latencies are milliseconds, rates requests a second. Where several share few processors, or the machine is
not quiet, the processor time of the server for a request is the fairer figure. Knows nothing of what is asked.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
from benchmarks.serving.processes import cpu_seconds

CONNECTIONS = (1, 32)
SCRIPT = """
local requests, n = {}, 0
wrk.method = "POST"
%(headers)s
function init(args)
  for body in io.lines("%(bodies)s") do requests[#requests + 1] = wrk.format(nil, nil, nil, body) end
end
function request()
  n = n %% #requests + 1
  return requests[n]
end
function done(summary, latency, requests)
  local e = summary.errors
  %(counted)s
  io.write(string.format('RESULT {"rps": %%f, "p50": %%f, "p99": %%f, "answered": %%d, "connect": %%d, ' ..
    '"read": %%d, "write": %%d, "status": %%d, "timeout": %%d}\\n',
    summary.requests / summary.duration * 1e6, latency:percentile(50) / 1000, latency:percentile(99) / 1000,
    summary.requests, e.connect, e.read, e.write, e.status, e.timeout))
end
"""
# Costs wrk something: only where it is asked for.
COUNT = """
counts = {}
function response(status, headers, body)
  local name = status .. " " .. (headers["x-tulle-generation"] or "")
  counts[name] = (counts[name] or 0) + 1
end
local threads = {}
function setup(thread) threads[#threads + 1] = thread end
"""
COUNTED = """
  for _, thread in ipairs(threads) do
    for name, number in pairs(thread:get("counts")) do io.write(string.format("COUNT %d %s\\n", number, name)) end
  end
"""
FAILURES = ("connect", "read", "write", "status", "timeout")


@dataclass(frozen=True)
class Side:
    """A server that is asked: where, and what."""

    name: str
    url: str
    bodies: Sequence[str]
    headers: Mapping[str, str] = field(default_factory=lambda: {"content-type": "application/json"})
    processes: Sequence[psutil.Process] = ()  # that serve it, with all they have started


@dataclass(frozen=True)
class Figures:
    """What one run gave, or the medians of several."""

    rps: float
    p50: float  # milliseconds
    p99: float
    answered: int = 0
    failed: int = 0
    cpu: float = 0.0  # microseconds of processor time of its processes for a request
    counts: Mapping[str, int] = field(
        default_factory=dict
    )  # "status generation" → answers, where they were counted


@dataclass(frozen=True)
class Pace:
    """How long things are measured."""

    seconds: int = 4
    warm_up: int = 2
    repeats: int = 3

    @classmethod
    def of(cls, *, quick: bool) -> Pace:
        """The full form, or one that only shows that everything works."""
        return cls(1, 1, 1) if quick else cls()


def need_wrk() -> None:
    """Say what is missing before anything is made."""
    if shutil.which("wrk") is None:
        sys.exit("wrk is missing: apt-get install wrk")


def run(side: Side, connections: int, seconds: int, *, counted: bool = False) -> Figures:
    """One run. Every answer counts, also one that is an error; `counted`: by status and generation as well."""
    with TemporaryDirectory() as scratch:
        bodies, script = Path(scratch) / "bodies", Path(scratch) / "load.lua"
        bodies.write_text("\n".join(side.bodies) + "\n")
        headers = "\n".join(f'wrk.headers["{name}"] = "{value}"' for name, value in side.headers.items())
        values = {"headers": headers, "bodies": bodies, "counted": COUNTED if counted else ""}
        script.write_text((COUNT if counted else "") + SCRIPT % values)
        command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "30s", "--latency"]
        before = cpu_seconds(side.processes)
        done = subprocess.run(
            [*command, "-s", str(script), side.url], check=True, capture_output=True, text=True
        )
        spent = cpu_seconds(side.processes) - before
    lines = done.stdout.splitlines()
    found = json.loads(next(line for line in lines if line.startswith("RESULT"))[7:])
    failed = sum(found[name] for name in FAILURES)
    words = [line.split(" ", 2) for line in lines if line.startswith("COUNT")]
    counts = {name: int(number) for _, number, name in words}
    cpu = spent / max(found["answered"], 1) * 1e6
    return Figures(found["rps"], found["p50"], found["p99"], found["answered"], failed, cpu, counts)


def in_turn(sides: Sequence[Side], connections: int, pace: Pace) -> list[Figures]:
    """The medians of each side; they take turns, so that a drift of the machine hits all of them.

    A run in which a request failed ends the benchmark: its rate would say nothing.
    """
    runs: list[list[Figures]] = [[] for _ in sides]
    for side in sides:
        run(side, connections, pace.warm_up)
    for _ in range(pace.repeats):
        for side, kept in zip(sides, runs, strict=True):
            figures = run(side, connections, pace.seconds)
            if figures.failed or not figures.answered:
                sys.exit(f"{side.name}: {figures.failed} of {figures.answered} requests failed at {side.url}")
            kept.append(figures)
    return [_median(kept) for kept in runs]


def _median(runs: Sequence[Figures]) -> Figures:
    return Figures(
        statistics.median(one.rps for one in runs),
        statistics.median(one.p50 for one in runs),
        statistics.median(one.p99 for one in runs),
        sum(one.answered for one in runs),
        cpu=statistics.median(one.cpu for one in runs),
    )


@contextmanager
def awake() -> Iterator[None]:
    """Processors that never sleep meanwhile, as others use them: of a request by itself, in a virtual machine, most
    is otherwise the time to wake one up, whoever answers. The spinning gives way to everything else."""
    spin = "import os\nos.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))\nwhile True: pass"
    spinning = [subprocess.Popen([sys.executable, "-c", spin]) for _ in range(psutil.cpu_count() or 1)]
    try:
        yield
    finally:
        for one in spinning:
            one.kill()
            one.wait()


@contextmanager
def on_one_processor(sides: Sequence[Side]) -> Iterator[None]:
    """The load and those it is put on share a processor meanwhile. Of requests one after the other only one of the two
    ever works, so nobody loses anything, but for what it takes to wake the other's processor up: it is left out."""
    before = os.sched_getaffinity(0)
    threads = {0: before}
    for process in (one for side in sides for one in side.processes):
        for each in (process, *process.children(recursive=True)):
            threads |= {thread.id: os.sched_getaffinity(thread.id) for thread in each.threads()}
    try:
        for thread in threads:
            os.sched_setaffinity(thread, {max(before)})
        yield
    finally:
        for thread, known in threads.items():
            with suppress(ProcessLookupError):  # it has ended
                os.sched_setaffinity(thread, known)


TITLE = "rate  p50 ms  p99 ms  cpu us"


def told(figures: Figures) -> str:
    """Rate, latencies and processor time in columns."""
    return f"{figures.rps:>9,.0f}/s {figures.p50:>7.3f} {figures.p99:>7.2f} {figures.cpu:>7,.0f}"


def verdict(ratio: float, wanted: float | None, *, at_most: bool = False, unit: str = "x") -> str:
    """A figure beside what is wanted of it."""
    if wanted is None:
        return f"{ratio:>7.2f}{unit}"
    kept = ratio <= wanted if at_most else ratio >= wanted
    bound = "<=" if at_most else ">="
    return f"{ratio:>7.2f}{unit}  (wanted {bound} {wanted:g}{unit}: {'met' if kept else 'MISSED'})"
