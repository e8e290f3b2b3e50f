"""Lines of the access log: what they say, what of a damaged one, and that Envoy is asked to write what is read."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from tests.observe.lines import NOON, as_read, line

from tulle.gateway import log_line
from tulle.gateway.envoy_listener import access_log
from tulle.gateway.log_line import Line, LineReader, Name


def test_what_is_read_is_what_envoy_writes() -> None:
    written = access_log("any")["typed_config"]["log_format"]["json_format"]
    assert {field.name for field in msgspec.structs.fields(Line)} <= {*written}


def test_a_line_says_who_called_and_how_long_it_took() -> None:
    found = as_read(
        [
            line(NOON + 0.25, us=1234, client=None, client_of_external="app-2"),
            line(us=5000).replace(b'"duration_us":5000,', b""),  # of a gateway of before
            line(duration_us=None, duration_ms=None),
            line(duration_us=-7, code=None, service=None),
        ]
    )
    names = [found.names[number] for number in found.which]
    assert [one.client for one in names] == ["app-2", "app-1", "app-1", "app-1"]
    assert found.took.tolist() == [1234, 5000, 0, 0]
    assert found.begun.tolist() == [(NOON * 1000 + 250) * 1000, *[NOON * 1_000_000] * 3]
    assert names[0] == Name("offers", "", "", "v1", "app-2", "contract", 200, "via_upstream", "", "")
    assert (names[3].code, names[3].service) == (0, "")


def test_what_lines_have_in_common_has_one_name_until_there_are_too_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(log_line, "MOST_NAMES", 2)
    reader = LineReader()
    first = reader.read(line(NOON) + b"\n" + line(NOON + 5, us=77, path="/other"))
    assert (first.which.tolist(), len(first.names)) == ([0, 0], 1)
    second = reader.read(b"\n".join([line(client="b"), line(), line(client="c")]))
    assert second.names is first.names
    assert second.which.tolist() == [1, 0, 2]
    third = reader.read(line(client="d"))
    assert third.names is not first.names
    assert ([one.client for one in third.names], third.which.tolist()) == (["d"], [0])


@pytest.mark.parametrize("at", [NOON, 1_772_359_200.5, 951_782_400.999, 4_102_444_799.001])
def test_times_are_those_of_the_calendar(at: float) -> None:
    assert as_read([line(at)]).begun[0] == pytest.approx(at * 1e6, abs=1000)


@pytest.mark.parametrize(
    "time",
    [
        "",
        "2026-03-01T10:00:00Z",
        "2026-13-01T10:00:00.000Z",
        "2026-03-01T24:00:00.000Z",
        "2é26-03-01T10:00:00.000",
        "x" * 24,
    ],
)
def test_what_has_no_time_is_no_line(time: str) -> None:
    found = as_read([line(), line(time=time), line(NOON + 1, client="app-2")])
    assert (len(found.lines), found.unread) == (2, 1)
    assert [found.names[number].client for number in found.which] == ["app-1", "app-2"]
    assert found.begun.tolist() == [NOON * 1_000_000, (NOON + 1) * 1_000_000]
    assert len(as_read([line(time=time)]).lines) == 0


def test_a_line_behind_half_a_line_is_found_and_the_half_is_unread() -> None:
    whole = line()
    found = LineReader().read(b"\n".join([whole[:50] + whole, whole[:50], b"", b"\xff\xfe", b"[]", whole]))
    assert (len(found.lines), found.unread) == (2, 4)
    assert len(LineReader().read(b"").lines) == 0


@pytest.mark.parametrize("more", [{"message": {"x-own": "v"}}, {"path": "/x{"}, {"path": '/{"time":"{"'}])
def test_it_is_found_whatever_looks_like_its_beginning_within_the_half_or_itself(
    more: dict[str, Any],
) -> None:
    whole = line(**more)
    for cut in range(1, len(whole) - 1):
        found = LineReader().read(whole[:cut] + whole)
        assert (len(found.lines), found.unread) == (1, 0), whole[:cut]
        assert (found.lines[0].path, found.lines[0].client) == (json.loads(whole)["path"], "app-1")
    assert LineReader().read(whole[:-1]).unread == 1


def test_not_every_beginning_of_a_damaged_line_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_line, "MOST_TRIED", 5)
    found = [LineReader().read(b'{"' * halves + line()).unread for halves in (4, 5)]
    assert found == [0, 1]


@pytest.mark.parametrize(
    "more", [{"code": "200"}, {"bytes_in": 1 << 60}, {"duration_us": 1e300}, {"client": ["a"]}, {"time": 7}]
)
def test_what_is_of_another_shape_is_unread(more: dict[str, object]) -> None:
    assert as_read([line(**more), line()]).unread == 1  # type: ignore[arg-type]
