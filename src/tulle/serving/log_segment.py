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
import time
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
INFER: Final = "infer"  # the action of the Open Inference Protocol
_FRAME = struct.Struct("<II")  # length, CRC-32
_LIST_OF_QUERIES = struct.Struct(">BBBI")  # MessagePack: a pair of the kind and a list of so many
MOST_FRAME: Final = 256 << 20  # bytes
BEGUN_SECONDS = 60.0  # an empty segment is as old when whoever began it was killed


class SegmentHeader(msgspec.Struct, frozen=True):
    """Who wrote a segment; `routes` are what records refer to by number."""

    service: str
    version: str
    generation: str
    routes: list[SegmentRoute]


class SegmentRoute(msgspec.Struct, frozen=True, array_like=True):
    """One address of an endpoint; `features` names the values of a row after enrichment, `classes` the model's."""

    endpoint: str
    kind: str
    action: str
    features: list[str]
    classes: list[str] = []  # a struct of msgspec gives each its own; older segments have none


class Record(msgspec.Struct, frozen=True, array_like=True, gc=False):
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
    way: bytes | None = None  # by which the caller came in; older segments have none


class Told(msgspec.Struct, frozen=True, array_like=True):
    """What turned out to be true of an answer."""

    told_ns: int
    request_id: str
    item: int
    outcome: bytes  # JSON
    caller: bytes | None
    way: bytes | None = None  # as of a record


class SegmentWriter:
    """One open segment."""

    def __init__(self, folder: Path, name: str, header: SegmentHeader) -> None:
        """Begin a file that others leave alone as long as it is open; nothing is left of one that cannot be begun."""
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.path = folder / (name + OPEN)
        self._file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        self._is_named = False  # whether its name is with the disk, too
        self.bytes = 0
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX)  # who looks whether it is complete holds it for a moment
            self.add(HEADER, header)
        except BaseException:
            self.abandon()
            self.path.unlink(missing_ok=True)
            raise
        self._begun = self.bytes

    @property
    def is_empty(self) -> bool:
        """Whether nothing was added to it yet."""
        return self.bytes == self._begun

    def add(self, kind: int, what: Any) -> None:
        """Append one frame; with the system when this returns, so a kill of this process does not lose it.

        ValueError, and nothing is written, where it is larger than who reads it takes.
        """
        self._append(msgspec.msgpack.encode((kind, what)))

    def add_queries(self, number: int, records: bytes | bytearray) -> None:
        """Append one frame of so many records, each encoded as MessagePack already; as `add`."""
        self._append(_LIST_OF_QUERIES.pack(0x92, QUERIES, 0xDD, number), records)

    def _append(self, first: bytes, rest: bytes | bytearray = b"") -> None:
        length = len(first) + len(rest)
        if length > MOST_FRAME:
            raise ValueError(f"a part of {length:,} bytes is too large for a segment")
        self._write(_FRAME.pack(length, zlib.crc32(rest, zlib.crc32(first))) + first)
        self._write(rest)
        self.bytes += _FRAME.size + length

    def _write(self, data: bytes | bytearray) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._file, view) :]

    def sync(self) -> None:
        """With the disk when this returns, its name too."""
        os.fsync(self._file)
        if not self._is_named:
            folder = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
            self._is_named = True

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
                there = path.stat()  # FileNotFoundError: it got its final name while it was opened here
                # Nothing is in it before it is locked: one that is empty may be about to be.
                if there.st_size or time.time() - there.st_mtime > BEGUN_SECONDS:
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
        # A machine that fails may leave zeros at the end, and the checksum of nothing is zero.
        if not 0 < length <= MOST_FRAME or len(payload) < length or zlib.crc32(payload) != checksum:
            return
        place += length
        try:
            yield decode(payload)
        except msgspec.MsgspecError:  # another version of Tulle wrote it
            return


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
