"""A pin as a value, and the file that tells of it whoever opens no database.

Knows nothing of what a pin does.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tulle.config import Settings
from tulle.gateway.private_file import replace_private

TOLD: Final = "run/gateway-pin.json"  # of .tulle/


@dataclass(frozen=True, slots=True)
class Pin:
    """Which version is in force, since when, by whose word and why; `known` are the services there were then."""

    version: int
    reason: str
    by: str
    at: float
    known: frozenset[str] = frozenset()

    @property
    def sentence(self) -> str:
        """As people read it."""
        by = f" by {self.by}" if self.by else ""
        why = f": {self.reason}" if self.reason else ""
        return f"the gateway was rolled back to version {self.version}{by}{why}; nothing newer is in force"


def tell(settings: Settings, pin: Pin | None) -> None:
    """Write down for `tulle status` what holds. OSError."""
    file = settings.state_folder / TOLD
    if pin is None:
        file.unlink(missing_ok=True)
        return
    said = {"version": pin.version, "reason": pin.reason, "by": pin.by, "at": pin.at}
    content = json.dumps(said).encode()
    if _content(file) != content:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        replace_private(file, content)


def told(settings: Settings) -> Pin | None:
    """What was written down of a pin."""
    try:
        said = json.loads(_content(settings.state_folder / TOLD) or b"null")
        return (
            Pin(int(said["version"]), str(said["reason"]), str(said["by"]), float(said["at"]))
            if said
            else None
        )
    except (ValueError, LookupError, TypeError):
        return None


def _content(file: Path) -> bytes | None:
    try:
        return file.read_bytes()
    except OSError:
        return None
