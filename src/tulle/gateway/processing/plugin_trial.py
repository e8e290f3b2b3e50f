"""Whether a policy of somebody's own can be made of its settings: tried in a process of its own where a list is said.

    python -m tulle.gateway.processing.plugin_trial NAME MEMORY < settings

What is wrong with it would else be met by its first caller, as 503. What is recorded is not tried again: a policy that
can be made no more lets nothing past, and hinders no other one. Settings are told by the standard input, so that none
is on a command line. Knows nothing of requests.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import IO, Any, Final

import msgspec

from tulle.errors import Invalid
from tulle.gateway.processing.plugin_child import GROUP
from tulle.serving.beside import bound_loading
from tulle.serving.pool import users_environment

TRIAL_SECONDS: Final = 10.0
_LONGEST: Final = 300  # characters of what is told


def is_known(name: str) -> bool:
    """Whether a package that is installed here brings it."""
    return any(entry.name == name for entry in entry_points(group=GROUP))


def demand_made(name: str, settings: Mapping[str, Any], memory: int) -> None:
    """Refuse a policy whose class cannot be loaded, or not be made of these settings in so many bytes.

    Invalid, with what it raised.
    """
    with tempfile.TemporaryFile() as told:
        status = _tried(name, settings, memory, told)
        if status == 0:
            return
        told.seek(0)
        lines = told.read().decode(errors="replace").strip().splitlines()
    why = lines[-1] if lines and status is not None and status > 0 else f"its process ended with {status}"
    raise Invalid(
        f"policy '{name}' cannot be made: "
        + (f"it took more than {TRIAL_SECONDS:.0f} s" if status is None else why[:_LONGEST]),
        hint=f"mend its class or its settings; `echo '{{}}' | python -m {__spec__.name} {name} {memory}` tells more",
    )


def _tried(name: str, settings: Mapping[str, Any], memory: int, told: IO[bytes]) -> int | None:
    """How it ended; None when it did not in time. Whatever it has started ends with it."""
    with subprocess.Popen(  # noqa: S603  our own module
        [sys.executable, "-P", "-m", __spec__.name, name, str(memory)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=told,
        env=users_environment(),
        start_new_session=True,
    ) as process:
        try:
            process.communicate(msgspec.json.encode(settings), timeout=TRIAL_SECONDS)
            return process.returncode
        except subprocess.TimeoutExpired:
            return None
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def main() -> None:
    """Make it once, and end as it is then: whatever it has started is not waited for."""
    name, memory = sys.argv[1:3]
    status = 1
    try:
        settings = msgspec.json.decode(sys.stdin.buffer.read() or b"{}", type=dict[str, Any])
        bound_loading(int(memory))
        (found,) = (entry for entry in entry_points(group=GROUP) if entry.name == name)
        made = found.load()(settings)
        if not callable(getattr(made, "request", None)):
            raise TypeError(f"{found.value} has no method `request`, as tulle.sdk.policy.Policy has")
        status = 0
    except BaseException:  # noqa: BLE001  whatever users' code raises
        traceback.print_exc()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    main()
