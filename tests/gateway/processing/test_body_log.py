"""Bodies that are noted, through the real Envoy: what is named, and no secret."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.gateway.conftest import wait_until
from tests.gateway.processing.conftest import Processed

from tulle.errors import Invalid
from tulle.gateway.policies.entry import Policy
from tulle.gateway.policies.listed import parse_policies
from tulle.gateway.processing import body_log
from tulle.gateway.processing.body_log import LARGEST_BODY, BodyLogFile
from tulle.gateway.processing.secret_names import without_secrets

BODY = {
    "features": {"customer": 7, "iban": "DE12", "note": "x" * 1000},
    "password": "hunter2hunter2",
    "inner": [{"apiKey": "k-123", "text": "Bearer abc.def", "t": "eyJhbGciOi.eyJzdWIi.c2ln"}],
}
SECRETS = ("hunter2", "k-123", "abc.def", "eyJhbGciOi", "DE12")


def file_of(processed: Processed) -> Path:
    return processed.mesh.settings.log_folder / "gateway-bodies-0.jsonl"


def line_of(processed: Processed, request_id: str) -> dict[str, Any]:
    def found() -> list[dict[str, Any]]:
        lines = file_of(processed).read_text().splitlines() if file_of(processed).exists() else []
        return [one for one in map(json.loads, lines) if one["request_id"] == request_id]

    wait_until(lambda: bool(found()), "the line")
    (line,) = found()
    return line


@pytest.mark.system
def test_what_is_named_is_noted_and_no_secret_is(processed: Processed) -> None:
    settings = {"request": ["$.features", "$.inner[*]"], "response": ["$"], "hide": ["$..iban"]}
    processed.put(Policy("body-log", settings))
    reply = processed.ask("/x/echo?token=q-secret", json.dumps(BODY).encode(), cookie="c-secret")
    assert reply.json() == BODY  # what passes is not touched
    line = line_of(processed, reply.headers["x-request-id"])
    assert (line["service"], line["client"], line["method"], line["status"]) == ("api", "app-a", "POST", 200)
    assert line["path"] == "/public/api/v1/api/x/echo"
    hidden = {"customer": 7, "iban": "****", "note": "x" * 300 + "..."}
    assert line["request"] == {
        "$.features": [hidden],
        "$.inner[*]": [{"apiKey": "****", "text": "****", "t": "****"}],
    }
    assert line["response"]["$"][0]["password"] == "****"
    assert line["response"]["$"][0]["features"] == hidden
    text = file_of(processed).read_text()
    assert not any(secret in text for secret in (*SECRETS, "q-secret", "c-secret"))
    assert file_of(processed).stat().st_mode & 0o777 == 0o600


@pytest.mark.system
def test_what_is_no_json_or_large_is_told_by_its_size_alone(processed: Processed) -> None:
    processed.put(Policy("body-log", {"request": ["$"], "response": ["$"], "max_bytes": 100}))
    for body in (b"{", b"[" * 100_000, b"\xff"):
        reply = processed.ask("/x/echo", body)
        assert reply.body == body
        line = line_of(processed, reply.headers["x-request-id"])
        assert line["request"] == line["response"] == {"bytes": len(body)}
    for said in ("text/plain", "application/json; charset=utf-7"):
        reply = processed.ask("/x/echo", b'{"a": "b"}', content_type=said)
        assert line_of(processed, reply.headers["x-request-id"])["request"] == {"bytes": 10}
    reply = processed.ask("/x/echo", b'{"a": "b", "a": "c"}')
    told = line_of(processed, reply.headers["x-request-id"])["request"]
    assert told == {"$": [{"a": "c"}], "twice": "a"}  # it may be that the service has read another one
    for size, chunked in ((9 << 20, {}), (LARGEST_BODY + 1, {}), (10, {"x_chunked": "1"})):
        reply = processed.ask("/x/big", b"{}", x_size=str(size), **chunked)
        assert len(reply.body) == size  # it passes in pieces
        told = line_of(processed, reply.headers["x-request-id"])["response"]
        assert told == {"bytes": None if chunked else size}
    reply = processed.ask("/x/echo", json.dumps({"a": ["é" * 100] * 10}).encode())
    told = line_of(processed, reply.headers["x-request-id"])["request"]
    assert len(told["begin"].encode()) <= 100
    assert told["begin"].startswith('{"$":[{"a":["é')


@pytest.mark.system
def test_a_request_that_is_refused_or_gone_is_noted_too(processed: Processed) -> None:
    limits = Policy("json-limits", {"max_depth": 1})
    processed.put(Policy("body-log", {"request": ["$.a"], "response": ["$.errorType"]}), limits)
    reply = processed.ask("/x/echo", b'{"a": {"b": 1}}')
    assert reply.status == 400
    line = line_of(processed, reply.headers["x-request-id"])
    assert (line["status"], line["request"]) == (400, {"$.a": [{"b": 1}]})
    assert line["response"] == {"$.errorType": ["JsonThreat"]}
    processed.put(Policy("body-log", {"request": ["$.a"]}))
    reply = processed.ask("/x/echo", b'{"a": 1}')
    line = line_of(processed, reply.headers["x-request-id"])
    assert line["request"] == {"$.a": [1]}
    assert "status" not in line  # it need not see answers, so they pass as they are


@pytest.mark.system
def test_a_file_that_cannot_be_written_hinders_no_request(processed: Processed) -> None:
    file = file_of(processed)
    file.unlink(missing_ok=True)
    file.mkdir()
    try:
        processed.put(Policy("body-log", {"request": ["$"], "percent": 99.99999}))
        assert processed.ask("/x/echo", b"{}").status == 200
        wait_until(lambda: "bodies are not noted" in processed.log(), "the word")
    finally:
        file.rmdir()


def test_a_large_file_is_put_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body_log, "LARGEST_FILE", 100)
    file = BodyLogFile(tmp_path / "log/bodies.jsonl")
    for number in range(40):
        file.note({"n": number, "x": "y" * 30})
    names = sorted(one.name for one in (tmp_path / "log").iterdir())
    assert names == ["bodies.1.jsonl", "bodies.2.jsonl", "bodies.3.jsonl", "bodies.4.jsonl", "bodies.jsonl"]
    files = [tmp_path / "log" / name for name in (*names[3::-1], names[4])]
    kept = [json.loads(line)["n"] for one in files for line in one.read_text().splitlines()]
    assert kept == list(range(40 - len(kept), 40))
    assert all(one.stat().st_size <= 100 for one in (tmp_path / "log").iterdir())


def test_secrets_are_told_by_name_and_form() -> None:
    names = [
        "Authorization",
        "user_password",
        "X-Api-Key",
        "access_token",
        "privateKey",
        "PIN",
        "cvv2",
        "session_id",
    ]
    assert without_secrets(dict.fromkeys(names, 1)) == dict.fromkeys(names, "****")
    plain = {"monkey": 1, "pinned": "Basic", "barcode": "bearer of news", "a": [None, True, 1.5]}
    assert without_secrets(plain) == plain


def test_what_nobody_can_mean_is_refused() -> None:
    for text in (
        "{policy: body-log}",
        "{policy: body-log, request: [a]}",
        "{policy: body-log, request: [$], max_bytes: 1}",
    ):
        with pytest.raises(Invalid):
            parse_policies(f"- {text}")
