"""Where a request points to: bucket and key from host and path, ref and path from a key."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence

from tulle.lake.s3.failure import S3Error

MAX_KEY_BYTES = 1024
_ASKED = re.compile(r"[A-Za-z0-9._-]{1,255}\Z")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,62}\Z")


def bucket_and_key(host: str, path: str, domains: Sequence[str]) -> tuple[str, str]:
    """The bucket and the key a request names, "" for what it does not.

    Virtual-host style when the host is `<bucket>.<one of the domains>` or `<bucket>.localhost`, else path
    style. The key is whatever bytes the client sent, `..` and double slashes included: it never becomes a
    file's name.
    """
    bucket = bucket_of_host(host, domains)
    rest = path.removeprefix("/")
    if bucket:
        return bucket, rest
    bucket, _, key = rest.partition("/")
    return bucket, key


def bucket_of_host(host: str, domains: Sequence[str]) -> str:
    """The bucket that stands before a domain of ours in the host's name, or ""."""
    name = host.rpartition(":")[0] if re.search(r":\d*\Z", host) else host
    name = name.lower().rstrip(".")
    for domain in (*domains, "localhost"):
        before = name.removesuffix("." + domain)
        if before != name and _BUCKET.match(before) and not _is_address(name):
            return before
    return ""


def checked_bucket(bucket: str) -> str:
    """The bucket, or the refusal of what cannot even be asked for."""
    if bucket and not _ASKED.match(bucket):
        raise S3Error("InvalidBucketName", "the specified bucket is not valid")
    return bucket


def checked_values(values: Iterable[str]) -> None:
    """InvalidArgument where a query has what no text in the lake can have."""
    text = "".join(values)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise S3Error("InvalidArgument", "the query is not valid UTF-8") from None
    if "\0" in text:
        raise S3Error("InvalidArgument", "the query holds a NUL character")


def checked_key(key: str) -> str:
    """The key, or the refusal of one that can never be stored."""
    try:
        size = len(key.encode())
    except UnicodeEncodeError:
        raise S3Error("InvalidURI", "the key is not valid UTF-8") from None
    ref, slash, path = key.partition("/")
    if size - len(ref.encode()) - len(slash) > MAX_KEY_BYTES:
        raise S3Error(
            "KeyTooLongError",
            "your key is too long",
            {"Size": str(len(path.encode())), "MaxSizeAllowed": str(MAX_KEY_BYTES)},
        )
    if "\0" in key:
        raise S3Error("InvalidArgument", "a key may not hold a NUL character")
    return key


def checked_version(version: str | None) -> None:
    """NoSuchVersion unless it is the one that every object has, or none is named."""
    if version not in {None, "null"}:
        raise S3Error("NoSuchVersion", "the specified version does not exist; commits are the versions here")


def ref_and_path(key: str) -> tuple[str, str]:
    """The ref and the path a key is made of; the first slash parts them."""
    ref, _, path = key.partition("/")
    return ref, path


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True
