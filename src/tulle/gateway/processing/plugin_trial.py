"""Whether a policy of somebody's own can be made of its settings: tried in a process of its own where a list is said.

    python -m tulle.gateway.processing.plugin_trial NAME MEMORY < settings

What is wrong with it would else be met by its first caller, as 503. What is recorded is not tried again: a policy that
can be made no more lets nothing past, and hinders no other one. It has the memory that it will have. Settings are told
by the standard input, so that none is on a command line. Knows nothing of requests.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import IO, Any, Final

import msgspec

from tulle.errors import Invalid
from tulle.gateway.processing.plugin import USUAL_MEGABYTES
from tulle.gateway.processing.plugin_child import GROUP, installed
from tulle.serving.beside import bound_asked, bound_loading
from tulle.serving.pool import users_environment

TRIAL_SECONDS: Final = 10.0
ALL_SECONDS: Final = 20.0  # for all that are asked about together
_MADE: Final = b"made"
_LONGEST: Final = 300  # characters of what is told


class Trials:
    """Of policies that are said together: equal ones are tried once."""

    def __init__(self) -> None:
        self._found: dict[bytes, Invalid | None] = {}
        self._until = 0.0

    def problem(self, settings: Mapping[str, Any]) -> Invalid | None:
        """Why a policy of these settings of `custom` cannot be made; None of one that can, or that is not here.

        What there is no time for any more is not tried.
        """
        name, memory = settings["plugin"], int(settings.get("memory_mb", USUAL_MEGABYTES)) << 20
        key = msgspec.json.encode([name, memory, settings.get("settings", {})], order="sorted")
        self._until = self._until or time.monotonic() + ALL_SECONDS
        if key not in self._found:
            if time.monotonic() > self._until or name not in installed():
                return None
            self._found[key] = None
            try:
                demand_made(name, settings.get("settings", {}), memory)
            except Invalid as exc:
                self._found[key] = exc
        return self._found[key]


def demand_made(name: str, settings: Mapping[str, Any], memory: int) -> None:
    """Refuse a policy whose class cannot be loaded, or not be made of these settings in so many bytes.

    Invalid, with what it raised.
    """
    with tempfile.TemporaryFile() as told:
        status, is_made = _tried(name, settings, memory, told)
        if is_made:
            return
        told.seek(0)
        lines = told.read().decode(errors="replace").strip().splitlines()
    why = lines[-1] if lines and status is not None and status > 0 else f"its process ended with {status}"
    raise Invalid(
        f"policy '{name}' cannot be made: "
        + (f"it took more than {TRIAL_SECONDS:.0f} s" if status is None else why[:_LONGEST]),
        hint=f"mend its class or its settings; `echo '{{}}' | python -m {__spec__.name} {name} {memory}` tells more",
    )


def _tried(name: str, settings: Mapping[str, Any], memory: int, told: IO[bytes]) -> tuple[int | None, bool]:
    """How it ended, None when it did not in time; and whether it was made. Whatever it has started ends with it."""
    with (
        tempfile.TemporaryFile() as said,
        subprocess.Popen(  # noqa: S603  our own module
            [sys.executable, "-P", "-m", __spec__.name, name, str(memory)],
            stdin=subprocess.PIPE,
            stdout=said,  # no pipe: whoever it has started would hold that open
            stderr=told,
            env=users_environment(),
            start_new_session=True,
        ) as process,
    ):
        try:
            process.communicate(msgspec.json.encode(settings), timeout=TRIAL_SECONDS)
            said.seek(0)
            return process.returncode, said.read(len(_MADE) + 1) == _MADE
        except subprocess.TimeoutExpired:
            return None, False
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def main() -> None:
    """Make it once, and end as it is then: whatever it has started is not waited for."""
    name, memory = sys.argv[1:3]
    word, status = os.dup(1), 1
    os.dup2(2, 1)  # what it writes itself, however it does, is no word of ours
    try:
        settings = msgspec.json.decode(sys.stdin.buffer.read() or b"{}", type=dict[str, Any])
        bound_loading(int(memory))
        (found,) = (entry for entry in entry_points(group=GROUP) if entry.name == name)
        loaded = found.load()
        bound_asked(int(memory))
        made = loaded(settings)
        if not callable(getattr(made, "request", None)):
            raise TypeError(f"{found.value} has no method `request`, as tulle.sdk.policy.Policy has")
        os.write(word, _MADE)
        status = 0
    except BaseException:  # noqa: BLE001  whatever users' code raises
        traceback.print_exc()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    main()
