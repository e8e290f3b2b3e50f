"""Keeps a set of child processes running: starts them, brings dead ones back, stops them all.

Level-triggered: every tick it compares the processes that should run with those that do. Children ask the
kernel to end them when the supervisor dies, and a later supervisor ends whatever an earlier one left behind,
so nothing outlives it. What it knows is written to a file that others read. Knows nothing of meshes.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from tulle.deploy.child_ends import ChildEnds

AT_ONCE = (
    0.0  # seconds before a child that has died is started again; of the next times, while it keeps dying:
)
FIRST_DELAY = 0.1  # this, which doubles
LONGEST_DELAY = 5.0
STABLE_AFTER = 10.0  # a child that lived this long is started at once again
# How a process ends whose files are damaged: it says so, or the kernel ends it, for reading what is not in a file.
EXIT_DAMAGED = 3
DAMAGED = frozenset({EXIT_DAMAGED, -signal.SIGBUS, -signal.SIGSEGV})
STOP_GRACE = 12.0  # seconds a child has to end by itself before it is killed; a worker drains for up to 10
READY_TIMEOUT = 60.0
ASK_SECONDS = 0.5  # of a step, after which no further child is asked whether it is ready

# Of the environment, what a program of others needs to run.
_PLAIN = frozenset({"PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "LD_LIBRARY_PATH"})


@dataclass(frozen=True, slots=True)
class Takeover:
    """How a process is replaced by one that takes its callers over, so that none is lost.

    It is done whenever `asked` is another word than before. `argv` starts the one that takes over, of so many since the
    first; `done` tells whether that one answers. The one before ends by itself, and is killed after `seconds`.
    """

    asked: str
    argv: Callable[[int], Sequence[str]]
    done: Callable[[int], bool]
    seconds: float


@dataclass(frozen=True, slots=True)
class Drain:
    """What a process is told before it is stopped: `begin` has it take nothing new, `done` tells that nothing is under
    way. It has `seconds`; those that have no such thing are stopped after it.
    """

    begin: Callable[[], None]
    done: Callable[[], bool]
    seconds: float


@dataclass(frozen=True, slots=True)
class Wanted:
    """A process that should run. Two wants with the same name and argv are the same want."""

    name: str
    kind: str
    argv: Sequence[str]
    cwd: Path
    log: Path
    ready: Callable[[], bool]
    env: Mapping[str, str] = field(default_factory=dict)
    keeps_environment: bool = True  # of whoever started the mesh, in which secrets may be
    url: str | None = None
    grace_before_stop: float = 0.0  # seconds it keeps running after it is no longer wanted
    stop_grace: float = STOP_GRACE  # seconds it then has to end by itself; all have less when the mesh ends
    mend: Callable[[], None] | None = (
        None  # done before it starts again after it ended as damaged files have it end
    )
    takeover: Takeover | None = None
    drain: Drain | None = None


@dataclass(slots=True)
class _Child:
    wanted: Wanted
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    state: str = "starting"  # starting running restarting stopping
    restarts: int = 0
    delay: float = AT_ONCE
    start_after: float = 0.0
    unwanted_since: float | None = None
    told_to_stop_at: float | None = None
    last_exit: int | None = None
    asked_at: float = 0.0  # whether it is ready
    asked: str = ""  # the word by which it was to be taken over last
    taken: int = 0  # how often it was, since it was started by itself
    former: subprocess.Popen[bytes] | None = None  # the one that it takes over from, as long as that runs
    former_until: float = 0.0
    trouble: str = ""  # why it was not taken over

    def put_off(self) -> None:
        """Have it started again after its delay; the next one is longer."""
        self.start_after = time.monotonic() + self.delay
        self.delay = min(max(self.delay * 2, FIRST_DELAY), LONGEST_DELAY)


class Supervisor:
    """Runs until told to stop; `tick` is one comparison of wanted and actual."""

    def __init__(
        self, table: Path, wanted: Callable[[], Sequence[Wanted]], *, about: Mapping[str, Any]
    ) -> None:
        self._table = table
        self._wanted = wanted
        self._about = dict(about)
        self._children: dict[str, _Child] = {}
        self._stopping = False
        self._written = ""
        self._last: Sequence[Wanted] = ()
        self._trouble = ""
        self._ask_until = 0.0
        self._ends = ChildEnds()

    def run(self, *, every: float = 0.1) -> None:
        """Supervise until SIGTERM or SIGINT, then stop every child and return."""
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.signal(signal.SIGINT, self._on_signal)
        try:
            while not self._stopping:
                self.tick()
                self.rest(every)
        finally:
            self.stop_all()

    def rest(self, seconds: float) -> None:
        """Do nothing for so long, or until a child has ended: who serves callers is wanted back at once."""
        running = (child.process for child in self._children.values())
        self._ends.wait([process.pid for process in running if process is not None], seconds)

    def tick(self) -> None:
        """One step towards what is wanted."""
        try:
            self._last = self._wanted()
        except Exception as exc:  # noqa: BLE001  what runs goes on, whatever keeps us from knowing what should
            self._complain("which processes should run cannot be read", exc)
        wanted = {w.name: w for w in self._last}
        for child in self._children.values():
            self._reap(child)
        for name, want in wanted.items():
            child = self._children.setdefault(name, _Child(want))
            if list(child.wanted.argv) != list(want.argv) and child.process is not None:
                self._stop(child)
            else:
                child.wanted = want
                child.unwanted_since = None
                self._look_at_takeover(child)
        # One that hangs while it starts must not keep the others waiting: who was asked longest ago comes first.
        self._ask_until = time.monotonic() + ASK_SECONDS
        for name, child in sorted(self._children.items(), key=lambda one: one[1].asked_at):
            if name in wanted:
                self._advance(child)
            else:
                self._retire(name, child)
        self._write()

    def stop_all(self) -> None:
        """End every child: asked first, killed when it does not listen. Who drains goes before all others."""
        self._drain_all()
        for child in self._children.values():
            self._stop(child)
        self._write()
        deadline = time.monotonic() + STOP_GRACE
        for child in self._children.values():
            self._end_former(child)
            if child.process is None:
                continue
            try:
                child.process.wait(max(0.05, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.process.kill()
                child.process.wait()
            child.process = None
        self._ends.close()
        self._table.unlink(missing_ok=True)

    def _drain_all(self) -> None:
        """Have those that serve callers finish what is under way, while what they need for that still runs."""
        draining = [one for one in self._children.values() if one.wanted.drain and one.process is not None]
        for child in draining:
            child.state = "stopping"
            self._tell_to_drain(child)
        if draining:
            self._write()
        began = time.monotonic()
        while draining:
            draining = [
                child
                for child in draining
                if child.process is not None
                and child.process.poll() is None
                and child.wanted.drain is not None
                and time.monotonic() - began < child.wanted.drain.seconds
                and not child.wanted.drain.done()
            ]
            if draining:
                time.sleep(0.05)

    def _tell_to_drain(self, child: _Child) -> None:
        try:
            if child.wanted.drain is not None:
                child.wanted.drain.begin()
        except Exception as exc:  # noqa: BLE001  it is stopped all the same
            self._complain(f"{child.wanted.name} cannot be told to drain", exc)

    def _on_signal(self, _number: int, _frame: object) -> None:
        self._stopping = True

    def _advance(self, child: _Child) -> None:
        now = time.monotonic()
        if child.process is None:
            if now >= child.start_after:
                self._mend(child)
                self._start(child)
            return
        if child.state == "taking over":
            if child.wanted.takeover is not None and child.wanted.takeover.done(child.taken):
                child.state = "running"
                child.former_until = now + child.wanted.takeover.seconds
            elif now - child.started_at > READY_TIMEOUT:
                child.process.kill()  # the one before goes on
            return
        if child.state in {"starting", "restarting"} and child.told_to_stop_at is None:
            if self._is_ready(child):
                child.state = "running"
            elif now - child.started_at > READY_TIMEOUT:
                child.restarts += 1
                self._stop(child)
        elif child.state == "running" and now - child.started_at > STABLE_AFTER:
            child.delay = AT_ONCE
        self._insist(child)

    def _look_at_takeover(self, child: _Child) -> None:
        """Begin to replace a process that is to be, once it runs; end the one before when its time is over."""
        takeover = child.wanted.takeover
        if child.former is not None:
            if child.former.poll() is not None:
                child.former = None
            elif child.state != "taking over" and time.monotonic() > child.former_until:
                self._end_former(child)
        if takeover is None or takeover.asked == child.asked or child.former is not None:
            return
        if child.process is None or child.state != "running":
            return
        child.asked, child.trouble = takeover.asked, ""
        former = child.process
        try:
            self._spawn(child, takeover.argv(child.taken + 1))
        except OSError as exc:
            child.process, child.state = former, "running"
            child.trouble = f"it could not be taken over: {exc}"
            self._complain(f"{child.wanted.name} cannot be taken over", exc)
            return
        child.former, child.former_until = former, time.monotonic() + READY_TIMEOUT + takeover.seconds
        child.taken += 1
        child.state = "taking over"

    def _keep_former(self, child: _Child, code: int) -> None:
        """Who should have taken over ended before it answered: the one before goes on."""
        child.process, child.former = child.former, None
        child.taken -= 1
        child.state = "running"
        child.trouble = f"who should have taken over ended with {code}, so the one before goes on"
        self._complain(child.wanted.name, RuntimeError(child.trouble))

    def _end_former(self, child: _Child) -> None:
        if child.former is not None:
            child.former.kill()
            child.former.wait()
            child.former = None

    def _is_ready(self, child: _Child) -> bool:
        if time.monotonic() >= self._ask_until:
            return False
        child.asked_at = time.monotonic()
        return child.wanted.ready()

    def _retire(self, name: str, child: _Child) -> None:
        if child.process is None:
            del self._children[name]
            return
        now = time.monotonic()
        if child.unwanted_since is None:
            child.unwanted_since = now
        if now - child.unwanted_since >= child.wanted.grace_before_stop:
            self._stop(child)
        self._insist(child)

    def _insist(self, child: _Child) -> None:
        told = child.told_to_stop_at
        if (
            told is not None
            and child.process is not None
            and time.monotonic() - told > child.wanted.stop_grace
        ):
            child.process.kill()

    def _mend(self, child: _Child) -> None:
        if child.wanted.mend is None or not child.restarts or child.last_exit not in DAMAGED:
            return
        if child.delay >= LONGEST_DELAY:  # mending takes long, and it has been tried often
            return
        try:
            child.wanted.mend()
        except Exception as exc:  # noqa: BLE001  it is tried without: its own words say best what is wrong
            self._complain(f"{child.wanted.name} cannot be mended", exc)

    def _start(self, child: _Child) -> None:
        try:
            self._end_former(child)  # what it holds cannot be taken by who starts by itself
            child.taken = 0
            if child.wanted.takeover is not None:
                child.asked = child.wanted.takeover.asked
            self._spawn(child, child.wanted.argv)
        except OSError as exc:
            self._complain(f"{child.wanted.name} cannot be started", exc)
            child.restarts += 1
            child.put_off()

    def _spawn(self, child: _Child, argv: Sequence[str]) -> None:
        want = child.wanted
        want.log.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with want.log.open("ab") as log:
            child.process = subprocess.Popen(  # noqa: S603  argv is ours
                list(argv),
                cwd=want.cwd,
                env={**_environment(want), **want.env},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                preexec_fn=_die_with_parent,  # noqa: PLW1509  the supervisor has one thread
            )
        child.started_at = time.monotonic()
        child.told_to_stop_at = None
        child.state = "restarting" if child.restarts else "starting"

    def _stop(self, child: _Child) -> None:
        if child.process is not None and child.told_to_stop_at is None:
            child.state = "stopping"
            self._end_former(child)
            child.told_to_stop_at = time.monotonic()
            child.process.terminate()

    def _reap(self, child: _Child) -> None:
        if child.process is None or (code := child.process.poll()) is None:
            return
        if child.state == "taking over" and child.former is not None and child.former.poll() is None:
            self._keep_former(child, code)
            return
        child.last_exit = code
        child.process = None
        if child.told_to_stop_at is None:
            child.restarts += 1
            child.state = "restarting"
            child.put_off()
        child.told_to_stop_at = None

    def _write(self) -> None:
        rows = {
            name: {
                "kind": child.wanted.kind,
                "state": child.state,
                "pid": child.process.pid if child.process else None,
                "pid_created": _created(child.process.pid) if child.process else None,
                "url": child.wanted.url,
                "restarts": child.restarts,
                "last_exit": child.last_exit,
                "log": str(child.wanted.log),
                **(
                    {"taken": child.taken, "asked": child.asked, "trouble": child.trouble}
                    if child.wanted.takeover
                    else {}
                ),
            }
            for name, child in self._children.items()
        }
        rows |= {
            f"{name}/before": {
                **rows[name],
                "state": "stopping",
                "pid": child.former.pid,
                "pid_created": _created(child.former.pid),
                "url": None,
            }
            for name, child in self._children.items()
            if child.former is not None
        }
        text = json.dumps({**self._about, "processes": rows}, indent=1)
        if text == self._written:
            return
        beside = self._table.with_suffix(".new")
        try:
            beside.write_text(text)
            beside.replace(self._table)
        except OSError as exc:
            self._complain("the process table cannot be written", exc)
            return
        self._written = text

    def _complain(self, what: str, exc: Exception) -> None:
        # Once, not ten times a second; the supervisor's standard error is its log.
        if (trouble := f"{what}: {exc}") != self._trouble:
            self._trouble = trouble
            tell(trouble)


def tell(trouble: str) -> None:
    """Write a line of the supervisor's log. Where that is on a full disk too, the mesh goes on without it."""
    with contextlib.suppress(OSError):
        sys.stderr.write(trouble + "\n")
        sys.stderr.flush()


def end_leftovers(table: Path) -> list[str]:
    """End the children that an earlier supervisor, itself dead, left running; their names."""
    try:
        rows = json.loads(table.read_text())["processes"]
    except (OSError, ValueError, KeyError):
        return []
    ended: list[tuple[str, psutil.Process]] = []
    for name, row in rows.items():
        if (process := alive(row.get("pid"), row.get("pid_created"))) is not None:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.terminate()
                ended.append((name, process))
    _, stubborn = psutil.wait_procs([process for _, process in ended], timeout=3)
    for process in stubborn:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(stubborn, timeout=3)
    table.unlink(missing_ok=True)
    return [name for name, _ in ended]


def alive(pid: int | None, created: float | None) -> psutil.Process | None:
    """The running process with this id *and* this start time; ids are used again, start times are not."""
    if pid is None or created is None:
        return None
    try:
        process = psutil.Process(pid)
        if abs(process.create_time() - created) > 1.0 or process.status() == psutil.STATUS_ZOMBIE:
            return None
    except psutil.Error:
        return None
    return process


def _created(pid: int) -> float | None:
    try:
        return psutil.Process(pid).create_time()
    except psutil.Error:
        return None


_LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
_PR_SET_PDEATHSIG = 1


def _environment(want: Wanted) -> Mapping[str, str]:
    if want.keeps_environment:
        return os.environ
    return {name: value for name, value in os.environ.items() if name in _PLAIN}


def _die_with_parent() -> None:
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
