"""Running a program somebody else wrote: shut in, bounded in time, memory, processes and output.

Where the kernel allows it the program has no network, sees no process but its own and no file but the system's
programs, one Python environment and its work folder. Where it does not, the program is not run, unless the mesh
says that it may be with limits alone. Knows nothing of hooks.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tulle.errors import Denied, Invalid, Unavailable, did_you_mean

KEPT_BYTES = 512 * 1024  # of the beginning and of the end of what is written
_CHILD = Path(__file__).with_name("sandbox_child.py")


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a program in a sandbox may use. Bytes, and a number of processes and threads."""

    memory_bytes: int = 1 << 30  # address space of each process
    file_bytes: int = 256 << 20
    scratch_bytes: int = 256 << 20  # all it writes to /tmp
    processes: int = 64
    open_files: int = 256


@dataclass(frozen=True, slots=True)
class Ended:
    """How a program ended: its code (128 + the signal that killed it; None when its time was up), what it wrote."""

    code: int | None
    output: str


class Sandbox:
    """Runs programs. With `isolation_required` only where the kernel can shut them in.

    `environments` are folders of Python environments by name; without a name programs have the one we run in.
    """

    def __init__(
        self,
        bounds: Bounds | None = None,
        *,
        isolation_required: bool = True,
        environments: Mapping[str, str] | None = None,
    ) -> None:
        self.bounds = bounds or Bounds()
        self.isolation_required = isolation_required
        self.environments = dict(environments or {})

    def run(
        self,
        command: Sequence[str],
        folder: Path,
        *,
        deadline: float,
        env: Mapping[str, str] | None = None,
        memory_bytes: int | None = None,
        environment: str = "",
    ) -> Ended:
        """Run a program in `folder`, which it sees as /hook, until `deadline` by `time.monotonic`.

        Invalid when there is no such program or environment, Denied when it cannot be shut in.
        """
        python = self._python(environment)
        try:
            return self._run(command, folder, deadline, env or {}, memory_bytes, python, isolated=True)
        except Unavailable as exc:
            if self.isolation_required:
                raise Denied(
                    f"the program is not run, for it cannot be shut in here: {exc.message}",
                    hint="allow user namespaces, or have the mesh run hooks with limits alone",
                ) from None
            ended = self._run(command, folder, deadline, env or {}, memory_bytes, python, isolated=False)
            note = f"not shut in ({exc.message}): network and files of this machine were within reach\n"
            return Ended(ended.code, note + ended.output)

    def _python(self, environment: str) -> Path:
        """The folder of an environment. Invalid when the mesh has none of that name, or there is no Python in it."""
        if not environment:
            return Path(sys.prefix)
        if environment not in self.environments:
            raise Invalid(
                f"this mesh has no Python environment '{environment}' for hooks",
                hint=did_you_mean(environment, self.environments)
                or "add it to `hook_environments:` in mesh.yaml",
            )
        found = Path(self.environments[environment])
        if not os.access(found / "bin" / "python", os.X_OK):
            raise Invalid(
                f"there is no Python in environment '{environment}': {found}/bin/python is missing",
                hint="make it with `python -m venv`, or correct `hook_environments:` in mesh.yaml",
            )
        return found

    def _run(
        self,
        command: Sequence[str],
        folder: Path,
        deadline: float,
        env: Mapping[str, str],
        memory_bytes: int | None,
        python: Path,
        *,
        isolated: bool,
    ) -> Ended:
        bounds = self.bounds
        seconds = max(1, math.ceil(deadline - time.monotonic()))
        with tempfile.TemporaryDirectory(prefix="tulle-hook-") as place:
            scratch = "/tmp" if isolated else place  # noqa: S108  its own
            spec = {
                "isolated": isolated,
                "command": list(command),
                "folder": str(folder),
                "root": place,
                "readable": _readable(python),
                "scratch_bytes": bounds.scratch_bytes,
                "env": {
                    "PATH": f"{python}/bin:/usr/local/bin:/usr/bin:/bin",
                    "HOME": scratch,
                    "TMPDIR": scratch,
                    "LANG": "C.UTF-8",
                    "PYTHONDONTWRITEBYTECODE": "1",
                    "OMP_NUM_THREADS": "1",
                    "OPENBLAS_NUM_THREADS": "1",
                    "MALLOC_ARENA_MAX": "2",  # each thread's own would take 64 MB of the address space
                    **env,
                },
                "limits": {
                    "AS": memory_bytes or bounds.memory_bytes,
                    "CPU": seconds + 1,
                    "FSIZE": bounds.file_bytes,
                    "NOFILE": bounds.open_files,
                    "NPROC": bounds.processes,
                    "CORE": 0,
                },
            }
            return self._started(spec, deadline)

    def _started(self, spec: Mapping[str, object], deadline: float) -> Ended:
        wanted, wanted_end = os.pipe()
        told, told_end = os.pipe()
        with os.fdopen(told, "rb") as telling:
            try:
                process = subprocess.Popen(  # noqa: S603  our own file
                    [sys.executable, "-I", "-S", str(_CHILD), str(wanted), str(told_end)],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    env={},
                    start_new_session=True,
                    pass_fds=(wanted, told_end),
                )
            except BaseException:
                os.close(wanted_end)
                raise
            finally:
                os.close(wanted)
                os.close(told_end)
            try:
                with contextlib.suppress(BrokenPipeError), os.fdopen(wanted_end, "wb") as file:
                    file.write(json.dumps(spec).encode())
                output, in_time = _read(process, deadline)
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                if process.stdout is not None:
                    process.stdout.close()
            said = telling.readline()
        if said:
            problem = json.loads(said)
            if "isolation" in problem:
                raise Unavailable(problem["isolation"])
            raise Invalid(f"the program cannot be started: {problem['program']}")
        return Ended(process.returncode if in_time else None, output)


def _readable(python: Path) -> list[str]:
    """The folders a Python environment needs: its own, and that of every installation its links lead through."""
    folders = {str(python)}
    with contextlib.suppress(OSError):  # it may have a copy of its Python, not a link
        home = re.search(r"^home *= *(/.*)$", (python / "pyvenv.cfg").read_text(), re.MULTILINE)
        if home and any(Path(home[1]).parent.glob("lib/python3*")):
            folders.add(str(Path(home[1]).parent))
    link = python / "bin" / "python"
    for _ in range(16):  # as many as a system follows, or less
        if not link.is_symlink():
            break
        link = Path(os.path.normpath(link.parent / link.readlink()))
        base = link.parents[1]
        if any(base.glob("lib/python3*")):
            folders.add(str(base))
    return sorted(folders)


def _read(process: subprocess.Popen[bytes], deadline: float) -> tuple[str, bool]:
    """What a program writes until it has ended, or its time is up."""
    assert process.stdout is not None
    source = process.stdout.fileno()
    head, tail, total = bytearray(), bytearray(), 0
    in_time = False
    with selectors.DefaultSelector() as selector:
        selector.register(source, selectors.EVENT_READ)
        while (left := deadline - time.monotonic()) > 0:
            if not selector.select(min(left, 0.5)):
                if process.poll() is None:
                    continue
                in_time = True  # it has ended, and left somebody behind who keeps the pipe
                break
            data = os.read(source, 65536)
            if not data:
                in_time = True
                break
            total += len(data)
            room = KEPT_BYTES - len(head)
            head += data[:room]
            tail += data[room:] if room > 0 else data
            if len(tail) > 2 * KEPT_BYTES:
                del tail[:-KEPT_BYTES]
    if in_time:
        try:
            process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            in_time = False
    lost = total - len(head) - len(tail)
    middle = f"\n… ({lost} bytes left out) …\n".encode() if lost else b""
    return (bytes(head) + middle + bytes(tail)).decode("utf-8", "replace"), in_time
