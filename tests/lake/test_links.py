"""Tables of links: checked, sorted, the same as links one by one."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from tulle.errors import Invalid, NotFound
from tulle.lake.repository import Lake, Link, Repository, open_lake
from tulle.state.db import Database


@pytest.fixture
def lake(database: Database, tmp_path: Path) -> Lake:
    return open_lake(database, f"local://{tmp_path / 'objects'}", external=["s3://w/", "s3://v/"])


def table(**columns: list[object]) -> pa.Table:
    return pa.table(columns)


def test_a_table_is_the_same_as_its_links(repository: Repository) -> None:
    rows = [
        ("b", "s3://w/1", 5, "AB" * 32, "tag", "text/csv"),
        ("a", "s3://v/2", 0, "", "", ""),
        ("é", "s3://w/3", 7, "", "", ""),
    ]
    names = ("path", "address", "size", "checksum", "etag", "content_type")
    given = pa.table(
        {name: list(values) for name, values in zip(names, zip(*rows, strict=True), strict=True)}
    )
    assert repository.link_table("main", given) == 3
    from_table = [
        (e.path, e.address, e.size, e.checksum, e.etag, e.content_type, e.metadata)
        for e in repository.entries("main")
    ]
    repository.create_branch("one-by-one")
    repository.link_many("one-by-one", [Link(*row) for row in rows])
    one_by_one = [
        (e.path, e.address, e.size, e.checksum, e.etag, e.content_type, e.metadata)
        for e in repository.entries("one-by-one")
    ]
    assert from_table == one_by_one
    assert [path for path, *_ in from_table] == ["a", "b", "é"]


def test_of_equal_paths_the_last_row_counts(repository: Repository) -> None:
    given = table(path=["b", "a", "b", "a", "c"], address=[f"s3://w/{n}" for n in range(5)], size=[0] * 5)
    assert repository.link_table("main", given) == 3
    assert [(e.path, e.address[-1]) for e in repository.entries("main")] == [
        ("a", "3"),
        ("b", "2"),
        ("c", "4"),
    ]


def test_chunks_and_other_widths_of_the_same_types(repository: Repository) -> None:
    small = pa.table(
        {
            "path": pa.chunked_array([["b"], ["a"]], pa.large_string()),
            "address": pa.chunked_array([["s3://w/1"], ["s3://w/2"]], pa.large_string()),
            "size": pa.chunked_array([[1], [2]], pa.uint8()),
        }
    )
    assert repository.link_table("main", small) == 2
    assert [e.size for e in repository.entries("main")] == [2, 1]
    assert repository.link_table("main", small.slice(0, 0)) == 0


def test_own_data_must_be_there_and_as_large_as_said(repository: Repository) -> None:
    place = repository.new_data_path()
    assert place.path is not None
    place.path.write_bytes(b"1234")
    assert repository.link_table("main", table(path=["a"], address=[place.address], size=[4])) == 1
    assert repository.get("main", "a") == b"1234"
    with pytest.raises(Invalid, match="4 bytes, but 5"):
        repository.link_table("main", table(path=["a"], address=[place.address], size=[5]))
    with pytest.raises(NotFound):
        repository.link_table("main", table(path=["x", "y"], address=["s3://w/1", "data/none"], size=[1, 1]))
    assert not repository.exists("main", "x")


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"path": ["a"], "size": [1]}, "no column 'address'"),
        ({"path": ["a", None], "address": ["s3://w/1"] * 2, "size": [1, 1]}, "'path' .* empty values"),
        ({"path": [""], "address": ["s3://w/1"], "size": [1]}, "0 to 0 bytes"),
        ({"path": ["x" * 1025], "address": ["s3://w/1"], "size": [1]}, "1025 bytes"),
        ({"path": ["a\0b"], "address": ["s3://w/1"], "size": [1]}, "NUL"),
        ({"path": [b"\xff"], "address": ["s3://w/1"], "size": [1]}, "'path' .* no string"),
        ({"path": ["a"], "address": ["s3://w/1"], "size": [-1]}, "negative"),
        ({"path": ["a"], "address": ["s3://w/1"], "size": ["many"]}, "'size' .* no int64"),
        ({"path": ["a"], "address": ["s3://other/1"], "size": [1]}, "outside"),
        ({"path": ["a"], "address": ["/etc/passwd"], "size": [1]}, "no address of data"),
        ({"path": ["a"], "address": ["s3://w/1"], "size": [1], "checksum": ["xyz"]}, "'xyz' is no checksum"),
    ],
)
def test_tables_that_are_none_of_links(
    repository: Repository, columns: dict[str, list[object]], said: str
) -> None:
    with pytest.raises(Invalid, match=said):
        repository.link_table("main", table(**columns))
    assert list(repository.entries("main")) == []
