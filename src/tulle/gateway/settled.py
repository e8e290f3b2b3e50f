"""How far the control plane that runs has come in putting in force what is recorded.

Kept in a file, so that whoever tells that a mesh is up needs neither the database nor the process. Knows nothing of
what is recorded, and not who waits.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from tulle.config import Settings

_FILE: Final = "gateway-settled.json"
_MOST_NAMED: Final = 100  # of the deployments that start
_LONGEST: Final = 1000  # characters of what went wrong


@dataclass(frozen=True, slots=True)
class Settled:
    """What one control plane has done, which had the process id `pid`.

    `is_published`: the gateway has all that is recorded, or what of it it does not take is told as a fault. `starting`
    are the services, with their environments, whose generations are not answered by yet. `trouble` is what went wrong
    the last time, nothing where nothing did.
    """

    pid: int
    is_published: bool
    starting: tuple[str, ...] = ()
    trouble: str = ""


class Telling:
    """Tells of this process, and writes only what is new."""

    def __init__(self, settings: Settings) -> None:
        self._file = file_of(settings)
        self._told: Settled | None = None

    def tell(self, *, is_published: bool, starting: tuple[str, ...], trouble: str) -> None:
        """Say how far it has come. OSError where that cannot be written."""
        found = Settled(os.getpid(), is_published, starting[:_MOST_NAMED], trouble[:_LONGEST])
        if found == self._told:
            return
        self._file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        fresh = self._file.with_suffix(".new")
        fresh.write_bytes(msgspec.json.encode(found))
        fresh.chmod(0o600)
        fresh.rename(self._file)
        self._told = found


def file_of(settings: Settings) -> Path:
    """Where it is told."""
    return settings.run_folder / _FILE


def settled(settings: Settings) -> Settled | None:
    """What was told last; None where nobody has told anything."""
    try:
        return msgspec.json.decode(file_of(settings).read_bytes(), type=Settled)
    except (OSError, ValueError):
        return None


def forget(settings: Settings) -> None:
    """Before processes start: what one of before told counts no more, whose id another one may have by now."""
    file_of(settings).unlink(missing_ok=True)
