"""What an object says of itself in headers, and how the lake keeps it.

User metadata (x-amz-meta-name) is the entry's metadata under the bare name, as the REST door has it. The few
standard headers an object brings back are kept there too, under their name after a colon, which no name of a
header can begin with.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from email.errors import HeaderParseError
from email.header import decode_header

from tulle.lake.entry import Entry
from tulle.lake.s3.call import etag_of
from tulle.lake.s3.conditions import http_date
from tulle.lake.s3.failure import S3Error

META = "x-amz-meta-"
MAX_METADATA_BYTES = 2048
MAX_HEADER_BYTES = 8192  # of content-type, cache-control and the like
DEFAULT_TYPE = "binary/octet-stream"
STORAGE_CLASSES = frozenset(
    {
        "STANDARD",
        "REDUCED_REDUNDANCY",
        "STANDARD_IA",
        "ONEZONE_IA",
        "INTELLIGENT_TIERING",
        "GLACIER",
        "DEEP_ARCHIVE",
        "GLACIER_IR",
        "EXPRESS_ONEZONE",
        "OUTPOSTS",
        "SNOW",
    }
)
STORAGE_CLASS = ":storage-class"
_KEPT = ("cache-control", "content-disposition", "content-encoding", "content-language", "expires")
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9a-z-]+\Z")
_PLAIN = re.compile(r"[\x20-\x7e]*\Z")
_RESPONSE = {
    "response-content-type": "content-type",
    "response-content-language": "content-language",
    "response-expires": "expires",
    "response-cache-control": "cache-control",
    "response-content-disposition": "content-disposition",
    "response-content-encoding": "content-encoding",
}


def from_headers(headers: Mapping[str, str]) -> tuple[str, dict[str, str]]:
    """The content type and the metadata to keep. MetadataTooLarge, InvalidStorageClass."""
    kept: dict[str, str] = {}
    size = 0
    for name, value in headers.items():
        if name.startswith(META):
            text = _read(value)
            size += len(name) - len(META) + len(text.encode("utf-8", "surrogatepass"))
            kept[name.removeprefix(META)] = text
    if size > MAX_METADATA_BYTES:
        raise S3Error(
            "MetadataTooLarge",
            "your metadata headers exceed the maximum allowed metadata size",
            {"Size": str(size), "MaxSizeAllowed": str(MAX_METADATA_BYTES)},
        )
    if sum(len(headers.get(name, "")) for name in ("content-type", *_KEPT)) > MAX_HEADER_BYTES:
        raise S3Error(
            "MetadataTooLarge",
            "the headers that say what your object is exceed the maximum allowed size",
            {"MaxSizeAllowed": str(MAX_HEADER_BYTES)},
        )
    for name in _KEPT:
        value = headers.get(name, "")
        if name == "content-encoding":  # the transport's own coding is no property of the object
            codings = [part.strip() for part in value.split(",")]
            value = ",".join(part for part in codings if part and part.lower() != "aws-chunked")
        if value:
            kept[f":{name}"] = _text(value)
    storage = headers.get("x-amz-storage-class", "STANDARD")
    if storage not in STORAGE_CLASSES:
        raise S3Error("InvalidStorageClass", "the storage class you specified is not valid")
    if storage != "STANDARD":
        kept[STORAGE_CLASS] = storage
    return _text(headers.get("content-type", "")), kept


def to_headers(entry: Entry, overrides: Mapping[str, str]) -> list[tuple[str, str]]:
    """The headers that tell of an entry; `overrides` are the response-… values of a query."""
    headers = {
        "etag": etag_of(entry),
        "last-modified": http_date(entry.modified),
        "accept-ranges": "bytes",
        "content-type": entry.content_type or DEFAULT_TYPE,
    }
    missing = 0
    for name, value in entry.metadata.items():
        if name.startswith(":"):
            if name[1:] in _KEPT:
                headers[name[1:]] = value
            elif name == STORAGE_CLASS:
                headers["x-amz-storage-class"] = value
        elif _NAME.match(name.lower()):
            headers[META + name.lower()] = _written(value)
        else:
            missing += 1
    if missing:
        headers["x-amz-missing-meta"] = str(missing)
    for name, header in _RESPONSE.items():
        if name in overrides:
            headers[header] = overrides[name]
    return list(headers.items())


def storage_class(entry: Entry) -> str:
    """The storage class an entry was given; nothing here depends on it."""
    return entry.metadata.get(STORAGE_CLASS, "STANDARD")


def _text(value: str) -> str:
    # Headers come as Latin-1; clients mean UTF-8.
    try:
        return value.encode("latin-1").decode()
    except UnicodeError:
        return value


def _read(value: str) -> str:
    text = _text(value)
    if "=?" not in text:
        return text
    try:
        parts = decode_header(text)
        return "".join(
            part if isinstance(part, str) else part.decode(charset or "ascii") for part, charset in parts
        )
    except (HeaderParseError, LookupError, ValueError):
        return text  # it only looked encoded


def _written(value: str) -> str:
    if _PLAIN.match(value):
        return value
    return f"=?UTF-8?B?{base64.b64encode(value.encode('utf-8', 'surrogatepass')).decode()}?="
