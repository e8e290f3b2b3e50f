"""Reads the gateway's access log, a few seconds after requests were answered: it is counted, and who called is noted.

One thread of the control plane, its only reader of the log. It takes a part of one processor at most, and less of it
while the machine is busy: what it does not get to is in the log, and counted later. Each line is understood once, and
shown to both: to the counts, which remember how far they are, and to who writes down when callers last called, which
sees a line once while this process lives, also when it cannot be counted. Keeps the log and what is counted bounded,
also where the gateway writes faster than this reads: then what was put aside first goes uncounted, and that is said.
Knows how paths of services are templates (their packages' OpenAPI documents); what a count is stands in `observe`.
"""

from __future__ import annotations

import datetime as dt
import logging
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final

import msgspec
import psutil

from tulle.control.workspace import Workspace
from tulle.errors import LimitExceeded, Unavailable
from tulle.gateway.access_log import KEPT, LARGEST, AccessLog
from tulle.gateway.admin import Admin
from tulle.gateway.apis import records
from tulle.gateway.apis.records import RecordedApi
from tulle.gateway.envoy_values import ACCESS_LOG, ADMIN_SOCKET, API_PREFIX
from tulle.gateway.last_used import LastUsed
from tulle.gateway.log_line import LineReader, Lines
from tulle.gateway.log_place import LogReader, Piece
from tulle.observe.calls import Calls, Place, State
from tulle.observe.operations import Operations, operations_of
from tulle.observe.tally import Tally
from tulle.serving import generation

LOG = logging.getLogger("tulle")
EVERY_SECONDS: Final = 3.0
LOOK_SECONDS: Final = 5.0  # then all else has its turn, as a log may grow faster than it is read
AGAIN_SECONDS: Final = 30.0  # after a look that failed
KEEP_EVERY: Final = 3600.0
NEWEST: Final = 64 << 20  # bytes; so far from its end the log is shown while counts cannot be reached
LINES_AT_ONCE: Final = 100_000  # then they are written
RESTS, RESTS_BUSY = 3.0, 9.0  # for each second of work
_CALLERS: Final = "when callers last called is written down later"
_SHOWN: Final = "who tries secrets is looked for in what comes next"
_BUSY_PERCENT: Final = 85.0
_LARGEST_DOCUMENT: Final = 16 << 20


class CallCollector:
    """One a control plane."""

    def __init__(
        self,
        workspace: Workspace,
        calls: Calls | None = None,
        counted: Callable[[float], object] = lambda _: None,
    ) -> None:
        """`counted` is called after each look with the time up to which the log is counted."""
        self._last_used = LastUsed(workspace.settings, workspace.database)
        self._shown = Place("", 0)  # up to here the log was shown to it
        self._failing: dict[str, str] = {}  # what is said of it already
        settings = workspace.settings
        self._workspace = workspace
        self.calls = calls or Calls(settings.state_folder)
        self._counted = counted
        self._reader = LogReader(settings.state_folder / ACCESS_LOG)
        self._log = AccessLog(settings.state_folder / ACCESS_LOG)
        self._admin = Admin(settings.state_folder, ADMIN_SOCKET)
        self._operations = Operations({}, API_PREFIX)
        self._documents: dict[tuple[str, str], list[str]] = {}  # of a version, which never changes
        self._lines = LineReader()
        self._tally = Tally(self._operation)
        self._apis = records.Followed(workspace.database)
        self._learnt: tuple[object, object] = None, None  # of which APIs and deployments operations are known
        self._undescribed: list[Path] = []  # documents of packages that were not unpacked then
        self._stop = threading.Event()
        self._kept_at = self._alive = float("-inf")
        self._thread = threading.Thread(target=self._follow, name="calls", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End; the next one counts what this one has not."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(5)
        self.calls.close()

    def _follow(self) -> None:
        psutil.cpu_percent(None)
        said, again = "", 0.0
        while not self._stop.is_set():
            is_behind = False
            try:
                if time.monotonic() >= again:
                    began = time.time()
                    until = self.look(seconds=LOOK_SECONDS)
                    self._note_alive(began)
                    if until:
                        self._counted(until)
                    said, again, is_behind = "", 0.0, until < began
            except LimitExceeded as exc:
                if exc.message != said:  # once, not at each try
                    LOG.warning("%s; what was asked is counted when there is room", exc.message)
                said, again = exc.message, time.monotonic() + AGAIN_SECONDS
            except Exception:
                LOG.exception("what services were asked is counted later")
                again = time.monotonic() + AGAIN_SECONDS
            if again:
                self._do(_CALLERS, partial(self.show, LOOK_SECONDS))
            self._do("the access log is put aside later", self._put_aside)
            if not is_behind:  # else it rested while it read
                self._stop.wait(EVERY_SECONDS)

    def _do(self, failing: str, what: Callable[[], object]) -> None:
        """Do what nothing else may wait for; why it fails is said once, not at each try."""
        try:
            what()
        except Exception as exc:
            if self._failing.get(failing) != str(exc):
                LOG.exception(failing)
            self._failing[failing] = str(exc)
        else:
            self._failing.pop(failing, None)

    def _put_aside(self) -> None:
        self._log.put_aside_when_large(self._admin)

    def show(self, seconds: float = float("inf")) -> None:
        """Show who writes down callers what it has not seen, what could not be counted and what came meanwhile: all,
        or as much as may be in so many seconds."""
        end = time.monotonic() + seconds
        if not self._shown.file:
            self._shown = Place(*self._reader.newest(NEWEST))
        for piece in self._reader.pieces(self._shown.file, self._shown.position):
            self._show(piece, None)
            if self._stop.is_set() or time.monotonic() >= end:
                break
        self._last_used.write()

    def _show(self, piece: Piece, told: Lines | None) -> None:
        """Show it what of a piece it has not seen; `told` is the whole piece, where it is understood already."""
        shown, fresh = self._shown, 0
        if piece.file == shown.file:
            fresh = shown.position - (piece.position - len(piece.data))
            if fresh >= len(piece.data):
                return
        elif shown.file and self._reader.is_before(piece.file, shown.file):
            return  # read again, as it could not be counted
        if told is None or fresh > 0:
            told = self._lines.read(piece.data[max(0, fresh) :])
        self._shown = Place(
            piece.file, piece.position
        )  # also when it fails: no wrong secret is counted twice
        self._last_used.see(told)

    def look(self, now: float | None = None, seconds: float = float("inf")) -> float:
        """Count what is new in the log, all or as much as may be in so many seconds, and write it down with the place.

        Up to when all is counted, in seconds since the epoch: now, or earlier where it did not come to the end, or 0
        where that is not known.
        """
        at, end, is_behind = time.time() if now is None else now, time.monotonic() + seconds, False
        self.calls.bring_up()
        self._tally.taken()  # of a look that failed: it is counted again
        state = self.calls.state()
        place = state.place if state is not None else Place("", 0)
        gap = ""
        for piece in self._reader.pieces(place.file, place.position):
            began = time.perf_counter()
            self._keep_up()  # after it was read: whatever its lines are of is recorded by now
            told = self._lines.read(piece.data)
            self._do(_SHOWN, partial(self._show, piece, told))
            self._tally.count(told)
            place = Place(piece.file, piece.position)
            if piece.lost:
                gap = _gap(state, told)
            if self._tally.waiting >= LINES_AT_ONCE:
                self._write(place, gap)
                gap = ""
            if is_behind := self._stop.is_set() or time.monotonic() >= end:
                break
            self._rest(time.perf_counter() - began)
        began = time.perf_counter()
        self._write(place, gap)
        if time.monotonic() >= self._kept_at + KEEP_EVERY:
            self._kept_at = time.monotonic()
            settings = self._workspace.settings
            bytes_ = settings.insight_megabytes << 20
            self.calls.keep(days=settings.insight_days, most_bytes=bytes_, now=at)
        if not is_behind:
            return at
        self._rest(time.perf_counter() - began)
        state = self.calls.state()
        return 0.0 if state is None else min(at, state.latest)

    def _write(self, place: Place, gap: str) -> None:
        self._do(_CALLERS, self._last_used.write)  # before the place is where they are not read again
        if self._tally.waiting:
            self.calls.add(self._tally.taken(), place, lost=bool(gap))
            if gap:  # said once, as the place is behind it now
                LOG.warning("%s", gap)

    def _note_alive(self, at: float) -> None:
        """Once a minute, while the gateway answers."""
        if at // 60 == self._alive // 60:
            return
        try:
            self._admin.get("/ready")
        except Unavailable:
            return
        self.calls.note_alive(at)
        self._alive = at

    def _rest(self, worked: float) -> None:
        """Leave the processors to those who answer."""
        if self._thread.is_alive() and threading.current_thread() is self._thread:
            busy = psutil.cpu_percent(None) > _BUSY_PERCENT
            self._stop.wait(worked * (RESTS_BUSY if busy else RESTS))

    def _operation(self, service: str, method: str, path: str) -> str:
        return self._operations(service, method, path)

    def _keep_up(self) -> None:
        """Learn the operations anew where an API, a deployment or what a package has to tell is another one."""
        apis = self._apis.look()
        mounted = [(one.service, *one.mounted) for one in generation.everywhere(self._workspace.database)]
        is_same = self._learnt[0] is apis and self._learnt[1] == mounted
        if not is_same or any(file.exists() for file in self._undescribed):
            self._learn(apis, mounted)
            self._learnt = apis, mounted

    def _learn(self, apis: Sequence[RecordedApi], mounted: Sequence[tuple[str, ...]]) -> None:
        """Find the operations of all that is deployed, and of APIs that are declared."""
        found: dict[str, list[str]] = {}
        self._undescribed = []
        for service, *versions in mounted:
            for version in versions:
                found.setdefault(service, []).extend(self._described(service, version))
        for api in apis:
            for declared in api.declared.versions:
                said = [f"{one.method} {one.path}" for one in declared.operations]
                if (
                    declared.target.service
                ):  # of one without a document they are those of the service behind it
                    said = said or found.get(declared.target.service, [])
                found[api.name] = [*found.get(api.name, ()), *said]
        self._operations = Operations(found, API_PREFIX)
        self._tally.forget_operations()

    def _described(self, service: str, version: str) -> list[str]:
        known = self._documents.get((service, version))
        if known is None:
            file = generation.folder_of(self._workspace.settings, service, version) / "openapi.json"
            try:
                if file.stat().st_size > _LARGEST_DOCUMENT:
                    return []
                known = operations_of(msgspec.json.decode(file.read_bytes()))
            except FileNotFoundError:  # it is not unpacked yet
                self._undescribed.append(file)
                return []
            except (OSError, ValueError):
                return []
            self._documents[service, version] = known
        return known


def _gap(state: State | None, told: Lines) -> str:
    """What is said of lines that are gone, between what was counted before and what is told now."""
    since = until = ""
    if state is not None and state.latest:
        moment = dt.datetime.fromtimestamp(state.latest, dt.UTC).isoformat(timespec="milliseconds")
        since = f" after {moment.replace('+00:00', 'Z')}"
    if told.lines:
        until = f"{' and' if since else ''} before {told.lines[0].time}"
    return (
        f"what services were asked{since}{until} is not all counted: a part of the gateway's access log was gone "
        f"before it was read, as {KEPT + 1} files of {LARGEST >> 20} MB are kept; if more comes than can be read, the "
        "machine needs more processors for what it is asked"
    )
