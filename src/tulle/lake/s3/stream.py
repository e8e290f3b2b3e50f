"""Reading a request's body: chunks that are signed one by one, digests that were stated, lengths.

A body that is not what was stated is refused while it is being read, before whoever takes it has seen its end:
so nothing of it is ever kept. Memory is bounded. Knows neither buckets nor users.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from tulle.lake.door import Disconnected, Incoming
from tulle.lake.s3 import checksums
from tulle.lake.s3.checksums import Digest
from tulle.lake.s3.failure import S3Error
from tulle.lake.s3.sign import STREAMING_TRAILER, STREAMING_UNSIGNED_TRAILER, Payload
from tulle.lake.writing import Mismatch

MAX_LINE = 8 * 1024  # of a chunk's head or a trailer
MAX_TRAILERS = 16
MAX_CHUNK = 16 * 1024 * 1024  # a signed chunk is checked before it is handed on, so it lies in memory
PIECE = 1024 * 1024  # small pieces are joined up to here
EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()

_SIZE = re.compile(rb"([0-9a-fA-F]{1,10})(?:;chunk-signature=([0-9a-f]{64}))?\s*\Z")


@dataclass(frozen=True, slots=True)
class Stated:
    """Digests of a whole body in hex, None where they were not stated."""

    sha256: str | None
    md5: str | None


class Body:
    """The bytes a client means to send, once, in pieces; `length` is how many it stated, None for unknown.

    While they are read they are held against everything that was stated about them. Where they are `needed`, a
    request that does not say how many it has is refused: what got lost on the way is no empty object. `digests`
    has, after the end, the checksums that were verified, by algorithm.
    """

    def __init__(
        self, request: Incoming, payload: Payload, *, checksummed: bool = True, needed: bool = False
    ) -> None:
        self._request = request
        self._payload = payload
        self._chunked = bool(payload.streaming)
        self._wire = _number(request, "content-length")
        self.length = _number(request, "x-amz-decoded-content-length") if self._chunked else self._wire
        if self._chunked and self.length is None:
            raise S3Error("MissingContentLength", "you must provide the x-amz-decoded-content-length header")
        if needed and self.length is None and "transfer-encoding" not in request.headers:
            raise S3Error("MissingContentLength", "you must provide the Content-Length HTTP header")
        self.digests: dict[str, bytes] = {}
        self._md5 = checksums.content_md5(request.headers)
        self._stated = checksums.declared(request.headers) if checksummed else {}
        self._announced = _announced(request) if self._chunked else ()
        self._is_stored = False
        self.refused: S3Error | None = None  # why, even where a store tells it in other words

    def left_to_the_store(self) -> Stated:
        """What was stated of all the bytes, as a store takes it that hashes them anyway: they are hashed once.

        From now on it is not checked here; `mismatch` tells what the store found.
        """
        self._is_stored = True
        return Stated(self._payload.sha256 or None, None if self._md5 is None else self._md5.hex())

    def mismatch(self, found: Mismatch) -> S3Error:
        """The refusal of bytes that a store found to be others than was stated."""
        return _wrong_md5() if found.algorithm == "MD5" else self._wrong_sha256(found.found)

    def __iter__(self) -> Iterator[bytes]:
        """The pieces. S3Error, before their end is told, when they are not what was stated."""
        try:
            yield from self._checked()
        except S3Error as exc:
            self.refused = exc
            raise

    def _checked(self) -> Iterator[bytes]:
        is_checked = not self._is_stored
        sha256 = hashlib.sha256() if self._payload.sha256 and is_checked else None
        md5 = hashlib.md5(usedforsecurity=False) if self._md5 is not None and is_checked else None
        names = {*self._stated, *self._announced}
        sums: dict[str, Digest] = {name: checksums.new(name) for name in names}
        feeds = [digest.update for digest in (sha256, md5, *sums.values()) if digest is not None]
        trailers: dict[str, str] = {}
        size = 0
        for piece in _joined(self._decoded(trailers)):
            size += len(piece)
            if self.length is not None and size > self.length:
                raise self._incomplete(size)
            for feed in feeds:
                feed(piece)
            yield piece
        if self.length is not None and size != self.length:
            raise self._incomplete(size)
        if sha256 is not None and sha256.hexdigest() != self._payload.sha256:
            raise self._wrong_sha256(sha256.hexdigest())
        if md5 is not None and md5.digest() != self._md5:
            raise _wrong_md5()
        self._compare(sums, trailers)

    def whole(self, limit: int) -> bytes:
        """All of it at once. EntityTooLarge beyond `limit` bytes."""
        parts, size = [], 0
        for piece in self:
            size += len(piece)
            if size > limit:
                raise S3Error("EntityTooLarge", f"the body has more than {limit} bytes")
            parts.append(piece)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def data(self, small: int = PIECE) -> bytes | Iterator[bytes]:
        """All of it at once where it is small, which the store is quicker with; else in pieces."""
        if self.length is not None and self.length <= small:
            return self.whole(small)
        return iter(self)

    def _decoded(self, trailers: dict[str, str]) -> Iterator[bytes]:
        source = self._received()
        return _Chunks(source, self._payload, trailers).data() if self._chunked else source

    def _received(self) -> Iterator[bytes]:
        size = 0
        try:
            for chunk in self._request.chunks:
                size += len(chunk)
                yield chunk
        except Disconnected:
            raise S3Error("IncompleteBody", f"the connection ended after {size} bytes of the body") from None
        if self._wire is not None and size != self._wire:
            raise self._incomplete(size)

    def _wrong_sha256(self, found: str) -> S3Error:
        return S3Error(
            "XAmzContentSHA256Mismatch",
            "the provided 'x-amz-content-sha256' header does not match what was computed",
            {"ClientComputedContentSHA256": self._payload.sha256, "S3ComputedContentSHA256": found},
        )

    def _incomplete(self, size: int) -> S3Error:
        return S3Error(
            "IncompleteBody",
            "you did not provide the number of bytes specified by the Content-Length HTTP header",
            {"NumberBytesExpected": str(self.length), "NumberBytesProvided": str(size)},
        )

    def _compare(self, sums: Mapping[str, Digest], trailers: Mapping[str, str]) -> None:
        stated = dict(self._stated)
        for name, value in trailers.items():
            algorithm = checksums.algorithm_of(name)
            if algorithm is None:
                continue
            if algorithm not in self._announced:
                raise S3Error(
                    "MalformedTrailerError", f"the trailer '{name}' was not announced in x-amz-trailer"
                )
            stated[algorithm] = checksums.decoded(algorithm, value)
        for name in self._announced:
            if checksums.PREFIX + name not in trailers:
                raise S3Error("MalformedTrailerError", f"the trailer '{checksums.PREFIX}{name}' did not come")
        for algorithm, expected in stated.items():
            found = sums[algorithm].digest()
            if not hmac.compare_digest(found, expected):
                raise S3Error(
                    "BadDigest", f"the {algorithm.upper()} you specified did not match what we received"
                )
            self.digests[algorithm] = found


class _Chunks:
    """Decodes aws-chunked bodies: size and maybe signature, a line end, the bytes, a line end; then trailers."""

    def __init__(self, source: Iterator[bytes], payload: Payload, trailers: dict[str, str]) -> None:
        self._source = source
        self._payload = payload
        self._trailers = trailers
        self._buffer = bytearray()
        self._signed = payload.streaming != STREAMING_UNSIGNED_TRAILER
        self._last = payload.seed

    def data(self) -> Iterator[bytes]:
        """The decoded bytes."""
        while True:
            head = _SIZE.match(self._line())
            if head is None or (self._signed and head[2] is None):
                raise _malformed(
                    "a chunk begins with its size in hex and, where chunks are signed, its signature"
                )
            size = int(head[1], 16)
            if self._signed:
                if size > MAX_CHUNK:
                    raise S3Error("EntityTooLarge", f"a signed chunk may have at most {MAX_CHUNK} bytes")
                chunk = self._take(size)
                self._verify(hashlib.sha256(chunk).hexdigest(), head[2].decode())
                if chunk:
                    yield chunk
            else:
                yield from self._pass(size)
            if not size:
                break
            if self._take(2) != b"\r\n":
                raise _malformed("a chunk ends with a line end")
        self._end()

    def _end(self) -> None:
        lines: list[bytes] = []
        signature = ""
        while (line := self._line(at_end=True)) != b"":
            name, colon, value = line.partition(b":")
            if not colon or len(lines) >= MAX_TRAILERS:
                raise S3Error("MalformedTrailerError", "the trailers cannot be read")
            key = name.strip().lower()
            if key == b"x-amz-trailer-signature":
                signature = value.strip().decode("latin-1")
                continue
            lines.append(key + b":" + value.strip() + b"\n")
            self._trailers[key.decode("latin-1")] = value.strip().decode("latin-1")
        if self._payload.streaming == STREAMING_TRAILER:
            self._verify_trailers(b"".join(lines), signature)
        elif self._trailers and self._signed:
            raise S3Error("MalformedTrailerError", "this kind of body has no trailers")
        if bytes(self._buffer).strip(b"\r\n") or any(piece.strip(b"\r\n") for piece in self._source):
            raise _malformed("there are bytes after the last chunk")

    def _verify(self, digest: str, stated: str) -> None:
        payload = self._payload
        text = f"AWS4-HMAC-SHA256-PAYLOAD\n{payload.time}\n{payload.scope}\n{self._last}\n{EMPTY_SHA256}\n{digest}"
        self._check(text, stated)

    def _verify_trailers(self, lines: bytes, stated: str) -> None:
        payload = self._payload
        digest = hashlib.sha256(lines).hexdigest()
        self._check(
            f"AWS4-HMAC-SHA256-TRAILER\n{payload.time}\n{payload.scope}\n{self._last}\n{digest}", stated
        )

    def _check(self, text: str, stated: str) -> None:
        found = hmac.digest(self._payload.signing_key, text.encode(), "sha256").hex()
        if not hmac.compare_digest(found.encode(), stated.encode("latin-1", "replace")):
            raise S3Error("SignatureDoesNotMatch", "the signature of a chunk of the body does not match")
        self._last = found

    def _line(self, *, at_end: bool = False) -> bytes:
        while (end := self._buffer.find(b"\n")) < 0:
            if len(self._buffer) > MAX_LINE:
                raise _malformed("a line of the chunked body is too long")
            if not self._more():
                if at_end and not self._buffer:
                    return b""
                raise S3Error("IncompleteBody", "the chunked body ends too soon")
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        if len(line) > MAX_LINE:
            raise _malformed("a line of the chunked body is too long")
        return line.removesuffix(b"\r")

    def _take(self, size: int) -> bytes:
        while len(self._buffer) < size:
            if not self._more():
                raise S3Error("IncompleteBody", "the chunked body ends too soon")
        taken = bytes(memoryview(self._buffer)[:size])
        del self._buffer[:size]
        return taken

    def _pass(self, size: int) -> Iterator[bytes]:
        while size:
            if not self._buffer and not self._more():
                raise S3Error("IncompleteBody", "the chunked body ends too soon")
            taken = self._take(min(size, len(self._buffer)))
            size -= len(taken)
            yield taken

    def _more(self) -> bool:
        piece = next(self._source, None)
        if piece is None:
            return False
        self._buffer += piece
        return True


def _wrong_md5() -> S3Error:
    return S3Error("BadDigest", "the Content-MD5 you specified did not match what we received")


def _joined(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Small pieces as larger ones: each costs whoever takes it a little."""
    held: list[bytes] = []
    size = 0
    for piece in pieces:
        held.append(piece)
        size += len(piece)
        if size >= PIECE:
            yield held[0] if len(held) == 1 else b"".join(held)
            held, size = [], 0
    if held:
        yield held[0] if len(held) == 1 else b"".join(held)


def _announced(request: Incoming) -> tuple[str, ...]:
    names = [name.strip().lower() for name in request.header("x-amz-trailer").split(",") if name.strip()]
    found = [checksums.algorithm_of(name) for name in names]
    if None in found or len(found) > 1:
        raise S3Error("InvalidRequest", "the value specified in the x-amz-trailer header is not supported")
    return tuple(name for name in found if name is not None)


def _number(request: Incoming, header: str) -> int | None:
    text = request.headers.get(header)
    if text is None:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 15:
        raise S3Error("InvalidArgument", f"'{text[:40]}' is no length ({header})")
    return int(text)


def _malformed(message: str) -> S3Error:
    return S3Error("InvalidRequest", f"the chunked body is malformed: {message}")
