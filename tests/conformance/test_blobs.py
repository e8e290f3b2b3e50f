"""What every store of blobs must do, run on each implementation."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from obstore.store import LocalStore

from tulle.errors import AlreadyExists, Invalid, NotFound
from tulle.lake.blobs import CHUNK_BYTES, Blobs, LocalBlobs, StoreBlobs, open_blobs, read_chunks


@pytest.fixture(params=["local", "memory", "obstore on disk"])
def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> Blobs:
    if request.param == "local":
        return open_blobs(f"local://{tmp_path / 'store'}")
    if request.param == "memory":
        return open_blobs("memory:///")
    (tmp_path / "disk").mkdir()
    return StoreBlobs(LocalStore(tmp_path / "disk"), f"file://{tmp_path / 'disk'}")


def test_is_the_implementation_meant(blobs: Blobs, request: pytest.FixtureRequest) -> None:
    local = request.node.callspec.params["blobs"] == "local"
    assert isinstance(blobs, LocalBlobs if local else StoreBlobs)


def test_what_was_put_can_be_read(blobs: Blobs) -> None:
    assert blobs.put("a/b", b"hello") == 5
    assert blobs.get("a/b") == b"hello"
    info = blobs.stat("a/b")
    assert (info.path, info.size) == ("a/b", 5)
    assert info.modified > 1_600_000_000
    assert blobs.stat("a/b", settle=True).size == 5


def test_nothing_is_a_content_too(blobs: Blobs) -> None:
    assert blobs.put("empty", b"") == 0
    assert blobs.get("empty") == b""
    assert blobs.put("none", iter([])) == 0
    assert blobs.get("none", 0, 10) == b""


def test_chunks_are_joined(blobs: Blobs) -> None:
    assert blobs.put("a", iter([b"one ", b"", b"two"])) == 7
    assert blobs.get("a") == b"one two"


def test_large_content_in_chunks(blobs: Blobs) -> None:
    pieces = [bytes([n]) * (CHUNK_BYTES // 2 + n) for n in range(5)]
    size = blobs.put("large", iter(pieces))
    assert size == sum(map(len, pieces))
    assert blobs.get("large") == b"".join(pieces)
    assert b"".join(read_chunks(blobs, "large", size)) == b"".join(pieces)
    with pytest.raises(AlreadyExists):
        blobs.put("large", iter(pieces))


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        (0, None, b"0123456789"),
        (3, None, b"3456789"),
        (2, 5, b"234"),
        (8, 99, b"89"),
        (10, 12, b""),
        (20, None, b""),
    ],
)
def test_ranges(blobs: Blobs, start: int, end: int | None, expected: bytes) -> None:
    blobs.put("digits", b"0123456789")
    assert blobs.get("digits", start, end) == expected


def test_content_is_never_overwritten(blobs: Blobs) -> None:
    blobs.put("a", b"first")
    with pytest.raises(AlreadyExists, match="'a'"):
        blobs.put("a", b"second")
    with pytest.raises(AlreadyExists):
        blobs.put("a", iter([b"third"]))
    assert blobs.get("a") == b"first"


def test_of_two_writers_one_wins(blobs: Blobs) -> None:
    refused: list[bytes] = []

    def write(data: bytes) -> None:
        try:
            blobs.put("contested", data)
        except AlreadyExists:
            refused.append(data)

    contents = [bytes([65 + n]) * 100_000 for n in range(8)]
    threads = [threading.Thread(target=write, args=(data,)) for data in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(refused) == len(contents) - 1
    assert blobs.get("contested") in set(contents) - set(refused)


def test_a_failed_write_leaves_nothing(blobs: Blobs) -> None:
    def broken() -> Iterator[bytes]:
        yield b"x" * 100
        raise RuntimeError("the source broke")

    with pytest.raises(RuntimeError, match="the source broke"):
        blobs.put("half", broken())
    with pytest.raises(NotFound):
        blobs.get("half")
    assert list(blobs.list()) == []


def test_missing_blobs(blobs: Blobs) -> None:
    with pytest.raises(NotFound, match="nowhere"):
        blobs.get("nowhere")
    with pytest.raises(NotFound, match="nowhere"):
        blobs.get("nowhere", 2, 5)
    with pytest.raises(NotFound, match="nowhere"):
        blobs.stat("nowhere")
    with pytest.raises(NotFound, match="nowhere"):
        blobs.stat("nowhere", settle=True)
    blobs.delete("nowhere")


def test_delete(blobs: Blobs) -> None:
    blobs.put("a", b"1")
    blobs.delete("a")
    with pytest.raises(NotFound):
        blobs.get("a")
    blobs.put("a", b"2")
    assert blobs.get("a") == b"2"


def test_list_under_a_folder(blobs: Blobs) -> None:
    for path in ("a/x", "a/b/y", "ab/z", "c"):
        blobs.put(path, path.encode())
    assert sorted(info.path for info in blobs.list()) == ["a/b/y", "a/x", "ab/z", "c"]
    assert sorted((info.path, info.size) for info in blobs.list("a")) == [("a/b/y", 5), ("a/x", 3)]
    assert list(blobs.list("none")) == []


def test_url_names_the_place(blobs: Blobs) -> None:
    blobs.put("a/b", b"12")
    url = blobs.url("a/b", for_writing=True)
    assert url.endswith("/a/b")
    if url.startswith("/"):
        assert Path(url).read_bytes() == b"12"
    else:
        assert "://" in url


@pytest.mark.parametrize(
    "path", ["", "/a", "a/", "../a", "a/../b", ".hidden", "a//b", "a/.b", "a b", "é", "a\n"]
)
def test_paths_are_plain(blobs: Blobs, path: str) -> None:
    for work in (lambda: blobs.put(path, b""), lambda: blobs.get(path), lambda: blobs.url(path)):
        with pytest.raises(Invalid, match="blob path"):
            work()


@pytest.mark.parametrize(
    "namespace", ["local://relative", "ftp://x/y", "file:///tmp/x", "nothing", "", "s4://b"]
)
def test_namespaces_that_name_no_store(namespace: str) -> None:
    with pytest.raises(Invalid, match="namespace"):
        open_blobs(namespace)
