"""A worker as small as can be, for the real gateway to send to: HTTP/1.1 on unix sockets, one process.

    python tiny_worker.py NAME SOCKET…

It answers what it was asked as JSON. Paths that end in `/slow` wait a second, `/hang-up` closes without a word,
`/missing` is its own 404. With the header `x-fail-once: FILE` the first request, which makes the file, is answered 503;
with `x-fail: NAME` those are that the worker of this name gets.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import Any


class Worker(asyncio.Protocol):
    """One connection."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._held = b""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._held += data
        while b"\r\n\r\n" in self._held:
            head, _, rest = self._held.partition(b"\r\n\r\n")
            lines = head.decode("latin-1").split("\r\n")
            headers = dict(line.split(": ", 1) for line in lines[1:])
            length = int(headers.get("content-length", 0))
            if len(rest) < length:
                return
            body, self._held = rest[:length], rest[length:]
            method, target, _ = lines[0].split(" ")
            self._answer(method, target, headers, body)

    def _answer(self, method: str, target: str, headers: dict[str, str], body: bytes) -> None:
        path = target.partition("?")[0]
        if path.endswith("/hang-up"):
            self._transport.close()
            return
        said = {
            "worker": self._name,
            "method": method,
            "target": target,
            "headers": headers,
            "bytes": len(body),
        }
        if path.endswith("/predict"):
            said["result"] = {"prediction": "1", "got": json.loads(body)}
        status = "404 Not Found" if path.endswith("/missing") else "200 OK"
        if headers.get("x-fail") == self._name or _fails_once(headers.get("x-fail-once", "")):
            status = "503 Service Unavailable"
        text = json.dumps(said).encode()
        answer = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {len(text)}\r\n"
        answer += f"x-request-id: {headers.get('x-request-id')}\r\nx-tulle-generation: v1\r\n\r\n"
        delay = 1.0 if path.endswith("/slow") else 0.0
        asyncio.get_running_loop().call_later(delay, self._transport.write, answer.encode() + text)


def _fails_once(file: str) -> bool:
    if not file or os.path.exists(file):  # noqa: PTH110
        return False
    with open(file, "x"):  # noqa: PTH123
        return True


async def serve(name: str, sockets: list[str]) -> None:
    """Listen until killed."""
    loop = asyncio.get_running_loop()
    for path in sockets:
        if os.path.exists(path):  # noqa: ASYNC240, PTH110  before anything is served
            os.unlink(path)  # noqa: PTH108
        await loop.create_unix_server(lambda: Worker(name), path)
    print("ready", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], sys.argv[2:]))
