import pytest
from tests.lake.rest.calling import path_of

R = "/repositories/sales"
OBJECTS = f"{R}/refs/main/objects"
STAGED = f"{R}/branches/main/objects"


def test_an_object_is_read(client, sales):
    answer = client.get(OBJECTS, path="a/1.txt")
    assert (answer.status, answer.body) == (200, b"one")
    assert answer.headers["etag"] == f'"{sales.stat("main", "a/1.txt").etag}"'
    assert answer.headers["content-type"] == "text/plain"
    assert answer.headers["content-length"] == "3"
    assert answer.headers["last-modified"].endswith("GMT")
    assert client.get(OBJECTS, path="nothing").status == 404
    assert client.get(f"{R}/refs/nowhere/objects", path="b.txt").status == 404
    assert client.get(OBJECTS).status == 400


def test_a_head_has_no_body(client, sales):
    answer = client.head(OBJECTS, path="a/1.txt")
    assert (answer.status, answer.body, answer.headers["content-length"]) == (200, b"", "3")
    assert client.head(OBJECTS, path="nothing").status == 404


@pytest.mark.parametrize(
    ("header", "status", "body", "content_range"),
    [
        ("bytes=0-0", 206, b"o", "bytes 0-0/3"),
        ("bytes=1-", 206, b"ne", "bytes 1-2/3"),
        ("bytes=-2", 206, b"ne", "bytes 1-2/3"),
        ("bytes=-99", 206, b"one", "bytes 0-2/3"),
        ("bytes=1-99", 206, b"ne", "bytes 1-2/3"),
        ("bytes=0-0,2-2", 200, b"one", None),
        ("lines=1-2", 200, b"one", None),
        ("bytes=2-1", 200, b"one", None),
        ("bytes=-", 200, b"one", None),
        ("bytes=3-", 416, None, "bytes */3"),
        ("bytes=-0", 416, None, "bytes */3"),
        ("bytes=" + "9" * 50 + "-", 416, None, "bytes */3"),
    ],
)
def test_ranges(client, sales, header, status, body, content_range):
    answer = client.get(OBJECTS, path="a/1.txt", headers={"Range": header})
    assert (answer.status, answer.headers.get("content-range")) == (status, content_range)
    if body is not None:
        assert answer.body == body


def test_what_the_caller_has_is_not_sent_again(client, sales):
    etag = client.head(OBJECTS, path="b.txt").headers["etag"]
    answer = client.get(OBJECTS, path="b.txt", headers={"If-None-Match": f'"other", {etag}'})
    assert (answer.status, answer.body) == (304, b"")
    assert client.get(OBJECTS, path="b.txt", headers={"If-None-Match": '"other"'}).status == 200


def test_data_that_is_gone_is_told(client, sales):
    sales.reader.blobs.delete(sales.writer.blob(sales.stat("main", "b.txt").address))
    assert client.get(OBJECTS, path="b.txt").status == 410


def test_large_objects_come_in_pieces(client, sales):
    data = bytes(range(256)) * 40_000  # more than one piece
    sales.put("main", "large", data)
    assert client.get(OBJECTS, path="large").body == data
    part = client.get(OBJECTS, path="large", headers={"Range": "bytes=100-9000000"})
    assert part.body == data[100:9_000_001]


@pytest.mark.parametrize(
    "path", ["a b+c%d.txt", "ä/ü.txt", "x//y", "/lead", "tail/", "a?b#c&d=e", "\U0001f984", "..", "a/../b"]
)
def test_any_path_can_be_written_and_read(client, sales, path):
    assert client.post(STAGED, path=path, body=b"x").json["path"] == path
    assert client.get(OBJECTS, path=path).body == b"x"
    assert client.get(f"{OBJECTS}/stat", path=path).json["path"] == path
    assert path in [entry["path"] for entry in client.get(f"{OBJECTS}/ls").json["results"]]
    assert client.delete(STAGED, path=path).status == 204


def test_a_stat_says_everything_in_whole_numbers(client, sales):
    entry = sales.stat("main", "a/1.txt")
    assert client.get(f"{OBJECTS}/stat", path="a/1.txt").json == {
        "path": "a/1.txt",
        "path_type": "object",
        "physical_address": f"{sales.storage_namespace}/{entry.address}",
        "checksum": "f97c5d29941bfb1b2fdab0874906ab82",
        "size_bytes": 3,
        "mtime": int(entry.modified),
        "metadata": {"k": "v"},
        "content_type": "text/plain",
    }
    assert "metadata" not in client.get(f"{OBJECTS}/stat", path="a/1.txt", user_metadata=False).json
    assert client.get(f"{OBJECTS}/stat", path="b.txt").json["content_type"] == "application/octet-stream"
    assert client.get(f"{OBJECTS}/stat", path="nothing").status == 404
    assert client.get(f"{OBJECTS}/underlyingProperties", path="b.txt").json == {}


def paths(answer):
    return [entry["path"] for entry in answer.json["results"]]


def test_objects_are_listed(client, sales):
    ls = f"{OBJECTS}/ls"
    for path in ("a/2", "c/d/1", "c/e", "z"):
        sales.put("main", path, b"x")
    assert paths(client.get(ls)) == ["a/1.txt", "a/2", "b.txt", "c/d/1", "c/e", "z"]
    assert paths(client.get(ls, prefix="c/")) == ["c/d/1", "c/e"]
    top = client.get(ls, delimiter="/")
    assert paths(top) == ["a/", "b.txt", "c/", "z"]
    assert [entry["path_type"] for entry in top.json["results"]] == ["common_prefix", "object"] * 2
    assert paths(client.get(ls, prefix="c/", delimiter="/")) == ["c/d/", "c/e"]
    assert paths(client.get(f"{R}/refs/main@/objects/ls")) == ["a/1.txt", "b.txt"]
    for delimiter, wanted in (
        ("", ["a/1.txt", "a/2", "b.txt", "c/d/1", "c/e", "z"]),
        ("/", ["a/", "b.txt", "c/", "z"]),
    ):
        found, after = [], ""
        while True:
            page = client.get(ls, delimiter=delimiter, amount=1, after=after)
            found += paths(page)
            if not page.json["pagination"]["has_more"]:
                break
            after = page.json["pagination"]["next_offset"]
        assert found == wanted


def test_addresses_that_need_no_credentials(client, sales):
    stat = client.get(f"{OBJECTS}/stat", path="a/1.txt", presign=True).json
    assert stat["physical_address_expiry"] > stat["mtime"]
    listed = client.get(f"{OBJECTS}/ls", presign=True).json["results"][0]
    redirect = client.get(OBJECTS, path="a/1.txt", presign=True)
    assert redirect.status == 302
    for url in (stat["physical_address"], listed["physical_address"], redirect.headers["location"]):
        answer = client.url(url)
        assert (answer.status, answer.body, answer.headers["content-type"]) == (200, b"one", "text/plain")
        assert client.url(url, "HEAD").headers["content-length"] == "3"
        assert client.url(url, range="bytes=1-1").body == b"n"
        assert client.url(url, "PUT", b"other").status == 403
        assert client.url(url[:-1] + ("0" if url[-1] != "0" else "1")).status == 403
        assert client.url(url.partition("?")[0]).status == 403


def test_objects_are_removed(client, sales):
    assert client.delete(STAGED, path="b.txt").status == 204
    assert client.get(OBJECTS, path="b.txt").status == 404
    assert client.delete(STAGED, path="b.txt").status == 404


def test_many_are_removed_and_what_cannot_be_is_told(client, sales):
    answer = client.post(f"{STAGED}/delete", json={"paths": ["b.txt", "nothing", "", "x" * 2000]})
    assert answer.status == 200
    assert [error["status_code"] for error in answer.json["errors"]] == [400, 400]
    assert not sales.exists("main", "b.txt")
    assert client.post(f"{STAGED}/delete", json={"paths": ["a/1.txt"]}).json == {"errors": []}
    assert client.post(f"{STAGED}/delete", json={"paths": ["x"] * 1001}).status == 400
    assert client.post(f"{R}/branches/nowhere/objects/delete", json={"paths": ["x"]}).status == 404


def test_objects_are_copied_and_moved(client, sales):
    answer = client.post(f"{STAGED}/copy", json={"src_path": "a/1.txt", "src_ref": "main@"}, dest_path="copy")
    assert answer.status == 201
    original = client.get(f"{OBJECTS}/stat", path="a/1.txt").json
    copied = {**answer.json, "path": "a/1.txt", "mtime": original["mtime"]}
    assert copied == original
    assert client.post(f"{STAGED}/copy", json={"src_path": "nothing"}, dest_path="copy").status == 404
    moved = client.post(f"{STAGED}/move", json={"src_path": "copy", "dest_path": "moved"})
    assert (moved.status, moved.json["path"]) == (201, "moved")
    assert not sales.exists("main", "copy")


def test_user_metadata_is_replaced(client, sales):
    path = f"{STAGED}/stat/user_metadata"
    assert client.put(path, path="a/1.txt", json={"set": {"new": "one"}}).status == 201
    assert client.get(f"{OBJECTS}/stat", path="a/1.txt").json["metadata"] == {"new": "one"}
    assert client.put(path, path="nothing", json={"set": {}}).status == 404
    assert client.put(path, path="a/1.txt", json={"set": {"new": 1}}).status == 400


def test_symlink_files_are_not_written(client, sales):
    assert client.post(path_of(f"{R}/refs/{{branch}}/symlink", branch="main")).status == 501
