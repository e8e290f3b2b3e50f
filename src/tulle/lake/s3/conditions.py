"""Conditional requests and ranges, as RFC 9110 and S3 read them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import formatdate, parsedate_to_datetime

from tulle.lake.entry import Entry
from tulle.lake.s3.call import etag_of
from tulle.lake.s3.failure import S3Error, not_implemented

_RANGE = re.compile(r"bytes=(\d*)-(\d*)\Z", re.ASCII)
_ETAGS = re.compile(r'\s*(?:(\*)|(?:W/)?"([^"]*)"|([^",\s]+))\s*(?:,|\Z)')


def http_date(moment: float) -> str:
    """A time in seconds since the epoch as headers have it."""
    return formatdate(moment, usegmt=True)


def check_read(entry: Entry, headers: Mapping[str, str]) -> None:
    """PreconditionFailed or NotModified where the conditions of a GET or HEAD say so."""
    etag, modified = etag_of(entry), int(entry.modified)
    if_match = headers.get("if-match")
    if if_match is not None:
        if not _names(if_match, etag):
            raise _failed("If-Match")
    elif (since := _time(headers.get("if-unmodified-since"))) is not None and modified > since:
        raise _failed("If-Unmodified-Since")
    if_none = headers.get("if-none-match")
    if if_none is not None:
        if _names(if_none, etag):
            raise _not_modified(entry)
    elif (since := _time(headers.get("if-modified-since"))) is not None and modified <= since:
        raise _not_modified(entry)


def check_copy(entry: Entry, headers: Mapping[str, str]) -> None:
    """PreconditionFailed where the conditions of a copy on its source say so."""
    prefix = "x-amz-copy-source-"
    etag, modified = etag_of(entry), int(entry.modified)
    if_match = headers.get(prefix + "if-match")
    if if_match is not None:
        if not _names(if_match, etag):
            raise _failed(prefix + "If-Match")
    elif (since := _time(headers.get(prefix + "if-unmodified-since"))) is not None and modified > since:
        raise _failed(prefix + "If-Unmodified-Since")
    if_none = headers.get(prefix + "if-none-match")
    if if_none is not None:
        if _names(if_none, etag):
            raise _failed(prefix + "If-None-Match")
    elif (since := _time(headers.get(prefix + "if-modified-since"))) is not None and modified <= since:
        raise _failed(prefix + "If-Modified-Since")


def of_write(headers: Mapping[str, str]) -> tuple[bool, str | None]:
    """What a write states: whether nothing may be there, and the etag of what must be there."""
    if_none, if_match = headers.get("if-none-match"), headers.get("if-match")
    if if_none is not None and if_none.strip() != "*":
        raise not_implemented("If-None-Match with anything but * on a write")
    if if_match is None:
        return if_none is not None, None
    text = if_match.strip()
    if text == "*" or "," in text:
        raise not_implemented("If-Match with anything but one ETag on a write")
    return if_none is not None, text.removeprefix("W/").strip('"')


@dataclass(frozen=True, slots=True)
class Expected:
    """What a deletion states of what it deletes, as it came: nothing where all are None."""

    etag: str | None = None
    size: str | None = None
    modified: str | None = None

    def __bool__(self) -> bool:
        return (self.etag, self.size, self.modified) != (None, None, None)

    def check(self, found: Entry | None) -> None:
        """PreconditionFailed where something is stated that does not hold. InvalidArgument."""
        if not self:
            return
        if found is None or (self.etag is not None and not _names(self.etag, etag_of(found))):
            raise _failed("If-Match")
        if self.size is not None and self.size.strip() != str(found.size):
            raise _failed("x-amz-if-match-size")
        if self.modified is not None:
            stated = _time(self.modified)
            if stated is None:  # to pass over it would delete what is not meant
                raise S3Error("InvalidArgument", f"'{self.modified[:60]}' is no date as HTTP has it")
            if int(stated) != int(found.modified):
                raise _failed("x-amz-if-match-last-modified-time")


def bytes_asked_for(header: str, size: int) -> tuple[int, int] | None:
    """Start and end (not included) of what a Range header asks for; None for the whole.

    InvalidRange where nothing of the object is in it. Several ranges, other units and what cannot be read are
    answered with the whole, as S3 does.
    """
    match = _RANGE.match(header.strip().replace(" ", ""))
    if match is None or not (match[1] or match[2]) or max(len(match[1]), len(match[2])) > 18:
        return None
    if not match[1]:
        length = int(match[2])
        if not length or not size:
            raise _no_range(header, size)
        return max(0, size - length), size
    start = int(match[1])
    end = int(match[2]) + 1 if match[2] else size
    if end <= start and match[2]:
        return None
    if start >= size:
        raise _no_range(header, size)
    return start, min(end, size)


def range_of_copy(header: str, size: int) -> tuple[int, int]:
    """Start and end of `x-amz-copy-source-range`, which must lie in the source. InvalidArgument."""
    match = _RANGE.match(header.strip())
    if match is None or not match[1] or not match[2] or max(len(match[1]), len(match[2])) > 18:
        raise S3Error(
            "InvalidArgument", f"x-amz-copy-source-range is '{header[:60]}', expected bytes=first-last"
        )
    start, end = int(match[1]), int(match[2]) + 1
    if not start < end <= size:
        raise S3Error("InvalidArgument", f"range specified is not valid for source object of size: {size}")
    return start, end


def _names(header: str, etag: str) -> bool:
    bare = etag.strip('"')
    return any(match[1] or bare in {match[2], match[3]} for match in _ETAGS.finditer(header))


def _time(header: str | None) -> float | None:
    if header is None:
        return None
    try:
        return parsedate_to_datetime(header).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError, OSError):
        return None  # a date that cannot be read states nothing


def _failed(condition: str) -> S3Error:
    return S3Error(
        "PreconditionFailed",
        "at least one of the pre-conditions you specified did not hold",
        {"Condition": condition},
    )


def _not_modified(entry: Entry) -> S3Error:
    headers = {"etag": etag_of(entry), "last-modified": http_date(entry.modified)}
    return S3Error("NotModified", "not modified", headers=headers)


def _no_range(header: str, size: int) -> S3Error:
    return S3Error(
        "InvalidRange",
        "the requested range is not satisfiable",
        {"RangeRequested": header[:100], "ActualObjectSize": str(size)},
        {"content-range": f"bytes */{size}"},
    )
