"""Deleting through the door: one and many, versions, conditions that hold when the removal happens."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from email.utils import formatdate
from typing import Any
from xml.sax.saxutils import escape

import pytest
from tests.lake.s3.client import Answer, Client
from tests.lake.s3.permits import Permits

from tulle.lake.entry import Entry
from tulle.lake.objects import Objects
from tulle.lake.repository import Repository

KEY = "/sales/main/a"
PAST = "Wed, 01 Jan 2020 00:00:00 GMT"


def delete(client: Client, keys: list[str], *, quiet: bool = False, md5: bool = True) -> Answer:
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


def errors_of(answer: Answer) -> Mapping[str | None, str | None]:
    return {node.findtext("Key"): node.findtext("Code") for node in answer.xml.findall("Error")}


def delete_with(client: Client, *objects: Mapping[str, str]) -> Answer:
    """DeleteObjects with elements beside the key."""
    listed = "".join(
        "<Object>" + "".join(f"<{name}>{escape(text)}</{name}>" for name, text in one.items()) + "</Object>"
        for one in objects
    )
    return client("POST", "/sales", f"<Delete>{listed}</Delete>".encode(), query=[("delete", "")])


def test_only_the_version_there_is_can_be_deleted(client: Client, repository: Repository) -> None:
    repository.put("main", "a", b"1")
    answer = client("DELETE", KEY, query=[("versionId", "3sL4kqtJlcpXroDTDmJ")])
    assert (answer.status, answer.code) == (404, "NoSuchVersion")
    several = delete_with(
        client,
        {"Key": "main/a", "VersionId": "3sL4kqtJlcpXroDTDmJ"},
        {"Key": "main/none", "VersionId": "null"},
    )
    assert errors_of(several) == {"main/a": "NoSuchVersion"}
    assert several.texts("Error/VersionId") == ["3sL4kqtJlcpXroDTDmJ"]
    assert several.texts("Deleted/Key") == ["main/none"]
    assert repository.get("main", "a") == b"1"
    assert client("DELETE", KEY, query=[("versionId", "null")]).status == 204
    assert not repository.exists("main", "a")


def test_a_version_of_what_is_written_is_refused(client: Client, repository: Repository) -> None:
    repository.put("main", "a", b"1")
    for method, query in (("PUT", []), ("POST", [("uploads", "")])):
        answer = client(method, KEY, query=[*query, ("versionId", "null")])
        assert answer.code == "InvalidArgument"
    assert repository.get("main", "a") == b"1"


def conditions(entry: Entry) -> list[tuple[str, str, str, bool]]:
    """Headers, elements, values, and whether such a condition holds for the entry."""
    modified = formatdate(entry.modified, usegmt=True)
    return [
        ("if-match", "ETag", f'"{entry.etag}"', True),
        ("if-match", "ETag", entry.etag, True),
        ("if-match", "ETag", "*", True),
        ("if-match", "ETag", '"0123"', False),
        ("if-match", "ETag", "", False),
        ("x-amz-if-match-size", "Size", "5", True),
        ("x-amz-if-match-size", "Size", "6", False),
        ("x-amz-if-match-last-modified-time", "LastModifiedTime", modified, True),
        ("x-amz-if-match-last-modified-time", "LastModifiedTime", PAST, False),
    ]


@pytest.mark.parametrize("number", range(9))
def test_conditions(client: Client, repository: Repository, number: int) -> None:
    header, name, value, holds = conditions(repository.put("main", "a", b"12345"))[number]
    answer = client("DELETE", KEY, headers={header: value})
    assert (answer.status, repository.exists("main", "a")) == ((204, False) if holds else (412, True))
    assert holds or answer.code == "PreconditionFailed"
    repository.reset("main")
    header, name, value, holds = conditions(repository.put("main", "a", b"12345"))[number]
    repository.put("main", "b", b"2")
    several = delete_with(client, {"Key": "main/a", name: value}, {"Key": "main/b"})
    assert several.status == 200
    assert errors_of(several) == ({} if holds else {"main/a": "PreconditionFailed"})
    assert repository.exists("main", "a") != holds
    assert not repository.exists("main", "b")


def test_conditions_of_what_is_not_there(client: Client, repository: Repository) -> None:
    for value in ("*", '"0123"'):
        assert client("DELETE", KEY, headers={"if-match": value}).code == "PreconditionFailed"
        assert client("DELETE", "/sales/nope/a", headers={"if-match": value}).code == "NoSuchKey"
    assert errors_of(delete_with(client, {"Key": "main/a", "ETag": "x"})) == {"main/a": "PreconditionFailed"}
    assert client("DELETE", KEY, headers={"if-match": "*", "x-amz-if-match-size": "x"}).status == 412
    repository.put("main", "a", b"1")
    for date in ("yesterday", ""):
        answer = client("DELETE", KEY, headers={"x-amz-if-match-last-modified-time": date})
        assert answer.code == "InvalidArgument"
    assert repository.exists("main", "a")


def test_a_linked_object_is_deleted_by_the_etag_it_is_shown_with(
    client: Client, repository: Repository
) -> None:
    place = repository.new_data_path()
    assert place.path is not None
    place.path.write_bytes(b"12345")
    repository.link("main", "a", place.address)
    etag = client("HEAD", KEY).headers["etag"]
    assert client("DELETE", KEY, headers={"if-match": etag}).status == 204


@pytest.mark.parametrize("many", [False, True])
def test_a_condition_holds_when_the_removal_happens(
    client: Client, repository: Repository, monkeypatch: pytest.MonkeyPatch, many: bool
) -> None:
    etag = repository.put("main", "a", b"old").etag
    look, others = Objects.stat, [b"new"]

    def overtaken(self: Objects, *args: Any) -> Entry:
        found = look(self, *args)
        if others:  # somebody writes just after the door looked
            repository.put("main", "a", others.pop())
        return found

    monkeypatch.setattr(Objects, "stat", overtaken)
    if many:
        assert errors_of(delete_with(client, {"Key": "main/a", "ETag": etag})) == {
            "main/a": "PreconditionFailed"
        }
    else:
        assert client("DELETE", KEY, headers={"if-match": etag}).code == "PreconditionFailed"
    assert repository.get("main", "a") == b"new"
    others.append(b"newer")
    assert client("DELETE", KEY, headers={"if-match": "*"}).status == 204  # that holds for the newer one too
    assert not repository.exists("main", "a")


def test_branches_are_no_objects(client: Client, repository: Repository) -> None:
    repository.create_tag("v1", "main")
    answer = client("DELETE", "/sales/main")
    assert (answer.code, "<branch>/<path>" in answer.message) == ("InvalidArgument", True)
    assert client("DELETE", "/sales/main/").status == 204
    assert client("DELETE", "/sales/nope/").code == "NoSuchKey"
    assert client("DELETE", "/sales/v1/").code == "MethodNotAllowed"
    several = delete(client, ["main", "main/", "nope/", "v1/"])
    assert several.texts("Deleted/Key") == ["main/"]
    assert errors_of(several) == {
        "main": "InvalidArgument",
        "nope/": "NoSuchKey",
        "v1/": "MethodNotAllowed",
    }
    assert not repository.status("main")
