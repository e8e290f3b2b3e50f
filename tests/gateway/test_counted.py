"""What the real gateway writes into its access log, counted: the kinds of violations are the words that callers read."""

from __future__ import annotations

import json
import re
from collections import Counter

import pytest
from tests.gateway.conftest import API, Mesh, as_client, basic, wait_until
from tests.observe.lines import as_read

from tulle.gateway import envoy_errors
from tulle.gateway.policies.listed import known_kinds
from tulle.gateway.processing.exchange import Call, Refusal
from tulle.observe import violations
from tulle.observe.batch import MICROSECONDS, REFUSED, REQUESTS
from tulle.observe.operations import Operations
from tulle.observe.tally import Tally
from tulle.observe.violations import kind_of

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
    counting.count(as_read(line.encode() for line in lines()))
    batch = counting.taken()
    said = Counter(reply.json()["errorType"] for reply in replies if reply.status >= 400)
    counted: Counter[str] = Counter()
    for what, number in batch.kinds.items():
        counted[what.kind] += number
    assert counted == said
    assert {"InvalidClient", "NoContract", "TooManyRequests", "RequestTooLarge", "UnknownService"} <= set(
        said
    )
    assert {what.kind for what in batch.kinds if not what.refused} == {"ServiceUnavailable"}
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


def test_the_words_are_those_of_the_errors() -> None:
    for reason, (status, word, _) in envoy_errors._REASONS.items():
        assert kind_of(status, "direct_response", reason) == word
    for status, (word, _) in envoy_errors._ERRORS.items():
        assert kind_of(status, "any") == word
    for condition, (status, word, *_) in envoy_errors._OF_TOKENS.items():
        for details in re.findall(r"_details == '([^']+)'", condition):
            assert kind_of(status, details, access="token") == word
    assert kind_of(503, "lua_response") == "SignInUnavailable"
    assert kind_of(429, "lua_response") == "TooManyRequests"
    refusals = known_kinds().refusals()
    assert {one.error_type for one in refusals} <= {
        *violations._BY_DETAILS.values(),
        *violations._BY_STATUS.values(),
    }


def test_what_the_processor_refuses_is_told_from_what_a_service_answers() -> None:
    call = Call("GET", b"/", [], b"", {})
    assert Refusal(429, "QuotaExceeded", "x").answer(call).headers[1] == (b"x-tulle-error", b"QuotaExceeded")
    assert kind_of(400, "via_upstream", told="JsonThreat") == "JsonThreat"
    for status, told in ((200, "JsonThreat"), (400, None), (400, "no word"), (400, "X" * 99)):
        assert kind_of(status, "via_upstream", told=told) == ""
    counting = Tally(Operations(FIRST, API))
    line = {"time": "2026-03-01T10:00:00.000Z", "code": 400, "service": "first", "details": "via_upstream"}
    for number in range(300):
        word = "X" + "".join(chr(97 + int(digit)) for digit in f"{number:03}")
        counting.count(as_read([json.dumps({**line, "error": word}).encode()]))
    assert len(counting.taken().kinds) == 101  # whoever makes words up does not fill a disk
