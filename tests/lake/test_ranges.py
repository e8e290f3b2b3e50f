"""Ranges: their identity, their file form, where they are cut."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from xxhash import xxh64_intdigest

from tulle.errors import Broken
from tulle.lake import ranges
from tulle.lake.entry import Entry
from tulle.lake.ranges import EMPTY, Range, Row, entry_of, row_of, tombstone


def row(path: str, version: int = 0) -> Row:
    return row_of(Entry(path, f"data/x/{version}", version, modified=1_700_000_000.123456))


def many(count: int, version: int = 0) -> Range:
    return Range.of([row(f"p/{number:08d}", version) for number in range(count)])


texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=5)
entries = st.builds(
    Entry,
    path=st.text(min_size=1, max_size=40).filter(lambda t: "\0" not in t),
    address=st.text(max_size=20),
    size=st.integers(0, 2**62),
    checksum=st.sampled_from(["", "ab" * 32]),
    etag=st.text(max_size=8),
    modified=st.integers(0, 4_000_000_000_000_000).map(lambda us: us / 1_000_000),
    content_type=st.text(max_size=8),
    metadata=st.dictionaries(texts, texts, max_size=3),
)


@given(st.lists(entries, max_size=20, unique_by=lambda entry: entry.path))
@settings(max_examples=50, deadline=None)
def test_what_is_encoded_is_decoded(given_entries: list[Entry]) -> None:
    ordered = sorted(given_entries, key=lambda entry: entry.path.encode())
    content = Range.of([row_of(entry) for entry in ordered])
    decoded = ranges.decode(ranges.encode(content), "x")
    assert [entry_of(each) for each in decoded.all_rows()] == ordered
    assert ranges.identity(decoded) == ranges.identity(content)


def test_rows_are_found_also_in_slices() -> None:
    content = many(100)
    part = content.slice(20, 40).slice(5, 15)
    assert part.path(0) == b"p/00000025"
    assert part.find(b"p/00000030") == row("p/00000030")
    assert part.find(b"p/00000020") is None
    assert part.seek(b"p/00000026") == 1
    assert (part.seek(b"a"), part.seek(b"z")) == (0, 10)
    assert ranges.identity(part) == ranges.identity(Range.of(list(part.all_rows())))


def test_what_is_often_asked_for_is_answered_as_at_first() -> None:
    asked = ["p/00000000", "p/00000040", "p/00000041", "p/0000004", "p/99999999", "a", "p/00000099"]
    paths = [path.encode() for path in asked]
    whole = many(ranges.KNOWN_ROWS)
    for content in (whole, whole.slice(40, 99), many(ranges.KNOWN_ROWS + 1), EMPTY):
        first = [content.find(path) for path in paths]
        again = [[content.find(path) for path in paths] for _ in range(ranges.LEARN_AFTER)]
        assert all(found == first for found in again)
    assert whole.find(b"p/00000041") == row("p/00000041")
    assert whole.slice(40, 99).find(b"p/00000099") is None


def test_identity_tells_apart_every_column_and_where_values_end() -> None:
    base = Entry("path", "address", 1, "aa", "etag", 2.0, "type", {"k": "v"})
    variants = [
        base,
        Entry("path2", "address", 1, "aa", "etag", 2.0, "type", {"k": "v"}),
        Entry("path", "addresse", 1, "aa", "tag", 2.0, "type", {"k": "v"}),
        Entry("path", "address", 2, "aa", "etag", 2.0, "type", {"k": "v"}),
        Entry("path", "address", 1, "ab", "etag", 2.0, "type", {"k": "v"}),
        Entry("path", "address", 1, "aa", "etag", 2.000001, "type", {"k": "v"}),
        Entry("path", "address", 1, "aa", "etag", 2.0, "types", {"k": "v"}),
        Entry("path", "address", 1, "aa", "etag", 2.0, "type", {"k": "w"}),
    ]
    names = {ranges.identity(Range.of([row_of(entry)])) for entry in variants}
    names |= {ranges.identity(EMPTY), ranges.identity(Range.of([tombstone(b"path")]))}
    assert len(names) == len(variants) + 2


def test_identity_is_pinned() -> None:
    # A change here makes every stored repository unreadable: it needs a new format and a migration.
    content = Range.of([row("a/b", 7), tombstone(b"c")])
    assert ranges.identity(content) == "19e47aa80867fa1efe28cc5bff3e017c17f4f9f643189512eb0abad55e793a57"
    assert (
        ranges.identity(Range.of([row("a/b", 7)]))
        == "e107063832ce544477103ca6e45be824a4e8cfa2a700bed90f6a65eb7131b280"
    )


def test_tombstones_cost_base_ranges_nothing() -> None:
    live, mixed = Range.of([row("a")]), Range.of([row("a"), tombstone(b"b")])
    assert pa.ipc.open_file(ranges.encode(live)).schema.names[-1] == "metadata"
    assert pa.ipc.open_file(ranges.encode(mixed)).schema.names[-1] == "deleted"
    assert ranges.decode(ranges.encode(mixed), "x").deleted.tolist() == [False, True]
    assert list(mixed.live().all_rows()) == [row("a")]


def test_a_damaged_file_is_said_by_name() -> None:
    data = ranges.encode(many(10))
    with pytest.raises(Broken, match="range some-name"):
        ranges.decode(data[: len(data) // 2], "some-name")


def test_cuts_follow_the_rule() -> None:
    content = many(100_000)
    positions = ranges.cuts(content)
    sizes = [b - a for a, b in zip([0, *positions], positions, strict=False)]
    assert 4 <= len(positions) <= 40
    for stop, size in zip(positions, sizes, strict=True):
        marked = xxh64_intdigest(content.path(stop - 1)) % ranges.CUT_EVERY == 0
        assert ranges.MIN_ROWS <= size <= ranges.MAX_ROWS
        assert marked or size == ranges.MAX_ROWS
    marks = [n + 1 for n in range(content.rows) if xxh64_intdigest(content.path(n)) % ranges.CUT_EVERY == 0]
    for mark in marks:
        start = max([0, *(stop for stop in positions if stop < mark)])
        assert mark in positions or mark - start < ranges.MIN_ROWS


def test_cuts_depend_only_on_what_lies_between_them() -> None:
    content = many(60_000)
    positions = ranges.cuts(content)
    rest = content.slice(positions[0], content.rows)
    assert [stop + positions[0] for stop in ranges.cuts(rest)] == positions[1:]


def test_no_range_is_longer_than_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranges, "CUT_EVERY", 10**12)
    assert ranges.cuts(many(ranges.MAX_ROWS * 2 + 5)) == [ranges.MAX_ROWS, ranges.MAX_ROWS * 2]
    assert ranges.cuts(many(ranges.MAX_ROWS)) == [ranges.MAX_ROWS]
    assert ranges.cuts(many(ranges.MAX_ROWS - 1)) == []
