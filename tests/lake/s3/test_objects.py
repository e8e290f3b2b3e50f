"""Objects through the door: read, written, deleted, described, under conditions, and what is refused."""

from __future__ import annotations

import base64
import hashlib

import pytest
from tests.lake.s3.client import Client
from tests.lake.s3.permits import Permits

from tulle.lake.repository import Lake, Repository

BODY = b"0123456789"


@pytest.fixture
def etag(client: Client) -> str:
    """The ETag of BODY, at main/a."""
    return client("PUT", "/sales/main/a", BODY, headers={"content-type": "text/plain"}).headers["etag"]


def test_put_and_get(client: Client, repository: Repository, etag: str) -> None:
    assert etag == f'"{hashlib.md5(BODY).hexdigest()}"'
    answer = client("GET", "/sales/main/a")
    assert (answer.status, answer.body) == (200, BODY)
    assert answer.headers["content-type"] == "text/plain"
    assert answer.headers["content-length"] == "10"
    assert answer.headers["etag"] == etag
    head = client("HEAD", "/sales/main/a")
    assert (head.status, head.body, head.headers["content-length"]) == (200, b"", "10")
    assert repository.get("main", "a") == BODY


@pytest.mark.parametrize(
    "path",
    ["a b+c%41~", "ü/ñ/日本", "x//y", "../../etc/passwd", "./.", "q?x=1&y", "#", "tail/", "'\"<>&", "\x01"],
)
def test_keys_are_text_whatever_they_look_like(client: Client, repository: Repository, path: str) -> None:
    assert client("PUT", f"/sales/main/{path}", BODY).status == 200
    assert client("GET", f"/sales/main/{path}").body == BODY
    assert repository.stat("main", path).path == path
    assert client("DELETE", f"/sales/main/{path}").status == 204
    assert client("GET", f"/sales/main/{path}").code == "NoSuchKey"


def test_keys_that_cannot_be(client: Client, repository: Repository) -> None:
    assert client("PUT", "/sales/main/" + "x" * 1024, BODY).status == 200
    assert client("PUT", "/sales/main/" + "x" * 1025, BODY).code == "KeyTooLongError"
    assert client("PUT", "/sales/main/a\0b", BODY).code == "InvalidArgument"
    headers = client.signer.sign("PUT", "/sales/main/a", [], {"host": client.host}, "UNSIGNED-PAYLOAD")
    assert client.raw("PUT", "", BODY, headers=headers, path_as_sent=b"/sales/main/%ff").status in {400, 403}


@pytest.mark.parametrize(
    ("asked", "status", "body", "span"),
    [
        ("bytes=0-3", 206, b"0123", "bytes 0-3/10"),
        ("bytes=4-", 206, b"456789", "bytes 4-9/10"),
        ("bytes=-3", 206, b"789", "bytes 7-9/10"),
        ("bytes=-99", 206, BODY, "bytes 0-9/10"),
        ("bytes=8-99", 206, b"89", "bytes 8-9/10"),
        ("bytes=0-1,4-5", 200, BODY, None),
        ("bytes=5-2", 200, BODY, None),
        ("lines=1-2", 200, BODY, None),
        ("bytes=x", 200, BODY, None),
    ],
)
def test_ranges(client: Client, etag: str, asked: str, status: int, body: bytes, span: str | None) -> None:
    answer = client("GET", "/sales/main/a", headers={"range": asked})
    assert (answer.status, answer.body, answer.headers.get("content-range")) == (status, body, span)
    head = client("HEAD", "/sales/main/a", headers={"range": asked})
    assert (head.status, head.headers["content-length"]) == (status, str(len(body)))


@pytest.mark.parametrize("asked", ["bytes=10-", "bytes=99-100", "bytes=-0"])
def test_ranges_outside(client: Client, etag: str, asked: str) -> None:
    answer = client("GET", "/sales/main/a", headers={"range": asked})
    assert (answer.status, answer.code, answer.headers["content-range"]) == (
        416,
        "InvalidRange",
        "bytes */10",
    )


def test_large_objects_stream(client: Client, repository: Repository) -> None:
    data = bytes(range(256)) * 40_000  # 10 MB: several pieces
    assert client("PUT", "/sales/main/big", data).status == 200
    assert client("GET", "/sales/main/big").body == data
    answer = client("GET", "/sales/main/big", headers={"range": "bytes=4194000-9000000"})
    assert answer.body == data[4194000:9000001]


PAST, FUTURE = "Wed, 01 Jan 2020 00:00:00 GMT", "Fri, 01 Jan 2100 00:00:00 GMT"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"if-match": "ETAG"}, 200),
        ({"if-match": "*"}, 200),
        ({"if-match": '"x", ETAG'}, 200),
        ({"if-match": '"x"'}, 412),
        ({"if-none-match": "ETAG"}, 304),
        ({"if-none-match": "W/ETAG"}, 304),
        ({"if-none-match": "*"}, 304),
        ({"if-none-match": '"x"'}, 200),
        ({"if-modified-since": PAST}, 200),
        ({"if-modified-since": FUTURE}, 304),
        ({"if-modified-since": "nonsense"}, 200),
        ({"if-unmodified-since": PAST}, 412),
        ({"if-unmodified-since": FUTURE}, 200),
        ({"if-match": "ETAG", "if-unmodified-since": PAST}, 200),
        ({"if-none-match": '"x"', "if-modified-since": FUTURE}, 200),
    ],
)
def test_conditions_of_reading(client: Client, etag: str, headers: dict[str, str], status: int) -> None:
    stated = {name: value.replace("ETAG", etag) for name, value in headers.items()}
    for method in ("GET", "HEAD"):
        answer = client(method, "/sales/main/a", headers=stated)
        assert answer.status == status
        if status == 304:
            assert (answer.body, answer.headers["etag"]) == (b"", etag)


def test_conditions_of_writing(client: Client, etag: str, repository: Repository) -> None:
    def put(path: str, **headers: str) -> int:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return client("PUT", f"/sales/main/{path}", b"new", headers=named).status

    assert put("a", if_none_match="*") == 412
    assert put("b", if_none_match="*") == 200
    assert put("a", if_match='"x"') == 412
    assert put("none", if_match=etag) == 404
    assert repository.get("main", "a") == BODY
    assert put("a", if_match=etag) == 200
    assert put("a", if_match="*") == 501
    assert put("a", if_none_match=etag) == 501
    assert repository.get("main", "a") == b"new"


def test_what_an_object_says_of_itself(client: Client, repository: Repository) -> None:
    said = {
        "content-type": "text/csv",
        "cache-control": "no-cache",
        "content-disposition": "attachment",
        "content-encoding": "aws-chunked,gzip",
        "content-language": "de",
        "expires": PAST,
        "x-amz-storage-class": "STANDARD_IA",
        "x-amz-meta-Name".lower(): "plain",
        "x-amz-meta-utf8": "größe".encode().decode("latin-1"),
        "x-amz-meta-coded": "=?UTF-8?B?4oKs?=",
    }
    assert client("PUT", "/sales/main/a", BODY, headers=said).status == 200
    entry = repository.stat("main", "a")
    assert {name: value for name, value in entry.metadata.items() if name[0] != ":"} == {
        "name": "plain",
        "utf8": "größe",
        "coded": "€",
    }
    headers = client("GET", "/sales/main/a").headers
    expected = said | {"content-encoding": "gzip", "x-amz-meta-utf8": "=?UTF-8?B?Z3LDtsOfZQ==?="}
    assert {name: headers[name] for name in expected} == expected
    listed = client("GET", "/sales", query=[("prefix", "main/")])
    assert listed.texts("Contents/StorageClass") == ["STANDARD_IA"]
    over = client(
        "GET", "/sales/main/a", query=[("response-content-type", "x/y"), ("response-expires", "never")]
    )
    assert (over.headers["content-type"], over.headers["expires"]) == ("x/y", "never")


def test_metadata_of_others_comes_back_or_is_counted(client: Client, repository: Repository) -> None:
    repository.put("main", "a", BODY, metadata={"Key": "v", "not a token": "x", "line": "a\nb"})
    headers = client("HEAD", "/sales/main/a").headers
    assert (headers["x-amz-meta-key"], headers["x-amz-missing-meta"]) == ("v", "1")
    assert "\n" not in headers["x-amz-meta-line"]


def test_too_much_metadata(client: Client) -> None:
    assert client("PUT", "/sales/main/a", BODY, headers={"x-amz-meta-a": "x" * 2047}).status == 200
    answer = client("PUT", "/sales/main/a", BODY, headers={"x-amz-meta-a": "x" * 2048})
    assert (answer.status, answer.code) == (400, "MetadataTooLarge")


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("x-amz-server-side-encryption", "aws:kms", "NotImplemented"),
        ("x-amz-tagging", "a=b", "NotImplemented"),
        ("x-amz-object-lock-mode", "GOVERNANCE", "NotImplemented"),
        ("x-amz-acl", "public-read", "AccessControlListNotSupported"),
        ("x-amz-grant-read", "id=x", "AccessControlListNotSupported"),
        ("x-amz-storage-class", "COZY", "InvalidStorageClass"),
    ],
)
def test_what_would_silently_not_happen_is_refused(client: Client, name: str, value: str, code: str) -> None:
    assert client("PUT", "/sales/main/a", BODY, headers={name: value}).code == code
    assert client("PUT", "/sales/main/a", BODY, headers={"x-amz-acl": "private"}).status == 200


def test_checksums_of_what_is_read(client: Client, etag: str) -> None:
    headers = client("GET", "/sales/main/a", headers={"x-amz-checksum-mode": "ENABLED"}).headers
    digest = base64.b64encode(hashlib.sha256(BODY).digest()).decode()
    assert (headers["x-amz-checksum-sha256"], headers["x-amz-checksum-type"]) == (digest, "FULL_OBJECT")
    asked = {"x-amz-object-attributes": "ETag,Checksum,ObjectSize,StorageClass"}
    answer = client("GET", "/sales/main/a", query=[("attributes", "")], headers=asked)
    assert [node.tag for node in answer.xml] == ["ETag", "Checksum", "ObjectSize", "StorageClass"]
    assert answer.texts("Checksum/ChecksumSHA256") == [digest]
    assert client("GET", "/sales/main/a", query=[("attributes", "")]).code == "InvalidArgument"


def test_part_numbers_and_versions(client: Client, etag: str) -> None:
    answer = client("GET", "/sales/main/a", query=[("partNumber", "1")])
    assert (answer.status, answer.body, answer.headers["content-range"]) == (206, BODY, "bytes 0-9/10")
    assert client("GET", "/sales/main/a", query=[("partNumber", "2")]).code == "InvalidPartNumber"
    assert client("GET", "/sales/main/a", query=[("partNumber", "0")]).code == "InvalidArgument"
    assert client("GET", "/sales/main/a", query=[("versionId", "null")]).status == 200
    assert client("GET", "/sales/main/a", query=[("versionId", "abc")]).code == "NoSuchVersion"


def test_refs_of_every_kind_are_read(client: Client, repository: Repository) -> None:
    repository.put("main", "a", b"1")
    first = repository.commit("main", "one").id
    repository.create_tag("v1", "main")
    repository.put("main", "a", b"2")
    repository.commit("main", "two")
    repository.put("main", "a", b"3")
    for ref, body in (
        ("main", b"3"),
        ("main@", b"2"),
        ("main~1", b"1"),
        ("v1", b"1"),
        (first, b"1"),
        (first[:12], b"1"),
    ):
        assert client("GET", f"/sales/{ref}/a").body == body
    for ref in ("nope", "main~9", "a b", "~", "@"):
        assert client("GET", f"/sales/{ref}/a").code == "NoSuchKey"


def test_only_branches_are_written_to(client: Client, repository: Repository) -> None:
    repository.create_tag("v1", "main")
    commit = repository.resolve("main")
    for ref in ("v1", commit, "main~0", "main@"):
        for method in ("PUT", "DELETE"):
            answer = client(method, f"/sales/{ref}/a", BODY if method == "PUT" else b"")
            assert (answer.status, answer.code) == (405, "MethodNotAllowed"), ref
    answer = client("PUT", "/sales/mian/a", BODY)
    assert (answer.code, "did you mean 'main'" in answer.message) == ("NoSuchKey", True)
    assert client("PUT", "/salez/main/a", BODY).code == "NoSuchBucket"


def test_what_the_lake_refuses_is_told(client: Client, lake: Lake, repository: Repository, etag: str) -> None:
    repository.protect(["main"])
    for method, path in (("PUT", "main/a"), ("DELETE", "main/a")):
        answer = client(method, f"/sales/{path}", BODY if method == "PUT" else b"")
        assert (answer.code, "protected" in answer.message) == ("AccessDenied", True)
    answer = client("POST", "/sales/main/a", query=[("uploads", "")])
    assert (answer.code, "protected" in answer.message) == ("AccessDenied", True)
    repository.protect([])
    repository.set_read_only(True)
    assert "read-only" in client("PUT", "/sales/main/a", BODY).message
    repository.set_read_only(False)
    repository.set_quota(max_bytes=15)
    answer = client("PUT", "/sales/main/b", b"x" * 100)
    assert (answer.status, answer.code) == (403, "QuotaExceeded")


def test_deleting_what_is_not_there_is_no_error(client: Client) -> None:
    assert client("DELETE", "/sales/main/none").status == 204
    assert client("DELETE", "/sales/none/a").code == "NoSuchKey"


def test_a_branch_is_a_folder(client: Client, repository: Repository) -> None:
    assert client("PUT", "/sales/main/").status == 200  # by clients that make every folder above a file
    head = client("HEAD", "/sales/main/")
    assert (head.headers["content-type"], head.headers["content-length"]) == ("application/x-directory", "0")
    assert client("PUT", "/sales/main/").headers["etag"] == head.headers["etag"]
    assert client("PUT", "/sales/nope/").status == 404
    assert client("DELETE", "/sales/main/").status == 204
    assert [branch.name for branch in repository.branches()] == ["main"]
    assert not repository.status("main")
    assert client("GET", "/sales", query=[("prefix", "main/")]).texts("Contents/Key") == []


def test_the_folder_of_a_branch_is_always_there(client: Client, repository: Repository) -> None:
    etag = client("HEAD", "/sales/main/").headers["etag"]
    assert client("PUT", "/sales/main/", headers={"if-none-match": "*"}).code == "PreconditionFailed"
    assert client("PUT", "/sales/main/", headers={"if-match": etag}).status == 200
    assert client("PUT", "/sales/main/", headers={"if-match": '"x"'}).code == "PreconditionFailed"
    repository.create_tag("v1", "main")
    assert client("PUT", "/sales/v1/").code == "MethodNotAllowed"
    assert client("PUT", "/sales/main/", BODY).code == "InvalidArgument"  # it would be kept nowhere


@pytest.mark.parametrize("body", [b"", BODY, b"x" * 3_000_000], ids=["nothing", "small", "large"])
@pytest.mark.parametrize("ref", ["main", "nope", "main~1"])
def test_a_key_is_a_branch_and_a_path(client: Client, ref: str, body: bytes) -> None:
    key, source = f"/sales/{ref}", {"x-amz-copy-source": "/sales/main/a"}
    client("PUT", "/sales/main/a", BODY)
    for answer in (
        client("PUT", key, body),
        client("PUT", key, body, content="UNSIGNED-PAYLOAD"),
        client("PUT", key, headers=source),
        client("POST", key, query=[("uploads", "")]),
        client("DELETE", key),
    ):
        assert (answer.code, "<branch>/<path>" in answer.message) == ("InvalidArgument", True)
    for query in ([], [("attributes", "")], [("tagging", "")], [("acl", "")]):
        answer = client("GET", key, query=query, headers={"x-amz-object-attributes": "ETag"})
        assert (answer.code, "<branch>/<path>" in answer.message) == ("NoSuchKey", True)
    assert client("HEAD", key).status == 404
    copied = client("PUT", "/sales/main/b", headers={"x-amz-copy-source": key})
    assert (copied.code, "<branch>/<path>" in copied.message) == ("InvalidArgument", True)


def test_rights_are_asked_for_before_anything_is_told(client: Client, permits: Permits, etag: str) -> None:
    permits.refused = [("fs:ReadObject", "*/object/a")]
    assert client("GET", "/sales/main/a").code == "AccessDenied"
    assert client("HEAD", "/sales/main/a").status == 403
    permits.refused = [("fs:ReadObject", "*/branch/main/object/*")]
    for ref in ("main", "main@", "main~0", "main^0"):  # what is said of a branch holds for its steps
        assert client("GET", f"/sales/{ref}/a").code == "AccessDenied"
    permits.refused = [("fs:*", "*")]
    for method, path, query in (
        ("GET", "/sales/main/none", []),
        ("PUT", "/sales/main/b", []),
        ("DELETE", "/sales/main/a", []),
        ("GET", "/sales", []),
        ("GET", "/nosuchbucket", []),
        ("HEAD", "/nosuchbucket", []),
        ("PUT", "/newbucket", []),
        ("GET", "/", []),
        ("POST", "/sales/main/b", [("uploads", "")]),
        ("GET", "/sales", [("uploads", "")]),
        ("GET", "/sales", [("policy", "")]),
        ("GET", "/sales/main/a", [("tagging", "")]),
        ("PUT", "/sales/main/a", [("tagging", "")]),
    ):
        assert client(method, path, query=query).status == 403, (method, path)


def test_lost_data_is_an_error_not_a_torn_answer(client: Client, repository: Repository, etag: str) -> None:
    from pathlib import Path

    Path(repository.location(repository.stat("main", "a"))).unlink()
    assert client("HEAD", "/sales/main/a").status == 200
    answer = client("GET", "/sales/main/a")
    assert (answer.status, answer.code) == (500, "InternalError")
