"""The door with the lake's own users, keys and policies, and its log of requests."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from tests.lake.s3.client import Client, Signer

from tulle.lake.access import Access, AccessLog, open_access, people
from tulle.lake.repository import Lake, Repository
from tulle.lake.s3 import s3_application
from tulle.state.db import Database


@pytest.fixture
def access(database: Database, tmp_path: Path) -> Access:
    """Users and keys of a new mesh."""
    return open_access(database, tmp_path / "secret.key")


def signer_of(access: Access, user: str, group: str) -> Signer:
    with access.database.write() as cx:
        people.add_user(cx, user)
        people.add_member(cx, group, user)
    made = access.create_key("test", user)
    return Signer(made.id, made.secret)


def test_a_reader_reads_and_a_developer_writes(lake: Lake, repository: Repository, access: Access) -> None:
    repository.put("main", "a", b"1")
    app = s3_application(lake, access, threads=1)
    reader = Client(app, signer_of(access, "ann", "Viewers"))
    writer = Client(app, signer_of(access, "bob", "Developers"))
    assert reader("GET", "/sales/main/a").body == b"1"
    assert reader("GET", "/sales", query=[("prefix", "main/")]).status == 200
    assert reader("GET", "/").texts("Buckets/Bucket/Name") == ["sales"]
    answer = reader("PUT", "/sales/main/b", b"2")
    assert (answer.code, "ann" in answer.message) == ("AccessDenied", True)
    assert writer("PUT", "/sales/main/b", b"2").status == 200
    assert writer("DELETE", "/sales/main/b").status == 204
    assert repository.actor == ""


def test_names_are_told_only_to_who_may_list_them(lake: Lake, repository: Repository, access: Access) -> None:
    lake.create_repository("secret")
    repository.create_branch("hidden-plans")
    arn = "arn:lakefs:fs:::repository"
    allowed = [
        {"effect": "allow", "action": ["fs:*Object", "fs:ReadRepository"], "resource": f"{arn}/{name}"}
        for name in ("team-*", "sales/object/*")
    ]
    with access.database.write() as cx:
        people.add_user(cx, "ann")
        people.add_policy(cx, "team", allowed)
        people.attach(cx, "team", "user", "ann")
    made = access.create_key("test", "ann")
    client = Client(s3_application(lake, access, threads=1), Signer(made.id, made.secret))
    answer = client("GET", "/team-x/main/a")
    assert (answer.code, "secret" in answer.message, "sales" in answer.message) == (
        "NoSuchBucket",
        False,
        False,
    )
    answer = client("PUT", "/sales/hidden/a", b"1")
    assert (answer.code, "plans" in answer.message) == ("NoSuchKey", False)
    writer = Client(s3_application(lake, access, threads=1), signer_of(access, "bob", "Developers"))
    assert "hidden-plans" in writer("PUT", "/sales/hidden/a", b"1").message


def test_a_key_that_is_taken_away_opens_nothing(lake: Lake, repository: Repository, access: Access) -> None:
    signer = signer_of(access, "ann", "Viewers")
    client = Client(s3_application(lake, access, threads=1), signer)
    assert client("HEAD", "/sales").status == 200
    with access.database.write() as cx:
        people.delete_key(cx, "ann", signer.access_key)
    until = time.time() + 5
    while client("HEAD", "/sales").status == 200 and time.time() < until:
        time.sleep(0.05)
    assert client("GET", "/sales").code == "InvalidAccessKeyId"


def test_requests_are_logged_without_secrets(
    lake: Lake, repository: Repository, access: Access, tmp_path: Path
) -> None:
    log = AccessLog(tmp_path / "log", "lake-s3")
    client = Client(
        s3_application(lake, access, access_log=log, threads=1), signer_of(access, "ann", "Viewers")
    )
    client("GET", "/sales/main/none")
    client.raw("GET", "/sales/main/none")
    log.close()
    text = (tmp_path / "log" / "lake-s3.jsonl").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    assert [(line["user"], line["operation"], line["status"]) for line in lines] == [
        ("ann", "GetObject", 404),
        ("", "", 403),
    ]
    assert client.signer.secret not in text


@pytest.mark.parametrize(
    "path", [b"/%ff", b"/%ff/main/a", b"/sales/%ff/a", b"/a%00b/c/d", b"/%F0%9F%98%80", b"/" + b"x" * 300]
)
def test_what_is_no_text_is_refused(lake: Lake, access: Access, path: bytes) -> None:
    client = Client(s3_application(lake, access, threads=1), signer_of(access, "ann", "Viewers"))
    query = [("uploadId", "x")]
    from urllib.parse import unquote_to_bytes

    for method in ("GET", "PUT", "DELETE"):
        where = unquote_to_bytes(path).decode("latin-1")
        headers = client.signer.sign(method, "", query, {"host": client.host}, "UNSIGNED-PAYLOAD")
        # Signed by hand: what is quoted is bytes.
        canonical = client.signer.canonical(
            method, "/", query, headers, ["host", "x-amz-content-sha256", "x-amz-date"], "UNSIGNED-PAYLOAD"
        )
        lines = canonical.split("\n")
        lines[1] = path.decode()
        signature = client.signer.signature(headers["x-amz-date"], "\n".join(lines))
        headers["authorization"] = headers["authorization"].rpartition("=")[0] + "=" + signature
        answer = client.raw(method, where, query=query, headers=headers, path_as_sent=path)
        assert answer.status in {400, 403, 404}, answer.body
        assert answer.code not in {"SignatureDoesNotMatch", "InternalError"}


@pytest.mark.parametrize(
    "query", [b"prefix=%ff", b"prefix=a%00", b"uploads&key-marker=%ff", b"uploads&prefix=%00"]
)
def test_queries_that_are_no_text_are_refused(
    lake: Lake, access: Access, repository: Repository, query: bytes
) -> None:
    client = Client(s3_application(lake, access, threads=1), signer_of(access, "ann", "Viewers"))
    headers = client.signer.sign("GET", "/sales", [], {"host": client.host}, "UNSIGNED-PAYLOAD")
    names = ["host", "x-amz-content-sha256", "x-amz-date"]
    lines = client.signer.canonical("GET", "/sales", [], headers, names, "UNSIGNED-PAYLOAD").split("\n")
    lines[2] = "&".join(
        sorted(
            pair if "=" in pair else pair + "="
            for pair in query.decode()
            .upper()
            .replace("UPLOADS", "uploads")
            .replace("KEY-MARKER", "key-marker")
            .replace("PREFIX", "prefix")
            .replace("A%", "a%")
            .split("&")
        )
    )
    signature = client.signer.signature(headers["x-amz-date"], "\n".join(lines))
    headers["authorization"] = headers["authorization"].rpartition("=")[0] + "=" + signature
    assert client.raw("GET", "/sales", query=query, headers=headers).code == "InvalidArgument"
