"""What the control plane hands to the processors: connections that policies name, and API users, in an encrypted file.

Written by the one who publishes, read again when it was replaced, so that a change holds at once. Sealed with the
processors' own key. Knows nothing of where it all is kept.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

from tulle.errors import Broken
from tulle.gateway.private_file import replace_private
from tulle.state.secrets import Secrets

KEY_FILE: Final = "gateway/processor.key"  # of .tulle/, as the next one
FILE: Final = "gateway/handed"
_PURPOSE: Final = "what processors are handed"


class HandedConnection(msgspec.Struct, frozen=True):
    """Where something is, and what opens it: headers of requests to it, or a name and a password."""

    address: str
    headers: dict[str, str] = {}
    user: str = ""
    password: str = ""
    options: dict[str, str] = {}

    def __repr__(self) -> str:
        """Never a secret."""
        return f"HandedConnection({self.address})"


class HandedUser(msgspec.Struct, frozen=True):
    """An API user: how the password is hashed, and the groups."""

    password: str
    groups: tuple[str, ...] = ()


class Handed(msgspec.Struct, frozen=True):
    """All of it; connections by `environment name`."""

    connections: dict[str, HandedConnection] = {}
    users: dict[str, HandedUser] = {}


class Hands:
    """The file as a processor reads it. For one thread."""

    def __init__(self, file: Path, secrets: Secrets) -> None:
        self._file = file
        self._secrets = secrets
        self._mark: tuple[int, int, int] | None = None
        self._handed = Handed()
        self.turn = 0  # another number when something else is handed

    def now(self) -> Handed:
        """What is handed now; nothing where there is no file. Broken when it cannot be read."""
        try:
            stat = self._file.stat()
        except FileNotFoundError:
            mark = None
        else:
            mark = (stat.st_mtime_ns, stat.st_ino, stat.st_size)
        if mark != self._mark:
            self._handed = Handed() if mark is None else read(self._file, self._secrets)
            self._mark = mark
            self.turn += 1
        return self._handed


def read(file: Path, secrets: Secrets) -> Handed:
    """What is in the file. Broken when it is damaged, or sealed with another key."""
    try:
        return msgspec.json.decode(secrets.decrypt(file.read_bytes(), _PURPOSE), type=Handed)
    except (OSError, msgspec.MsgspecError) as exc:
        raise Broken(f"what processors are handed cannot be read: {exc}") from None


def write(file: Path, handed: Handed, secrets: Secrets) -> None:
    """Hand it over at once, to whoever reads from then on; nothing is written where it is so already."""
    try:
        if read(file, secrets) == handed:
            return
    except Broken:
        pass
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    replace_private(file, secrets.encrypt(msgspec.json.encode(handed).decode(), _PURPOSE))


def place_of(environment: str, name: str) -> str:
    """By which a connection is found."""
    return f"{environment or 'prod'} {name}"


def named(hands: Hands, service: str, name: str) -> HandedConnection | None:
    """The connection that a policy of a service (by its path) names; None where there is none of it."""
    environment = service.rpartition("/")[0]
    return hands.now().connections.get(place_of(environment, name))
