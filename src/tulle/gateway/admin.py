"""Asks a running Envoy, over its admin socket, what it has taken and how it fares.

Knows Envoy's names for things and turns them into values; knows nothing of policies and of what the files say.
"""

from __future__ import annotations

import http.client
import os
import re
import socket
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from tulle.errors import Unavailable

_LINE: Final = re.compile(r'^(?P<name>[^ ]+): "?(?P<value>[^"]*)"?$')
_WARMING: Final = r"^(cluster_manager\.warming_clusters|listener_manager\.total_listeners_warming)$"
_VERSION: Final = ".version_text"
_WARM_UP: Final = frozenset({"cluster_manager.cds", "listener_manager.lds"})
_ASKED_BETWEEN: Final = 4  # for versions, which costs less than asking what was refused
# What becomes of a file that Envoy watches: in use; not accepted; Envoy is gone; none of that in time.
Outcome = Literal["taken", "refused", "ended", "late"]
StatisticKind = Literal["Counters", "Gauges"]
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

    def is_there(self) -> bool:
        """Whether an Envoy answers."""
        try:
            self.get("/ready")
        except Unavailable:
            return False
        return True

    def stats(self, pattern: str, kind: StatisticKind | None = None) -> Mapping[str, str]:
        """Statistics whose name matches the regular expression, by name.

        Each cluster has more than a hundred, all of which are looked through: a third is gauges, the others counters.
        """
        of_kind = "" if kind is None else f"type={kind}&"
        return self._found(f"/stats?{of_kind}filter={_quoted(pattern)}")

    def _found(self, path: str) -> Mapping[str, str]:
        lines = map(_LINE.match, self.get(path).splitlines())
        return {match["name"]: match["value"] for match in lines if match is not None}

    def taken(self, prefixes: Mapping[str, str]) -> Mapping[str, Taken]:
        """What is in force of each watched file; `prefixes` maps its name to the prefix of its statistics."""
        versions, refused = self._versions(), self._refused(prefixes.values())
        return {name: Taken(versions.get(one, ""), refused.get(one, 0)) for name, one in prefixes.items()}

    def _versions(self) -> Mapping[str, str]:
        """The versions in force, by prefix."""
        found = self._found("/stats?type=TextReadouts")
        return {
            name.removesuffix(_VERSION): value for name, value in found.items() if name.endswith(_VERSION)
        }

    def _refused(self, prefixes: Iterable[str]) -> Mapping[str, int]:
        """How often something was refused or could not be read, by prefix; left out where it never was."""
        names = "|".join(re.escape(one) for one in prefixes)
        pattern = rf"^({names})\.(update_rejected|update_failure|config_fail)$"
        refused: dict[str, int] = {}
        for name, value in self._found(f"/stats?type=Counters&usedonly&filter={_quoted(pattern)}").items():
            prefix = name.rpartition(".")[0]
            refused[prefix] = refused.get(prefix, 0) + int(value)
        return refused

    def _is_warm(self) -> bool:
        return not any(map(int, self.stats(_WARMING, "Gauges").values()))

    def in_force(self, prefixes: Mapping[str, str]) -> Mapping[str, Taken] | None:
        """As `taken`; None where no Envoy answers."""
        try:
            return self.taken(prefixes)
        except Unavailable:
            return None

    def outcome(self, prefix: str, before: Taken, version: str, seconds: float) -> Outcome:
        """What becomes of a watched file that was just written with a version, waited for so long at most.

        It is taken when it is in use: clusters and listeners that are accepted warm up first.
        """
        deadline = time.monotonic() + seconds
        asked, known = 0, before.refused
        while time.monotonic() < deadline:
            try:
                is_there = self._versions().get(prefix) == version
                if is_there and (prefix not in _WARM_UP or self._is_warm()):
                    return "taken"
                asked += 1
                if asked % _ASKED_BETWEEN == 0:
                    refused = self._refused([prefix]).get(prefix, 0)
                    known = known if refused >= known else 0  # another process, which counts anew
                    if refused > known:
                        return "refused"
            except Unavailable:
                return "ended"
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
