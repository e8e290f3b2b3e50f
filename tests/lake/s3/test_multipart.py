"""Multipart uploads and copies through the door."""

from __future__ import annotations

import base64
import hashlib
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from tests.lake.s3.client import Answer, Client

from tulle.lake import uploads
from tulle.lake.repository import Lake, Repository
from tulle.lake.writing import Writer

MIB = 1024 * 1024
BIG = b"a" * (5 * MIB)
KEY = "/sales/main/big"


def start(client: Client, key: str = KEY, **headers: str) -> str:
    answer = client("POST", key, query=[("uploads", "")], headers=headers)
    assert answer.status == 200
    return answer.xml.findtext("UploadId") or ""


def part(client: Client, upload: str, number: int, data: bytes, **headers: str) -> str:
    query = [("partNumber", str(number)), ("uploadId", upload)]
    answer = client(
        "PUT", KEY, data, query=query, headers={n.replace("_", "-"): v for n, v in headers.items()}
    )
    assert answer.status == 200, answer.body
    return answer.headers["etag"]


def complete(
    client: Client, upload: str, parts: list[tuple[int, str]], headers: dict[str, str] | None = None
) -> Answer:
    items = "".join(f"<Part><PartNumber>{n}</PartNumber><ETag>{e}</ETag></Part>" for n, e in parts)
    body = f"<CompleteMultipartUpload>{items}</CompleteMultipartUpload>".encode()
    return client("POST", KEY, body, query=[("uploadId", upload)], headers=headers)


def blobs(repository: Repository) -> int:
    return len(list(repository.reader.blobs.list(f"{repository.record.storage}/uploads")))


def test_an_upload(client: Client, repository: Repository) -> None:
    upload = start(client, **{"content-type": "x/y", "x-amz-meta-a": "1"})
    parts = [(2, part(client, upload, 2, BIG)), (7, part(client, upload, 7, b"end"))]
    again = part(client, upload, 2, BIG)  # a part sent again takes its place
    assert again == parts[0][1]
    assert blobs(repository) == 2
    listed = client("GET", KEY, query=[("uploadId", upload), ("max-parts", "1")])
    assert (listed.texts("Part/PartNumber"), listed.texts("IsTruncated")) == (["2"], ["true"])
    marker = listed.xml.findtext("NextPartNumberMarker") or ""
    listed = client("GET", KEY, query=[("uploadId", upload), ("part-number-marker", marker)])
    assert (listed.texts("Part/PartNumber"), listed.texts("Part/Size")) == (["7"], ["3"])
    assert not repository.exists("main", "big")
    answer = complete(client, upload, parts)
    digest = hashlib.md5(hashlib.md5(BIG).digest() + hashlib.md5(b"end").digest()).hexdigest()
    etag = f'"{digest}-2"'
    assert (answer.status, answer.xml.findtext("ETag")) == (200, etag)
    head = client("HEAD", KEY)
    assert (head.headers["etag"], head.headers["x-amz-meta-a"], head.headers["content-type"]) == (
        etag,
        "1",
        "x/y",
    )
    assert client("GET", "/sales", query=[("prefix", "main/big")]).texts("Contents/ETag") == [etag]
    assert client("GET", KEY).body == BIG + b"end"
    assert repository.stat("main", "big").checksum == hashlib.sha256(BIG + b"end").hexdigest()
    assert blobs(repository) == 0
    assert complete(client, upload, parts).xml.findtext("ETag") == etag  # a client that missed the answer
    assert complete(client, upload, [(1, "0" * 32)]).code == "NoSuchUpload"


def test_lists_that_are_wrong(client: Client, repository: Repository) -> None:
    upload = start(client)
    one, two = part(client, upload, 1, b"small"), part(client, upload, 2, b"small too")
    assert complete(client, upload, [(2, two), (1, one)]).code == "InvalidPartOrder"
    assert complete(client, upload, [(1, one), (1, one)]).code == "InvalidPartOrder"
    assert complete(client, upload, [(1, two)]).code == "InvalidPart"
    assert complete(client, upload, [(3, one)]).code == "InvalidPart"
    assert complete(client, upload, []).code == "MalformedXML"
    small = complete(client, upload, [(1, one), (2, two)])
    assert (small.code, small.xml.findtext("PartNumber")) == ("EntityTooSmall", "1")
    assert client("POST", KEY, b"<x", query=[("uploadId", upload)]).code == "MalformedXML"
    assert client("POST", KEY, b"<Other/>", query=[("uploadId", upload)]).code == "MalformedXML"
    assert not repository.exists("main", "big")
    assert complete(client, upload, [(2, two)]).status == 200
    assert client("GET", KEY).body == b"small too"


def test_unknown_uploads(client: Client, repository: Repository) -> None:
    query = [("uploadId", "none")]
    assert client("GET", KEY, query=query).code == "NoSuchUpload"
    assert client("DELETE", KEY, query=query).code == "NoSuchUpload"
    assert client("PUT", KEY, b"x", query=[("partNumber", "1"), *query]).code == "NoSuchUpload"
    assert complete(client, "none", [(1, "0" * 32)]).code == "NoSuchUpload"
    upload = start(client)
    other = client("PUT", "/sales/main/other", b"x", query=[("partNumber", "1"), ("uploadId", upload)])
    assert other.code == "NoSuchUpload"
    for number in ("0", "10001", "x", ""):
        answer = client("PUT", KEY, b"x", query=[("partNumber", number), ("uploadId", upload)])
        assert answer.code == "InvalidArgument"


def test_aborting(client: Client, repository: Repository) -> None:
    upload = start(client)
    part(client, upload, 1, b"x")
    assert client("DELETE", KEY, query=[("uploadId", upload)]).status == 204
    assert blobs(repository) == 0
    assert client("DELETE", KEY, query=[("uploadId", upload)]).code == "NoSuchUpload"


def test_a_part_that_is_not_what_was_stated_is_not_kept(client: Client, repository: Repository) -> None:
    upload = start(client)
    query = [("partNumber", "1"), ("uploadId", upload)]
    wrong = base64.b64encode(hashlib.md5(b"other").digest()).decode()
    assert client("PUT", KEY, b"x", query=query, headers={"content-md5": wrong}).code == "BadDigest"
    assert blobs(repository) == 0
    assert client("GET", KEY, query=[("uploadId", upload)]).texts("Part/PartNumber") == []


def test_conditions_and_whole_checksums(client: Client, repository: Repository) -> None:
    repository.put("main", "big", b"there")
    upload = start(client)
    parts = [(1, part(client, upload, 1, b"data"))]
    assert complete(client, upload, parts, {"if-none-match": "*"}).status == 412
    assert complete(client, upload, parts, {"if-match": '"x"'}).status == 412
    assert complete(client, upload, parts, {"x-amz-mp-object-size": "3"}).code == "InvalidRequest"
    false = base64.b64encode(zlib.crc32(b"other").to_bytes(4, "big")).decode()
    true = base64.b64encode(zlib.crc32(b"data").to_bytes(4, "big")).decode()
    whole = {"x-amz-checksum-type": "FULL_OBJECT"}
    assert complete(client, upload, parts, whole | {"x-amz-checksum-crc32": false}).code == "BadDigest"
    assert repository.get("main", "big") == b"there"
    answer = complete(
        client, upload, parts, whole | {"x-amz-checksum-crc32": true, "x-amz-mp-object-size": "4"}
    )
    assert (answer.status, answer.xml.findtext("ChecksumCRC32")) == (200, true)
    assert repository.get("main", "big") == b"data"


@pytest.mark.parametrize("same", [True, False], ids=["same list", "other list"])
@pytest.mark.parametrize("headers", [{}, {"if-none-match": "*"}], ids=["plain", "if nothing is there"])
def test_two_who_complete_at_the_same_time(
    client: Client,
    repository: Repository,
    monkeypatch: pytest.MonkeyPatch,
    same: bool,
    headers: dict[str, str],
) -> None:
    """One makes the object; who asked for the same is answered the same, who asked for another is told it ended."""
    upload = start(client)
    parts = [(number, part(client, upload, number, b"%d" % number)) for number in (1, 2)]
    lists = [parts[:1], parts[:1] if same else parts[1:]]
    both, stage = threading.Barrier(2), Writer.stage

    def late(self: Writer, *args: Any, **named: Any) -> None:
        both.wait(30)  # each has read its parts before one is staged
        stage(self, *args, **named)

    monkeypatch.setattr(Writer, "stage", late)
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda chosen: complete(client, upload, chosen, headers), lists))
    monkeypatch.undo()
    done = [answer.xml.findtext("ETag") for answer in answers if answer.status == 200]
    if same:
        assert len(done) == 2
        assert done[0] == done[1]
    else:
        assert len(done) == 1
        assert [answer.code for answer in answers if answer.status != 200] == ["NoSuchUpload"]
    assert client("HEAD", KEY).headers["etag"] == done[0]
    assert client("GET", "/sales", query=[("uploads", "")]).texts("Upload/Key") == []
    assert blobs(repository) == 0


def test_an_upload_that_is_aborted_while_it_is_completed(
    client: Client, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = start(client)
    parts = [(1, part(client, upload, 1, b"1"))]
    stage = Writer.stage

    def overtaken(self: Writer, *args: Any, **named: Any) -> None:
        uploads.drop(repository, uploads.find(repository, upload))
        stage(self, *args, **named)

    monkeypatch.setattr(Writer, "stage", overtaken)
    assert complete(client, upload, parts).code == "NoSuchUpload"
    assert not repository.exists("main", "big")


def test_uploads_are_listed(client: Client, repository: Repository) -> None:
    repository.create_branch("main-2")
    keys = ["main-2/a", "main/a%+b", "main/d/x", "main/d/y", "main/e", "main/e"]
    for key in keys:
        start(client, f"/sales/{key}")

    def listed(**asked: str) -> Answer:
        return client(
            "GET", "/sales", query=[("uploads", ""), *((n.replace("_", "-"), v) for n, v in asked.items())]
        )

    assert listed().texts("Upload/Key") == keys
    assert listed(prefix="main/d").texts("Upload/Key") == ["main/d/x", "main/d/y"]
    folders = listed(prefix="main/", delimiter="/")
    assert folders.texts("Upload/Key") == ["main/a%+b", "main/e", "main/e"]
    assert folders.texts("CommonPrefixes/Prefix") == ["main/d/"]
    assert listed(prefix="main/a", encoding_type="url").texts("Upload/Key") == ["main/a%25%2Bb"]
    assert listed(encoding_type="xml").code == "InvalidArgument"
    found: list[str] = []
    asked: dict[str, str] = {}
    for _ in range(9):
        page = listed(max_uploads="1", **asked)
        found += page.texts("Upload/Key")
        if page.texts("IsTruncated") == ["false"]:
            break
        asked = {
            "key_marker": page.texts("NextKeyMarker")[0],
            "upload_id_marker": page.texts("NextUploadIdMarker")[0],
        }
    assert found == keys
    assert listed(key_marker="main/d/x").texts("Upload/Key") == ["main/d/y", "main/e", "main/e"]


# ── copies ───────────────────────────────────────────────────────────────────────────────────────────────────


def copy(client: Client, source: str, dest: str = "/sales/main/copy", **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return client("PUT", dest, headers={"x-amz-copy-source": source} | named)


def test_a_copy_copies_no_bytes(client: Client, lake: Lake, repository: Repository) -> None:
    repository.put("main", "a b", b"1", content_type="x/y", metadata={"k": "v"})
    for source in ("/sales/main/a%20b", "sales/main/a%20b?versionId=null"):
        answer = copy(client, source)
        assert (answer.status, answer.xml.findtext("ETag")) == (200, f'"{hashlib.md5(b"1").hexdigest()}"')
    entry = repository.stat("main", "copy")
    assert (entry.address, entry.metadata) == (repository.stat("main", "a b").address, {"k": "v"})
    other = lake.create_repository("other")
    assert copy(client, "/sales/main/a%20b", "/other/main/c").status == 200
    assert other.get("main", "c") == b"1"


def test_only_the_version_there_is_can_be_copied(client: Client, repository: Repository) -> None:
    repository.put("main", "a", b"1")
    upload = start(client)
    for version in ("3sL4kqtJlcpXroDTDmJ", ""):
        source = f"/sales/main/a?versionId={version}"
        answer = copy(client, source)
        assert (answer.status, answer.code) == (404, "NoSuchVersion")
        query = [("partNumber", "1"), ("uploadId", upload)]
        part_of = client("PUT", KEY, query=query, headers={"x-amz-copy-source": source})
        assert part_of.code == "NoSuchVersion"
        for method in ("GET", "HEAD"):
            assert client(method, "/sales/main/a", query=[("versionId", version)]).status == 404
    assert not repository.exists("main", "copy")
    assert client("GET", "/sales/main/a", query=[("versionId", "null")]).body == b"1"


def test_a_copy_with_other_metadata(client: Client, repository: Repository) -> None:
    repository.put("main", "a", b"1", content_type="x/y", metadata={"k": "v"})
    replaced = {"x_amz_metadata_directive": "REPLACE", "x_amz_meta_new": "1", "content_type": "p/q"}
    assert copy(client, "/sales/main/a", **replaced).status == 200
    entry = repository.stat("main", "copy")
    assert (entry.metadata, entry.content_type) == ({"new": "1"}, "p/q")
    assert copy(client, "/sales/main/a", "/sales/main/a").code == "InvalidRequest"
    assert copy(client, "/sales/main/a", "/sales/main/a", **replaced).status == 200
    assert copy(client, "/sales/main/a", x_amz_metadata_directive="KEEP").code == "InvalidArgument"


def test_conditions_of_copies(client: Client, repository: Repository) -> None:
    etag = repository.put("main", "a", b"1").etag
    assert copy(client, "/sales/main/a", x_amz_copy_source_if_match=f'"{etag}"').status == 200
    assert copy(client, "/sales/main/a", x_amz_copy_source_if_match='"x"').status == 412
    assert copy(client, "/sales/main/a", x_amz_copy_source_if_none_match=etag).status == 412
    past = "Wed, 01 Jan 2020 00:00:00 GMT"
    assert copy(client, "/sales/main/a", x_amz_copy_source_if_unmodified_since=past).status == 412
    assert copy(client, "/sales/main/a", x_amz_copy_source_if_modified_since=past).status == 200
    assert copy(client, "/sales/main/a", if_none_match="*").status == 412


@pytest.mark.parametrize(
    "source", ["/sales/main/none", "/sales/none/a", "/nope/main/a", "sales", "", "/sales/main", "/%ff/a/b"]
)
def test_sources_that_are_not_there(client: Client, source: str) -> None:
    assert copy(client, source).status in {400, 404}


def test_rights_on_both_sides(client: Client, repository: Repository, permits: object) -> None:
    repository.put("main", "a", b"1")
    permits.refused = [("fs:ReadObject", "*/object/a")]  # type: ignore[attr-defined]
    assert copy(client, "/sales/main/a").code == "AccessDenied"


def test_parts_copied_from_objects(client: Client, repository: Repository) -> None:
    repository.put("main", "a", bytes(range(200)))
    upload = start(client)
    query = [("partNumber", "1"), ("uploadId", upload)]

    def part_of(span: str) -> Answer:
        named = {"x-amz-copy-source": "/sales/main/a"} | ({"x-amz-copy-source-range": span} if span else {})
        return client("PUT", KEY, query=query, headers=named)

    for span in ("bytes=0-200", "bytes=5-", "bytes=9-3", "x"):
        assert part_of(span).code == "InvalidArgument"
    assert part_of("").status == 200
    etag = part_of("bytes=10-19").xml.findtext("ETag") or ""
    assert complete(client, upload, [(1, etag)]).status == 200
    assert repository.get("main", "big") == bytes(range(10, 20))
