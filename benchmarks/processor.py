"""What the processor's own time of a request is, by what it does with it.

    .venv/bin/python benchmarks/processor.py [--requests 20000]

A processor of its own, with a target in place of Envoy's inner listener that answers the same bytes to everybody, and
callers in place of the front one, on kept connections. Told is the processor's user and system time for each request,
so other work of the machine matters little. The cost of Envoy's two further passes is not in it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec
import psutil
import uvloop

from tulle.gateway.envoy_files import versioned
from tulle.gateway.envoy_values import FOLDER, INNER_SOCKET, processor_socket
from tulle.gateway.processing.plan import ChainPlan, StepPlan, resources
from tulle.gateway.processors import Processors
from tulle.serving.connection import Callers, Head, Reply, Request

CONNECTIONS = 8
FIELDS = [
    {"path": "$.results[*].data.ssn", "action": "mask", "keep_last": 4},
    {"path": "$.results[*].data.salary", "action": "remove"},
    {"path": "$..iban", "action": "hash"},
]
ROW = {"type": "object", "required": ["data"], "properties": {"data": {"type": "object"}}}
BODY = {
    "type": "object",
    "required": ["items"],
    "properties": {"items": {"type": "array", "items": ROW}},
}
DOCUMENT = {
    "openapi": "3.1.0",
    "paths": {
        "/public/api/v1/s/e/lookup": {
            "post": {"requestBody": {"required": True, "content": {"application/json": {"schema": BODY}}}}
        }
    },
}
STEPS = {
    "passed on (limits on JSON of 60 bytes)": [StepPlan("l", "json-limits", {"max_depth": 10})],
    "redacted, three fields": [StepPlan("r", "redaction", {"fields": FIELDS})],
    "redacted, nothing found": [StepPlan("r", "redaction", {"fields": [{"path": "$..nowhere"}]})],
    "quota of two windows": [StepPlan("q", "quota", {"limits": ["1000000000/1s", "1000000000/1d"]})],
    "quota by a part of the body": [
        StepPlan("b", "quota", {"limits": ["1000000000/1d"], "key": ["body:$.items[0].data.id"]})
    ],
    "checked by its document": [StepPlan("v", "schema-validation", {"document": DOCUMENT})],
    "kept answer to a POST": [StepPlan("c", "caching", {"methods": ["POST"]})],
    "kept answer, by a part of the body": [
        StepPlan("p", "caching", {"methods": ["POST"], "key": {"body": ["$.items[0].data.id"]}})
    ],
}


def answer_of(size: int) -> bytes:
    """JSON of about so many bytes: rows as a look-up answers them."""
    row = {"id": 7, "name": "Ann Example", "ssn": "078-05-1120", "salary": 51234.5, "city": "Springfield"}
    row |= {
        "account": {"iban": "DE89370400440532013000", "since": "2019-04-01", "limit": 1500.0},
        "score": 0.87,
    }
    rows: list[object] = []
    while len(json.dumps({"results": rows})) < size:
        rows.append({"data": row})
    return json.dumps({"results": rows}).encode()


def target(socket: str) -> None:
    """Answers `?1` with 1 kB, `?20` with 20 kB."""
    head = Head([(b"content-type", b"application/json")])
    bodies = {size: answer_of(int(size) * 1024) for size in (b"1", b"20")}

    def answer(request: Request) -> Reply:
        return Reply(head, bodies[request.query], "r")

    async def serve() -> None:
        callers = Callers(answer, max_request_bytes=1 << 20)
        await asyncio.get_running_loop().create_unix_server(callers.connection, socket)
        await asyncio.Event().wait()

    uvloop.run(serve())


async def load(socket: str, request: bytes, requests: int) -> None:
    """So many requests, each connection one after another."""

    async def call(count: int) -> None:
        reader, writer = await asyncio.open_unix_connection(socket)
        for _ in range(count):
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200"), head
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            await reader.readexactly(length)
        writer.close()

    await asyncio.gather(*(call(requests // CONNECTIONS) for _ in range(CONNECTIONS)))


def main() -> None:
    """Print a line for each."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--requests", type=int, default=20_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        Path(FOLDER).mkdir(parents=True)
        chains = {name: ChainPlan(f"s{n}", tuple(steps)) for n, (name, steps) in enumerate(STEPS.items())}
        plan = msgspec.json.encode(versioned(resources(list(chains.values()))))
        Path(FOLDER, "processing.json").write_bytes(plan)
        serving = multiprocessing.Process(target=target, args=(INNER_SOCKET,), daemon=True)
        serving.start()
        process = subprocess.Popen(
            [sys.executable, "-m", "tulle.gateway.processing.process"], stderr=subprocess.DEVNULL
        )
        while Processors(Path(), 1).states() == [None]:
            assert process.poll() is None
        measured = psutil.Process(process.pid)
        body = b'{"items": [{"data": {"id": 7, "name": "x", "tags": [1, 2]}}]}'
        for size in ("1", "20"):
            for name, chain in chains.items():
                request = (
                    f"POST /public/api/v1/s/e/lookup?{size} HTTP/1.1\r\nhost: 127.0.0.1:8000\r\n"
                    "user-agent: benchmark/1.0\r\naccept: */*\r\ncontent-type: application/json\r\n"
                    "x-forwarded-proto: http\r\nx-request-id: 5f0c2a1e-0f5b-4f0e-9c9f-0123456789ab\r\n"
                    f"x-tulle-client: shop\r\nx-tulle-process: {chain.key}\r\nx-tulle-address: 127.0.0.1\r\n"
                    f"content-length: {len(body)}\r\n\r\n"
                ).encode() + body
                uvloop.run(load(processor_socket(0), request, 800))
                before = sum(measured.cpu_times()[:2])
                uvloop.run(load(processor_socket(0), request, options.requests))
                spent = (sum(measured.cpu_times()[:2]) - before) / options.requests
                print(f"{size:>3} kB  {name:40} {spent * 1e6:6.0f} µs")
        print(f"resident memory: {measured.memory_info().rss >> 20} MB")
        process.terminate()
        process.wait()
        serving.terminate()


if __name__ == "__main__":
    main()
