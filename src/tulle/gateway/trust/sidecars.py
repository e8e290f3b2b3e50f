"""The Envoy that is all sidecars of a machine: publishes to it which there are, tells how to start it and how it fares.

Sidecars are added before the gateway sends to them, and stay as long as it may. A change replaces watched files by
renames; what Envoy refuses is put back, so what is on disk is always something that it can start with. Knows nothing of
the database; who starts the process is the supervisor's matter.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from tulle.config import Settings
from tulle.errors import Broken, Unavailable
from tulle.gateway.access_log import AccessLog
from tulle.gateway.admin import Admin
from tulle.gateway.envoy_binary import binary
from tulle.gateway.envoy_files import versioned
from tulle.gateway.envoy_process import Command
from tulle.gateway.envoy_values import Json
from tulle.gateway.private_file import replace_private
from tulle.gateway.trust import sidecar_files
from tulle.gateway.trust.certificate import Pair
from tulle.gateway.trust.certificate_files import plain_errors
from tulle.gateway.trust.identity import Identity
from tulle.gateway.trust.sidecar import SOCKETS, Sidecar
from tulle.gateway.trust.sidecar_files import ADMIN_SOCKET, FILES, FOLDER

CONFIRM_SECONDS: Final = 8.0  # a generation's workers are asked for their health before Envoy takes them
# Longer than the gateway keeps a connection that it does not use: it closes those, so no request meets one that ends.
DRAIN_SECONDS: Final = 90
_STATISTICS: Final = {"clusters": "cluster_manager.cds", "listeners": "listener_manager.lds"}


class Sidecars:
    """The sidecars of one mesh on this machine. For one thread at a time."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._root = settings.state_folder
        self._folder = self._root / FOLDER
        self._admin = Admin(self._root, ADMIN_SOCKET)
        self._log = AccessLog(self._root / sidecar_files.ACCESS_LOG)
        self._last: tuple[object, object] | None = None  # what was published, and the files as they were then

    def prepare(self, certificates: Mapping[str, Pair]) -> None:
        """Make sure Envoy can start: with the sidecars that were published last, with none where those are damaged.

        `certificates` by the names of their files: of before the mesh was down, they may have ended.
        """
        with plain_errors(self._folder):
            self._make_folders()
            if self._read("bootstrap") != (start := msgspec.json.encode(sidecar_files.bootstrap())):
                replace_private(self._path("bootstrap"), start)
            if not all(_is_whole(self._read(name)) for name in FILES):
                for name in FILES:
                    replace_private(self._path(name), msgspec.json.encode(versioned([])))
            known = msgspec.json.decode(self._read("listeners") or b"")["resources"]
            fresh = msgspec.json.encode(sidecar_files.with_certificates(known, certificates))
            if fresh != self._read("listeners"):
                replace_private(self._path("listeners"), fresh)

    def publish(
        self, sidecars: Collection[Sidecar], callers: Sequence[Identity], certificates: Mapping[str, Pair]
    ) -> None:
        """Have these sidecars and no others, with the certificates of their services by the names of their files.

        An Envoy that runs has confirmed it then. Does nothing when they are there. Broken when one is refused or
        has no certificate, Unavailable when they are not taken in time, LimitExceeded when the disk is full; those that
        were there stay then.
        """
        asked = list(sidecars), list(callers), dict(certificates)
        if self._last != (asked, self._stamps()):
            self._publish(sidecars, callers, certificates)
            self._last = asked, self._stamps()

    def _publish(
        self, sidecars: Collection[Sidecar], callers: Sequence[Identity], certificates: Mapping[str, Pair]
    ) -> None:
        with plain_errors(self._folder):
            self._make_folders()
            rendered = sidecar_files.render(sidecars, callers, certificates)
            wanted = {name: msgspec.json.encode(content) for name, content in rendered.items()}
            before = {name: self._read(name) for name in FILES}
            if wanted == before:
                return
            try:
                # Workers before who leads to them; those that leave only when nobody does.
                both = _with_others(rendered["clusters"], before["clusters"])
                self._put("clusters", both)
                self._put("listeners", wanted["listeners"])
                self._put("clusters", wanted["clusters"])
            except BaseException:
                for name, content in before.items():
                    with contextlib.suppress(OSError):  # the first error counts, and the other file too
                        replace_private(self._path(name), content or msgspec.json.encode(versioned([])))
                raise

    def _put(self, name: str, content: bytes) -> None:
        """Write one file, and wait until an Envoy that runs has taken it."""
        if self._read(name) == content:
            return
        prefix = _STATISTICS[name]
        before = self._admin.in_force({name: prefix})
        replace_private(self._path(name), content)
        if before is None:
            return
        version = msgspec.json.decode(content)["version_info"]
        match self._admin.outcome(prefix, before[name], version, CONFIRM_SECONDS):
            case "taken" | "ended":  # in the latter case the next one starts with what is on disk
                return
            case "refused":
                raise Broken(
                    f"the sidecars' Envoy refused its new {name}",
                    hint="those it had stay in force; `tulle logs sidecars` shows why",
                )
        raise Unavailable(
            f"the sidecars' Envoy has not taken its new {name} after {CONFIRM_SECONDS:.0f} s",
            hint="those it had stay in force; `tulle logs sidecars` shows more",
        )

    def bound_log(self) -> None:
        """Begin a new log of refusals when the one there is has become large."""
        with plain_errors(self._settings.log_folder):
            self._log.put_aside_when_large(self._admin)

    # ── the process ──────────────────────────────────────────────────────────────────────────────────────

    def command(self) -> Command:
        """How to start it; `prepare` must have come first."""
        return Command(
            argv=(
                *(str(binary()), "-c", f"{FOLDER}/bootstrap.json"),
                *("--concurrency", str(self._settings.gateway_concurrency)),
                "--disable-hot-restart",
                "--reject-unknown-dynamic-fields",
                *("--drain-time-s", str(DRAIN_SECONDS), "--file-flush-interval-msec", "500", "-l", "warning"),
                *("--log-format", "%Y-%m-%dT%H:%M:%S.%e %l %n: %v"),
            ),
            cwd=self._root,
        )

    def ready(self) -> bool:
        """Whether it runs and listens for whom it shall."""
        try:
            stats = self._admin.stats(
                r"^(server\.state|listener_manager\.total_listeners_warming)$", "Gauges"
            )
        except Unavailable:
            return False
        return stats.get("server.state") == "0" and not int(
            stats.get("listener_manager.total_listeners_warming", 0)
        )

    # ── files ────────────────────────────────────────────────────────────────────────────────────────────

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.json"

    def _read(self, name: str) -> bytes | None:
        try:
            return self._path(name).read_bytes()
        except FileNotFoundError:
            return None

    def _stamps(self) -> list[tuple[int, int] | None]:
        """What tells the files from others that may be put in their place."""
        found: list[tuple[int, int] | None] = []
        for name in FILES:
            try:
                about = self._path(name).stat()
            except OSError:
                found.append(None)
            else:
                found.append((about.st_mtime_ns, about.st_ino))
        return found

    def _make_folders(self) -> None:
        for folder in self._folders():
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder.chmod(0o700)

    def _folders(self) -> Iterator[Path]:
        yield self._folder
        yield self._root / SOCKETS
        yield self._settings.log_folder


def _is_whole(content: bytes | None) -> bool:
    """Whether it is a watched file as it was rendered: its version is the digest of its resources."""
    try:
        document = msgspec.json.decode(content or b"")
        return bool(document == versioned(document["resources"]))
    except (ValueError, TypeError, LookupError):
        return False


def _with_others(wanted: Json, before: bytes | None) -> bytes:
    """What is wanted, and beside it what was there and goes."""
    names = {one["name"] for one in wanted["resources"]}
    found = msgspec.json.decode(before)["resources"] if before and _is_whole(before) else []
    others = [one for one in found if one["name"] not in names]
    return msgspec.json.encode(versioned([*wanted["resources"], *others]))
