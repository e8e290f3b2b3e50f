"""Answers that are an object's bytes: whole, in part, or not at all because the caller has them."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator
from email.utils import formatdate

from tulle.errors import NotFound
from tulle.lake.door import Incoming, Outgoing
from tulle.lake.rest.failure import Refusal, gone

SMALL = 4 * 1024 * 1024  # answered in one piece
_RANGE = re.compile(r"bytes=\s*(\d*)\s*-\s*(\d*)\s*\Z")

Read = Callable[[int, int], Iterator[bytes]]  # from a byte up to (without) another


def wanted_range(header: str, size: int) -> tuple[int, int] | None:
    """The bytes a Range header asks for as (start, end), end exclusive; None: all of them.

    Several ranges and other units are answered whole, as RFC 9110 allows; a refusal with 416 when the range lies
    outside.
    """
    match = _RANGE.match(header.strip()) if header else None
    if match is None or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    if not first:
        start, end = max(0, size - int(last[:20])), size
        wrong = int(last[:20]) == 0 or size == 0
    else:
        start, end = int(first[:20]), min(size, int(last[:20]) + 1) if last else size
        if last and int(last[:20]) < int(first[:20]):
            return None  # not a range at all, says RFC 9110
        wrong = start >= size
    if wrong:
        raise Refusal(
            416,
            f"the range '{header[:60]}' lies outside of {size} bytes",
            headers=[("content-range", f"bytes */{size}")],
        )
    return start, end


def matches(header: str, etag: str) -> bool:
    """Whether an If-None-Match or If-Match header names an etag."""
    names = (name.strip().removeprefix("W/").strip('"') for name in header.split(","))
    return header.strip() == "*" or etag in names


def data_answer(
    request: Incoming,
    read: Read,
    *,
    size: int,
    etag: str,
    modified: float,
    content_type: str,
    headers: tuple[tuple[str, str], ...] = (),
) -> Outgoing:
    """The answer to GET or HEAD of some bytes; `read` is called only for what is sent."""
    common = [
        ("etag", f'"{etag}"'),
        ("last-modified", formatdate(modified, usegmt=True)),
        ("accept-ranges", "bytes"),
        ("x-content-type-options", "nosniff"),  # what a user stored is never to run as a page of ours
        ("content-security-policy", "default-src 'none'; sandbox"),
        *headers,
    ]
    if (known := request.header("if-none-match")) and matches(known, etag):
        return Outgoing(304, b"", common)
    common.append(("content-type", content_type))
    part = wanted_range(request.header("range"), size)
    status, start, end = 200, 0, size
    if part is not None:
        status, (start, end) = 206, part
        common.append(("content-range", f"bytes {start}-{end - 1}/{size}"))
    if request.method == "HEAD":
        return Outgoing(status, b"", common, length=end - start)
    request.take_time(end - start)
    return Outgoing(status, _body(read, start, end), common, length=end - start)


def _body(read: Read, start: int, end: int) -> bytes | Iterator[bytes]:
    pieces = read(start, end) if end > start else iter(())
    try:
        if end - start <= SMALL:
            return b"".join(pieces)
        first = next(pieces)  # so that missing data is told by the status
    except NotFound as exc:
        raise gone(f"the data is no more: {exc.message}") from None
    return itertools.chain([first], pieces)
