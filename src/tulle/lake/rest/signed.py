"""Addresses that work without credentials for a while: the store's own where it signs, else ours.

Ours name everything they are good for in the path, which is what is signed. Knows no lakeFS form.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import itertools
import time
from collections.abc import Iterable, Iterator
from typing import Literal

import msgspec

from tulle.errors import Invalid, NotFound
from tulle.lake import uploads
from tulle.lake.door import Outgoing
from tulle.lake.entry import Entry
from tulle.lake.repository import Repository
from tulle.lake.rest.call import Call
from tulle.lake.rest.forms import UNKNOWN_TYPE, checksum_of
from tulle.lake.rest.ranges import data_answer
from tulle.lake.rest.router import PREFIX, Route

SECONDS = 900
GATHERED = 256 * 1024  # a body up to this size is handed over in one piece


class Grant(msgspec.Struct, array_like=True):
    """What an address is good for: reading a data object, or writing one, or one part of an upload."""

    kind: Literal["read", "write", "part"]
    repository: str
    storage: str
    address: str = ""
    size: int = 0
    etag: str = ""
    modified: float = 0.0
    content_type: str = ""
    upload: str = ""
    number: int = 0


def expiry() -> int:
    """When an address that is signed now stops to work, in seconds since the epoch."""
    return int(time.time()) + SECONDS


def read_url(call: Call, repository: Repository, entry: Entry) -> str:
    """Where the bytes of an entry can be fetched."""
    url = repository.signed_url(entry, SECONDS)
    if url is not None:
        return url
    grant = Grant(
        "read",
        repository.name,
        repository.record.storage,
        entry.address,
        entry.size,
        checksum_of(entry),
        entry.modified,
        entry.content_type,
    )
    return _url(call, "GET", grant)


def write_url(call: Call, repository: Repository, address: str) -> str:
    """Where the bytes for an issued address can be put."""
    url = repository.writer.signed_url(address, "PUT", SECONDS)
    if url is not None:
        return url
    return _url(call, "PUT", Grant("write", repository.name, repository.record.storage, address))


def part_url(call: Call, repository: Repository, upload: str, number: int) -> str:
    """Where the bytes of one part of an upload can be put."""
    grant = Grant("part", repository.name, repository.record.storage, upload=upload, number=number)
    return _url(call, "PUT", grant)


def get(call: Call) -> Outgoing:
    """The bytes a signed address names."""
    repository, grant = _granted(call)
    if grant.kind != "read":
        raise Invalid("this address is one to write to")
    entry = Entry("", grant.address, grant.size)
    return data_answer(
        call.request,
        lambda start, end: repository.read(entry, start, end),
        size=grant.size,
        etag=grant.etag,
        modified=grant.modified,
        content_type=grant.content_type or UNKNOWN_TYPE,
    )


def put(call: Call) -> Outgoing:
    """Keep the bytes that were sent to a signed address; the ETag of the answer is their MD5."""
    repository, grant = _granted(call)
    data = gathered(call.request.chunks)
    if grant.kind == "part":
        upload = uploads.find(repository, grant.upload)
        return Outgoing(
            200, b"", [("etag", f'"{uploads.put_part(repository, upload, grant.number, data).etag}"')]
        )
    if grant.kind != "write":
        raise Invalid("this address is one to read from")
    md5 = hashlib.md5(usedforsecurity=False)  # what S3 clients expect

    def hashed() -> Iterator[bytes]:
        for chunk in [data] if isinstance(data, bytes) else data:
            md5.update(chunk)
            yield chunk

    repository.reader.blobs.put(repository.writer.blob(grant.address), hashed())
    return Outgoing(200, b"", [("etag", f'"{md5.hexdigest()}"')])


def gathered(chunks: Iterable[bytes]) -> bytes | Iterator[bytes]:
    """A body as bytes when it is small, else in pieces."""
    parts, size, rest = [], 0, iter(chunks)
    for chunk in rest:
        parts.append(chunk)
        size += len(chunk)
        if size > GATHERED:
            return itertools.chain(parts, rest)
    return b"".join(parts)


def _url(call: Call, method: str, grant: Grant) -> str:
    token = base64.urlsafe_b64encode(msgspec.json.encode(grant)).decode().rstrip("=")
    host = call.header("host")
    origin = f"{call.request.scheme}://{host}" if host else call.endpoint
    return origin + call.access.signer.sign(method, f"{PREFIX}/signed/{token}", SECONDS)


def _granted(call: Call) -> tuple[Repository, Grant]:
    request = call.request
    path = request.raw_path.partition(b"?")[0].decode("latin-1")
    method = "GET" if request.method == "HEAD" else request.method
    call.access.signer.verify(method, path, request.raw_query.decode("latin-1"))
    token = call["token"]
    try:
        grant = msgspec.json.decode(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)), type=Grant)
    except (binascii.Error, ValueError, msgspec.MsgspecError):
        raise Invalid("this address is not well-formed") from None
    repository = call.lake.repository(grant.repository)
    if repository.record.storage != grant.storage:
        raise NotFound(f"repository '{grant.repository}' is another one by now")
    return repository, grant


ROUTES = [
    Route("GET", "/signed/{token}", get, "tulle.getSigned", public=True),
    Route("HEAD", "/signed/{token}", get, "tulle.headSigned", public=True),
    Route("PUT", "/signed/{token}", put, "tulle.putSigned", public=True),
]
