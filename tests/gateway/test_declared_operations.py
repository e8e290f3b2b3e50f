"""Which requests an API's declared operations let pass, by the routes that are made of them and gone through in turn."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tulle.gateway.envoy_apis import expression_of, external_routes, shape_of
from tulle.gateway.front import External, Front, Upstream
from tulle.gateway.policy import ManagedService

METHODS = ("GET", "HEAD", "POST", "DELETE")
STEPS = ("a", "b", "{x}", "a{x}")
OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(METHODS),
        st.lists(st.sampled_from(STEPS), min_size=1, max_size=2).map(lambda steps: "/" + "/".join(steps)),
    ),
    min_size=1,
    max_size=9,
    unique=True,
)
PATHS = [f"/{one}" for one in ("a", "b", "c", "ab", "a/a", "a/b", "c/a", "ab/c", "b/ab", "a/b/c")]


def routes(operations: Sequence[tuple[str, str]]) -> list[dict[str, Any]]:
    external = External((Upstream("http://127.0.0.1:1"),))
    front = Front("v1", "/api", external=external, only_declared=True, operations=tuple(operations))
    service = ManagedService("api", (), 1000, front=front)
    usual = {
        "name": "api@v1",
        "match": {"path_separated_prefix": "/api"},
        "metadata": {"filter_metadata": {"tulle": {}}},
        "typed_per_filter_config": {},
        "route": {},
    }
    return list(external_routes(service, usual, {}))


def answered(made: Sequence[dict[str, Any]], method: str, path: str) -> tuple[int, str]:
    """The status of the first route that fits, 200 where it leads on, and what it allows."""
    for one in made:
        match = one["match"]
        if "safe_regex" in match and not re.fullmatch(match["safe_regex"]["regex"], f"/api{path}"):
            continue
        asked = match.get("headers", [])
        if any((method == said["string_match"]["exact"]) == said["invert_match"] for said in asked):
            continue
        told = [h["header"]["value"] for h in one.get("response_headers_to_add", [])]
        return one.get("direct_response", {}).get("status", 200), "".join(told)
    raise AssertionError(f"no route for {method} {path}")


def expected(operations: Sequence[tuple[str, str]], method: str, path: str) -> tuple[int, str]:
    """By the declared paths alone: of those that fit, the one that is written out furthest, from its beginning on."""
    fitting = {p for _, p in operations if re.fullmatch(expression_of(p), path)}
    if not fitting:
        return 404, ""
    narrowest = min(map(shape_of, fitting))
    methods = {m for m, p in operations if p in fitting and shape_of(p) == narrowest}
    methods = sorted(methods | ({"HEAD"} if "GET" in methods else set()))
    return (200, "") if method in methods else (405, ", ".join(methods))


@given(OPERATIONS)
def test_each_request_is_answered_as_its_path_is_declared(operations: list[tuple[str, str]]) -> None:
    made = routes(operations)
    for path in PATHS:
        for method in METHODS:
            assert answered(made, method, path) == expected(operations, method, path), (method, path)


def test_few_routes_lead_on() -> None:
    operations = [(method, path) for path in ("/a", "/a/{x}", "/b/{x}") for method in METHODS]
    made = routes([*operations, ("GET", "/a/mine"), ("GET", "/status")])
    assert len([one for one in made if "direct_response" not in one]) == 1


def test_what_a_later_path_would_refuse_leads_on_before_it() -> None:
    made = routes([("POST", "/a/b"), ("GET", "/a/{x}")])
    assert [answered(made, "POST", path)[0] for path in ("/a/b", "/a/c")] == [200, 405]
    assert len([one for one in made if "direct_response" not in one]) == 2


@pytest.mark.parametrize(("one", "other"), [("/a b", "/a%20b"), ("/é", "/%C3%A9")])
def test_paths_that_are_sent_alike_are_one(one: str, other: str) -> None:
    made = routes([("GET", one), ("POST", other)])
    told = {method: answered(made, method, other) for method in METHODS}
    assert told == {
        "GET": (200, ""),
        "HEAD": (200, ""),
        "POST": (200, ""),
        "DELETE": (405, "GET, HEAD, POST"),
    }
