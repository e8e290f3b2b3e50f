"""The bare server our worker stands on, answering one sentence: what no service on it can exceed.

python hello.py PORT
"""

from __future__ import annotations

import asyncio
import sys

import uvloop

from tulle.serving.connection import Callers, Head, Reply, Request

HEAD = Head([(b"content-type", b"application/json")])


def answer(_request: Request) -> Reply:
    """The sentence."""
    return Reply(HEAD, b'{"hello":"world"}', "1")


async def serve(port: int) -> None:
    """Answer until the process ends."""
    callers = Callers(answer, max_request_bytes=1_048_576)
    server = await asyncio.get_running_loop().create_server(callers.connection, "127.0.0.1", port)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
