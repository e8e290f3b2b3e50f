"""A whole mesh as processes of this machine: which there are, when they are ready, how they start and stop.

The processes are the control plane, the lake's S3 door, the gateway's Envoy and its processors, and the workers of
every deployed generation. One supervisor a mesh folder holds a lock; `tulle down` ends it by its id. Knows nothing
of what the processes do.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import http.client
import json
import math
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Protocol

import psutil

from tulle.config import Settings
from tulle.deploy import supervise
from tulle.deploy.last_words import why_ended
from tulle.deploy.supervise import Wanted
from tulle.errors import AlreadyExists, TulleError, Unavailable

DRAIN_SECONDS = 2.0  # a replaced generation answers what Envoy still sends it for this long
PROCESSOR_SECONDS = (
    60.0  # a processor that no service needs any more runs on: requests may be on their way to it
)
LONGEST_SOCKET_NAME = 80  # characters, of the 107 bytes that a socket address holds
CLOCKS_APART = 1.0  # seconds: when a process began is known from the second in which the machine did


class Command(Protocol):
    """How to start a program that another slice knows."""

    @property
    def argv(self) -> Sequence[str]:
        """The program and its arguments."""

    @property
    def cwd(self) -> Path:
        """Where it runs."""

    @property
    def env(self) -> Mapping[str, str]:
        """What it needs in its environment."""


@dataclass(frozen=True, slots=True)
class Process:
    """A supervised process as others see it."""

    name: str
    kind: str
    state: str
    pid: int | None
    url: str | None
    restarts: int
    log: str
    why: str = ""  # it does not run, as far as is known
    taken: int = 0  # how often it was taken over since it was started by itself
    asked: str = ""  # the word by which it was to be, the last time
    trouble: str = ""  # why it was not then


def table(settings: Settings) -> Path:
    """The file in which the supervisor tells what runs."""
    return settings.run_folder / "processes.json"


def processes(settings: Settings) -> Mapping[str, Process]:
    """What runs now, by name; empty when the mesh is down. Trusts pids only with their start times."""
    content = _content(settings)
    found = {}
    for name, row in content.get("processes", {}).items():
        is_alive = supervise.alive(row["pid"], row["pid_created"]) is not None
        state = row["state"] if is_alive else "restarting"
        found[name] = Process(
            name,
            row["kind"],
            state,
            row["pid"] if is_alive else None,
            row["url"],
            row["restarts"],
            row["log"],
            "" if state in {"running", "starting", "taking over"} else why_ended(row),
            row.get("taken", 0),
            row.get("asked", ""),
            row.get("trouble", ""),
        )
    return found


def supervisor_pid(settings: Settings) -> int | None:
    """The process id of the mesh's supervisor, also while it starts, or None when the mesh is down."""
    found = _supervisors(settings)
    return found[0].pid if found else None


def ended_unasked(settings: Settings) -> bool:
    """Whether a supervisor was here that ended without stopping its mesh, as when it was killed or the machine went."""
    return table(settings).exists() and not _content(settings) and supervisor_pid(settings) is None


def runs_by_older_settings(settings: Settings) -> bool:
    """Whether mesh.yaml was changed since the mesh was started or took up all of it, which is when it is read."""
    try:
        changed = (settings.folder / "mesh.yaml").stat()
        if _taken_up(settings) == changed.st_mtime_ns:
            return False
        return any(
            process.create_time() + CLOCKS_APART < changed.st_mtime for process in _supervisors(settings)
        )
    except (OSError, psutil.Error):
        return False


def note_taken_up(settings: Settings, changed_ns: int) -> None:
    """Remember that the mesh runs by all of mesh.yaml, as it was changed then (nanoseconds since the epoch)."""
    with contextlib.suppress(OSError):  # then it is told as one that waits
        (settings.run_folder / "mesh-file.json").write_text(json.dumps({"changed_ns": changed_ns}))


def _taken_up(settings: Settings) -> int | None:
    try:
        found = json.loads((settings.run_folder / "mesh-file.json").read_text())
    except (OSError, ValueError):
        return None
    return found.get("changed_ns") if isinstance(found, dict) else None


def note_start(settings: Settings, pid: int) -> None:
    """Remember a supervisor that was just started, so that it can be stopped before it holds the lock."""
    settings.run_folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with contextlib.suppress(psutil.Error):
        about = {"pid": pid, "pid_created": psutil.Process(pid).create_time()}
        (settings.run_folder / "starting.json").write_text(json.dumps(about))


def _supervisors(settings: Settings) -> list[psutil.Process]:
    """The supervisor that holds the lock, and one that is still on its way to it."""
    found: list[psutil.Process] = []
    for name in ("supervisor.lock", "starting.json"):
        try:
            about = json.loads((settings.run_folder / name).read_text())
        except (OSError, ValueError):
            continue
        process = supervise.alive(about.get("pid"), about.get("pid_created"))
        if process is not None and process not in found:
            found.append(process)
    return found


def _content(settings: Settings) -> dict[str, Any]:
    try:
        content = json.loads(table(settings).read_text())
    except (OSError, ValueError):
        return {}
    if supervise.alive(content.get("pid"), content.get("pid_created")) is None:
        return {}
    return dict(content)


@dataclass(frozen=True, slots=True)
class Mounted:
    """A generation whose workers shall run; the environment of consumers is the empty one."""

    service: str
    version: str
    folder: Path
    workers: int
    environment: str = ""

    @property
    def place(self) -> str:
        """The service, and in which environment."""
        return f"{self.service}@{self.environment}" if self.environment else self.service

    def worker(self, number: int) -> str:
        """The name of a worker's process."""
        return f"{self.place}/{self.version}/{number}"

    def socket(self, number: int) -> str:
        """The unix socket of a worker, relative to .tulle/ (absolute paths may exceed what a socket address holds)."""
        name = f"{self.place}-{self.version}"
        if len(name) > LONGEST_SOCKET_NAME:
            name = hashlib.sha256(name.encode()).hexdigest()[:32]
        return f"run/w/{name}-{number}.sock"

    @property
    def log(self) -> str:
        """The file its workers write to, in the folder of logs."""
        return f"service-{self.place}.log"

    @property
    def address(self) -> str:
        """Where callers find the service, below the gateway's address."""
        before = f"/{self.environment}" if self.environment else ""
        return f"{before}/public/api/v1/{self.service}/"


def wanted_workers(
    settings: Settings, generations: Sequence[Mounted], mend: Callable[[str, str], None] | None = None
) -> list[Wanted]:
    """The worker processes of the generations. `mend` repairs the files of a service's version."""
    return [_worker(settings, one, number, mend) for one in generations for number in range(one.workers)]


def _worker(settings: Settings, one: Mounted, number: int, mend: Callable[[str, str], None] | None) -> Wanted:
    drain = _drain_seconds(one.folder)
    return Wanted(
        name=one.worker(number),
        kind="service",
        argv=[
            *(sys.executable, "-m", "tulle.serving.worker"),
            *("--package-folder", str(one.folder)),
            *("--socket", one.socket(number)),
            *("--generation", one.version),
            *("--live-folder", "live"),
            *("--outside", f"run/outside/{one.place}.json"),
            *("--mesh", str(settings.folder)),
            *("--max-request-bytes", str(settings.max_request_bytes)),
            *("--drain-seconds", str(drain)),
            *("--log-folder", str(settings.queries_folder / one.place)),
            *(("--traces", settings.traces_url) if settings.trace_collector else ()),
        ],
        cwd=settings.state_folder,
        env={"OMP_NUM_THREADS": "1"},
        log=settings.log_folder / one.log,
        ready=lambda: _answers(settings.state_folder, one.socket(number)),
        url=f"{settings.gateway_url}{one.address}",
        grace_before_stop=DRAIN_SECONDS,
        stop_grace=max(supervise.STOP_GRACE, drain + 2),
        mend=None if mend is None else partial(mend, one.service, one.version),
    )


@lru_cache(maxsize=1000)
def _drain_seconds(folder: Path) -> int:
    """How long a worker may finish what is in flight; packages never change."""
    from tulle.serving.needs import needs_of  # noqa: PLC0415  heavy, and only who starts workers needs it

    try:
        return max(10, math.ceil(needs_of(folder).seconds))
    except TulleError:  # its worker says why
        return 10


def control_plane(settings: Settings) -> Wanted:
    """The control plane's process."""
    url = f"http://{settings.host}:{settings.control_plane_port}"
    return Wanted(
        name="control_plane",
        kind="control_plane",
        argv=[sys.executable, "-m", "tulle.server", "--mesh", str(settings.folder)],
        cwd=settings.folder,
        log=settings.log_folder / "control_plane.log",
        ready=lambda: _responds(settings.host, settings.control_plane_port, "/alive"),
        url=url + "/",
    )


def s3_door(settings: Settings) -> Wanted:
    """The process of the lake's S3 door."""
    return Wanted(
        name="s3_door",
        kind="s3_door",
        argv=[sys.executable, "-m", "tulle.server.s3_door", "--mesh", str(settings.folder)],
        cwd=settings.folder,
        log=settings.log_folder / "s3_door.log",
        ready=lambda: _listens(settings.host, settings.s3_port),
        url=f"http://{settings.host}:{settings.s3_port}/",
    )


def sidecars(settings: Settings, start: Command, ready: Callable[[], bool]) -> Wanted:
    """The process of all sidecars of this machine, started as `start` says."""
    return Wanted(
        name="sidecars",
        kind="sidecars",
        argv=start.argv,
        cwd=start.cwd,
        env=start.env,
        keeps_environment=False,
        log=settings.log_folder / "sidecars.log",
        ready=ready,
    )


def needed(settings: Settings) -> tuple[str, ...]:
    """The processes without which a mesh is not up, by name."""
    always = ("control_plane", "s3_door", "gateway")
    return (*always, "sidecars") if settings.mutual_tls else always


def processors(settings: Settings, sockets: Sequence[str]) -> list[Wanted]:
    """The processes that carry out what Envoy cannot, one a socket; each takes a little to start, and stays a while."""
    return [
        Wanted(
            name="processor" if number == 0 else f"processor-{number}",
            kind="processor",
            argv=[sys.executable, "-m", "tulle.gateway.processing.process", "--number", str(number)],
            cwd=settings.state_folder,
            log=settings.log_folder / "processor.log",
            ready=partial(_answers, settings.state_folder, path),
            grace_before_stop=PROCESSOR_SECONDS,
        )
        for number, path in enumerate(sockets)
    ]


@contextlib.contextmanager
def only_supervisor(settings: Settings) -> Iterator[None]:
    """Hold the mesh folder's lock; AlreadyExists when another supervisor has it."""
    settings.run_folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    settings.state_folder.chmod(0o700)
    (settings.run_folder / "w").mkdir(exist_ok=True, mode=0o700)
    with (settings.run_folder / "supervisor.lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            if exc.errno not in {errno.EAGAIN, errno.EACCES}:
                raise
            pid = supervisor_pid(settings)
            raise AlreadyExists(
                f"the mesh in {settings.folder} is up already" + (f" (process {pid})" if pid else ""),
                hint="`tulle status` shows its processes, `tulle down` stops it",
            ) from None
        lock.truncate(0)
        lock.write(json.dumps(dict(about(settings))))
        lock.flush()
        yield


def check_ports(settings: Settings) -> None:
    """Raise Unavailable, naming the setting, when a port we need is taken."""
    for setting, port in settings.ports.items():
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((settings.host, port))
            except OSError as exc:
                instead = "" if "." in setting else f", or TULLE_{setting.upper()},"
                raise Unavailable(
                    f"port {port} (setting '{setting}') cannot be used: {exc.strerror}",
                    hint=f"set `{setting}:` in mesh.yaml{instead} to a free port",
                ) from None


def about(settings: Settings) -> Mapping[str, Any]:
    """How the supervisor in this process names itself in the process table."""
    me = psutil.Process()
    return {"pid": me.pid, "pid_created": me.create_time(), "folder": str(settings.folder)}


def end_leftovers(settings: Settings) -> list[str]:
    """End what a supervisor that was killed left running; the names."""
    return supervise.end_leftovers(table(settings))


def stop(settings: Settings, *, timeout: float = 30.0) -> bool:
    """Stop the mesh: end its supervisor, which ends the rest. False when nothing was running."""
    found = _supervisors(settings)
    for process in found:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGTERM)
    _, stubborn = psutil.wait_procs(found, timeout)
    for process in stubborn:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    stopped = bool(supervise.end_leftovers(table(settings)) or found)
    _forget_shared(settings)
    return stopped


def _forget_shared(settings: Settings) -> None:
    """Remove what the gateway's processes shared, where a supervisor that was killed could not."""
    from tulle.gateway.envoy_process import EnvoyProcess  # noqa: PLC0415  heavy, and only who stops a mesh needs it

    with contextlib.suppress(OSError), (settings.run_folder / "supervisor.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # whoever has it has started the mesh again
        EnvoyProcess(settings).forget()


def wait_until(condition: Callable[[], bool], *, timeout: float, what: str, hint: str) -> None:
    """Poll `condition` until it holds; Unavailable naming `what` when it does not in time."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise Unavailable(f"{what} after {timeout:.0f} s", hint=hint)
        time.sleep(0.05)


def _responds(host: str, port: int, path: str) -> bool:
    connection = http.client.HTTPConnection(host, port, timeout=1)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _listens(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=1).close()
    except OSError:
        return False
    return True


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=2)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def _answers(folder: Path, relative: str) -> bool:
    # A socket address holds 108 bytes: connect by the path of an open folder, which is always short.
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return False
    connection = _UnixConnection(f"/proc/self/fd/{handle}/{relative}")
    try:
        connection.request("GET", "/isAlive/")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
        os.close(handle)
