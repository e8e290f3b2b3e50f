"""Of which operation a request is."""

from __future__ import annotations

import pytest

from tulle.observe.operations import OTHER, Operations

KNOWN = Operations(
    {"orders": ["GET /items/{id}", "GET /items", "HEAD /items", "POST /items"]}, "/public/api/v1/"
)


@pytest.mark.parametrize(
    ("method", "path", "operation"),
    [
        ("GET", "/orders/v1/items/7", "GET /items/{id}"),
        ("HEAD", "/orders/v1/items/7", "GET /items/{id}"),  # what it would be answered
        ("HEAD", "/orders/v1/items", "HEAD /items"),
        ("POST", "/orders/v1/items", "POST /items"),
        ("DELETE", "/orders/v1/items", OTHER),
        ("HEAD", "/orders/v1/nothing", OTHER),
        ("GET", "/public/api/v1/orders/items", "GET /items"),
    ],
)
def test_a_request_is_of_the_operation_that_answers_it(method: str, path: str, operation: str) -> None:
    assert KNOWN("orders", method, path) == operation
    assert KNOWN("others", method, path) == OTHER
