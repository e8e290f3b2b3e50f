"""The bare server our worker stands on, answering one sentence: what no application on it can exceed.

python hello.py PORT
"""

from __future__ import annotations

import sys
from typing import Any

import uvicorn

ANSWER = b'{"hello":"world"}'
START = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(ANSWER))],
}
BODY = {"type": "http.response.body", "body": ANSWER}


async def app(_scope: Any, receive: Any, send: Any) -> None:
    """Read the request, send the sentence."""
    await receive()
    await send(START)
    await send(BODY)


if __name__ == "__main__":
    uvicorn.run(
        app,
        host="127.0.0.1",
        port=int(sys.argv[1]),
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="off",
        access_log=False,
        log_level="warning",
        server_header=False,
    )
