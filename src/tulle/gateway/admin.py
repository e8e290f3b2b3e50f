"""Asks a running Envoy, over its admin socket, what it has taken and how it fares.

Knows Envoy's names for things and turns them into values; knows nothing of policies and of what the files say.
"""

from __future__ import annotations

import http.client
import os
import re
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from tulle.errors import Unavailable

_LINE: Final = re.compile(r'^(?P<name>[^ ]+): "?(?P<value>[^"]*)"?$')
_WARMING: Final = r"^(cluster_manager\.warming_clusters|listener_manager\.total_listeners_warming)$"
# What becomes of a file that Envoy watches: in use; not accepted; Envoy is gone; none of that in time.
Outcome = Literal["taken", "refused", "ended", "late"]
SHORT_ENOUGH: Final = 100  # bytes of a socket path that every system can hold


@dataclass(frozen=True, slots=True)
class Taken:
    """What Envoy says of one watched file: the version in force, and how many it refused or could not read."""

    version: str
    refused: int


class Admin:
    """The admin door of the Envoy that runs in `folder`, at the unix socket `relative` to it."""

    def __init__(self, folder: Path, relative: str, *, timeout: float = 2.0) -> None:
        self._folder = folder
        self._relative = relative
        self._timeout = timeout

    def get(self, path: str) -> str:
        """The text Envoy answers; Unavailable when it does not run or does not answer."""
        return self._ask("GET", path)

    def post(self, path: str) -> str:
        """As `get`, for what changes something."""
        return self._ask("POST", path)

    def _ask(self, method: str, path: str) -> str:
        with _reachable(self._folder, self._relative) as address:
            connection = _UnixConnection(address, self._timeout)
            try:
                connection.request(method, path)
                answer = connection.getresponse()
                text = answer.read().decode("utf-8", "replace")
            except (OSError, http.client.HTTPException) as exc:
                raise Unavailable(
                    f"the gateway does not answer: {exc}", hint="`tulle status`, `tulle logs gateway`"
                ) from exc
            finally:
                connection.close()
        if answer.status != 200:
            raise Unavailable(
                f"the gateway answered {answer.status} to {method} {path}: {text.strip()[:200]}"
            )
        return text

    def stats(self, pattern: str) -> Mapping[str, str]:
        """Statistics whose name matches the regular expression, by name."""
        found = {}
        for line in self.get(f"/stats?filter={_quoted(pattern)}").splitlines():
            if match := _LINE.match(line):
                found[match["name"]] = match["value"]
        return found

    def taken(self, prefixes: Mapping[str, str]) -> Mapping[str, Taken]:
        """What is in force of each watched file; `prefixes` maps its name to the prefix of its statistics."""
        names = "|".join(re.escape(p) for p in prefixes.values())
        stats = self.stats(rf"^({names})\.(version_text|update_rejected|update_failure|config_fail)$")
        return {
            name: Taken(
                stats.get(f"{prefix}.version_text", ""),
                sum(
                    int(stats.get(f"{prefix}.{kind}", 0))
                    for kind in ("update_rejected", "update_failure", "config_fail")
                ),
            )
            for name, prefix in prefixes.items()
        }

    def in_force(self, prefix: str) -> Taken | None:
        """What is in force of one watched file, by the prefix of its statistics; None where no Envoy answers."""
        try:
            return self.taken({prefix: prefix})[prefix]
        except Unavailable:
            return None

    def outcome(self, prefix: str, before: Taken, version: str, seconds: float) -> Outcome:
        """What becomes of a watched file that was just written with a version, waited for so long at most.

        It is taken when it is in use: clusters and listeners that are accepted warm up first.
        """
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            now = self.in_force(prefix)
            if now is None:
                return "ended"
            if now.refused > before.refused:
                return "refused"
            if now.version == version and not any(map(int, self.stats(_WARMING).values())):
                return "taken"
            time.sleep(0.005)
        return "late"


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, address: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._address = address

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._address)


@contextmanager
def _reachable(folder: Path, relative: str) -> Iterator[str]:
    # A socket address holds 108 bytes: a longer path is reached through the handle of an open folder.
    path = str(folder / relative)
    if len(os.fsencode(path)) <= SHORT_ENOUGH:
        yield path
        return
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as exc:
        raise Unavailable(f"the gateway does not run: {folder} cannot be opened ({exc.strerror})") from exc
    try:
        yield f"/proc/self/fd/{handle}/{relative}"
    finally:
        os.close(handle)


def _quoted(pattern: str) -> str:
    return "".join(c if c.isalnum() or c in "_.-" else f"%{ord(c):02X}" for c in pattern)
