"""Segments: the files in which a worker leaves its queries until they are collected into the lake.

A segment is a sequence of frames, each with its length and checksum, so that one that was cut short by a kill is
read up to its last whole frame. Who writes one holds a lock on it; one without a lock, or with its final name, is
complete. Knows nothing of what requests mean.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

LOG = logging.getLogger("tulle")
OPEN, CLOSED = ".open", ".segment"
HEADER: Final = 0
QUERIES: Final = 1
FEEDBACK: Final = 2
DROPPED: Final = 3
_FRAME = struct.Struct("<II")  # length, CRC-32
_LIST_OF_QUERIES = struct.Struct(">BBBI")  # MessagePack: a pair of the kind and a list of so many
_MOST_FRAME = 256 << 20


class SegmentHeader(msgspec.Struct, frozen=True):
    """Who wrote a segment; `routes` are what records refer to by number."""

    service: str
    version: str
    generation: str
    routes: list[SegmentRoute]


class SegmentRoute(msgspec.Struct, frozen=True, array_like=True):
    """One address of an endpoint; `features` names the values of a row after enrichment."""

    endpoint: str
    kind: str
    action: str
    features: list[str]


class Record(msgspec.Struct, frozen=True, array_like=True):
    """One request and its answer, as the worker had them."""

    route: int
    asked_ns: int  # since the epoch
    spent_ns: int
    request_id: str
    status: int
    caller: bytes | None
    host: bytes | None
    content: bytes | list[tuple[str, str]] | None  # the body, or a query string; None where it is not kept
    answer: bytes | None
    rows: Any  # features after enrichment: of one, or (places, rows) of many


class Told(msgspec.Struct, frozen=True, array_like=True):
    """What turned out to be true of an answer."""

    told_ns: int
    request_id: str
    item: int
    outcome: bytes  # JSON
    caller: bytes | None


class SegmentWriter:
    """One open segment."""

    def __init__(self, folder: Path, name: str, header: SegmentHeader) -> None:
        """Begin a file that others leave alone as long as it is open."""
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.path = folder / (name + OPEN)
        self._file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self.bytes = 0
        self.add(HEADER, header)

    def add(self, kind: int, what: Any) -> None:
        """Append one frame; with the system when this returns, so a kill of this process does not lose it."""
        self._append(msgspec.msgpack.encode((kind, what)))

    def add_queries(self, number: int, records: bytes | bytearray) -> None:
        """Append one frame of so many records, each encoded as MessagePack already; as `add`."""
        self._append(_LIST_OF_QUERIES.pack(0x92, QUERIES, 0xDD, number), records)

    def _append(self, first: bytes, rest: bytes | bytearray = b"") -> None:
        length = len(first) + len(rest)
        self._write(_FRAME.pack(length, zlib.crc32(rest, zlib.crc32(first))) + first)
        self._write(rest)
        self.bytes += _FRAME.size + length

    def _write(self, data: bytes | bytearray) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._file, view) :]

    def sync(self) -> None:
        """With the disk when this returns."""
        os.fsync(self._file)

    def close(self) -> Path:
        """Make it durable and give it its final name. OSError when that cannot be; it is closed all the same."""
        final = self.path.with_suffix(CLOSED)
        try:
            os.fsync(self._file)
            self.path.rename(final)
        finally:
            self.abandon()
        return final

    def abandon(self) -> None:
        """Leave it under the name it has; what is whole in it is read."""
        handle, self._file = self._file, -1
        if handle >= 0:
            os.close(handle)


def complete(folder: Path) -> list[Path]:
    """The segments nobody writes to any more, oldest first."""
    found = list(folder.glob(f"*{CLOSED}"))
    for path in folder.glob(f"*{OPEN}"):
        with contextlib.suppress(OSError):  # it got its final name just now
            handle = os.open(path, os.O_RDONLY)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            else:
                found.append(path)
            finally:
                os.close(handle)
    return sorted(found)


def frames(data: bytes) -> Iterator[tuple[int, msgspec.Raw]]:
    """Kind and content of every whole frame, up to the first that is not."""
    decode = msgspec.msgpack.Decoder(tuple[int, msgspec.Raw]).decode
    place = 0
    while place + _FRAME.size <= len(data):
        length, checksum = _FRAME.unpack_from(data, place)
        place += _FRAME.size
        payload = data[place : place + length]
        if length > _MOST_FRAME or len(payload) < length or zlib.crc32(payload) != checksum:
            return
        place += length
        yield decode(payload)


class Segment(msgspec.Struct, frozen=True):
    """What is in a segment."""

    header: SegmentHeader | None = None  # None: it was cut short before there was one
    records: Sequence[Record] = ()
    told: Sequence[Told] = ()
    dropped: int = 0


def read_segment(path: Path) -> Segment:
    """Everything in a segment that is whole."""
    header: SegmentHeader | None = None
    records: list[Record] = []
    told: list[Told] = []
    dropped = 0
    decoders: Mapping[int, Any] = _DECODERS
    for kind, raw in frames(path.read_bytes()):
        if kind not in decoders:
            continue
        try:
            value = decoders[kind](raw)
        except msgspec.MsgspecError as exc:  # another version of Tulle wrote it
            LOG.warning("a part of the segment %s is left out: %s", path.name, exc)
            continue
        if kind == HEADER:
            header = value
        elif kind == QUERIES:
            records += value
        elif kind == FEEDBACK:
            told += value
        else:
            dropped += value
    return Segment(header, records, told, dropped)


_DECODERS: Mapping[int, Any] = {
    HEADER: msgspec.msgpack.Decoder(SegmentHeader).decode,
    QUERIES: msgspec.msgpack.Decoder(list[Record]).decode,
    FEEDBACK: msgspec.msgpack.Decoder(list[Told]).decode,
    DROPPED: msgspec.msgpack.Decoder(int).decode,
}
