"""What lines of the gateway's access log say: the one place where they are understood.

`envoy_listener.access_log` says what Envoy writes; whoever reads the log knows the names that are here, and nothing of
how they are written. A gateway that was killed, or whose disk was full, leaves half a line, and the next one writes on
behind it: the whole one behind a half is found. Most lines differ in little but time, duration and size; what many have
in common is found here once for all readers, so that they look at it once for each name instead of each line. Knows no
file, and not what a request is counted for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Annotated, Any, Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.int64]
Amount = Annotated[int, msgspec.Meta(ge=-(1 << 53), le=1 << 53)]  # what can be added up
MOST_NAMES: Final = 20_000  # remembered; then all are forgotten
MOST_TRIED: Final = 100  # places of a damaged line at which a whole one may begin


class Line(msgspec.Struct, gc=False):
    """One request. Whatever nothing is known of is None.

    `time` is when it came, in UTC, as `2026-03-01T10:00:00.123Z`. `service`, `environment`, `version`, `access` and
    `reason` are what its route tells of itself.
    """

    time: str
    code: int | None = None
    method: str | None = None
    path: str | None = None
    access: str | None = None
    client: str | None = None
    client_of_external: str | None = None  # who is not told by whom it is called
    address: str | None = None
    service: str | None = None
    environment: str | None = None
    version: str | None = None
    generation: str | None = None
    duration_us: Amount | None = None
    duration_ms: Amount | None = None
    bytes_in: Amount | None = None
    bytes_out: Amount | None = None
    request_id: str | None = None
    details: str | None = None
    reason: str | None = None
    error: str | None = None


class Name(NamedTuple):
    """What many requests have in common; empty where nothing is known, `code` 0 of who had no answer.

    `client` is the id or name of who called, as far as the gateway knows, by the way `access`.
    """

    service: str
    environment: str
    version: str
    generation: str
    client: str
    access: str
    code: int
    details: str
    reason: str
    error: str


@dataclass(frozen=True, slots=True)
class Lines:
    """Some lines in their order, each with what is known of it in the same place, and how many were none.

    `which` is the number of its name in `names`, `begun` microseconds since the epoch, `took` microseconds from the
    first byte that came to the last that went. `names` grows while lines are read; where it is another list than
    before, so are the numbers.
    """

    lines: Sequence[Line]
    names: Sequence[Name]
    which: Numbers
    begun: Numbers
    took: Numbers
    unread: int = 0


_DECODER: Final = msgspec.json.Decoder(Line)
_BEGINS: Final = b'{"'
_COMMON: Final[Callable[[Line], tuple[Any, ...]]] = attrgetter(
    "service",
    "environment",
    "version",
    "generation",
    "client",
    "client_of_external",
    "access",
    "code",
    "details",
    "reason",
    "error",
)
_TIME: Final = len("2026-03-01T10:00:00.123Z")
_DIGITS: Final = tuple(n for n in range(_TIME - 1) if n not in {4, 7, 10, 13, 16, 19})
_SECOND: Final = 1_000_000


class LineReader:
    """Understands lines. Remembers names that it met; not for several threads at once."""

    def __init__(self) -> None:
        self._names: list[Name] = []
        self._known: dict[tuple[Any, ...], int] = {}

    def read(self, data: bytes) -> Lines:
        """What some lines say, each with its end or but for the last one's."""
        lines, unread = _decoded(data)
        begun, are_times = _moments([line.time for line in lines])
        if not are_times.all():
            lines = [line for line, is_time in zip(lines, are_times.tolist(), strict=True) if is_time]
            begun, unread = begun[are_times], unread + int((~are_times).sum())
        if len(self._names) > MOST_NAMES:
            self._names, self._known = [], {}
        common = [*map(_COMMON, lines)]
        numbers = [*map(self._known.get, common)]
        if None in numbers:
            numbers = [
                self._number(said) if number is None else number
                for number, said in zip(numbers, common, strict=True)
            ]
        return Lines(lines, self._names, np.array(numbers, np.int64), begun, _durations(lines), unread)

    def _number(self, said: tuple[Any, ...]) -> int:
        found = self._known.get(said)
        if found is None:
            found = self._known[said] = len(self._names)
            service, environment, version, generation, client, external, access, code, *rest = said
            who = client or external or ""
            place = (service or "", environment or "", version or "", generation or "")
            self._names.append(Name(*place, who, access or "", code or 0, *(one or "" for one in rest)))
        return found


def _decoded(data: bytes) -> tuple[list[Line], int]:
    try:
        return _DECODER.decode_lines(data), 0
    except ValueError:
        found, unread = [], 0
        for raw in data.splitlines():
            if (line := _line(raw)) is None:
                unread += 1
            else:
                found.append(line)
        return found, unread


def _line(raw: bytes) -> Line | None:
    """A line, or the whole one behind half of another. What is noted of a request is an object within its line, and a
    path may end as objects begin: so whatever looks like a beginning is tried, the longest first."""
    begin, rest = 0, memoryview(raw)
    for _ in range(MOST_TRIED):
        try:
            return _DECODER.decode(rest[begin:])
        except ValueError:
            begin = raw.find(_BEGINS, begin + 1)
            if begin < 0:
                return None
    return None


def _durations(lines: Sequence[Line]) -> Numbers:
    said = [line.duration_us for line in lines]
    if None in said:  # of a gateway of before, or of a request that did not end
        said = [
            (line.duration_ms or 0) * 1000 if us is None else us for us, line in zip(said, lines, strict=True)
        ]
    return np.maximum(np.array(said, np.int64), 0)


def _moments(times: list[str]) -> tuple[Numbers, NDArray[np.bool_]]:
    """Microseconds since the epoch of each time, and which of them are times."""
    text = "".join(times).encode()
    if len(text) != len(times) * _TIME or {*map(len, times)} != {_TIME}:
        text = "".join(one if len(one.encode()) == _TIME else "-" * _TIME for one in times).encode()
    figures = np.frombuffer(text, np.uint8).reshape(-1, _TIME).astype(np.int64) - ord("0")
    are_times = ((figures[:, _DIGITS] >= 0) & (figures[:, _DIGITS] <= 9)).all(axis=1)

    def number(begin: int, digits: int) -> Numbers:
        found = figures[:, begin]
        for place in range(begin + 1, begin + digits):
            found = found * 10 + figures[:, place]
        return found

    year, month, day = number(0, 4), number(5, 2), number(8, 2)
    hour, minute, second = number(11, 2), number(14, 2), number(17, 2)
    are_times &= (year >= 1970) & (month >= 1) & (month <= 12) & (day >= 1) & (day <= 31)
    are_times &= (hour < 24) & (minute < 60) & (second < 61)
    months = ((year - 1970) * 12 + month - 1).astype("M8[M]")
    days = months.astype("M8[D]").astype(np.int64) + day - 1
    seconds = days * 86_400 + hour * 3600 + minute * 60 + second
    return seconds * _SECOND + number(20, 3) * 1000, are_times
