"""Requests nobody's page or client sends: the portal and the API answer in words, and change nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from tests.bad_input.conftest import Built

from tulle.cli.connect import http_of

JSON = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def http(applied: Built) -> Iterator[httpx.Client]:
    """The mesh's own application, with the administrator's token."""
    with http_of(applied.workspace.settings) as client:
        yield client


CALLS: dict[str, tuple[str, str, dict[str, Any], int, str]] = {
    "no such call": ("GET", "/mesh/v1/nope", {}, 404, "/mesh/v1/openapi.json has all calls"),
    "a name that is a path": (
        "DELETE",
        "/mesh/v1/products/%2e%2e%2forders",
        {},
        404,
        "no name may have a '/' in it",
    ),
    "no such product": ("DELETE", "/mesh/v1/products/nope", {}, 404, "known: big-spenders, orders"),
    "no such run": ("GET", "/mesh/v1/runs/nope", {}, 404, "there is no run 'nope'"),
    "a number that is none": (
        "GET",
        "/mesh/v1/runs?limit=abc",
        {},
        422,
        "'limit' in the query is 'abc': input should",
    ),
    "a number too small": (
        "GET",
        "/mesh/v1/runs?limit=-1",
        {},
        422,
        "'limit' in the query is '-1': input should",
    ),
    "half of a body": (
        "POST",
        "/mesh/v1/runs",
        {"content": b'{"product"', "headers": JSON},
        422,
        "the body is not JSON: expecting ':' delimiter at character 10",
    ),
    "no body": ("POST", "/mesh/v1/runs", {"content": b"", "headers": JSON}, 422, "the body is missing"),
    "bytes": (
        "POST",
        "/mesh/v1/runs",
        {"content": b"\xff\xfe", "headers": JSON},
        422,
        "the body is not JSON",
    ),
    "a list": ("POST", "/mesh/v1/runs", {"json": []}, 422, "the body: input should be a valid dictionary"),
    "a body without end": (
        "POST",
        "/mesh/v1/runs",
        {"content": b"[" * 100_000, "headers": JSON},
        400,
        "the body",
    ),
    "a form": ("POST", "/mesh/v1/runs", {"content": b"product=orders"}, 422, "the body: input should be"),
    "what is asked for is missing": (
        "POST",
        "/mesh/v1/runs",
        {"json": {}},
        422,
        "'product' is missing in the body",
    ),
    "a property too many": (
        "POST",
        "/mesh/v1/runs",
        {"json": {"product": "orders", "ful": True}},
        422,
        "unknown property 'ful' in the body",
    ),
    "a value of another type": (
        "POST",
        "/mesh/v1/runs",
        {"json": {"product": 3}},
        422,
        "'product' in the body: input should be a valid string",
    ),
    "a data set nobody makes": (
        "POST",
        "/mesh/v1/runs",
        {"json": {"product": "orders", "select": ["ordrs_raw"]}},
        404,
        "did you mean 'orders_raw'?",
    ),
    "an environment nobody made": (
        "POST",
        "/mesh/v1/runs",
        {"json": {"product": "orders", "environment": "nope"}},
        404,
        "known: dev, prod",
    ),
    "a window of words": (
        "POST",
        "/mesh/v1/runs",
        {"json": {"product": "orders", "window": ["a", "b"]}},
        422,
        "two times such as 2024-01-01 and 2024-02-01",
    ),
    "a plan that is a word": ("POST", "/mesh/v1/apply", {"json": {"plan": "x"}}, 422, "'plan' in the body"),
    "nobody's token": (
        "GET",
        "/mesh/v1/products",
        {"headers": {"authorization": "Bearer x"}},
        401,
        "mesh's token",
    ),
    "half of a key": (
        "GET",
        "/mesh/v1/products",
        {"headers": {"authorization": "Basic eA=="}},
        401,
        "mesh's token",
    ),
    "another site's form": (
        "POST",
        "/services/nope/try",
        {"json": {}},
        403,
        "only be sent from a page of the portal",
    ),
    "a page of no data set": ("GET", "/products/orders/data-sets/nope", {}, 404, "known: orders, orders_raw"),
    "a page of no column": (
        "GET",
        "/products/orders/data-sets/orders/lineage?column=amont",
        {},
        404,
        "did you mean 'amount'?",
    ),
    "a month that is none": ("GET", "/schedules/calendar?month=2026-13", {}, 422, "write a month as 2026-06"),
    "a file outside": (
        "GET",
        "/lake/orders/object?ref=main&path=../../mesh.yaml",
        {},
        404,
        "there is no '../../mesh.yaml'",
    ),
    "a key that is no column": (
        "GET",
        "/lake/orders/rows?left=main&right=main&prefix=orders&key=nope",
        {},
        422,
        "known: amount, customer_id, order_id, ordered_on",
    ),
    "a search without end": (
        "GET",
        f"/search?q={'x' * 9000}",
        {},
        422,
        "…': string should have at most 200 characters",
    ),
}


@pytest.mark.parametrize("kind", CALLS)
def test_a_request_that_cannot_be_meant(built: Built, http: httpx.Client, kind: str) -> None:
    method, path, more, status, said = CALLS[kind]
    answer = http.request(method, path, **more)
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    told = [
        error["message"],
        error["hint"] or "",
        *(f"{p['message']} {p['hint'] or ''}" for p in error["problems"]),
    ]
    assert said in "\n".join(told)
    assert "Traceback" not in answer.text
    assert "defect" not in answer.text


def test_no_secret_of_a_body_comes_back(http: httpx.Client) -> None:
    body = {"kind": "sql", "address": 3, "secrets": {"password": ["hunter2"]}}
    answer = http.put("/mesh/v1/connections/prod/shop", json=body)
    assert answer.status_code == 422
    assert "'address' in the body: input should be a valid string" in answer.text
    assert "hunter2" not in answer.text


@pytest.mark.parametrize("text", ["<script>window.hurt=1</script>", "\x00", "' OR 1=1 --", "%s%n{0}"])
def test_what_is_searched_for_is_text(http: httpx.Client, text: str) -> None:
    answer = http.get("/search", params={"q": text})
    assert answer.status_code == 200
    assert "<script>window" not in answer.text
