"""What a line of the gateway's access log says: the one place where it is understood.

`envoy_listener.access_log` says what Envoy writes; whoever reads the log knows the names that are here, and nothing of
how they are written. A gateway that was killed, or whose disk was full, leaves half a line, and the next one writes on
behind it: the whole one behind a half is found. Knows no file, and not what a request is counted for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import msgspec


class Line(msgspec.Struct, gc=False):
    """One request. Whatever nothing is known of is None.

    `time` is when it came, in UTC, as `2026-03-01T10:00:00.123Z`; it was answered `microseconds` later. `service`,
    `environment`, `version`, `access` and `reason` are what its route tells of itself.
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
    duration_us: int | None = None
    duration_ms: int | None = None
    bytes_in: int | None = None
    bytes_out: int | None = None
    request_id: str | None = None
    details: str | None = None
    reason: str | None = None
    error: str | None = None

    @property
    def who(self) -> str | None:
        """The id or name of who called, as far as the gateway knows."""
        return self.client or self.client_of_external

    @property
    def microseconds(self) -> int:
        """How long it took, from the first byte that came to the last that went."""
        if self.duration_us is not None:
            return self.duration_us
        return (self.duration_ms or 0) * 1000  # of a gateway of before, or of a request that did not end


@dataclass(frozen=True, slots=True)
class Lines:
    """Some lines in their order, and how many there were that are none."""

    lines: list[Line]
    unread: int = 0


_DECODER: Final = msgspec.json.Decoder(Line)
_BEGINS: Final = b'{"'


def understood(data: bytes) -> Lines:
    """What some lines say, each with its end or but for the last one's."""
    found, unread = [], 0
    for raw in data.splitlines():
        if (line := line_of(raw)) is None:
            unread += 1
        else:
            found.append(line)
    return Lines(found, unread)


def line_of(raw: bytes) -> Line | None:
    """What one line says; None where it is none."""
    try:
        return _DECODER.decode(raw)
    except ValueError:
        begin = raw.rfind(_BEGINS, 1)
        try:
            return _DECODER.decode(raw[begin:]) if begin > 0 else None
        except ValueError:
            return None
