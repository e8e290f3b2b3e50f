"""Redaction through the real Envoy: who sees which field of an answer, and that nothing gets past it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.gateway.conftest import API, check_error
from tests.gateway.processing.conftest import Processed
from tests.gateway.tokens import ISSUER, Issuer, bearer

from tulle.errors import Broken
from tulle.gateway.policies.entry import Policy
from tulle.gateway.processing.redaction import hashed, masked
from tulle.serving.access import Access, Tokens

pytestmark = pytest.mark.system

RECORD = b'{"id": 7, "name": "Ann", "ssn": "078-05-1120", "score": 1.10, "far": {"iban": "DE123456", "n": 123456789012345678901234567890}}'


def rules(*fields: dict[str, Any], **more: Any) -> Policy:
    return Policy("redaction", {"fields": list(fields), **more})


def test_fields_are_removed_masked_hashed_and_replaced(processed: Processed) -> None:
    processed.put(
        rules(
            {"path": "$.name", "action": "remove"},
            {"path": "$.ssn", "action": "mask", "keep_last": 4},
            {"path": "$.far.iban", "action": "hash"},
            {"path": "$.id", "action": "constant", "value": {"hidden": True}},
            {"path": "$.score", "action": "null"},
        )
    )
    reply = processed.ask("/x/echo", RECORD)
    assert reply.status == 200
    said = reply.json()
    assert said["ssn"] == "*******1120"
    assert said["id"] == {"hidden": True}
    assert said["score"] is None
    assert "name" not in said
    assert len(said["far"]["iban"]) == 32
    assert said["far"]["n"] == 123456789012345678901234567890
    again = processed.ask("/x/echo", b'{"far": {"iban": "DE123456"}}').json()["far"]["iban"]
    assert again == said["far"]["iban"]
    assert processed.ask("/x/echo", b'{"far": {"iban": "DE123457"}}').json()["far"]["iban"] != again


def test_an_issuer_makes_nobody_an_application_of_the_mesh(processed: Processed) -> None:
    issuer = Issuer()
    jwks = json.dumps(issuer.public_keys())
    access = Access(jwt=Tokens(ISSUER, jwks=jwks, limit="1000/1s"))
    ssn = {"path": "$.ssn", "except": {"clients": ["app-b"], "tiers": ["gold"]}}
    name = {"path": "$.name", "except": {"clients": ["token:app-b"]}}
    quota = Policy("quota", {"tiers": {"gold": ["1000/1d"]}, "limits": ["2/1d"]})
    processed.put(rules(ssn, name), quota, access=access)
    body = b'{"ssn":1,"name":2}'
    assert processed.ask("/x/echo", body, client="app-b").json() == {"ssn": 1}
    named = bearer(issuer.token(client_id="app-b"))["authorization"]
    target = f"{API}api/x/echo"
    found = processed.mesh.ask(target, {"authorization": named}, method="POST", body=body)
    assert found.json() == {"name": 2}
    assert found.headers["x-ratelimit-limit"] == "2"  # not those of the application's tier


def test_numbers_and_order_of_the_rest_stay_as_they_are_written(processed: Processed) -> None:
    processed.put(rules({"path": "$..ssn"}))
    reply = processed.ask(
        "/x/echo", b'{"z":1.10,"a":[1e5,{"ssn":"1","b":-0.0}],"n":98765432109876543210987.5}'
    )
    assert reply.body == b'{"z":1.10,"a":[1e5,{"b":-0.0}],"n":98765432109876543210987.5}'


def test_an_answer_without_what_is_to_be_redacted_stays_byte_for_byte(processed: Processed) -> None:
    processed.put(rules({"path": "$..ssn"}))
    body = b'{ "z" : 1.10, "e": "\\u00e9", "t": "ssn" }'
    assert processed.ask("/x/echo", body).body == body


@pytest.mark.parametrize(
    ("path", "body", "left"),
    [
        ("$.a[*].s", {"a": [{"s": 1, "t": 2}, {"s": 3}]}, {"a": [{"t": 2}, {}]}),
        ("$.a[0]", {"a": [1, 2, 3]}, {"a": [2, 3]}),
        ("$.a[*]", {"a": [1, 2, 3]}, {"a": []}),
        ("$.a[-1]", {"a": [1, 2, 3]}, {"a": [1, 2]}),
        ("$..s", {"s": {"s": 1}, "b": [[{"s": 2, "k": 1}]]}, {"b": [[{"k": 1}]]}),
        ("$.a.*", {"a": {"x": 1, "y": 2}, "b": 1}, {"a": {}, "b": 1}),
        ("$['a b']", {"a b": 1, "c": 1}, {"c": 1}),
        ("$.a.b", {"a": "b"}, {"a": "b"}),
        ("$", {"a": 1}, None),
    ],
)
def test_paths_lead_into_nested_values(processed: Processed, path: str, body: Any, left: Any) -> None:
    processed.put(rules({"path": path}))
    assert processed.ask("/x/echo", json.dumps(body)).json() == left


def test_who_may_see_a_field_is_said_by_client(processed: Processed) -> None:
    processed.put(rules({"path": "$.ssn", "except": {"clients": ["app-b"]}}, {"path": "$.name"}))
    assert "ssn" not in processed.ask("/x/echo", RECORD).json()
    seen = processed.ask("/x/echo", RECORD, client="app-b").json()
    assert seen["ssn"] == "078-05-1120"
    assert "name" not in seen


def test_who_may_see_a_field_is_said_by_tier(processed: Processed) -> None:
    processed.put(rules({"path": "$.ssn", "except": {"tiers": ["gold"]}}))
    assert "ssn" not in processed.ask("/x/echo", RECORD).json()
    assert "ssn" in processed.ask("/x/echo", RECORD, client="app-b").json()


def test_no_caller_can_make_itself_somebody_else_by_our_own_headers(processed: Processed) -> None:
    processed.put(rules({"path": "$.ssn", "except": {"clients": ["app-b"], "claims": {"role": ["auditor"]}}}))
    forged = {
        "x-tulle-client": "app-b",
        "x-tulle-way": "token",
        "x-tulle-claims": "eyJyb2xlIjoiYXVkaXRvciJ9",
        "x-tulle-process": "plain@0000000000000000",
    }
    assert "ssn" not in processed.ask("/x/echo", RECORD, **forged).json()
    said = processed.ask("/x/said", b"{}", **forged).json()
    headers = dict(said["headers"])
    assert (headers["x-tulle-client"], headers["x-tulle-way"]) == ("app-a", "contract")
    assert [name for name, _ in said["headers"]].count("x-tulle-way") == 1
    assert not {"x-tulle-process", "x-tulle-claims", "x-tulle-address", "authorization"} & headers.keys()


@pytest.mark.parametrize("name", ['"\\u0073sn"', '"s\\u0073n"', '"ss\\u006E"'])
def test_a_name_that_is_written_otherwise_is_redacted_too(processed: Processed, name: str) -> None:
    processed.put(rules({"path": "$.ssn"}))
    assert processed.ask("/x/echo", f'{{{name}: "secret"}}'.encode()).body == b"{}"


def test_a_name_that_is_there_twice_does_not_get_past(processed: Processed) -> None:
    processed.put(rules({"path": "$.ssn", "action": "null"}))
    reply = processed.ask("/x/echo", b'{"ssn": "one", "ssn": "two"}')
    assert b"one" not in reply.body
    assert b"two" not in reply.body
    processed.put(rules({"path": "$.a.ssn"}))
    first = b'{"a": {"ssn": "one"}, "a": {"b": 1.50}}'  # nothing is found in the last one, which is read here
    assert processed.ask("/x/echo", first).body == b'{"a":{"b":1.50}}'


def test_a_packed_answer_is_unpacked_and_redacted(processed: Processed) -> None:
    processed.put(rules({"path": "$.ssn"}))
    reply = processed.ask("/x/echo", RECORD, x_answer='{"content-encoding": "gzip", "etag": "x"}')
    assert reply.status == 200
    assert "ssn" not in reply.json()
    assert "content-encoding" not in reply.headers
    assert "etag" not in reply.headers


@pytest.mark.parametrize(
    ("body", "answer"),
    [
        (b"ssn=078-05-1120", {"content-type": "text/plain"}),
        (b'{"ssn": "1', {}),
        (b'{"ssn": "1"}', {"content-encoding": "br"}),
        (b'{"ssn": "1"}', {"content-encoding": "deflate"}),
        ('{"ssn": "1"}'.encode("utf-16"), {}),
        ('{"ssn": "1"}'.encode("utf-16-le"), {"content-type": "application/json; charset=utf-16"}),
        (b"[" * 5000 + b'{"ssn": 1}' + b"]" * 5000, {}),
        (b'{"ssn": "1"}', {"content-type": "application/json; charset=utf-7"}),
    ],
)
def test_what_cannot_be_looked_through_is_refused(processed: Processed, body: bytes, answer: Any) -> None:
    processed.put(rules({"path": "$.ssn"}))
    reply = processed.ask("/x/echo", body, x_answer=json.dumps(answer))
    check_error(reply, 502, "UnreadableAnswer")
    assert b"078-05" not in reply.body


def test_other_content_passes_where_the_policy_says_so(processed: Processed) -> None:
    processed.put(rules({"path": "$.ssn"}, other_content="pass"))
    reply = processed.ask("/x/echo", b"ssn", x_answer='{"content-type": "text/csv"}')
    assert (reply.status, reply.body) == (200, b"ssn")
    assert processed.ask("/x/echo", RECORD).json().keys() == {"id", "name", "score", "far"}
    check_error(processed.ask("/x/echo", b'{"ssn": "1'), 502, "UnreadableAnswer")


def test_a_bomb_is_not_unpacked(processed: Processed) -> None:
    processed.put(rules({"path": "$.ssn"}), max_request_bytes=32 << 20)
    reply = processed.ask("/x/echo", b" " * (20 << 20), x_answer='{"content-encoding": "gzip"}')
    check_error(reply, 502, "UnreadableAnswer")


def test_answers_in_chunks_and_errors_are_redacted(processed: Processed) -> None:
    processed.put(rules({"path": "$.ssn"}))
    assert "ssn" not in processed.ask("/x/echo", RECORD, x_chunked="1").json()
    reply = processed.ask("/x/echo", RECORD, x_answer='{"status": "422 No"}')
    assert reply.status == 422
    assert "ssn" not in reply.json()


def test_a_part_of_an_answer_cannot_be_asked_for(processed: Processed) -> None:
    processed.put(rules({"path": "$.ssn"}))
    said = processed.ask("/x/said", b"{}", range="bytes=0-10", if_range="x", accept_encoding="gzip").json()
    assert not {"range", "if-range", "accept-encoding"} & dict(said["headers"]).keys()


def test_head_and_answers_without_a_body_pass(processed: Processed) -> None:
    processed.put(rules({"path": "$.ssn"}))
    assert processed.ask("/x/said", method="HEAD").status == 200
    assert processed.ask("/x/echo", x_answer='{"status": "204 No"}').status == 204


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"fields": [{"path": "ssn"}]}, "no JSON path"),
        ({"fields": [{"path": "$[?@.a == 1]"}]}, "filters"),
        ({"fields": [{"path": "$.a", "action": "drop"}]}, "unknown action"),
        ({"fields": []}, "'fields'"),
        ({"fields": [{"path": "$.a", "action": "constant"}]}, "no 'value'"),
        ({"fields": [{"path": "$.a"}], "other_content": "maybe"}, "other_content"),
    ],
)
def test_a_policy_that_nobody_can_mean_is_refused_when_it_is_published(
    processed: Processed, settings: dict[str, Any], told: str
) -> None:
    processed.put(rules({"path": "$.ssn"}))
    with pytest.raises(Broken) as raised:
        processed.put(Policy("redaction", settings))
    assert told in raised.value.message
    assert "ssn" not in processed.ask("/x/echo", RECORD).json()  # the one before is in force


def test_masks_keep_no_more_than_they_hide() -> None:
    assert masked("12345678", 4) == "****5678"
    assert masked("1234", 4) == "****"
    assert masked("123", 0) == "***"
    assert masked(12345, 2) == "***45"
    assert masked({"a": 1}, 4) == "****"
    assert masked(None, 4) is None


def test_equal_values_have_equal_hashes_under_one_key_only() -> None:
    assert hashed("a", b"k") == hashed("a", b"k")
    assert len({hashed("1", b"k"), hashed(1, b"k"), hashed("1", b"l"), hashed([1], b"k")}) == 4
    assert hashed(None, b"k") is None
