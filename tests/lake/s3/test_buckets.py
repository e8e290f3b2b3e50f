"""Buckets, deleting many, and what the lake has not."""

from __future__ import annotations

import base64
import hashlib
import logging

import pytest
from tests.lake.s3.client import Answer, Client
from tests.lake.s3.permits import Permits

from tulle.lake.repository import Lake, Repository


def test_buckets(client: Client, lake: Lake, permits: Permits) -> None:
    for name in ("alpha", "beta", "sacks"):
        lake.create_repository(name)
    assert client("GET", "/").texts("Buckets/Bucket/Name") == ["alpha", "beta", "sacks", "sales"]
    assert client("GET", "/", query=[("prefix", "sa")]).texts("Buckets/Bucket/Name") == ["sacks", "sales"]
    page = client("GET", "/", query=[("max-buckets", "2")])
    assert page.texts("Buckets/Bucket/Name") == ["alpha", "beta"]
    token = page.texts("ContinuationToken")[0]
    page = client("GET", "/", query=[("continuation-token", token)])
    assert page.texts("Buckets/Bucket/Name") == ["sacks", "sales"]
    permits.refused = [("fs:ReadRepository", "*/alpha")]
    assert client("GET", "/").texts("Buckets/Bucket/Name") == ["beta", "sacks", "sales"]
    assert client("HEAD", "/beta").status == 200
    assert client("HEAD", "/gamma").status == 404
    assert client("POST", "/").code == "MethodNotAllowed"


def test_making_a_bucket(client: Client, lake: Lake, permits: Permits) -> None:
    body = (
        b"<CreateBucketConfiguration><LocationConstraint>eu</LocationConstraint></CreateBucketConfiguration>"
    )
    assert client("PUT", "/fresh", body).status == 200
    assert lake.repository("fresh").default_branch == "main"
    assert permits.audited == [("ann", "repository.created", "repository/fresh", "done")]
    assert client("PUT", "/fresh").code == "BucketAlreadyOwnedByYou"
    assert client("PUT", "/No_Such").code == "InvalidBucketName"
    permits.refused = [("fs:CreateRepository", "*")]
    assert client("PUT", "/another").code == "AccessDenied"
    assert client("DELETE", "/fresh").code == "NotImplemented"
    assert lake.repository("fresh")


def delete(client: Client, keys: list[str], *, quiet: bool = False, md5: bool = True) -> Answer:
    from xml.sax.saxutils import escape

    objects = "".join(f"<Object><Key>{escape(key)}</Key></Object>" for key in keys)
    text = f'<Delete xmlns="http://s3.amazonaws.com/doc/2006-03-01/">{objects}<Quiet>{str(quiet).lower()}</Quiet></Delete>'
    body = text.encode()
    headers = {"content-md5": base64.b64encode(hashlib.md5(body).digest()).decode()} if md5 else {}
    content = None if md5 else "UNSIGNED-PAYLOAD"
    return client("POST", "/sales", body, query=[("delete", "")], headers=headers, content=content)


def test_deleting_many(client: Client, repository: Repository, permits: Permits) -> None:
    for path in ("a", "b", "c &<d", "kept"):
        repository.put("main", path, b"1")
    repository.create_tag("v1", "main")
    permits.refused = [("fs:DeleteObject", "*/object/kept")]
    answer = delete(client, ["main/a", "main/c &<d", "main/none", "main/kept", "v1/a", "nope/a"])
    assert answer.texts("Deleted/Key") == ["main/a", "main/c &<d", "main/none"]
    errors = {node.findtext("Key"): node.findtext("Code") for node in answer.xml.findall("Error")}
    assert errors == {"main/kept": "AccessDenied", "v1/a": "MethodNotAllowed", "nope/a": "NoSuchKey"}
    assert [entry.path for entry in repository.entries("main")] == ["b", "kept"]
    quiet = delete(client, ["main/b"], quiet=True)
    assert (quiet.status, list(quiet.xml)) == (200, [])


def test_deleting_many_wants_a_digest_and_bounds(client: Client, repository: Repository) -> None:
    repository.put("main", "a", b"1")
    assert delete(client, ["main/a"], md5=False).code == "InvalidRequest"
    assert delete(client, []).code == "MalformedXML"
    assert delete(client, [f"main/{n}" for n in range(1001)]).code == "MalformedXML"
    assert delete(client, [f"main/{n}" for n in range(1000)]).status == 200
    wrong = {"content-md5": base64.b64encode(hashlib.md5(b"x").digest()).decode()}
    body = b"<Delete><Object><Key>main/a</Key></Object></Delete>"
    assert client("POST", "/sales", body, query=[("delete", "")], headers=wrong).code == "BadDigest"
    assert repository.exists("main", "a")


@pytest.mark.parametrize(
    "body",
    [
        b'<!DOCTYPE Delete [<!ENTITY a "b">]><Delete><Object><Key>&a;</Key></Object></Delete>',
        b'<!DOCTYPE Delete SYSTEM "file:///etc/passwd"><Delete/>',
        b"<Delete>" + b"<a>" * 50 + b"</a>" * 50 + b"</Delete>",
        b"<Delete><Object></Delete>",
        b"",
        b"\xff\xfe",
        b'<?xml version="1.0" encoding="nonsense"?><Delete/>',
    ],
)
def test_hostile_documents(client: Client, body: bytes) -> None:
    assert client("POST", "/sales", body, query=[("delete", "")]).code == "MalformedXML"


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("policy", "NoSuchBucketPolicy"),
        ("cors", "NoSuchCORSConfiguration"),
        ("lifecycle", "NoSuchLifecycleConfiguration"),
        ("website", "NoSuchWebsiteConfiguration"),
        ("tagging", "NoSuchTagSet"),
        ("encryption", "ServerSideEncryptionConfigurationNotFoundError"),
        ("object-lock", "ObjectLockConfigurationNotFoundError"),
        ("replication", "ReplicationConfigurationNotFoundError"),
        ("publicAccessBlock", "NoSuchPublicAccessBlockConfiguration"),
    ],
)
def test_what_is_not_configured(client: Client, name: str, code: str) -> None:
    answer = client("GET", "/sales", query=[(name, "")])
    assert (answer.status, answer.code) == (404, code)
    assert client("PUT", "/sales", b"<x/>", query=[(name, "")]).status == 501
    assert client("GET", "/nope", query=[(name, "")]).code == "NoSuchBucket"


@pytest.mark.parametrize(
    ("name", "root"),
    [
        ("versioning", "VersioningConfiguration"),
        ("location", "LocationConstraint"),
        ("acl", "AccessControlPolicy"),
        ("logging", "BucketLoggingStatus"),
        ("notification", "NotificationConfiguration"),
        ("requestPayment", "RequestPaymentConfiguration"),
        ("accelerate", "AccelerateConfiguration"),
        ("ownershipControls", "OwnershipControls"),
    ],
)
def test_what_is_as_everywhere(client: Client, name: str, root: str) -> None:
    answer = client("GET", "/sales", query=[(name, "")])
    assert (answer.status, answer.xml.tag) == (200, root)


def test_subresources_of_objects(client: Client, repository: Repository) -> None:
    repository.put("main", "a", b"1")
    assert client("GET", "/sales/main/a", query=[("tagging", "")]).xml.tag == "Tagging"
    assert client("GET", "/sales/main/a", query=[("acl", "")]).xml.tag == "AccessControlPolicy"
    assert client("GET", "/sales/main/a", query=[("retention", "")]).status == 404
    assert client("GET", "/sales/main/none", query=[("tagging", "")]).code == "NoSuchKey"
    for name in ("tagging", "acl", "retention", "legal-hold", "restore", "select"):
        method = "POST" if name in {"restore", "select"} else "PUT"
        answer = client(method, "/sales/main/a", b"<x/>", query=[(name, "")])
        assert (answer.status, answer.code) == (501, "NotImplemented")
    assert client("POST", "/sales", b"form").code == "NotImplemented"
    assert client("PATCH", "/sales/main/a").code == "MethodNotAllowed"
    assert client("PUT", "/sales/main/a", query=[("partNumber", "1")]).code == "InvalidArgument"


def test_a_defect_is_answered_and_logged(
    client: Client, permits: Permits, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def defect(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(permits, "demand", defect)
    with caplog.at_level(logging.ERROR):
        answer = client("GET", "/sales")
    assert (answer.status, answer.code) == (500, "InternalError")
    assert answer.headers["x-amz-request-id"] in caplog.text
    assert "ZeroDivision" not in answer.body.decode()
