"""Policies that could never hold where they are listed."""

from __future__ import annotations

import pytest
from tests.gateway.apis.conftest import Folder, read

from tulle.errors import Invalid
from tulle.gateway.apis.load import Loaded

OF_WORKERS = "'concurrency-limit' is of the workers of 'orders', not of an API over them"


def external(folder: Folder, listed: str, more: str = "") -> tuple[Loaded, ...]:
    """An API of which the paths /items and /items/{id} are declared, with these policies."""
    for name in ("guide.md", "terms.md"):
        (folder.product.folder / "apis" / name).unlink(missing_ok=True)
    folder.write(
        "orders.yaml",
        "api: orders\nversions:\n- version: v1\n  openapi: orders.openapi.yaml\n  upstream: https://orders.example.com\n"
        f"  policies:\n  - {{policy: compression}}\n  - {listed}\n{more}",
    )
    return folder.load()


def told(caught: pytest.ExceptionInfo[Invalid]) -> list[tuple[str, int, str | None]]:
    return [(one.message, one.place.line if one.place else 0, one.hint) for one in caught.value.problems]


def version(more: str, environments: str = "", say: str = "") -> Loaded:
    """An API with such a version, and a policy that is of workers."""
    listed = f"{{policy: concurrency-limit, requests: 5{say}}}"
    said = f"{{version: v1, {more}, policies: [{listed}], environments: {{{environments}}}}}"
    return read(f"{{api: orders, versions: [{said}]}}")


OUTSIDE = "undeclared: allow, upstream: 'https://a.example'"


@pytest.mark.parametrize(
    ("more", "environments", "say"),
    [
        ("service: orders", "", ""),
        (OUTSIDE, "test: {service: orders}", ""),
        ("service: orders", "test: {upstream: 'https://a.example'}", ", environments: [test, prod]"),
    ],
)
def test_what_is_of_workers_is_not_of_an_api_over_them(more: str, environments: str, say: str) -> None:
    with pytest.raises(Invalid) as caught:
        version(more, environments, say)
    assert told(caught) == [(OF_WORKERS, 1, "list it in the file of that service")]


@pytest.mark.parametrize(
    ("more", "environments", "say"),
    [
        (OUTSIDE, "", ""),
        ("service: orders", "test: {upstream: 'https://a.example'}", ", environments: [test]"),
    ],
)
def test_where_an_external_service_answers_it_holds(more: str, environments: str, say: str) -> None:
    assert version(more, environments, say).api.versions[0].policies


def test_a_policy_is_for_operations_that_there_are(folder: Folder) -> None:
    cache = "{policy: caching, methods: [POST], operations: [%s]}"
    with pytest.raises(Invalid) as caught:
        external(folder, cache % "{method: GET}, {method: POST, path: /itemz}")
    message = "the OpenAPI document has no operation 'POST /itemz', so this is for no request"
    assert told(caught) == [(message, 8, "did you mean 'POST /items'?")]
    with pytest.raises(Invalid) as caught:
        external(folder, cache % "{method: PUT}, {path: /items/7/files}")
    assert [one[0].split("'")[1] for one in told(caught)] == ["PUT", "/items/7/files"]
    for fine in (
        "{path: /items/7}",
        "{path: /items/}",
        "{method: POST, path: '/{any}'}",
        "{path: '/items/{other}'}",
    ):
        assert external(folder, cache % fine)
    assert external(folder, cache % "{path: /itemz}", "  undeclared: allow\n")


def test_paths_that_policies_have_no_words_for_are_taken_for_any(folder: Folder) -> None:
    folder.write(
        "orders.openapi.yaml",
        "openapi: 3.1.0\ninfo: {title: Orders, version: '1'}\npaths: {'/files/{name}.json': {get: {responses: {}}}}\n",
    )
    assert external(folder, "{policy: caching, operations: [{path: /files/a.json}]}")
