"""Finding the rows of a key in a package's index, and what is answered when there is none, several, or an old one.

Knows nothing of endpoints: lookups and predictions ask the same questions and are told the same.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from tulle.serving.index import (
    Column,
    Form,
    Index,
    key_of,
    needs_normalising,
    normal_key,
    open_index,
    rows_of,
    timed,
)
from tulle.serving.index_build import Wish
from tulle.serving.keyed_rows import (
    ALL,
    BUNDLED,
    CONNECTION,
    DEFAULT,
    ERROR,
    FORBIDDEN,
    IGNORE,
    KEEP,
    LATEST,
    Origin,
    Policy,
    Several,
    Store,
    TooOld,
)
from tulle.serving.request import RequestError, shown

# What an answer says of a key, and why one is ignored.
PRESENT, NOT_FOUND, OUTSIDE_MAX_AGE = "PRESENT", "NOT_FOUND", "OUTSIDE_MAX_AGE"
UNAVAILABLE = "UNAVAILABLE"
STATUSES = (PRESENT, NOT_FOUND, OUTSIDE_MAX_AGE, UNAVAILABLE)
UNANSWERED = b"?"  # what stands for the rows of a store that did not answer, where defaults are taken then
# What an index would hold for a key, None for nothing; or what is wrong with what lies there.
Stored = bytes | RequestError | None
NO_MATCH, NO_KEY, SEVERAL = "NO_LOOKUP_MATCH", "MISSING_LOOKUP_KEY", "MULTIPLE_LOOKUP_MATCHES"


class Ignored(Exception):
    """A policy says to answer without a result."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class FinderEntry:
    """What a package's manifest says of an index and of how it is asked; see `keyed_rows`."""

    index: str
    product: str
    data_set: str
    key: tuple[Column, ...]
    columns: tuple[Column, ...]
    rows: int = 0
    defaults: Mapping[str, Any] = field(default_factory=dict)
    missing_key: Policy = ERROR
    no_match: Policy = ERROR
    several: Several = FORBIDDEN
    timed: bool = False
    max_age_seconds: int = 0
    too_old: TooOld = KEEP
    source: Origin = BUNDLED
    version: str = ""  # of the product: what it is pinned to
    store: Store | None = None  # of the source `connection`
    wish: Wish | None = None  # what the index holds: it may be built again, and training reads the same rows

    @property
    def origin(self) -> str:
        """By what name its commit is told: the product, or the data set where that has a commit of its own."""
        if self.version:
            return f"{self.product}/{self.data_set}:{self.version}"
        has_own = self.source == LATEST or self.is_filled
        return f"{self.product}/{self.data_set}" if has_own else self.product

    @property
    def tells(self) -> bool:
        """Whether answers say how a row was found, since that may differ."""
        has_default = DEFAULT in {self.missing_key, self.no_match}
        return self.several != FORBIDDEN or self.timed or has_default or self.source == CONNECTION

    @property
    def is_filled(self) -> bool:
        """Whether it is asked for in a store that the lake fills."""
        return self.store is not None and bool(self.store.fill)


@dataclass(frozen=True, slots=True)
class Found:
    """The rows of a key, rendered; `number` is how many there are, `micros` since when the first of them holds."""

    status: str
    rows: Sequence[bytes]
    number: int = 1
    micros: int | None = None

    @property
    def event_time(self) -> str | None:
        """Since when the first row holds, as ISO 8601; None where nobody knows."""
        if self.micros is None:
            return None
        seconds, micros = divmod(self.micros, 1_000_000)
        at = datetime.fromtimestamp(seconds, UTC).replace(microsecond=micros)
        return at.isoformat().replace("+00:00", "Z")


class Held:
    """What a store answered to the keys of one request, as an index would; for the next step of the loop only."""

    def __init__(self, found: Mapping[bytes, Stored] | None = None) -> None:
        self._found = found

    def get(self, key: bytes) -> bytes | None:
        """What is stored for a key. RequestError where nobody asked for it, or where what lies there is faulty."""
        if self._found is None or key not in self._found:
            message = "this endpoint looks rows up in a database, which is not connected here"
            raise RequestError(503, "StoreUnavailable", message)
        found = self._found[key]
        if isinstance(found, RequestError):
            raise found
        return found


class Finder:
    """An opened index with its policies. For one thread."""

    def __init__(self, entry: FinderEntry, folder: Path, form: Form) -> None:
        self.entry = entry
        self.use(Held() if entry.source == CONNECTION else open_index(folder / entry.index))
        self._types = [column.type for column in entry.key]
        self._normalise = needs_normalising(self._types)
        self._default = _rendered(entry, form)
        wish = entry.wish  # None: of a package that stored no more rows than are answered
        self._most = None if wish is None else wish.most_rows if wish.several == ALL else 1
        # A row is stored as it is answered, so that it need not be looked at.
        self.is_plain = entry.several == FORBIDDEN and not entry.timed and entry.source != CONNECTION

    def use(self, index: Index | Held) -> None:
        """Find rows in another index from now on; the one before is closed when nobody has it any more."""
        self._index = index

    def get(self, key: Sequence[Any]) -> bytes | None:
        """What is stored for a key; the row itself where the finder is plain."""
        found: bytes | None = self._index.get(
            key_of(normal_key(key, self._types) if self._normalise else key)
        )
        return found

    def place(self, key: Sequence[Any]) -> bytes:
        """The bytes under which the rows of a key are."""
        return key_of(normal_key(key, self._types) if self._normalise else key)

    def find(self, key: Sequence[Any]) -> Found:
        """The rows of a key, as the policies have it. RequestError, or Ignored."""
        stored = self.get(key)
        if stored == UNANSWERED:
            return self.default(UNAVAILABLE)
        if stored is None:
            return self._without(self.entry.no_match, NOT_FOUND, NO_MATCH, key)
        number, rows = rows_of(stored)
        told: list[tuple[int | None, bytes]] = []
        if self.entry.timed:
            told = self._begun(rows)
            number -= len(rows) - len(told)
            if not told:
                return self._without(self.entry.no_match, NOT_FOUND, NO_MATCH, key)
        if number > 1 and self.entry.several in {ERROR, IGNORE, FORBIDDEN}:
            if self.entry.several == IGNORE:
                raise Ignored(SEVERAL)
            message = f"{number:,} rows of '{self.entry.data_set}' have {self.named(key)}"
            raise RequestError(422, "SeveralMatches", message, "Only one may")
        if self.entry.timed:
            return self._timed(told[: self._most], number, key)
        return Found(PRESENT, rows, number)

    def unsent(self, missing: Sequence[str]) -> Found:
        """What is answered where not all of a key was sent. RequestError, or Ignored."""
        if self.entry.missing_key == DEFAULT:
            return self.default()
        if self.entry.missing_key == IGNORE:
            raise Ignored(NO_KEY)
        example = ", ".join(f'"{column.name}": …' for column in self.entry.key)
        message = f"the key is missing: {', '.join(missing)}"
        raise RequestError(400, "MissingKey", message, f'Send {{"data": {{{example}}}}}')

    def default(self, status: str = NOT_FOUND) -> Found:
        """The row of defaults."""
        return Found(status, (self._default,), 0)

    def named(self, key: Sequence[Any]) -> str:
        """A key in words."""
        return ", ".join(
            f"{column.name} {shown(value)}" for column, value in zip(self.entry.key, key, strict=True)
        )

    def _begun(self, stored: Sequence[bytes]) -> list[tuple[int | None, bytes]]:
        """The rows that hold by now, with since when; others are found from their time on, as training finds them.

        All that are still to come are stored (`index.kept_of`), so what is left out here is known to be all of them.
        """
        at = time.time() * 1_000_000
        rows = [timed(row) for row in stored]
        return [one for one in rows if one[0] is None or one[0] <= at]

    def _timed(self, rows: Sequence[tuple[int | None, bytes]], number: int, key: Sequence[Any]) -> Found:
        most = self.entry.max_age_seconds
        if not most:
            return Found(PRESENT, [row for _, row in rows], number, rows[0][0])
        since = (time.time() - most) * 1_000_000
        if self.entry.too_old == KEEP:
            micros = rows[0][0]
            status = PRESENT if micros is not None and micros >= since else OUTSIDE_MAX_AGE
            return Found(status, [row for _, row in rows], number, micros)
        young = [(micros, row) for micros, row in rows if micros is not None and micros >= since]
        if not young:
            return self._without(self.entry.too_old, OUTSIDE_MAX_AGE, OUTSIDE_MAX_AGE, key)
        number = number - len(rows) + len(young) if self.entry.several == ALL else number
        return Found(PRESENT, [row for _, row in young], number, young[0][0])

    def _without(self, policy: str, status: str, reason: str, key: Sequence[Any]) -> Found:
        if policy == DEFAULT:
            return self.default(status)
        if policy == IGNORE:
            raise Ignored(reason)
        if status == NOT_FOUND:
            detail = f"There is no such row in '{self.entry.data_set}'"
            raise RequestError(404, "NoMatch", f"nothing is known of {self.named(key)}", detail)
        message = f"what is known of {self.named(key)} is too old"
        detail = f"A row of '{self.entry.data_set}' counts for {self.entry.max_age_seconds:,} seconds"
        raise RequestError(422, "TooOld", message, detail)


def _rendered(entry: FinderEntry, form: Form) -> bytes:
    values = {column.name: entry.defaults.get(column.name) for column in entry.columns}
    return msgspec.json.encode(values if form == "object" else list(values.values()))
