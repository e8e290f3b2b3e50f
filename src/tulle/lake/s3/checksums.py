"""The digests S3 clients send along with data: Content-MD5 and the x-amz-checksum family."""

from __future__ import annotations

import base64
import binascii
import hashlib
import zlib
from collections.abc import Callable, Mapping
from typing import Protocol

from anycrc import Model

from tulle.lake.s3.failure import S3Error

PREFIX = "x-amz-checksum-"


class Digest(Protocol):
    """Something that is fed bytes and tells a digest of them."""

    def update(self, data: bytes, /) -> None:
        """Take more bytes in."""
        ...

    def digest(self) -> bytes:
        """The digest of what was taken in."""
        ...


class _Crc32:
    def __init__(self) -> None:
        self._value = 0

    def update(self, data: bytes, /) -> None:
        self._value = zlib.crc32(data, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(4, "big")


class _Crc:
    def __init__(self, model: Model, size: int) -> None:
        self._model = model
        self._size = size
        self._value: int = model.calc(b"")

    def update(self, data: bytes, /) -> None:
        self._value = self._model.calc(data, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(self._size, "big")


_CRC32C = Model("CRC32-ISCSI")
_CRC64NVME = Model("CRC64-NVME")
_MAKERS: Mapping[str, Callable[[], Digest]] = {
    "crc32": _Crc32,
    "crc32c": lambda: _Crc(_CRC32C, 4),
    "crc64nvme": lambda: _Crc(_CRC64NVME, 8),
    "sha1": lambda: hashlib.sha1(usedforsecurity=False),
    "sha256": hashlib.sha256,
}
SIZES: Mapping[str, int] = {"crc32": 4, "crc32c": 4, "crc64nvme": 8, "sha1": 20, "sha256": 32}
# Others than these in the family's namespace say something about the checksum instead of being one.
_NOT_CHECKSUMS = frozenset({"algorithm", "type", "mode"})


def new(algorithm: str) -> Digest:
    """A digest of one of the five algorithms of S3."""
    return _MAKERS[algorithm]()


def algorithm_of(header: str) -> str | None:
    """The algorithm a header `x-amz-checksum-…` has the checksum of; None for other headers.

    InvalidRequest for one that is unknown: a digest nobody checks must not look like one that was checked.
    """
    if not header.startswith(PREFIX):
        return None
    name = header.removeprefix(PREFIX)
    if name in _NOT_CHECKSUMS:
        return None
    if name not in _MAKERS:
        raise S3Error("InvalidRequest", f"'{name}' is no checksum known here: {', '.join(_MAKERS)}")
    return name


def declared(headers: Mapping[str, str]) -> dict[str, bytes]:
    """The checksums that headers state, by algorithm. InvalidRequest when one cannot be read."""
    found: dict[str, bytes] = {}
    for name, value in headers.items():
        if name.startswith(PREFIX) and (algorithm := algorithm_of(name)) is not None:
            found[algorithm] = decoded(algorithm, value)
    if len(found) > 1:
        raise S3Error("InvalidRequest", "expected one x-amz-checksum- header; found several")
    return found


def decoded(algorithm: str, value: str) -> bytes:
    """The bytes of a checksum in Base64. InvalidRequest when it is none of its algorithm."""
    try:
        digest = base64.b64decode(value.strip(), validate=True)
    except (binascii.Error, ValueError):
        digest = b""
    if len(digest) != SIZES[algorithm]:
        raise S3Error("InvalidRequest", f"value for {PREFIX}{algorithm} header is invalid: '{value[:80]}'")
    return digest


def content_md5(headers: Mapping[str, str]) -> bytes | None:
    """What Content-MD5 states, if anything. InvalidDigest when it cannot be read."""
    value = headers.get("content-md5")
    if value is None:
        return None
    try:
        digest = base64.b64decode(value.strip(), validate=True)
    except (binascii.Error, ValueError):
        digest = b""
    if len(digest) != 16:
        raise S3Error("InvalidDigest", f"the Content-MD5 you specified is not valid: '{value[:80]}'")
    return digest


def text(digest: bytes) -> str:
    """A digest the way headers have it."""
    return base64.b64encode(digest).decode()
