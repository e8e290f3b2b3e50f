"""A collector of traces: takes spans by OTLP over HTTP, as JSON from workers and as protobuf from Envoy."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Span:
    """One span, as far as it matters."""

    trace: str
    id: str
    parent: str
    name: str
    kind: int = 0
    begin: int = 0
    end: int = 0
    attributes: dict[str, Any] = field(default_factory=dict)
    state: str = ""


class Collector:
    """Listens on a free port of loopback."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.status = 200
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                length = self.headers["content-length"]
                body = self.rfile.read(int(length)) if length else _chunks(self.rfile)
                if outer.status < 300:
                    is_json = self.headers["content-type"] == "application/json"
                    outer.spans += _of_json(json.loads(body)) if is_json else _of_protobuf(body)
                self.send_response(outer.status)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def wait(self, trace: str, number: int, seconds: float = 30.0) -> list[Span]:
        """The spans of a trace, when there are so many."""
        until = time.monotonic() + seconds
        while len(found := [one for one in self.spans if one.trace == trace]) < number:
            assert time.monotonic() < until, (trace, self.spans)
            time.sleep(0.02)
        return found


def _chunks(file: Any) -> bytes:
    found = b""
    while length := int(file.readline(), 16):
        found += file.read(length)
        file.readline()
    file.readline()
    return found


def _of_json(said: Any) -> Iterator[Span]:
    for resource in said["resourceSpans"]:
        about = _plain(resource["resource"]["attributes"])
        for scope in resource["scopeSpans"]:
            for one in scope["spans"]:
                yield Span(
                    one["traceId"],
                    one["spanId"],
                    one["parentSpanId"],
                    one["name"],
                    one["kind"],
                    int(one["startTimeUnixNano"]),
                    int(one["endTimeUnixNano"]),
                    about | _plain(one["attributes"]),
                    one.get("traceState", ""),
                )


def _plain(attributes: Any) -> dict[str, Any]:
    return {one["key"]: next(iter(one["value"].values())) for one in attributes}


def _of_protobuf(body: bytes) -> Iterator[Span]:
    for resource in _all(body, 1):
        for scope in _all(resource, 2):
            for one in _all(scope, 2):
                fields = dict(_fields(one))
                yield Span(
                    fields[1].hex(), fields[2].hex(), fields.get(4, b"").hex(), fields[5].decode(),
                    attributes=dict(_attribute(a) for a in _all(one, 9)),
                )  # fmt: skip


def _attribute(data: bytes) -> tuple[str, Any]:
    fields = dict(_fields(data))
    values = list(_fields(fields.get(2, b"")))
    value = values[0][1] if values else ""
    return fields[1].decode(), value.decode() if isinstance(value, bytes) else value


def _all(data: bytes, number: int) -> list[bytes]:
    return [value for name, value in _fields(data) if name == number]


def _fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """The fields of a protobuf message: numbers and bytes."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        value: Any
        if key & 7 == 0:
            value, at = _varint(data, at)
        elif key & 7 == 2:
            length, at = _varint(data, at)
            value, at = data[at : at + length], at + length
        else:
            width = 8 if key & 7 == 1 else 4
            value, at = int.from_bytes(data[at : at + width], "little"), at + width
        yield key >> 3, value


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        value |= (data[at] & 0x7F) << shift
        shift, at = shift + 7, at + 1
        if not data[at - 1] & 0x80:
            return value, at
