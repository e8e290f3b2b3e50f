"""ListObjects over refs and what they hold, held against a plain model of S3's rules."""

from __future__ import annotations

from urllib.parse import unquote

import pytest
from tests.lake.s3.client import Answer, Client
from tests.lake.s3.permits import Permits

from tulle.lake.repository import Repository

PATHS = ["a", "a-b", "a/1", "a/2", "b+c d%25", "dir/sub/x", "dir/sub/y", "dir/z", "ü"]


@pytest.fixture
def keys(repository: Repository) -> list[str]:
    """Everything there is under two branches and a tag, in order."""
    for path in PATHS:
        repository.put("main", path, b"1")
    repository.commit("main", "all")
    repository.create_branch("main-2")
    repository.put("main-2", "only", b"22")
    repository.create_tag("v1", "main")
    repository.create_branch("unseen", hidden=True)
    names = {"main": PATHS, "main-2": [*PATHS, "only"], "v1": PATHS}
    return sorted((f"{ref}/{path}" for ref, paths in names.items() for path in paths), key=str.encode)


def expected(keys: list[str], prefix: str, delimiter: str) -> list[str]:
    """S3's rules: every key under the prefix, what has the delimiter behind it as one prefix."""
    found: dict[str, None] = {}
    for key in keys:
        if key.startswith(prefix):
            cut = key.find(delimiter, len(prefix)) if delimiter else -1
            found[key if cut < 0 else key[: cut + len(delimiter)]] = None
    return list(found)


def listed(client: Client, **asked: str) -> Answer:
    answer = client("GET", "/sales", query=[(name.replace("_", "-"), value) for name, value in asked.items()])
    assert answer.status == 200, answer.body
    return answer


def names(answer: Answer) -> list[str]:
    found = answer.texts("Contents/Key") + answer.texts("CommonPrefixes/Prefix")
    return sorted(found, key=str.encode)


PREFIXES = ["", "m", "main", "main/", "main-", "main/a", "main/dir/", "v1/d", "v2/", "main~0/a"]


@pytest.mark.parametrize("delimiter", ["", "/", "-", "a", "sub/", "z"])
def test_both_versions_against_the_model(client: Client, keys: list[str], delimiter: str) -> None:
    for prefix in PREFIXES:
        there = keys if "~" not in prefix else [f"main~0/{path}" for path in sorted(PATHS, key=str.encode)]
        check(client, expected(there, prefix, delimiter), {"prefix": prefix, "delimiter": delimiter})


def check(client: Client, wanted: list[str], asked: dict[str, str]) -> None:
    """Both versions, whole and page by page."""
    answer = listed(client, list_type="2", **asked)
    assert names(answer) == wanted
    assert answer.texts("KeyCount") == [str(len(wanted))]
    assert names(listed(client, **asked)) == wanted
    for size in ("1", "2"):
        found: list[str] = []
        token: dict[str, str] = {}
        while True:
            page = listed(client, list_type="2", max_keys=size, **asked, **token)
            found += names(page)
            assert len(names(page)) <= int(size)
            if page.texts("IsTruncated") == ["false"]:
                break
            token = {"continuation_token": page.texts("NextContinuationToken")[0]}
        assert found == wanted
    found, marker = [], ""
    while True:
        page = listed(client, max_keys="2", marker=marker, **asked)
        found += names(page)
        if page.texts("IsTruncated") == ["false"]:
            break
        marker = page.texts("NextMarker")[0]
    assert found == wanted


@pytest.mark.parametrize(
    "after", ["main/a/1", "main/b", "main", "main/", "main-3", "m", "zzz", "main/dir/", "MAIN/dir"]
)
def test_beginning_after_a_key(client: Client, keys: list[str], after: str) -> None:
    wanted = [key for key in keys if key.encode() > after.encode()]
    assert names(listed(client, list_type="2", start_after=after)) == wanted
    assert names(listed(client, marker=after)) == wanted
    inside = [key for key in wanted if key.startswith("main/")]
    assert names(listed(client, list_type="2", prefix="main/", start_after=after)) == inside


def test_entries(client: Client, keys: list[str], repository: Repository) -> None:
    answer = listed(client, list_type="2", prefix="main/a", fetch_owner="true")
    entry = repository.stat("main", "a")
    contents = answer.xml.find("Contents")
    assert contents is not None
    assert contents.findtext("ETag") == f'"{entry.etag}"'
    assert contents.findtext("Size") == "1"
    assert contents.findtext("Owner/ID") == "ann"
    assert (contents.findtext("LastModified") or "").endswith("Z")
    assert listed(client, list_type="2").xml.find("Contents/Owner") is None
    assert listed(client).xml.find("Contents/Owner") is not None


def test_url_encoding(client: Client, keys: list[str], repository: Repository) -> None:
    repository.put("main", "\x01&<", b"")
    for version in ({}, {"list_type": "2"}):
        answer = listed(client, encoding_type="url", prefix="main/", **version)
        assert answer.texts("EncodingType") == ["url"]
        assert "main/b%2Bc%20d%2525" in answer.texts("Contents/Key")
        found = [unquote(key) for key in answer.texts("Contents/Key")]
        assert found == sorted([f"main/{path}" for path in [*PATHS, "\x01&<"]], key=str.encode)
    folders = listed(client, encoding_type="url", prefix="main/b+", delimiter="d%")
    assert folders.texts("CommonPrefixes/Prefix") == ["main/b%2Bc%20d%25"]
    assert (folders.texts("Prefix"), folders.texts("Delimiter")) == (["main/b%2B"], ["d%25"])


def test_versions(client: Client, keys: list[str]) -> None:
    answer = listed(client, versions="", prefix="main/")
    assert answer.texts("Version/Key") == [key for key in keys if key.startswith("main/")]
    assert set(answer.texts("Version/VersionId")) == {"null"}


@pytest.mark.parametrize(
    "query",
    [
        {"max-keys": "x"},
        {"max-keys": "-1"},
        {"encoding-type": "xml"},
        {"list-type": "3"},
        {"list-type": "2", "continuation-token": "%%%"},
        {"list-type": "2", "continuation-token": ""},
    ],
)
def test_nonsense_is_refused(client: Client, query: dict[str, str]) -> None:
    answer = client("GET", "/sales", query=list(query.items()))
    assert (answer.status, answer.code) == (400, "InvalidArgument")


def test_tags_are_listed_to_who_may_see_them(client: Client, keys: list[str], permits: Permits) -> None:
    permits.refused = [("fs:ListTags", "*")]
    assert names(listed(client, list_type="2", delimiter="/")) == ["main-2/", "main/"]
    permits.refused = [("fs:ListBranches", "*")]
    assert client("GET", "/sales", query=[("delimiter", "/")]).code == "AccessDenied"
    assert names(listed(client, prefix="main/a")) == ["main/a", "main/a-b", "main/a/1", "main/a/2"]


def test_limits(client: Client, repository: Repository) -> None:
    repository.put_many("main", ((f"{number:04d}", b"") for number in range(1002)))
    answer = listed(client, list_type="2", prefix="main/", max_keys="5000")
    assert (answer.texts("KeyCount"), answer.texts("MaxKeys"), answer.texts("IsTruncated")) == (
        ["1000"],
        ["1000"],
        ["true"],
    )
    nothing = listed(client, list_type="2", prefix="main/", max_keys="0")
    assert (nothing.texts("KeyCount"), nothing.texts("IsTruncated")) == (["0"], ["false"])
    assert client("GET", "/nope").code == "NoSuchBucket"
    assert names(listed(client, list_type="2", prefix="nope/")) == []
