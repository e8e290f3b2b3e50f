"""The replacing of the files that Envoy watches: one by one, by renames, in an order that never opens a hole.

The running Envoy is asked whether it took each; what it refuses is put back, so the files on disk are always a
configuration that it can start with. Knows nothing of policies; what is written is rendered and looked at before.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from tulle.errors import Broken, Unavailable
from tulle.gateway import envoy_files
from tulle.gateway.admin import Admin, Taken
from tulle.gateway.envoy_validation import end_of
from tulle.gateway.envoy_values import AUTH, INNER_ROUTES, JWT, LIMITS, ROUTES, SPIKES, Json
from tulle.gateway.private_file import replace_private
from tulle.gateway.processing.plan import FILE as PLAN
from tulle.gateway.processors import Processors
from tulle.gateway.watched_files import WatchedFiles, version_in

CONFIRM_SECONDS: Final = 8.0  # a service's new workers are asked for their health before Envoy takes them
PROCESSOR_SECONDS: Final = (
    4.0  # that the first steps wait for the processor to be started; later it just runs
)
# file → prefix of the statistics in which Envoy tells what became of it
_STATISTICS: Final[Mapping[str, str]] = {
    "limits": f"extension_config_discovery.http_filter.{LIMITS}",
    "spikes": f"extension_config_discovery.http_filter.{SPIKES}",
    "auth": f"extension_config_discovery.http_filter.{AUTH}",
    "clusters": "cluster_manager.cds",
    "jwt": f"extension_config_discovery.http_filter.{JWT}",
    "inner": f"http.inner.rds.{INNER_ROUTES}",
    "routes": f"http.gateway.rds.{ROUTES}",
    "listeners": "listener_manager.lds",
}


class Replacement:
    """Replaces the watched files of one gateway; who may do so, and when, is the publisher's matter."""

    def __init__(self, files: WatchedFiles, admin: Admin, processors: Processors, log: Path) -> None:
        """`log` is where the supervisor keeps what Envoy says, if it does."""
        self._files = files
        self._admin = admin
        self._processors = processors
        self._log = log

    def in_force(self) -> Mapping[str, Taken] | None:
        """What Envoy has of each file but the processors'; None where none runs."""
        return self._admin.in_force(_STATISTICS)

    def replace(
        self,
        changed: Sequence[str],
        wanted: Mapping[str, bytes],
        in_force: Mapping[str, Taken] | None,
        kept: Collection[str],
    ) -> bool:
        """Write what changed, or nothing of it but for those of `kept` that were taken: they only take away.

        Who may sign in is one of them in any case: by itself it opens nothing, and without it who was revoked is back.
        `in_force` is what was before. True when a running Envoy took all, False when none runs; Broken, with its own
        words, when it refuses a file, Unavailable when it does not take it in time.
        """
        before = {name: self._files.read(name) for name in changed}
        taken: set[str] = set()
        try:
            confirmed = True
            for name, content in self._in_turn(changed, wanted):
                confirmed = self._put(name, content, in_force) and confirmed
                taken.add(name)
        except BaseException:  # whatever came between, half of a change is no configuration
            for name in reversed([name for name in changed if name not in taken or name not in kept]):
                with contextlib.suppress(OSError):  # the first error counts, and every other file too
                    old = before[name]
                    is_whole = old is not None and version_in(name, old) is not None
                    self._files.restore(name, old if is_whole else None)
            raise
        return confirmed and (bool(changed) or self._admin.is_there())

    def _in_turn(self, changed: Sequence[str], wanted: Mapping[str, bytes]) -> Iterator[tuple[str, bytes]]:
        """What to write in turn. A service on its way out keeps its workers until no route leads to them."""
        leaving = self._leaving(wanted["clusters"]) if "clusters" in changed else []
        for name in changed:
            if name == "clusters" and leaving:
                yield name, _with_resources(wanted["clusters"], leaving)
            else:
                yield name, wanted[name]
            if name == "routes" and leaving:
                yield "clusters", wanted["clusters"]
        if leaving and "routes" not in changed:
            yield "clusters", wanted["clusters"]

    def _leaving(self, wanted: bytes) -> list[Json]:
        before = self._files.read_whole("clusters")
        if before is None:
            return []
        stays = {cluster["name"] for cluster in msgspec.json.decode(wanted)["resources"]}
        return [
            cluster for cluster in msgspec.json.decode(before)["resources"] if cluster["name"] not in stays
        ]

    def _put(self, name: str, content: bytes, in_force: Mapping[str, Taken] | None) -> bool:
        """Write one file; True when a running Envoy took it, False when none runs.

        `in_force` is what was before the first one, None where no Envoy answered then.
        """
        if name == PLAN:
            replace_private(self._files.path(name), content)
            is_running = self._admin.is_there()
            self._processors.confirm(content, wait=PROCESSOR_SECONDS if is_running else 0)
            return is_running
        prefix = _STATISTICS[name]
        # Who did not answer then may be there by now, and has to take it before anything is let go.
        before = self._admin.in_force({name: prefix}) if in_force is None else in_force
        replace_private(self._files.path(name), content)
        if before is None:
            return False
        version = version_in(name, content)
        match self._admin.outcome(prefix, before[name], version or "", CONFIRM_SECONDS):
            case "taken":
                return True
            case "ended":
                return False  # the next one starts with what is on disk
            case "refused":
                raise Broken(
                    f"the gateway refused its new {name}: {self._last_words()}",
                    hint="the last good configuration stays in force; `tulle logs gateway` shows more",
                )
        raise Unavailable(
            f"the gateway has not taken its new {name} after {CONFIRM_SECONDS:.0f} s",
            hint="the last good configuration stays in force; `tulle logs gateway` shows more",
        )

    def _last_words(self) -> str:
        """The last complaint in the gateway's log, when the supervisor keeps one."""
        with contextlib.suppress(OSError):
            text = self._log.read_text(errors="replace")[-20_000:]
            complaints = [line for line in text.splitlines() if "rejected" in line or "failed" in line]
            if complaints:
                return end_of(complaints[-1])
        return "it did not say why"


def _with_resources(content: bytes, more: Sequence[Json]) -> bytes:
    resources = [*msgspec.json.decode(content)["resources"], *more]
    return msgspec.json.encode(envoy_files.versioned(resources))
