"""A target that answers what its caller tells it to, for the gateway to send to: HTTP/1.1 on a unix socket.

    python target.py SOCKET

`…/echo` answers with the body it got, with the headers that `x-answer` tells as JSON, packed where it says gzip, in
chunks where `x-chunked` is there. `…/said` tells what was asked. `…/count` tells how many requests came before it.
`…/slow` waits a second, `…/big` answers with as many bytes as `x-size` says, `…/cut` hangs up in the middle.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import sys
from typing import Any

COUNT = [0]


class Target(asyncio.Protocol):
    """One connection."""

    def __init__(self) -> None:
        self._held = b""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._held += data
        while b"\r\n\r\n" in self._held:
            head, _, rest = self._held.partition(b"\r\n\r\n")
            lines = head.decode("latin-1").split("\r\n")
            headers = [tuple(line.split(": ", 1)) for line in lines[1:]]
            length = int(dict(headers).get("content-length", 0))
            if len(rest) < length:
                return
            body, self._held = rest[:length], rest[length:]
            method, target, _ = lines[0].split(" ")
            self._answer(method, target, headers, body)

    def _answer(self, method: str, target: str, headers: list[Any], body: bytes) -> None:
        path, named = target.partition("?")[0], dict(headers)
        told: dict[str, str] = {"content-type": "application/json", **json.loads(named.get("x-answer", "{}"))}
        status = told.pop("status", "200 Said")
        if path.endswith("/echo"):
            content = gzip.compress(body) if told.get("content-encoding") == "gzip" else body
        elif path.endswith("/big"):
            content = b"x" * int(named["x-size"])
        elif path == "/isAlive/":
            content = b"{}"
        else:
            COUNT[0] += 1
            content = json.dumps(
                {
                    "method": method,
                    "target": target,
                    "headers": headers,
                    "body": body.decode("latin-1"),
                    "count": COUNT[0],
                }
            ).encode()
        if path.endswith("/cut"):
            self._transport.write(
                b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\ncontent-type: text/plain\r\n\r\nabc"
            )
            self._transport.close()
            return
        if "x-chunked" in named:
            told["transfer-encoding"] = "chunked"
            half = len(content) // 2
            parts = [part for part in (content[:half], content[half:]) if part]
            content = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
        else:
            told["content-length"] = str(len(content))
        if method == "HEAD" or status.startswith(("204", "304")):
            content = b""
        lines = "".join(f"{name}: {value}\r\n" for name, value in told.items())
        answer = f"HTTP/1.1 {status}\r\n{lines}\r\n".encode() + content
        asyncio.get_running_loop().call_later(
            1.0 if path.endswith("/slow") else 0, self._transport.write, answer
        )


async def serve(path: str) -> None:
    """Listen until killed."""
    if os.path.exists(path):  # noqa: ASYNC240, PTH110  before anything is served
        os.unlink(path)  # noqa: PTH108
    await asyncio.get_running_loop().create_unix_server(Target, path)
    print("ready", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1]))
