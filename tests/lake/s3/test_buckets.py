"""Buckets, and what the lake has not."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from tests.lake.s3.client import Client, Signer
from tests.lake.s3.permits import Permits

from tulle.events import ACCESS_DENIED
from tulle.lake.access import open_access, people
from tulle.lake.repository import Lake, Repository
from tulle.lake.s3 import s3_application
from tulle.state import log
from tulle.state.db import Database


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


def test_what_a_listing_leaves_out_is_no_denial(
    lake: Lake, repository: Repository, database: Database, tmp_path: Path
) -> None:
    lake.create_repository("secret")
    access = open_access(database, tmp_path / "secret.key")
    allowed = [
        {"effect": "allow", "action": ["fs:ListRepositories"], "resource": "*"},
        {
            "effect": "allow",
            "action": ["fs:ReadRepository", "fs:ListObjects", "fs:ListBranches"],
            "resource": "arn:lakefs:fs:::repository/sales",
        },
    ]
    with database.write() as cx:
        people.add_user(cx, "ann")
        people.add_policy(cx, "sales", allowed)
        people.attach(cx, "sales", "user", "ann")
    made = access.create_key("test", "ann")
    client = Client(s3_application(lake, access, threads=1), Signer(made.id, made.secret))
    assert client("GET", "/").texts("Buckets/Bucket/Name") == ["sales"]
    listed = client("GET", "/sales", query=[("delimiter", "/")])  # tags are not for ann
    assert listed.texts("CommonPrefixes/Prefix") == ["main/"]
    assert client("HEAD", "/secret").status == 403
    denied = [entry.subject for entry in log.read(database, limit=100) if entry.kind == ACCESS_DENIED]
    assert denied == ["arn:lakefs:fs:::repository/secret"]  # what was asked for, once


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
