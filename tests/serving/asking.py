"""Asking a loaded service in this process, without a socket."""

from __future__ import annotations

from collections.abc import Sequence

import httpx

from tulle.serving.app import App
from tulle.serving.connection import Reply, Request
from tulle.serving.endpoint import Header


async def answer(
    app: App,
    method: str,
    path: str,
    content: bytes = b"",
    headers: Sequence[Header] = (),
    query: bytes = b"",
) -> httpx.Response:
    """What is answered to one request, as a connection would hand it over."""
    whole = content if len(content) <= app.max_request_bytes else None
    reply = app.ask(Request(method, path, query, headers, whole))
    if not isinstance(reply, Reply):
        reply = await reply
    said = [*reply.head.headers, (b"x-request-id", reply.request_id.encode())]
    return httpx.Response(reply.status, headers=said, content=reply.body)


class InProcess(httpx.AsyncBaseTransport):
    """For a client whose requests go to an application straight away."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        content = await request.aread()
        headers = [(name.lower(), value) for name, value in request.headers.raw]
        url = request.url
        return await answer(self._app, request.method, url.path, content, headers, url.query)
