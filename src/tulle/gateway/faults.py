"""What the gateway does not have as it is wanted: of which service, why, and since when.

Kept in a file, so that whoever tells of it needs neither the database nor the process that found it. Knows nothing of
what is wanted.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from tulle.config import Settings

_FILE: Final = "gateway-faults.json"


@dataclass(frozen=True, slots=True)
class Fault:
    """A service that the gateway cannot have as it is wanted; `since` in seconds since the epoch.

    `is_kept`: it answers as it did last; else the gateway knows nothing of it. `hint` is what to do about this fault;
    without one it is what helps with any.
    """

    service: str
    environment: str
    message: str
    since: float
    is_kept: bool
    hint: str = ""

    @property
    def sentence(self) -> str:
        """What is wrong and what callers meet meanwhile."""
        meanwhile = "it answers as before" if self.is_kept else "it answers nobody"
        told = f"the gateway does not take what is wanted of it, {meanwhile}: {self.message}"
        return f"{told} ({self.hint or self._usual_hint})"

    @property
    def _usual_hint(self) -> str:
        name, _, version = self.service.partition("@")
        where = f" --environment {self.environment}" if self.environment else ""
        back = f"`tulle service policies {name} --as-packaged{where}`"
        if version:
            where = f" --env {self.environment}" if self.environment else ""
            back = f"`tulle api policies {name} {version} --reset{where}`"
        return (
            f"take back what was changed of it last, or say it otherwise; {back} takes back policies set by hand, "
            "and it is tried again with each change"
        )


def file_of(settings: Settings) -> Path:
    """Where the faults of a mesh are told."""
    return settings.run_folder / _FILE


def write_faults(settings: Settings, faults: Iterable[Fault]) -> None:
    """Tell what is wrong now, instead of what was."""
    file = file_of(settings)
    file.parent.mkdir(parents=True, exist_ok=True)
    fresh = file.with_suffix(".new")
    fresh.write_text(json.dumps([asdict(one) for one in faults]))
    fresh.rename(file)


def read_faults(settings: Settings) -> tuple[Fault, ...]:
    """What is wrong now, by service; nothing when nobody has told anything."""
    try:
        return tuple(Fault(**one) for one in json.loads(file_of(settings).read_text()))
    except (OSError, ValueError, TypeError):
        return ()


def fault_of(settings: Settings, service: str, environment: str = "") -> Fault | None:
    """What is wrong with one service in an environment, if anything is."""
    found = (one for one in read_faults(settings) if (one.service, one.environment) == (service, environment))
    return next(found, None)
