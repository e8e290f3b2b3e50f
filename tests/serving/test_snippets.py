"""Snippets are programs: each is run against a real gateway's stand-in, a server of this test that checks what it gets."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.serving.test_outer_call import Server

from tulle.serving.access import Access, Keys, Public
from tulle.serving.kinds import KINDS
from tulle.serving.snippets import LANGUAGES, Call, example_of, snippets
from tulle.serving.ways_in import Credential

BODIES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "predict": ({"features": {"a": 1.5, "b": None}}, {"result": {"prediction": 1}}),
    "forecast": ({"items": [{"day": "2026-01-01", "sold": 3}]}, {"results": []}),
    "lookup": ({"data": {"key": 'it\'s "ä" $HOME `x`'}}, {"results": [{"data": {"x": True}}]}),
    "query": ({"since": "2026-01-01"}, {"columns": [], "rows": []}),
    "function": ({"values": [1, 2], "name": "n"}, {"response": 3}),
    "compose": ({"customer": "C-01"}, {"response": {}}),
}
ACTIONS = {
    "predict": "predict",
    "forecast": "forecast",
    "lookup": "lookup",
    "query": "query",
    "function": "run",
    "compose": "run",
}
SECRETS = {
    "CLIENT_ID": "id-1",
    "CLIENT_SECRET": "s3cret",
    "API_KEY": "k3y",
    "TOKEN": "t0ken",
    "USER_NAME": "ann",
    "PASSWORD": "p:ss w0rd",
}
WAYS = {
    "basic": Credential("user", "basic", ("USER_NAME", "PASSWORD")),
    "bearer": Credential("introspection", "bearer", ("TOKEN",)),
    "header": Credential("seal", "header", ("TOKEN",), "x-seal"),
    "query": Credential("seal", "query", ("API_KEY",), "seal"),
}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    made = Server()
    thread = threading.Thread(target=made.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield made
    made.shutdown()
    made.server_close()
    thread.join()


def run(language: str, text: str, folder: Path) -> str:
    """What a program prints."""
    program = folder / "program"
    program.write_text(text)
    commands = {"curl": ["sh"], "javascript": ["node"]}
    argv = [*commands.get(language, [sys.executable]), str(program)]
    if language == "javascript":
        program = program.rename(folder / "program.cjs")
        argv[-1] = str(program)
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), **SECRETS}
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("kind", list(KINDS))  # one that is new needs a body here
@pytest.mark.parametrize("language", list(LANGUAGES))
def test_a_snippet_makes_the_call(server: Server, tmp_path: Path, language: str, kind: str) -> None:
    program = {"curl": "curl", "javascript": "node"}.get(language, sys.executable)
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not on this machine")
    body, answer = BODIES[kind]
    path = f"/public/api/v1/shop/it-1/{ACTIONS[kind]}"
    server.answers[path] = [(200, answer)]
    server.asked.clear()
    access = {"lookup": Access(False, Keys()), "function": Access(False, None, Public("10/1s"))}.get(
        kind, Access()
    )
    (text,) = [
        s.text
        for s in snippets(Call(server.base, "shop", "it-1", kind, body, access))
        if s.language == language
    ]
    assert not any(secret in text for secret in SECRETS.values())
    assert run(language, text, tmp_path).strip()
    ((method, asked, headers, sent),) = server.asked
    assert (method, asked) == ("POST", path)
    expected = {**body, "explanations": None} if kind == "predict" and language == "dataikuapi" else body
    assert {**json.loads(sent), **({"explanations": None} if "explanations" in expected else {})} == expected
    if kind == "function":
        assert not {"authorization", "client_id"} & set(headers)
    elif language == "dataikuapi":
        assert headers["authorization"].startswith("Basic ")
    elif kind == "lookup":
        assert headers["authorization"] == "Bearer k3y"
    else:
        assert (headers["client_id"], headers["client_secret"]) == ("id-1", "s3cret")


@pytest.mark.parametrize("place", list(WAYS))
def test_credentials_are_sent_as_the_way_in_says(server: Server, tmp_path: Path, place: str) -> None:
    path = "/public/api/v1/shop/it/query"
    made = snippets(Call(server.base, "shop", "it", "query", {"since": 1}, ways=[(WAYS[place],)]))
    # the stock client sends keys and tokens, and nothing else
    expected = set(LANGUAGES) - ({"dataikuapi"} if place in {"basic", "header"} else set())
    assert {one.language for one in made} == expected
    for one in made:
        program = {"curl": "curl", "javascript": "node"}.get(one.language, sys.executable)
        if shutil.which(program) is None or one.language == "dataikuapi":
            continue
        server.answers[path] = [(200, {"columns": [], "rows": []})]
        server.answers[f"{path}?seal=k3y"] = server.answers[path]
        server.asked.clear()
        assert not any(secret in one.text for secret in SECRETS.values())
        run(one.language, one.text, tmp_path)
        ((_, asked, headers, _),) = server.asked
        assert asked == (f"{path}?seal=k3y" if place == "query" else path)
        if place == "basic":
            assert headers["authorization"] == "Basic " + base64.b64encode(b"ann:p:ss w0rd").decode()
        elif place == "bearer":
            assert headers["authorization"] == "Bearer t0ken"
        else:
            assert "authorization" not in headers
            assert headers.get("x-seal") == ("t0ken" if place == "header" else None)


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"type": "string"}, "text"),
        ({"type": ["integer", "null"]}, 1),
        ({"type": "string", "format": "date"}, "2026-01-31"),
        ({"enum": ["a", "b"]}, "a"),
        ({"const": True}, True),
        ({"type": "boolean"}, True),
        ({"type": "array", "items": {"type": "number"}}, [1]),
        (
            {
                "type": "object",
                "properties": {"a": {"type": "string", "examples": ["x"]}, "b": {}, "c": {"type": "integer"}},
                "required": ["a"],
                "anyOf": [{"required": ["c"]}, {"required": ["b"]}],
            },
            {"a": "x", "c": 1},
        ),
        ({}, None),
    ],
)
def test_an_endpoint_without_a_test_query_has_the_least_example(schema: dict[str, Any], value: Any) -> None:
    assert example_of(schema) == value


ODD = {
    "__proto__": 2**60 + 1,
    "text": "line\nline\r\n'\"\\`${x}`\u2028\u00a0\U0001f9f5</script>",
    "deep": [{"": [1e-9]}],
}


@pytest.mark.parametrize("language", list(LANGUAGES))
def test_odd_values_arrive_as_they_are(server: Server, tmp_path: Path, language: str) -> None:
    program = {"curl": "curl", "javascript": "node"}.get(language, sys.executable)
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not on this machine")
    server.answers["/public/api/v1/shop/it/query"] = [(200, {"columns": [], "rows": []})]
    server.asked.clear()
    made = snippets(Call(server.base, "shop", "it", "query", ODD, Access()))
    run(language, next(one.text for one in made if one.language == language), tmp_path)
    assert json.loads(server.asked[0][3]) == ODD
