"""A client of the REST door that calls it as a server would, and checks every answer against the document."""

from __future__ import annotations

import asyncio
import base64
import functools
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from tests.lake.rest.openapi import operations, validator

from tulle.lake.door import Application
from tulle.lake.rest.application import RestDoor


@dataclass
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def message(self) -> str:
        return self.json["message"]


@dataclass
class Client:
    """Calls the door as uvicorn would, and validates what comes back."""

    door: RestDoor
    app: Application
    credentials: tuple[str, str] | str | None
    seen: set[tuple[str, int]] = field(default_factory=set)

    def call(
        self,
        method: str,
        path: str,
        /,
        *,
        body: bytes | Iterable[bytes] = b"",
        json: Any = None,
        headers: Mapping[str, str] | None = None,
        **query: Any,
    ) -> Answer:
        """Call a path below /api/v1, which is quoted already."""
        pairs = urlencode(
            {name: str(value).lower() if isinstance(value, bool) else value for name, value in query.items()},
            doseq=True,
        )
        chunks = [_json(json)] if json is not None else [body] if isinstance(body, bytes) else list(body)
        sent = {"host": "lake.test:8080", **{name.lower(): value for name, value in (headers or {}).items()}}
        if isinstance(self.credentials, tuple):
            token = base64.b64encode(":".join(self.credentials).encode()).decode()
            sent.setdefault("authorization", f"Basic {token}")
        elif self.credentials:
            sent.setdefault("authorization", f"Bearer {self.credentials}")
        raw = "/api/v1" + path
        answer = exchange(self.app, method, raw.encode("latin-1"), pairs.encode(), sent, chunks)
        self.validate(method, path, answer)
        return answer

    def url(self, url: str, method: str = "GET", body: bytes = b"", **headers: str) -> Answer:
        """Call a signed address, without credentials."""
        parts = urlsplit(url)
        assert parts.netloc == "lake.test:8080"
        return exchange(
            self.app,
            method,
            parts.path.encode(),
            parts.query.encode(),
            {"host": parts.netloc, **headers},
            [body],
        )

    def __getattr__(self, name: str) -> Any:
        if name not in {"get", "post", "put", "delete", "head", "patch"}:
            raise AttributeError(name)
        return functools.partial(self.call, name.upper())

    def validate(self, method: str, path: str, answer: Answer) -> None:
        found = self.door.router.find(method, path.encode("latin-1")) if _decodable(path) else None
        if found is None or found[0].operation.startswith("tulle."):
            return
        operation = found[0].operation
        self.seen.add((operation, answer.status))
        stated = {str(status) for status in operations()[operation][2]["responses"]}
        if answer.status < 400:
            assert str(answer.status) in stated, (operation, answer.status)
        check = validator(operation, answer.status)
        if (
            check is not None
            and method != "HEAD"
            and answer.headers.get("content-type") == "application/json"
        ):
            check.validate(answer.json)
        if answer.status >= 400 and method != "HEAD":
            assert answer.json["message"]


def exchange(
    app: Application,
    method: str,
    raw_path: bytes,
    query: bytes,
    headers: Mapping[str, str],
    chunks: list[bytes],
) -> Answer:
    """One request and its answer over ASGI."""
    scope = {
        "type": "http",
        "method": method,
        "path": raw_path.decode("latin-1"),
        "raw_path": raw_path,
        "query_string": query,
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in headers.items()],
        "client": ("127.0.0.1", 1),
        "scheme": "http",
    }
    messages: list[Any] = []
    waiting = [
        {"type": "http.request", "body": chunk, "more_body": number + 1 < len(chunks)}
        for number, chunk in enumerate(chunks)
    ] or [{"type": "http.request", "body": b""}]

    async def receive() -> Any:
        if not waiting:  # the caller stays until it is answered
            await asyncio.Event().wait()
        return waiting.pop(0)

    async def send(message: Any) -> None:
        messages.append(message)

    asyncio.run(app(scope, receive, send))
    start = messages[0]
    return Answer(
        start["status"],
        {name.decode(): value.decode() for name, value in start["headers"]},
        b"".join(message.get("body", b"") for message in messages[1:]),
    )


def path_of(template: str, **parameters: str) -> str:
    """A path of the document with its parameters filled in and quoted."""
    for name, value in parameters.items():
        template = template.replace(f"{{{name}}}", quote(value, safe=""))
    return template


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()


def _decodable(path: str) -> bool:
    try:
        path.encode("ascii")
    except UnicodeEncodeError:
        return False
    return "%f" not in path.lower() and "%00" not in path
