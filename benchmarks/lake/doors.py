"""The lake's doors under load, beside moto_server: S3 puts, gets, heads and lists; then REST's own.

    python benchmarks/lake/doors.py [--seconds 3]

Both servers are real processes on loopback, driven by the same client with 1 and 32 connections: sockets and
requests signed by hand, so that the client is not what is measured. moto keeps objects in memory and checks no
signature; the lake's door checks each, and acknowledges a write only when it is on disk.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import hashlib
import hmac
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import yaml
from peers_environment import python_of

KIB4, MIB8 = b"x" * 4096, os.urandom(8 * 1024 * 1024)
LARGE = 1024 * 1024  # bytes of an answer that nobody looks at
PATIENCE = 5.0  # seconds beyond the measured ones that an answer may take
Request = Callable[[int], bytes]


@dataclass
class Server:
    """Where a server is, and how requests to it are signed."""

    name: str
    port: int
    bucket: str
    prefix: str
    key: str
    secret: str

    def request(self, method: str, path: str, query: str = "", body: bytes = b"") -> bytes:
        """A request with a SigV4 header, the body's digest signed."""
        now = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        digest = hashlib.sha256(body).hexdigest()
        headers = {"host": f"127.0.0.1:{self.port}", "x-amz-content-sha256": digest, "x-amz-date": now}
        names = ";".join(headers)
        raw = quote(path, safe="/~-._")
        canonical = "\n".join(
            [method, raw, query, *(f"{k}:{v}" for k, v in headers.items()), "", names, digest]
        )
        scope = f"{now[:8]}/us-east-1/s3/aws4_request"
        text = "\n".join(["AWS4-HMAC-SHA256", now, scope, hashlib.sha256(canonical.encode()).hexdigest()])
        key = b"AWS4" + self.secret.encode()
        for part in (now[:8], "us-east-1", "s3", "aws4_request"):
            key = hmac.digest(key, part.encode(), "sha256")
        signature = hmac.digest(key, text.encode(), "sha256").hex()
        lines = [
            f"{method} {raw}{'?' + query if query else ''} HTTP/1.1",
            *(f"{k}: {v}" for k, v in headers.items()),
        ]
        lines.append(
            f"authorization: AWS4-HMAC-SHA256 Credential={self.key}/{scope}, "
            f"SignedHeaders={names}, Signature={signature}"
        )
        lines += [f"content-length: {len(body)}", "", ""]
        return "\r\n".join(lines).encode() + body


class Refused(Exception):
    """A server answered something else than 2xx."""


async def drive(port: int, make: Request, connections: int, seconds: float) -> list[float]:
    """Milliseconds of every request that was answered 2xx; anything else ends the benchmark."""
    took: list[float] = []
    numbers = iter(range(10**9))
    until = time.perf_counter() + seconds

    async def one() -> None:
        reader: asyncio.StreamReader
        writer: asyncio.StreamWriter | None = None
        while time.perf_counter() < until:
            message = make(next(numbers))
            began = time.perf_counter()
            if writer is None:
                reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 24)
            writer.write(message)
            status, _, stays = await answer(reader, message.startswith(b"HEAD"))
            took.append((time.perf_counter() - began) * 1000)
            if not 200 <= status < 300:
                raise Refused(f"answered {status} to {message[:40]!r}")
            if not stays:  # moto's server ends every connection
                writer.close()
                writer = None
        if writer is not None:
            writer.close()

    await asyncio.gather(*(one() for _ in range(connections)))
    return took


async def answer(reader: asyncio.StreamReader, head: bool) -> tuple[int, bytes, bool]:
    """Status, body, and whether the connection stays."""
    block = await reader.readuntil(b"\r\n\r\n")
    status = int(block[9:12])
    fields = dict(line.lower().split(b": ", 1) for line in block.split(b"\r\n")[1:] if b": " in line)
    stays = block.startswith(b"HTTP/1.1") and fields.get(b"connection") != b"close"
    if head or status in {204, 304}:
        return status, b"", stays
    if b"content-length" in fields:
        length = int(fields[b"content-length"])
        body = await (counted(reader, length) if length > LARGE else reader.readexactly(length))
        return status, body, stays
    body = b""
    while size := int(await reader.readline(), 16):
        body += await reader.readexactly(size)
        await reader.readexactly(2)
    await reader.readline()
    return status, body, stays


async def counted(reader: asyncio.StreamReader, length: int) -> bytes:
    """Read so many bytes and forget them: joining them would cost more than a server takes to send them."""
    while length:
        piece = await reader.read(min(length, LARGE))
        if not piece:
            raise asyncio.IncompleteReadError(b"", length)
        length -= len(piece)
    return b""


def measure(name: str, servers: list[tuple[Server, Request]], seconds: float) -> None:
    for connections in (1, 32):
        shown, rates = [], []
        for server, make in servers:
            try:
                driven = asyncio.run(
                    asyncio.wait_for(drive(server.port, make, connections, seconds), seconds + PATIENCE)
                )
            except (TimeoutError, asyncio.IncompleteReadError):
                shown.append(f"{server.name} left a request without an answer")
                continue
            except Refused as exc:
                shown.append(f"{server.name} {exc}")
                continue
            took = sorted(driven)
            rates.append(len(took) / seconds)
            p99 = took[int(len(took) * 0.99) - 1]
            shown.append(
                f"{server.name} {rates[-1]:8,.0f}/s p50 {statistics.median(took):7.2f} p99 {p99:7.2f} ms"
            )
        ratio = f"  {rates[0] / rates[1]:5.1f}x" if len(rates) > 1 else ""
        print(f"{name:16} {connections:2} conn.  " + "   ".join(shown) + ratio, flush=True)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def running(argv: list[str], port: int, environment: dict[str, str]) -> Iterator[None]:
    process = subprocess.Popen(
        argv, env={**os.environ, **environment}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + 60
        while True:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            if time.monotonic() > deadline or process.poll() is not None:
                raise SystemExit(f"{argv} did not start")
            time.sleep(0.1)
        yield
    finally:
        process.terminate()
        process.wait(20)


def s3(ours: Server, moto: Server | None, seconds: float) -> None:
    servers = [ours] + ([moto] if moto else [])
    for server in servers:
        for number in range(1000):
            send(
                server, server.request("PUT", f"/{server.bucket}/{server.prefix}list/{number:05}", body=KIB4)
            )
        send(server, server.request("PUT", f"/{server.bucket}/{server.prefix}big", body=MIB8))

    def each(make: Callable[[Server, int], bytes]) -> list[tuple[Server, Request]]:
        return [(server, lambda n, server=server: make(server, n)) for server in servers]  # type: ignore[misc]

    def at(server: Server, rest: str) -> str:
        return f"/{server.bucket}/{server.prefix}{rest}"

    measure("HEAD", each(lambda s, n: s.request("HEAD", at(s, f"list/{n % 1000:05}"))), seconds)
    measure("GET 4 KiB", each(lambda s, n: s.request("GET", at(s, f"list/{n % 1000:05}"))), seconds)
    measure("PUT 4 KiB", each(lambda s, n: s.request("PUT", at(s, f"put/{n}"), body=KIB4)), seconds)
    measure("GET 8 MiB", each(lambda s, _: s.request("GET", at(s, "big"))), seconds)
    measure("PUT 8 MiB", each(lambda s, n: s.request("PUT", at(s, f"big{n % 8}"), body=MIB8)), seconds)

    def listing(server: Server, _: int) -> bytes:
        query = f"list-type=2&max-keys=1000&prefix={quote(server.prefix + 'list/', safe='')}"
        return server.request("GET", f"/{server.bucket}", query)

    measure("LIST 1,000", each(listing), seconds)


def send(server: Server, message: bytes) -> bytes:
    async def once() -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=1 << 24)
        writer.write(message)
        status, body, _ = await answer(reader, False)
        writer.close()
        if status >= 300:
            raise SystemExit(f"{server.name} answered {status}: {body[:300]!r}")
        return body

    return asyncio.run(once())


def rest(port: int, key: str, secret: str, seconds: float) -> None:
    token = base64.b64encode(f"{key}:{secret}".encode()).decode()
    api = "/api/v1/repositories/bench"

    def request(method: str, path: str, body: dict[str, object] | None = None) -> bytes:
        data = b"" if body is None else json.dumps(body).encode()
        head = f"{method} {api}{path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nauthorization: Basic {token}\r\n"
        return f"{head}content-type: application/json\r\ncontent-length: {len(data)}\r\n\r\n".encode() + data

    server = Server("tulle", port, "", "", "", "")
    measure(
        "REST stat",
        [(server, lambda n: request("GET", f"/refs/main/objects/stat?path=list/{n % 1000:05}"))],
        seconds,
    )
    listing = request("GET", "/refs/main/objects/ls?prefix=list/&amount=1000")
    measure("REST list 1,000", [(server, lambda _: listing)], seconds)
    empty = {"message": "bench", "allow_empty": True}
    for name in (f"b{n}" for n in range(33)):
        send(server, request("POST", "/branches", {"name": name, "source": "main"}))
    measure(
        "REST commit", [(server, lambda n: request("POST", f"/branches/b{n % 32}/commits", empty))], seconds
    )

    took = []
    for number in range(30):
        for step in (
            request("POST", "/branches", {"name": f"m{number}", "source": "b32"}),
            request(
                "POST", f"/branches/m{number}/objects/copy", {"src_path": "list/00001", "src_ref": "main"}
            ).replace(b"/objects/copy ", f"/objects/copy?dest_path=m/{number} ".encode()),
            request("POST", f"/branches/m{number}/commits", {"message": "m"}),
        ):
            send(server, step)
        began = time.perf_counter()
        send(server, request("POST", f"/refs/m{number}/merge/b32", {}))
        took.append((time.perf_counter() - began) * 1000)
    print(f"{'REST merge':16}  1 conn.  tulle p50 {statistics.median(took):7.2f} ms")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=3.0)
    seconds = parser.parse_args().seconds
    print(f"load {os.getloadavg()[0]:.1f} before")
    moto_python = python_of("moto")
    with tempfile.TemporaryDirectory() as scratch, contextlib.ExitStack() as stack:
        folder = Path(scratch)
        (folder / "mesh.yaml").write_text("name: bench\n")
        ports = {name: free_port() for name in ("CONTROL_PLANE", "S3", "GATEWAY")}
        environment = {f"TULLE_{name}_PORT": str(port) for name, port in ports.items()}
        for module, name in (("tulle.server", "CONTROL_PLANE"), ("tulle.server.s3_door", "S3")):
            argv = [sys.executable, "-m", module, "--mesh", str(folder)]
            stack.enter_context(running(argv, ports[name], environment))
        kept = yaml.safe_load((folder / ".tulle" / "lakectl.yaml").read_text())["credentials"]
        key, secret = kept["access_key_id"], kept["secret_access_key"]
        token = base64.b64encode(f"{key}:{secret}".encode()).decode()
        body = b'{"name": "bench", "storage_namespace": "local://bench"}'
        url = f"http://127.0.0.1:{ports['CONTROL_PLANE']}/api/v1/repositories"
        headers = {"authorization": f"Basic {token}", "content-type": "application/json"}
        urllib.request.urlopen(urllib.request.Request(url, body, headers, method="POST")).close()
        ours = Server("tulle", ports["S3"], "bench", "main/", key, secret)
        moto = None
        if moto_python is not None:
            port = free_port()
            argv = [str(moto_python), "-m", "moto.server", "-p", str(port)]
            stack.enter_context(running(argv, port, {}))
            moto = Server("moto", port, "bench", "main/", "x", "y")
            send(moto, moto.request("PUT", "/bench"))
        s3(ours, moto, seconds)
        rest(ports["CONTROL_PLANE"], key, secret, seconds)


if __name__ == "__main__":
    main()
