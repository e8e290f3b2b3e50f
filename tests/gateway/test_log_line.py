"""Lines of the access log: what they say, what of a damaged one, and that Envoy is asked to write what is read."""

from __future__ import annotations

import json

import msgspec
from tests.observe.lines import as_read, line

from tulle.gateway.envoy_listener import access_log
from tulle.gateway.log_line import Line, line_of, understood


def test_what_is_read_is_what_envoy_writes() -> None:
    written = access_log("any")["typed_config"]["log_format"]["json_format"]
    assert {field.name for field in msgspec.structs.fields(Line)} <= {*written}


def test_a_line_says_who_called_and_how_long_it_took() -> None:
    one, other = as_read(
        [
            line(us=1234, client=None, client_of_external="app-2"),
            line(us=5000).replace(b'"duration_us":5000,', b""),  # of a gateway of before
        ]
    ).lines
    assert (one.who, one.microseconds, one.service, one.version) == ("app-2", 1234, "offers", None)
    assert (other.who, other.microseconds) == ("app-1", 5000)
    assert as_read([line(duration_us=None, duration_ms=None)]).lines[0].microseconds == 0


def test_a_line_behind_half_a_line_is_found_and_the_half_is_unread() -> None:
    whole = line()
    found = understood(b"\n".join([whole[:50] + whole, whole[:50], b"", b"\xff\xfe", b"[]", whole]))
    assert (len(found.lines), found.unread) == (2, 4)
    assert line_of(whole[:50]) is None
    wrong = json.dumps({"time": "2026-03-01T10:00:00.000Z", "code": "200"}).encode()
    assert line_of(wrong) is None  # of another shape
