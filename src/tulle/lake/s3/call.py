"""One S3 request of a known user: what it names, what it asks, what the user may do, and answers in S3's forms.

Knows no operation.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import quote

from tulle.errors import Invalid, NotFound
from tulle.lake.door import Incoming, Outgoing
from tulle.lake.entry import Entry
from tulle.lake.repository import Lake, Repository
from tulle.lake.s3 import xml
from tulle.lake.s3.address import checked_key, ref_and_path
from tulle.lake.s3.failure import S3Error, not_implemented
from tulle.lake.s3.sign import Payload
from tulle.lake.s3.stream import Body

if TYPE_CHECKING:
    from tulle.lake.access import Access

XML = ("content-type", "application/xml")
_ENCODED = re.compile(r"[^A-Za-z0-9/\-_.~*]")
_STEPS = re.compile(r"[~^@]")
_BRANCH = re.compile(r"\w[-\w]*\Z")
_PRIVATE_ACLS = frozenset({"private", "bucket-owner-full-control", "bucket-owner-read"})
# What would silently not happen if it were passed over.
_UNSUPPORTED = {
    "x-amz-server-side-encryption-customer-algorithm": "encryption with a key of the client's",
    "x-amz-copy-source-server-side-encryption-customer-algorithm": "encryption with a key of the client's",
    "x-amz-server-side-encryption": "server-side encryption on request",
    "x-amz-tagging": "tagging of objects",
    "x-amz-object-lock-mode": "locking of objects",
    "x-amz-object-lock-legal-hold": "locking of objects",
    "x-amz-website-redirect-location": "redirecting",
    "x-amz-write-offset-bytes": "appending to objects",
}


@dataclass(slots=True)
class Call:
    """A request of a known user. `bucket` and `key` are "" where it names none."""

    request: Incoming
    lake: Lake
    access: Access
    user: str
    bucket: str
    key: str
    payload: Payload
    values: Mapping[str, str] = field(default_factory=dict)  # of the query; the first of each name
    taken: Body | None = None  # the body, once somebody reads it

    # ── what was asked ───────────────────────────────────────────────────────────────────────────────────

    def header(self, name: str, default: str = "") -> str:
        """A header by its lower-case name."""
        return self.request.headers.get(name, default)

    def value(self, name: str, default: str = "") -> str:
        """A value of the query."""
        return self.values.get(name, default)

    def number(self, name: str, default: int, least: int, most: int) -> int:
        """A whole number of the query; what is above `most` counts as `most`. InvalidArgument."""
        text = self.values.get(name, "")
        if not text:
            return default
        if not text.isascii() or not text.isdigit() or len(text) > 10 or int(text) < least:
            raise S3Error(
                "InvalidArgument",
                f"argument {name} must be an integer of at least {least}",
                {"ArgumentName": name, "ArgumentValue": text[:200]},
            )
        return min(int(text), most)

    def body(self, *, checksummed: bool = True, needed: bool = False) -> Body:
        """The body, held against what was stated of it while it is read; see `Body`."""
        self.taken = Body(self.request, self.payload, checksummed=checksummed, needed=needed)
        return self.taken

    def document(self, root: str) -> xml.Node:
        """The body as XML."""
        return xml.read(self.body().whole(xml.MAX_BYTES), root)

    def refuse_unsupported(self) -> None:
        """NotImplemented where headers of a write ask for what would silently not happen."""
        headers = self.request.headers
        for name, what in _UNSUPPORTED.items():
            if name in headers:
                raise not_implemented(f"{what} ({name})")
        granted = any(name.startswith("x-amz-grant-") for name in headers)
        if granted or headers.get("x-amz-acl", "private") not in _PRIVATE_ACLS:
            raise S3Error(
                "AccessControlListNotSupported",
                "the bucket does not allow ACLs; policies of the lake say who may read and write",
            )

    # ── what it names ────────────────────────────────────────────────────────────────────────────────────

    def place(self) -> tuple[str, str]:
        """The ref and the path of the key."""
        return ref_and_path(checked_key(self.key))

    def repository(self, name: str = "") -> Repository:
        """The repository the bucket names, in the hands of the user. NoSuchBucket."""
        wanted = name or self.bucket
        try:
            return self.lake.repository(wanted, actor=self.user)
        except NotFound:  # its hint names repositories, also those this user may not see
            raise S3Error(
                "NoSuchBucket", "the specified bucket does not exist", {"BucketName": wanted}
            ) from None

    def refuse_no_branch(self, repository: Repository, ref: str) -> S3Error:
        """What to answer when a write named a ref that is no branch: what it is instead, or that it is not."""
        try:
            repository.resolve(ref)
        except (NotFound, Invalid) as exc:
            hint = f" ({exc.hint})" if exc.hint and self.may_bucket("fs:ListBranches") else ""
            return S3Error("NoSuchKey", f"{exc.message}{hint}", {"Key": self.key})
        return S3Error(
            "MethodNotAllowed",
            f"'{ref}' is not a branch, and only branches can be written to: make one from it",
            headers={"allow": "GET, HEAD"},
        )

    # ── what is allowed ──────────────────────────────────────────────────────────────────────────────────

    def demand(self, action: str, *resources: str) -> None:
        """AccessDenied unless the user may do `action` on what the names name."""
        client = self.request.client
        if (
            self.request.is_hurried
            and not self.access.decide(self.user, action, *resources, client=client).allowed
        ):
            self.request.take_time()  # a denial is written down
        self.access.demand(self.user, action, *resources, client=client)

    def demand_bucket(self, action: str, name: str = "") -> None:
        """`demand` for a repository."""
        self.demand(action, self.access.resource_repository(name or self.bucket))

    def may_bucket(self, action: str, name: str = "") -> bool:
        """Whether the user may do `action` on a repository: for what is left out else, which is no denial."""
        resource = self.access.resource_repository(name or self.bucket)
        return self.access.decide(self.user, action, resource, client=self.request.client).allowed

    def demand_object(self, action: str, ref: str, path: str, bucket: str = "") -> None:
        """`demand` for an object. What is said of a branch holds for `branch~2` and `branch@` too."""
        name = _STEPS.split(ref, maxsplit=1)[0]
        self.demand(action, *self.access.resource_object(bucket or self.bucket, name, path))


def is_branch_name(ref: str) -> bool:
    """Whether a branch can have that name."""
    return bool(_BRANCH.match(ref))


def etag_of(entry: Entry) -> str:
    """The ETag of an entry, in quotes."""
    return f'"{entry.tag}"'


def answer(root: str, parts: Iterable[str], *, headers: Sequence[tuple[str, str]] = ()) -> Outgoing:
    """200 with a document."""
    return Outgoing(200, xml.document(root, parts), (XML, *headers))


def no_content() -> Outgoing:
    """204."""
    return Outgoing(204)


def url_encoded(text: str) -> str:
    """Text as `encoding-type=url` has it."""
    return quote(text, safe="/-_.~*") if _ENCODED.search(text) else text
