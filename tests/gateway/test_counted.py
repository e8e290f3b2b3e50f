"""What the real gateway writes into its access log, counted: the kinds of violations are the words that callers read."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from tests.gateway.conftest import API, Mesh, as_client, basic, wait_until

from tulle.observe.operations import Operations
from tulle.observe.tally import MICROSECONDS, REFUSED, REQUESTS, Tally

FIRST = {"first": ["POST /x/predict", "GET /x/{id}"], "down": ["GET /x"]}


@pytest.mark.usefixtures("full_buckets")
def test_each_violation_is_counted_by_the_word_that_the_caller_read(mesh: Mesh) -> None:
    before = len(mesh.log_lines())
    replies = [
        mesh.ask(API + "first/x/predict", as_client("app-a"), method="POST", body=b"{}"),
        mesh.ask(API + "first/x/17?q=secret", as_client("app-a")),
        mesh.ask("//public/api/v1/first//x/predict", as_client("app-a"), method="POST", body=b"{}"),
        mesh.ask(API + "first/x/predict"),
        mesh.ask(API + "first/x/predict", basic("app-a", "wrong")),
        mesh.ask(API + "second/x", as_client("app-a")),
        mesh.ask(API + "nowhere/x", as_client("app-a")),
        mesh.ask(API + "down/x", as_client("app-a")),
        mesh.ask(API + "first/x/predict", as_client("app-a"), method="POST", body=b"x" * 20_000),
        *(mesh.ask(API + "first/limited", as_client("app-b")) for _ in range(5)),
    ]
    ids = {reply.headers["x-request-id"] for reply in replies}

    def lines() -> list[str]:
        return [json.dumps(one) for one in mesh.log_lines()[before:] if one["request_id"] in ids]

    wait_until(lambda: len(lines()) == len(replies), "the lines of the log", 10)
    counting = Tally(Operations(FIRST, API))
    counting.count(line.encode() for line in lines())
    batch = counting.taken()
    said = Counter(reply.json()["errorType"] for reply in replies if reply.status >= 400)
    counted: Counter[str] = Counter()
    for (_, _, _, kind, _), number in batch.kinds.items():
        counted[kind] += number
    assert counted == said
    assert {"InvalidClient", "NoContract", "TooManyRequests", "RequestTooLarge", "UnknownService"} <= set(
        said
    )
    assert {kind for *_, kind, refused in batch.kinds if not refused} == {"ServiceUnavailable"}
    found: dict[tuple[str, str], list[int]] = {}
    for (_, key), cell in batch.cells.items():
        if key.service == "first":
            sums = found.setdefault((key.operation, key.client), [0] * len(cell.sums))
            found[key.operation, key.client] = [
                one + other for one, other in zip(sums, cell.sums, strict=True)
            ]
    predicted, read = found["POST /x/predict", "app-a"], found["GET /x/{id}", "app-a"]
    assert (predicted[REQUESTS], predicted[REFUSED]) == (3, 1)
    assert read[MICROSECONDS] > 50  # in microseconds, not in milliseconds
    assert read[MICROSECONDS] % 1000
    assert sum(cell.sums[REQUESTS] for cell in batch.cells.values()) == len(replies)
    assert batch.unread == 0
