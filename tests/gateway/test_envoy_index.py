"""Routes by their address: in a list as long as it is short, else in a map that tries the same ones in the same order."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tulle.gateway.envoy_index import LONGEST_LIST, indexed, indexed_bytes, listed
from tulle.gateway.envoy_values import VIRTUAL_HOST
from tulle.gateway.envoy_wire import read, written

MANY = [f"/api-{number}" for number in range(LONGEST_LIST + 1)]


def table(addresses: list[str]) -> Any:
    """Routes that each know their address."""
    found = {address: [{"name": f"{address} {n}"} for n in range(2)] for address in addresses}
    return indexed(found, [{"name": "always"}])


def as_read(addresses: list[str]) -> Any:
    """The same, of routes as bytes, as Envoy reads it."""
    found = {address: [listed([{"name": f"{address} {n}"} for n in range(2)])] for address in addresses}
    return read(VIRTUAL_HOST, indexed_bytes(found, [listed([{"name": "always"}])]))


def tried(made: Any, path: str) -> list[str]:
    """The names of the routes that Envoy tries for a path."""
    if "routes" in made:
        return [route["name"] for route in made["routes"]]
    tree = made["matcher"]["matcher_tree"]["prefix_match_map"]["map"]
    fitting = [address for address in tree if path.startswith(address)]
    chosen = tree[max(fitting, key=len)] if fitting else made["matcher"]["on_no_match"]
    return [route["name"] for route in chosen["action"]["typed_config"]["routes"]]


def test_few_are_a_list() -> None:
    made = table(["/b", "/a"])
    assert [route["name"] for route in made["routes"]] == ["/b 0", "/b 1", "/a 0", "/a 1", "always"]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/orders/v1/x", ["/orders/v1 0", "/orders/v1 1", "/orders 0", "/orders 1", "/ 0", "/ 1", "always"]),
        ("/orders-more", ["/orders 0", "/orders 1", "/ 0", "/ 1", "always"]),
        ("/nowhere", ["/ 0", "/ 1", "always"]),
        ("/api-7", ["/api-7 0", "/api-7 1", "/ 0", "/ 1", "always"]),
    ],
)
def test_many_are_found_by_the_longest_beginning(path: str, expected: list[str]) -> None:
    assert tried(table([*MANY, "/orders/v1", "/orders", "/"]), path) == expected


@pytest.mark.parametrize("many", [[], MANY])
def test_as_bytes_it_is_the_same(many: list[str]) -> None:
    addresses = [*many, "/orders/v1", "/orders", "/"]
    assert as_read(addresses) == read(VIRTUAL_HOST, written(VIRTUAL_HOST, table(addresses)))


def test_what_begins_like_none_meets_what_is_for_all() -> None:
    assert tried(table(MANY), "/nowhere") == ["always"]


WORDS = st.sampled_from(["a", "b", "ab", "abc", "a-b"])
PATHS = st.lists(WORDS, min_size=1, max_size=4).map(lambda words: "/" + "/".join(words))


@given(st.lists(PATHS, unique=True, max_size=8), PATHS)
def test_nothing_that_fits_a_path_is_left_out_and_the_order_stays(addresses: list[str], path: str) -> None:
    addresses.sort(key=len, reverse=True)
    names = tried(table([*MANY, *addresses]), path)
    fitting = [f"{a} {n}" for a in addresses if path == a or path.startswith(f"{a}/") for n in range(2)]
    assert [name for name in names if name in fitting] == fitting
    assert names[-1] == "always"
