"""Files that are replaced as a whole, and what is known of them."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from tulle.gateway.envoy_files import FILES, versioned
from tulle.gateway.envoy_route_files import RouteFiles
from tulle.gateway.policy import GatewayPolicy
from tulle.gateway.private_file import replace_private
from tulle.gateway.watched_files import Published, WatchedFiles, digest, version_in

WHOLE = msgspec.json.encode(versioned([{"a": 1}]))


def test_what_was_there_before_is_put_back(tmp_path: Path) -> None:
    files = WatchedFiles(tmp_path)
    replace_private(files.path("auth"), b"new")
    files.restore("auth", b"old")
    assert files.read("auth") == b"old"
    files.restore("auth", None)
    assert files.read("auth") is None


def test_the_version_of_a_whole_file_is_told_and_of_no_other() -> None:
    assert version_in("auth", WHOLE) == versioned([{"a": 1}])["version_info"]
    assert version_in("auth", WHOLE.replace(b"1", b"2")) is None
    assert version_in("routes", WHOLE) is None  # which are not JSON
    assert version_in("routes", RouteFiles(1).front(GatewayPolicy())) is not None
    assert version_in("auth", RouteFiles(1).front(GatewayPolicy())) is None


@pytest.mark.parametrize("touched", [None, *FILES, "bootstrap"])
def test_what_was_published_is_in_place_as_long_as_nobody_touches_it(
    tmp_path: Path, touched: str | None
) -> None:
    files = WatchedFiles(tmp_path)
    for name in (*FILES, "bootstrap"):
        replace_private(files.path(name), name.encode())
    record = Published("named", {name: digest(name.encode()) for name in (*FILES, "bootstrap")})
    replace_private(files.record, msgspec.json.encode(record))
    before = files.stamps()
    assert files.is_in_place("named")
    assert not files.is_in_place("another")
    if touched is not None:
        files.path(touched).write_bytes(b"other")
        assert files.stamps() != before
        assert not files.is_in_place("named")
