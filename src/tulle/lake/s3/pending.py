"""ListMultipartUploads: the uploads under way, by key and then by id, a page at a time.

Pages are read from the database as such, whatever there is; a folder costs a page at most.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from tulle.lake import uploads
from tulle.lake.door import Outgoing
from tulle.lake.entry import successor
from tulle.lake.repository import Repository
from tulle.lake.s3 import attributes
from tulle.lake.s3.call import Call, answer
from tulle.lake.s3.multipart import date_text, encoding_of
from tulle.lake.s3.xml import element
from tulle.lake.uploads import Upload

MOST = 1000
Place = tuple[bytes, str]  # a key and an id; what is listed lies behind it


def list_uploads(call: Call) -> Outgoing:
    """GET /bucket?uploads."""
    call.demand_bucket("fs:ListObjects")
    limit = call.number("max-uploads", MOST, 0, MOST)
    prefix, delimiter = call.value("prefix"), call.value("delimiter")
    key_marker, id_marker = call.value("key-marker"), call.value("upload-id-marker")
    encode = encoding_of(call)
    repository = call.repository()
    page = _Page(prefix, delimiter, limit)
    if limit:
        _fill(page, repository, _behind(page, key_marker, id_marker))
    parts = [
        element("Bucket", call.bucket),
        f"<KeyMarker>{encode(key_marker)}</KeyMarker>",
        element("UploadIdMarker", id_marker),
        f"<Prefix>{encode(prefix)}</Prefix>",
    ]
    if delimiter:
        parts.append(f"<Delimiter>{encode(delimiter)}</Delimiter>")
    if call.value("encoding-type"):
        parts.append("<EncodingType>url</EncodingType>")
    if page.more:
        parts.append(f"<NextKeyMarker>{encode(page.last[0])}</NextKeyMarker>")
        parts.append(element("NextUploadIdMarker", page.last[1]))
    parts.extend([element("MaxUploads", limit), element("IsTruncated", page.more)])
    for upload in page.found:
        whose = element("ID", upload.actor) + element("DisplayName", upload.actor)
        storage = upload.metadata.get(attributes.STORAGE_CLASS, "STANDARD")
        parts.append(
            f"<Upload><Key>{encode(upload.key)}</Key><UploadId>{upload.id}</UploadId>"
            f"<Initiator>{whose}</Initiator><Owner>{whose}</Owner><StorageClass>{storage}</StorageClass>"
            f"<Initiated>{date_text(upload.created_at)}</Initiated></Upload>"
        )
    parts.extend(
        f"<CommonPrefixes><Prefix>{encode(name)}</Prefix></CommonPrefixes>" for name in page.prefixes
    )
    return answer("ListMultipartUploadsResult", parts)


@dataclass(slots=True)
class _Page:
    """A page that is being filled; `last` is what is to be named to get the next one."""

    prefix: str
    delimiter: str
    limit: int
    found: list[Upload] = field(default_factory=list)
    prefixes: list[str] = field(default_factory=list)
    last: tuple[str, str] = ("", "")
    more: bool = False

    def common(self, key: str) -> str:
        """The prefix a key is told as, or "" when it is told itself."""
        cut = key.find(self.delimiter, len(self.prefix)) if self.delimiter else -1
        return key[: cut + len(self.delimiter)] if cut >= 0 and key.startswith(self.prefix) else ""

    def add(self, upload: Upload) -> bool:
        """Take the next one in; False when it is one too many."""
        common = self.common(upload.key)
        if common and self.prefixes and self.prefixes[-1] == common:
            return True
        if len(self.found) + len(self.prefixes) == self.limit:
            self.more = True
            return False
        if common:
            self.prefixes.append(common)
            self.last = common, ""
        else:
            self.found.append(upload)
            self.last = upload.key, upload.id
        return True


def _behind(page: _Page, key: str, id_: str) -> Place:
    """Where a page begins that follows these markers."""
    encoded = key.encode()
    if not key:
        return b"", ""
    if page.common(key) == key:  # a page ended with this prefix: all below it was told with it
        return _after_all(encoded)
    return (encoded, id_) if id_ else (encoded + b"\0", "")


def _fill(page: _Page, repository: Repository, place: Place) -> None:
    prefix, at_once = page.prefix.encode(), page.limit + 1
    while True:
        found = uploads.uploads(repository, prefix, place, at_once)
        if not all(page.add(upload) for upload in found) or len(found) < at_once:
            return
        common = page.common(found[-1].key)
        place = _after_all(common.encode()) if common else (found[-1].key.encode(), found[-1].id)


def _after_all(prefix: bytes) -> Place:
    return successor(prefix) or b"\xff", ""  # no text begins with that byte
