"""The access log read on from a place: over restarts, and however often it was put aside."""

from __future__ import annotations

from pathlib import Path

import pytest

from tulle.gateway import log_place
from tulle.gateway.access_log import KEPT
from tulle.gateway.log_place import LogReader

Place = tuple[str, int]


def aside(file: Path) -> None:
    """What putting a log aside does to the names."""
    for number in range(KEPT - 1, 0, -1):
        older = file.with_name(f"{file.stem}.{number}{file.suffix}")
        if older.exists():
            older.replace(file.with_name(f"{file.stem}.{number + 1}{file.suffix}"))
    file.replace(file.with_name(f"{file.stem}.1{file.suffix}"))


def read(file: Path, place: Place = ("", 0)) -> tuple[list[bytes], Place, bool]:
    """Lines after a place, the new place, and whether something was lost."""
    lines, lost = [], False
    for piece in LogReader(file).pieces(*place):
        lines += piece.data.splitlines()
        place, lost = (piece.file, piece.position), lost or piece.lost
    return lines, place, lost


def write(file: Path, *lines: str, end: str = "\n") -> None:
    with file.open("a") as log:
        log.write("\n".join(lines) + end)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "access.jsonl"


def test_only_what_is_new_is_read_and_only_whole_lines(file: Path) -> None:
    assert read(file) == ([], ("", 0), False)
    write(file, "one", "two", "thr", end="")
    lines, place, _ = read(file)
    assert lines == [b"one", b"two"]
    assert read(file, place)[0] == []
    write(file, "ee")
    assert read(file, place)[0] == [b"three"]


def test_it_goes_on_through_all_that_was_put_aside(file: Path) -> None:
    write(file, "a1", "a2")
    _, place, _ = read(file)
    write(file, "a3")
    for name in ("b", "c", "d"):
        aside(file)
        write(file, f"{name}1", f"{name}2")
    lines, place, lost = read(file, place)
    assert lines == [b"a3", b"b1", b"b2", b"c1", b"c2", b"d1", b"d2"]
    assert not lost
    aside(file)  # and no new one yet: who writes goes on with the one it has
    write(file.with_name("access.1.jsonl"), "d3")
    lines, place, lost = read(file, place)
    assert (lines, lost) == ([b"d3"], False)
    write(file, "e1")
    assert read(file, place)[0] == [b"e1"]


def test_what_is_gone_is_told_once(file: Path) -> None:
    write(file, "0")
    _, place, _ = read(file)
    for number in range(1, KEPT + 2):
        aside(file)
        write(file, str(number))
    pieces = list(LogReader(file).pieces(*place))
    assert [line for piece in pieces for line in piece.data.splitlines()] == [
        str(n).encode() for n in range(1, KEPT + 2)
    ]
    assert [piece.lost for piece in pieces] == [True, *[False] * KEPT]


def test_a_new_file_of_the_same_name_and_size_is_another_one(file: Path) -> None:
    write(file, "one", "two")
    _, place, _ = read(file)
    file.unlink()
    write(file, "eno", "owt")
    assert read(file, place) == ([b"eno", b"owt"], read(file)[1], True)


def test_a_line_longer_than_any_of_ours_is_passed_over(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_place, "CHUNK", 64)
    write(file, "first", "x" * 500, "last")
    lines, _, _ = read(file)
    assert lines[0] == b"first"
    assert lines[-1] == b"last"
    assert max(map(len, lines)) < 500


def test_pieces_say_where_they_end(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_place, "CHUNK", 10)
    write(file, *(f"n{n:03}" for n in range(9)))
    pieces = list(LogReader(file).pieces())
    assert len(pieces) > 3
    for number, piece in enumerate(pieces):
        rest, _, _ = read(file, (piece.file, piece.position))
        assert rest == [line for later in pieces[number + 1 :] for line in later.data.splitlines()]


def test_who_comes_late_begins_near_the_end_of_the_newest(file: Path) -> None:
    assert LogReader(file).newest(10) == ("", 0)
    write(file, *(f"{n:04}" for n in range(100)))
    aside(file)
    write(file, *(f"{n:04}" for n in range(100, 200)))
    place = LogReader(file).newest(12)
    assert read(file, place)[0] == [b"7", b"0198", b"0199"]  # the end of a line, which is none
    assert read(file, LogReader(file).newest(10_000))[0][0] == b"0100"


def test_of_two_files_it_is_known_which_is_older(file: Path) -> None:
    names = []
    for number in range(KEPT + 2):
        write(file, str(number))
        names.append(LogReader(file).newest(0)[0])
        aside(file)
    log = LogReader(file)
    assert log.is_before(names[-2], names[-1])
    assert not log.is_before(names[-1], names[-2])
    assert not log.is_before(names[-1], names[-1])
    assert log.is_before(names[0], names[-1])  # it is forgotten
    assert not log.is_before(names[-1], names[0])
