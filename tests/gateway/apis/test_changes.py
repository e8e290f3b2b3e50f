"""What differs between two declarations of APIs, and what of it breaks callers."""

from __future__ import annotations

import pytest
from tests.gateway.apis.conftest import OPENAPI, read

from tulle.gateway.apis.changes import api_changes
from tulle.gateway.apis.declared import ApiDeclared

INNER = "".join(f"    {line}\n" for line in OPENAPI.splitlines())
BASE = f"""
api: orders
visibility: public
versions:
- version: v1
  upstream: https://a.example
  path: /o
  hosts: [x.example]
  environments: {{test: }}
  openapi:
{INNER}"""


def apis(text: str) -> dict[str, ApiDeclared]:
    found = read(text).api
    return {found.name: found}


def told(old: str, new: str) -> list[tuple[str, bool]]:
    return [(one.sentence, one.breaking) for one in api_changes(apis(old), apis(new))]


def test_apis_come_and_go() -> None:
    one = apis(BASE)
    assert [(c.sentence, c.breaking) for c in api_changes({}, one)] == [
        ("API 'orders' is added, with v1", False)
    ]
    assert [(c.sentence, c.breaking) for c in api_changes(one, {})] == [
        ("API 'orders' is removed: its contracts end", True)
    ]
    assert list(api_changes(one, one)) == []


@pytest.mark.parametrize(
    ("was", "becomes", "expected"),
    [
        ("path: /o", "path: /p", [("it is at /p (was /o)", True)]),
        ("hosts: [x.example]", "hosts: [y.example]", [("it is called by y.example", True)]),
        ("hosts: [x.example]", "hosts: []", [("it is called by any host", False)]),
        (
            "https://a.example",
            "https://b.example",
            [("https://b.example answers (was https://a.example)", False)],
        ),
        (
            "https://a.example",
            "{urls: [https://a.example], timeout: 3}",
            [("what answers is spoken to otherwise", False)],
        ),
        (
            "/items/{id}:",
            "/things/{id}:",
            [("GET /items/{id} is removed", True), ("GET /things/{id} is added", False)],
        ),
        ("title: Orders", "title: Other", [("its OpenAPI document changed", False)]),
        (
            "  path: /o\n",
            "  path: /o\n  undeclared: allow\n",
            [("operations that are not declared pass", False)],
        ),
        (
            "{test: }",
            "{dev: }",
            [("it is in 'dev' as well", False), ("it is no longer said how it is in 'test'", True)],
        ),
        ("{test: }", "{test: {path: /q}}", [("it is otherwise in 'test'", True)]),
        (
            "  path: /o\n",
            "  path: /o\n  access: {public: {limit: 1/1s}}\n",
            [("it is called by public (was contracts)", True)],
        ),
        (
            "  path: /o\n",
            "  path: /o\n  publish: true\n",
            [("where it is applied first, it is published", False)],
        ),
        (
            "  path: /o\n",
            "  path: /o\n  policies: [{policy: compression}]\n",
            [("its policies changed (now compression)", False)],
        ),
    ],
)
def test_what_changes_of_a_version(was: str, becomes: str, expected: list[tuple[str, bool]]) -> None:
    assert was in BASE
    found = told(BASE, BASE.replace(was, becomes, 1))
    assert found == [(f"API orders v1: {sentence}", breaking) for sentence, breaking in expected]


def test_what_holds_for_all_versions() -> None:
    private = BASE.replace("visibility: public", "visibility: private\ntitle: Orders\ntags: [a]", 1)
    assert told(BASE, private) == [
        ("API orders: its title changed", False),
        ("API orders: its tags changed", False),
        ("API orders: it is visible to private (was public)", True),
    ]
    more = BASE + "- {version: v2, service: orders}\n"
    assert told(BASE, more) == [("API orders: version v2 is added", False)]
    assert told(more, BASE) == [("API orders: version v2 is removed", True)]
