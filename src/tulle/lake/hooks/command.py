"""The `command` hook: a program in a sandbox, with the files of the commit it asks for, fails by its exit code."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tulle.errors import Invalid, LimitExceeded, NotFound
from tulle.lake.entry import Entry
from tulle.lake.hooks.kind import HookCall, HookKind, Outcome
from tulle.lake.hooks.properties import COMMAND
from tulle.lake.hooks.sandbox import Ended, Sandbox

TIMEOUT_SECONDS = 60.0
EXPORT_BYTES = 2 << 30
EXPORT_FILES = 100_000
_NO_MEMORY = ("MemoryError", "bad_alloc", "Cannot allocate memory", "failed to map segment")


def command(sandbox: Sandbox, *, export_bytes: int = EXPORT_BYTES) -> HookKind:
    """The type, running programs in `sandbox` with at most `export_bytes` of data."""

    def run(call: HookCall) -> Outcome:
        argv = [str(part) for part in call.properties["command"]]
        return run_with_files(call, sandbox, argv, call.properties.get("paths") or (), export_bytes)

    return HookKind(run, COMMAND)


def run_with_files(
    call: HookCall,
    sandbox: Sandbox,
    argv: Sequence[str],
    paths: Sequence[str],
    export_bytes: int = EXPORT_BYTES,
) -> Outcome:
    """Run a program in /hook, where `data/` has the files at `paths` of the hook's ref and `event.json` the event.

    Folders are named with a slash at the end. What the program sees is read-only; it may write to /tmp.
    """
    deadline = call.limit(TIMEOUT_SECONDS)
    memory = call.properties.get("memory_mb")
    with tempfile.TemporaryDirectory(prefix="tulle-hook-") as place:
        folder = Path(place)
        folder.chmod(0o755)
        exported(call, paths, folder / "data", export_bytes)
        (folder / "event.json").write_text(json.dumps(call.payload()))
        given: Mapping[str, Any] = call.properties.get("env") or {}
        env = {
            **{name: str(value) for name, value in given.items()},
            "TULLE_EVENT": "event.json",
            "TULLE_DATA": "data",
        }
        ended = sandbox.run(
            argv,
            folder,
            deadline=deadline,
            env=env,
            memory_bytes=memory * (1 << 20) if memory else None,
            environment=call.properties.get("environment") or "",
        )
    return _outcome(ended, memory or sandbox.bounds.memory_bytes >> 20)


def exported(call: HookCall, paths: Sequence[str], folder: Path, most_bytes: int = EXPORT_BYTES) -> None:
    """Copy what a ref has at some paths into a folder. NotFound, Invalid, LimitExceeded."""
    folder.mkdir()
    room, files = most_bytes, 0
    for path in dict.fromkeys(paths):
        found = _entries(call, path)
        for entry in found:
            room, files = room - entry.size, files + 1
            if room < 0 or files > EXPORT_FILES:
                raise LimitExceeded(
                    f"a hook asks for more than {most_bytes} bytes or {EXPORT_FILES} files",
                    hint="ask for fewer paths",
                )
            target = _target(folder, entry.path)
            if target.exists():
                continue
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                with target.open("xb") as file:
                    for piece in call.repository.read(entry):
                        file.write(piece)
            except OSError as exc:
                raise Invalid(f"'{entry.path}' cannot be a file here: {exc.strerror}") from None
            target.chmod(0o444)


def _entries(call: HookCall, path: str) -> list[Entry]:
    if path and not path.endswith("/"):
        return [call.repository.stat(call.ref, path)]
    found = list(call.repository.entries(call.ref, path))
    if not found:
        raise NotFound(f"there is nothing below '{path}' at {call.ref[:12]}")
    return found


def _target(folder: Path, path: str) -> Path:
    if any(part in {"", ".", ".."} for part in path.split("/")):
        raise Invalid(f"'{path}' cannot be a file's name")
    return folder / path


def _outcome(ended: Ended, memory_mb: int) -> Outcome:
    if ended.code is None:
        return Outcome(False, f"{ended.output}\nits time was up; it was ended")
    if ended.code:
        how = f"signal {ended.code - 128}" if ended.code > 128 else f"exit code {ended.code}"
        if any(sign in ended.output for sign in _NO_MEMORY):
            how += f"; it had {memory_mb} MB of address space, `memory_mb` gives it more"
        return Outcome(False, f"{ended.output}\n{how}")
    return Outcome(True, ended.output)
