"""ListObjects, versions 1 and 2, over refs and what they hold.

A key is `ref/path`. A prefix without a slash runs over the names of branches (not hidden ones) and tags, one with
a slash over what one ref holds: any ref expression works there. With no delimiter, or one that is in no ref's
name, the refs are gone through one after another, as if each were a folder. What is at a ref that does not exist
is nothing, as S3 clients expect of a prefix.
"""

from __future__ import annotations

import base64
import binascii
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from tulle.errors import Invalid, NotFound
from tulle.lake.door import Outgoing
from tulle.lake.entry import Entry
from tulle.lake.repository import Repository
from tulle.lake.s3.attributes import storage_class
from tulle.lake.s3.call import Call, answer, url_encoded
from tulle.lake.s3.failure import S3Error
from tulle.lake.s3.xml import element, escaped

MOST = 1000


@dataclass(slots=True)
class Found:
    """A page: (key, entry) and prefixes, and the key or prefix that continues it where there is more."""

    entries: list[tuple[str, Entry]] = field(default_factory=list)
    prefixes: list[str] = field(default_factory=list)
    next: str | None = None

    @property
    def count(self) -> int:
        """How many keys and prefixes there are."""
        return len(self.entries) + len(self.prefixes)


def list_v1(call: Call) -> Outgoing:
    """GET /bucket."""
    asked = _Asked.of(call)
    marker = call.value("marker")
    found = _page(call, asked, marker)
    encode = asked.encode
    parts = [
        element("Name", call.bucket),
        f"<Prefix>{encode(asked.prefix)}</Prefix><Marker>{encode(marker)}</Marker>",
        element("MaxKeys", asked.limit),
    ]
    if asked.delimiter:
        parts.append(f"<Delimiter>{encode(asked.delimiter)}</Delimiter>")
    parts.append(asked.encoding_element)
    parts.append(element("IsTruncated", found.next is not None))
    if found.next is not None:
        parts.append(f"<NextMarker>{encode(found.next)}</NextMarker>")
    return answer("ListBucketResult", [*parts, *_contents(call, asked, found, owner=True)])


def list_v2(call: Call) -> Outgoing:
    """GET /bucket?list-type=2."""
    if call.value("list-type") != "2":
        raise S3Error("InvalidArgument", "list-type must be 2 where it is given")
    asked = _Asked.of(call)
    start, token = call.value("start-after"), call.values.get("continuation-token")
    found = _page(call, asked, start if token is None else _read_token(token))
    encode = asked.encode
    parts = [
        element("Name", call.bucket),
        f"<Prefix>{encode(asked.prefix)}</Prefix>",
        element("MaxKeys", asked.limit),
        element("KeyCount", found.count),
    ]
    if asked.delimiter:
        parts.append(f"<Delimiter>{encode(asked.delimiter)}</Delimiter>")
    parts.append(asked.encoding_element)
    if start:
        parts.append(f"<StartAfter>{encode(start)}</StartAfter>")
    if token is not None:
        parts.append(element("ContinuationToken", token))
    parts.append(element("IsTruncated", found.next is not None))
    if found.next is not None:
        parts.append(element("NextContinuationToken", _token(found.next)))
    owner = call.value("fetch-owner").lower() == "true"
    return answer("ListBucketResult", [*parts, *_contents(call, asked, found, owner=owner)])


def list_versions(call: Call) -> Outgoing:
    """GET /bucket?versions: what is there now, each in its only version; versions of the lake are commits."""
    asked = _Asked.of(call)
    marker = call.value("key-marker")
    found = _page(call, asked, marker)
    encode = asked.encode
    parts = [
        element("Name", call.bucket),
        f"<Prefix>{encode(asked.prefix)}</Prefix><KeyMarker>{encode(marker)}</KeyMarker><VersionIdMarker/>",
        element("MaxKeys", asked.limit),
    ]
    if asked.delimiter:
        parts.append(f"<Delimiter>{encode(asked.delimiter)}</Delimiter>")
    parts.append(asked.encoding_element)
    parts.append(element("IsTruncated", found.next is not None))
    if found.next is not None:
        parts.append(f"<NextKeyMarker>{encode(found.next)}</NextKeyMarker>")
        parts.append(element("NextVersionIdMarker", "null"))
    contents = _contents(
        call,
        asked,
        found,
        owner=True,
        tag="Version",
        extra="<VersionId>null</VersionId><IsLatest>true</IsLatest>",
    )
    return answer("ListVersionsResult", [*parts, *contents])


@dataclass(frozen=True, slots=True)
class _Asked:
    prefix: str
    delimiter: str
    limit: int
    url: bool

    @classmethod
    def of(cls, call: Call) -> _Asked:
        encoding = call.value("encoding-type")
        if encoding not in {"", "url"}:
            raise S3Error("InvalidArgument", "invalid encoding method specified in request; known: url")
        prefix, delimiter = call.value("prefix"), call.value("delimiter")
        return cls(prefix, delimiter, call.number("max-keys", MOST, 0, MOST), encoding == "url")

    def encode(self, text: str) -> str:
        return url_encoded(text) if self.url else escaped(text)

    @property
    def encoding_element(self) -> str:
        return "<EncodingType>url</EncodingType>" if self.url else ""


def _page(call: Call, asked: _Asked, after: str) -> Found:
    call.demand_bucket("fs:ListObjects")
    repository = call.repository()
    if not asked.limit:
        return Found()
    ref, slash, path = asked.prefix.partition("/")
    if slash:
        return _of_ref(repository, ref, path, asked, after)
    call.demand_bucket("fs:ListBranches")
    return _of_refs(repository, asked, after, with_tags=call.may_bucket("fs:ListTags"))


def _of_ref(repository: Repository, ref: str, path: str, asked: _Asked, after: str) -> Found:
    head = f"{ref}/"
    if after and not after.startswith(head):
        if after.encode() > head.encode():
            return Found()
        after = ""
    try:
        page = repository.list(
            ref, path, after.removeprefix(head) if after else "", asked.limit, asked.delimiter
        )
    except (NotFound, Invalid):
        return Found()
    return Found(
        [(head + entry.path, entry) for entry in page.entries],
        [head + prefix for prefix in page.prefixes],
        None if page.next is None else head + page.next,
    )


def _of_refs(repository: Repository, asked: _Asked, after: str, *, with_tags: bool) -> Found:
    found = Found()
    last = ""
    for name in _refs(repository, asked.prefix, with_tags=with_tags):
        head = f"{name}/"
        cut = head.find(asked.delimiter, len(asked.prefix)) if asked.delimiter else -1
        if cut >= 0:
            common = head[: cut + len(asked.delimiter)]
            if common == last or (after and common.encode() <= after.encode()):
                continue
            if found.count == asked.limit:
                found.next = last
                return found
            found.prefixes.append(common)
            last = common
            continue
        if after.encode() > head.encode() and not after.startswith(head):
            continue
        if found.count == asked.limit:
            found.next = last
            return found
        rest = _Asked(head, asked.delimiter, asked.limit - found.count, asked.url)
        part = _of_ref(repository, name, "", rest, after)
        found.entries.extend(part.entries)
        found.prefixes.extend(part.prefixes)
        if part.next is not None:
            found.next = part.next
            return found
        tail = [part.entries[-1][0]] if part.entries else []
        last = max([*tail, *part.prefixes[-1:]], key=str.encode, default=last)
    return found


def _refs(repository: Repository, prefix: str, *, with_tags: bool) -> Iterator[str]:
    names = {branch.name for branch in repository.branches(prefix, show_hidden=False)}
    if with_tags:
        names.update(tag.name for tag in repository.tags(prefix))
    # In the order of keys, where a slash follows the name: main-2/ comes before main/.
    yield from sorted(names, key=lambda name: f"{name}/".encode())


def _contents(
    call: Call, asked: _Asked, found: Found, *, owner: bool, tag: str = "Contents", extra: str = ""
) -> list[str]:
    encode = url_encoded if asked.url else escaped
    whose = f"<Owner>{element('ID', call.user)}{element('DisplayName', call.user)}</Owner>" if owner else ""
    dates: dict[int, str] = {}
    parts: list[str] = []
    for key, entry in found.entries:
        second = int(entry.modified)
        date = dates.get(second)
        if date is None:
            date = dates[second] = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        storage = storage_class(entry) if entry.metadata else "STANDARD"
        parts.append(
            f"<{tag}><Key>{encode(key)}</Key>{extra}"
            f"<LastModified>{date}.{int(entry.modified % 1 * 1000):03d}Z</LastModified>"
            f"<ETag>&quot;{escaped(entry.tag)}&quot;</ETag><Size>{entry.size}</Size>{whose}"
            f"<StorageClass>{storage}</StorageClass></{tag}>"
        )
    parts.extend(
        f"<CommonPrefixes><Prefix>{encode(prefix)}</Prefix></CommonPrefixes>" for prefix in found.prefixes
    )
    return parts


def _token(key: str) -> str:
    return base64.urlsafe_b64encode(key.encode()).decode()


def _read_token(token: str) -> str:
    try:
        key = base64.b64decode(token.encode(), altchars=b"-_", validate=True).decode()
    except (binascii.Error, UnicodeError, ValueError):
        raise S3Error("InvalidArgument", "the continuation token provided is incorrect") from None
    if not key:
        raise S3Error("InvalidArgument", "the continuation token provided is incorrect")
    return key
