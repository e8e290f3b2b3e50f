"""Envoy as a process: how it is started, how the next one takes its callers over, how it is drained before it ends.

A takeover is Envoy's hot restart: the new process gets the open doors from the old one, which answers what it has and
asks its callers to connect anew. So the gateway gets another binary, or a fresh memory, without a lost request. Knows
nothing of policies, and not who supervises.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tulle.config import Settings
from tulle.errors import Unavailable
from tulle.gateway.admin import Admin
from tulle.gateway.envoy_binary import binary
from tulle.gateway.envoy_validation import validate
from tulle.gateway.envoy_values import ADMIN_SOCKET, FOLDER
from tulle.gateway.private_file import replace_private

ASKED: Final = (
    f"{FOLDER}/restart"  # of .tulle/: a word that is another one for each takeover that is asked for
)
STOP_SECONDS: Final = 10.0  # that requests have at most when the mesh is stopped
_MEETING: Final = (
    f"{FOLDER}/takeover"  # of .tulle/: how the sockets begin by which one gets the other's doors
)
_SHARED: Final = Path("/dev/shm")  # noqa: S108  where Envoys of one mesh meet; Linux alone has it
_UNDER_WAY: Final = r"^http\.(gateway|services)\.downstream_rq_active$"


@dataclass(frozen=True, slots=True)
class Command:
    """How to start Envoy. It runs in the foreground, logs to standard error and ends on SIGTERM."""

    argv: tuple[str, ...]
    cwd: Path
    env: Mapping[str, str] = field(default_factory=dict)


class EnvoyProcess:
    """The process of one mesh's gateway."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._root = settings.state_folder
        self._admin = Admin(self._root, ADMIN_SOCKET)
        # Envoys with one number share their doors: each mesh has its own.
        digest = hashlib.sha256(str(self._root).encode()).hexdigest()
        self._number = int(digest[:8], 16) % 400_000_000 + 1
        self._shared = _SHARED / f"envoy_shared_memory_{self._number}0"
        self._in_the_way = ""

    @property
    def can_be_taken_over(self) -> bool:
        """Whether there is what a takeover needs. Once there is not, it stays so: what runs then shares nothing."""
        return not self.hindrance()

    def hindrance(self) -> str:
        """Why Envoy cannot be taken over; nothing where it can.

        Everybody may make files in that folder, and the name of ours can be told from the path or the process list.
        Whoever made it first must not keep Envoy from starting: it starts without, as long as this value lives.
        """
        if sys.platform != "linux" or not os.access(_SHARED, os.W_OK | os.X_OK):
            return f"that needs Linux with {_SHARED}"
        with contextlib.suppress(FileNotFoundError):
            owner = self._shared.lstat().st_uid
            if owner != os.geteuid():
                self._in_the_way = f"{self._shared} was made by another user, number {owner}"
        return self._in_the_way

    def shares(self) -> bool:
        """Whether the Envoy that runs, started by whichever process, has what another one needs to take over."""
        return self.can_be_taken_over and self._shared.exists()

    def command(self, taken: int = 0) -> Command:
        """How to start Envoy by itself, or as the one that takes over from the one before, `taken` times since then."""
        seconds = self._settings.gateway_drain_seconds
        shared = (
            *("--base-id", str(self._number), "--restart-epoch", str(taken)),
            # A file, which others may not open: the abstract names that Envoy would take are open to every user.
            *("--socket-path", _MEETING, "--socket-mode", "600"),
            *("--drain-strategy", "immediate", "--drain-time-s", str(max(1, seconds - 1))),
            *("--parent-shutdown-time-s", str(seconds)),
        )
        return Command(
            argv=(
                *(str(binary()), "-c", f"{FOLDER}/bootstrap.json"),
                *("--concurrency", str(self._settings.gateway_concurrency)),
                *(shared if self.can_be_taken_over else ("--disable-hot-restart",)),
                "--ignore-unknown-dynamic-fields",
                *("--file-flush-interval-msec", "500", "-l", "warning"),
                *("--log-format", "%Y-%m-%dT%H:%M:%S.%e %l %n: %v"),
            ),
            cwd=self._root,
        )

    def check(self) -> None:
        """Refuse what Envoy as it is installed now could not start with. Broken with its words, Unavailable."""
        validate(self._root, f"{FOLDER}/bootstrap.json")

    def ask_for_takeover(self) -> str:
        """Say that it is to be taken over; the word that was said. OSError."""
        word = secrets.token_hex(8)
        replace_private(self._root / ASKED, word.encode())
        return word

    def asked(self) -> str:
        """The last word that was said."""
        try:
            return (self._root / ASKED).read_text()[:100]
        except (OSError, ValueError):
            return ""

    def has_taken_over(self, taken: int) -> bool:
        """Whether the one that answers on the admin socket is that one."""
        try:
            return self._admin.stats(r"^server\.hot_restart_epoch$").get("server.hot_restart_epoch") == str(
                taken
            )
        except Unavailable:
            return False

    def drain(self) -> None:
        """Have it take nobody new, and end connections with the answers that are under way. Unavailable."""
        self._admin.post("/healthcheck/fail")
        self._admin.post("/drain_listeners")

    def is_idle(self) -> bool:
        """Whether no request is under way."""
        try:
            return not any(int(value) for value in self._admin.stats(_UNDER_WAY).values())
        except Unavailable:
            return True

    def forget(self) -> None:
        """Remove what Envoys of this mesh shared; none must run. What another user made in its place stays."""
        for left in self._root.glob(f"{_MEETING}_*"):
            with contextlib.suppress(OSError):
                left.unlink()
        with contextlib.suppress(OSError):
            if self._shared.lstat().st_uid == os.geteuid():
                self._shared.unlink()
