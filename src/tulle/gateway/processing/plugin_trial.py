"""Whether a policy of somebody's own can be made of its settings: tried in a process of its own before it is published.

    python -m tulle.gateway.processing.plugin_trial NAME < settings

What is wrong with it would else be met by its first caller, as 503. Settings are told by the standard input, so that
none is on a command line. Knows nothing of requests.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Final

import msgspec

from tulle.errors import Invalid
from tulle.gateway.processing.plugin_child import GROUP
from tulle.sdk.policy import Policy
from tulle.serving.pool import users_environment

TRIAL_SECONDS: Final = 30.0
_LONGEST: Final = 300  # characters of what is told


def demand_made(folder: Path, name: str, settings: Mapping[str, Any]) -> None:
    """Refuse a policy whose class is none, cannot be loaded or takes no such settings. Invalid, with what it raised.

    `folder` is where processors run.
    """
    try:
        done = subprocess.run(  # noqa: S603  our own module
            [sys.executable, "-m", __spec__.name, name],
            cwd=folder,
            input=msgspec.json.encode(settings),
            capture_output=True,
            env=users_environment(),
            timeout=TRIAL_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise _refused(name, f"it was not made within {TRIAL_SECONDS:.0f} s") from None
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        raise _refused(name, lines[-1] if lines else f"its process ended with {done.returncode}")


def _refused(name: str, why: str) -> Invalid:
    return Invalid(
        f"policy '{name}' cannot be made: {why[:_LONGEST]}",
        hint=f"mend its class or its settings; `echo '{{}}' | python -m {__spec__.name} {name}` tells more",
    )


def main() -> int:
    """Make it once; the exit code. What is wrong is the last line of the standard error."""
    name = sys.argv[1]
    settings = msgspec.json.decode(sys.stdin.buffer.read() or b"{}", type=dict[str, Any])
    found = [entry for entry in entry_points(group=GROUP) if entry.name == name]
    made = found[0].load()
    if not (isinstance(made, type) and issubclass(made, Policy)):
        raise TypeError(f"{found[0].value} is no class of tulle.sdk.policy.Policy")
    made(settings)
    return 0


if __name__ == "__main__":
    sys.exit(main())
