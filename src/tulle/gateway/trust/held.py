"""The certificates that lie in a mesh's files: whose they are and until when. Reads, and changes nothing.

What `tulle status` needs, so it imports no database.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from tulle.errors import Broken
from tulle.gateway.trust.certificate import Facts, facts
from tulle.gateway.trust.transport import BUNDLE, FOLDER


@dataclass(frozen=True, slots=True)
class Held:
    """A certificate as it lies in its file `name`: PEM, followed by its issuer's, and what it says."""

    name: str
    certificate: str
    facts: Facts
    key: str = field(repr=False)

    def state(self, at: float) -> str:
        """`valid`; `late` where less than half of its life is left, so that making it anew has failed; `ended`."""
        if not self.facts.holds(at):
            return "ended"
        return "late" if at >= (self.facts.begins_at + self.facts.ends_at) / 2 else "valid"


def certificates_of(state_folder: Path) -> tuple[Held, ...]:
    """Every certificate in the files of a mesh, by name; also those of parts that have just ended."""
    folder = state_folder / FOLDER
    files = sorted(folder.glob("*.json")) if folder.is_dir() else []
    return tuple(held for file in files if file.stem != BUNDLE and (held := read_held(file)) is not None)


def read_held(path: Path) -> Held | None:
    """The certificate in a part's file; None when there is none, or it is damaged."""
    try:
        (secret,) = msgspec.json.decode(path.read_bytes())["resources"]
        pair = secret["tls_certificate"]
        chain = str(pair["certificate_chain"]["inline_string"])
        return Held(path.stem, chain, facts(chain), str(pair["private_key"]["inline_string"]))
    except (OSError, ValueError, LookupError, TypeError, Broken):
        return None
