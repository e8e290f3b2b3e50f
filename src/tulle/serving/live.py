"""Look-ups that follow what is published: where the newest index of each lies, and how a worker comes to use it.

A worker says what it wants by a file that it touches now and then; `refresh` builds what is wanted and writes down, in
one step, which file is the newest. The worker looks for that a few times a second and from then on reads the new one:
it has one thread, so every answer is from one index or the other. The old file is unlinked later, and stays readable
for who has it open. Nothing here can make a worker wait. Knows nothing of the lake.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
import secrets
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from tulle.errors import Broken
from tulle.serving.compose import Compose
from tulle.serving.finder import Finder, FinderEntry
from tulle.serving.index import Column, open_index
from tulle.serving.index_build import Wish
from tulle.serving.keyed_rows import LATEST
from tulle.serving.loaded import Loaded
from tulle.serving.manifest import look_ups_of

LOOK_SECONDS = 0.25
TOUCH_SECONDS = 60.0
WANTED, STATE = "wanted.json", "state.json"
_log = logging.getLogger("tulle.serving")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What an index is to be built from, and what it is to hold."""

    product: str
    data_set: str
    wish: Wish
    ref: str = "main"  # the branch that is followed
    types: tuple[Column, ...] = ()  # of the columns it reads, as the data set calls them


@dataclass(frozen=True, slots=True)
class Failed:
    """Why what is published could not be taken; what was there before goes on answering."""

    commit: str
    message: str
    at: float


@dataclass(frozen=True, slots=True)
class State:
    """The newest index. Times are seconds since 1970; no file: none was built yet."""

    commit: str = ""
    identity: str = ""  # of the data set's content
    file: str = ""
    rows: int = 0
    noticed_at: float = 0.0  # when the commit was found to be published
    built_at: float = 0.0
    seconds: float = 0.0  # building took
    failed: Failed | None = None


def wanted_by(entry: FinderEntry, ref: str) -> Wanted:
    """What has to be built for a look-up of a package that was built from what is published at `ref`."""
    wish = entry.wish
    if wish is None:
        raise Broken(f"the look-up in '{entry.data_set}' follows nothing")
    named = {wish.key_sources.get(c.name, c.name): c.type for c in wish.key}
    named |= {wish.source(c.name): c.type for c in wish.columns}
    types = tuple(Column(name, kind) for name, kind in named.items())
    return Wanted(entry.product, entry.data_set, wish, ref, types)


def home_of(live: Path, wanted: Wanted) -> Path:
    """The folder of an index; equal wishes of several services share it."""
    text = msgspec.json.encode(wanted, order="deterministic")
    digest = hashlib.blake2b(text, digest_size=10).hexdigest()
    return live / wanted.product / f"{wanted.data_set}-{digest}"


def read_wanted(home: Path) -> Wanted:
    """What is wanted in a folder; Broken when that cannot be read."""
    try:
        return msgspec.json.decode((home / WANTED).read_bytes(), type=Wanted)
    except (OSError, msgspec.MsgspecError) as exc:
        raise Broken(f"'{home.name}/{WANTED}' cannot be read: {exc}") from exc


def read_state(home: Path) -> State | None:
    """The newest index of a folder; None where nothing was tried yet."""
    try:
        return msgspec.json.decode((home / STATE).read_bytes(), type=State)
    except (OSError, msgspec.MsgspecError):
        return None


def write(path: Path, value: object) -> None:
    """Put a value into a file, whole and durable, in place of what was there."""
    beside = path.with_name(f".{path.name}-{secrets.token_hex(6)}")
    try:
        with beside.open("wb") as out:
            out.write(msgspec.json.encode(value))
            out.flush()
            os.fsync(out.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def say_wanted(home: Path, wanted: Wanted) -> None:
    """Say that an index is wanted, now and for a while."""
    path = home / WANTED
    try:
        os.utime(path)
    except FileNotFoundError:
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        write(path, wanted)


class _Followed:
    """One look-up of an endpoint, and what it has read last."""

    def __init__(self, endpoint: str, finder: Finder, live: Path, ref: str) -> None:
        self.endpoint, self.finder = endpoint, finder
        self.wanted = wanted_by(finder.entry, ref)
        self.home = home_of(live, self.wanted)
        self.commit = ""
        self._seen = (0, 0)
        self._file = ""

    def look(self, after: float = 0.0) -> bool:
        """Take what is newest; whether another commit answers now. What was noticed before `after` is left alone."""
        try:
            status = (self.home / STATE).stat()
        except OSError:
            return False
        if (status.st_mtime_ns, status.st_ino) == self._seen:
            return False
        state = read_state(self.home)
        if state is None or not state.file or state.noticed_at < after:
            self._seen = (status.st_mtime_ns, status.st_ino)
            return False
        try:
            if state.file != self._file:
                self.finder.use(open_index(self.home / state.file))
                self._file = state.file
        except (
            Broken,
            OSError,
        ) as exc:  # removed between two looks, say: the next one finds what is there then
            _log.warning("%s: %s", self.wanted.data_set, exc)
            return False
        self._seen = (status.st_mtime_ns, status.st_ino)
        changed, self.commit = state.commit != self.commit, state.commit
        return changed


class Following:
    """The look-ups of a loaded service that follow what is published."""

    def __init__(self, service: Loaded, live: Path) -> None:
        self._service = service
        self._followed = [
            _Followed(name, finder, live, service.manifest.ref)
            for name, endpoint in service.endpoints.items()
            for finder in finders_of(endpoint)
            if finder.entry.source == LATEST
        ]
        self._touched = 0.0

    @property
    def is_needed(self) -> bool:
        """Whether there is anything to follow."""
        return bool(self._followed)

    def begin(self) -> None:
        """Say what is wanted, and take what is newer than the package."""
        self._say()
        created = datetime.fromisoformat(self._service.manifest.created).timestamp()
        self._renew([one for one in self._followed if one.look(created)])

    def look(self) -> Collection[str]:
        """Take what was published meanwhile; the endpoints whose answers are from another commit now."""
        return self._renew([one for one in self._followed if one.look()])

    async def keep(self, told: Callable[[Collection[str]], None]) -> None:
        """Look again and again, and tell of what has changed, in the same step of the loop."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                if time.monotonic() - self._touched > TOUCH_SECONDS:
                    self._say()
                if changed := self.look():
                    told(changed)
            except Exception:  # noqa: BLE001  whatever it is, what is there goes on answering
                _log.exception("what is published could not be looked at")

    def _say(self) -> None:
        self._touched = time.monotonic()
        for one in self._followed:
            with contextlib.suppress(OSError):  # a full disk: then nothing newer comes, and all else goes on
                say_wanted(one.home, one.wanted)

    def _renew(self, changed: Sequence[_Followed]) -> Collection[str]:
        if not changed:
            return ()
        endpoints = self._service.endpoints
        names = {one.endpoint for one in changed}
        for name in names:
            newer = {one.finder.entry.origin: one.commit for one in changed if one.endpoint == name}
            endpoint: Any = endpoints[name]
            endpoint.renew({**endpoint.commits, **newer})
        for one in changed:
            _log.info("%s answers from %s of %s", one.endpoint, one.commit[:12], one.finder.entry.origin)
        return bound_again(self._service, names)


def bound_again(service: Loaded, names: Collection[str]) -> Collection[str]:
    """Have compositions say what the endpoints that they call are from now; what says another commit by now."""
    found = set(names)
    for name, endpoint in service.endpoints.items():
        if isinstance(endpoint, Compose):
            endpoint.bind(service.endpoints)
            found.add(name)
    return found


def finders_of(endpoint: object) -> Sequence[Finder]:
    """The look-ups of an endpoint of any kind."""
    found: Sequence[Finder] = getattr(endpoint, "finders", ())
    return found


def entries_of(raw: Mapping[str, Any]) -> list[FinderEntry]:
    """The look-ups of an endpoint as a manifest has it."""
    return [msgspec.convert(one, FinderEntry) for one in look_ups_of(raw)]
