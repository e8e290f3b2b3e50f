"""A gateway as one writes it in Python: FastAPI and httpx, with the checks of ours.

    PORT=… UPSTREAM=http://… CLIENT=… SECRET=… python fastapi_gateway.py

Client id and secret, a contract, and a limit for each client; then the request is sent on, on kept connections.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse

RATE, BURST = 1_000_000.0, 1_000_000.0


def hashed(secret: str) -> str:
    """A secret as it is kept."""
    return base64.b64encode(hashlib.sha1(secret.encode(), usedforsecurity=False).digest()).decode()


SECRETS = {os.environ["CLIENT"]: hashed(os.environ["SECRET"])}
CONTRACTS = {(os.environ["CLIENT"], "bench")}
BUCKETS: dict[str, tuple[float, float]] = {}  # by client: what is left, and since when
UPSTREAM = os.environ["UPSTREAM"]


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """The connections that are kept."""
    limits = httpx.Limits(max_connections=100, max_keepalive_connections=100)
    async with httpx.AsyncClient(limits=limits) as client:
        app.state.client = client
        yield


app = FastAPI(lifespan=lifespan)


def refused(status: int, kind: str) -> Response:
    """An error in the shape of ours."""
    return JSONResponse({"errorType": kind, "message": kind, "detailedMessage": kind}, status)


@app.api_route("/public/api/v1/{service}/{rest:path}", methods=["GET", "POST"])
async def forward(service: str, rest: str, request: Request) -> Response:
    """Check, count, send on."""
    client = request.headers.get("client_id", "")
    known = SECRETS.get(client, "")
    if not hmac.compare_digest(hashed(request.headers.get("client_secret", "")), known):
        return refused(401, "InvalidClient")
    if (client, service) not in CONTRACTS:
        return refused(403, "NoContract")
    now = time.monotonic()
    left, since = BUCKETS.get(client, (BURST, now))
    left = min(BURST, left + (now - since) * RATE)
    if left < 1:
        return refused(429, "TooManyRequests")
    BUCKETS[client] = left - 1, now
    sent = await app.state.client.request(
        request.method,
        f"{UPSTREAM}/{rest}",
        content=await request.body(),
        headers={"content-type": request.headers.get("content-type", ""), "x-client": client},
    )
    headers = {"content-type": sent.headers["content-type"], "x-ratelimit-remaining": str(int(left))}
    return Response(sent.content, sent.status_code, headers)


if __name__ == "__main__":
    port = int(os.environ["PORT"])
    # With uvloop and httptools, as `uvicorn[standard]` has them.
    uvicorn.run(app, host="127.0.0.1", port=port, loop="uvloop", http="httptools", access_log=False)
