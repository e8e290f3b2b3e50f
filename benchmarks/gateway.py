"""What the gateway's hop costs: Envoy with all of Tulle's filters beside the same Envoy as a plain proxy.

    python benchmarks/gateway.py [SECONDS]

Needs `wrk` (Debian package). Both send to one Envoy that answers by itself on a unix socket, on loopback. Prints one
JSON line a case: requests a second, latency, and the CPU time of the gateway's process for a request.
"""

from __future__ import annotations

import base64
import json
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil

from tulle.config import Settings
from tulle.gateway.contract import hash_secret
from tulle.gateway.envoy import Gateway, binary
from tulle.gateway.envoy_values import typed
from tulle.gateway.policy import Client, Contract, GatewayPolicy, ManagedService, RateLimit

CLIENT, SECRET = "bench-app-00000000", "5e" * 20
TARGET = "/public/api/v1/bench/x/predict"
BODY = '{"features":{"customer_id":"00003"}}'
UPSTREAM = "run/w/bench.sock"


def proxy(address: Mapping[str, Any], route: Mapping[str, Any], clusters: list[Any]) -> dict[str, Any]:
    """A plain Envoy: one listener, one route. The buffer lets it answer by itself and keep the connection."""
    manager = typed(
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix="plain",
        route_config={"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        http_filters=[
            {
                "name": "body",
                "typed_config": typed(
                    "envoy.extensions.filters.http.buffer.v3.Buffer", max_request_bytes=100_000
                ),
            },
            {"name": "router", "typed_config": typed("envoy.extensions.filters.http.router.v3.Router")},
        ],
    )
    filters = [{"name": "http", "typed_config": manager}]
    listener = {"name": "plain", "address": dict(address), "filter_chains": [{"filters": filters}]}
    return {"static_resources": {"listeners": [listener], "clusters": clusters}}


@contextmanager
def process(argv: tuple[str, ...], folder: Path) -> Iterator[psutil.Process]:
    with subprocess.Popen(argv, cwd=folder, stderr=subprocess.DEVNULL) as started:
        time.sleep(1.0)
        try:
            yield psutil.Process(started.pid)
        finally:
            started.terminate()


def plain(config: dict[str, Any]) -> tuple[str, ...]:
    return (str(binary()), "--config-yaml", json.dumps(config), "--disable-hot-restart", "--concurrency", "1")


def measure(
    case: str, port: int, headers: Mapping[str, str], connections: int, seconds: int, envoy: psutil.Process
) -> None:
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(f"wrk.method = 'POST'; wrk.body = '{BODY}'")
        script.flush()
        sent = [part for name, value in headers.items() for part in ("-H", f"{name}: {value}")]
        before = envoy.cpu_times()
        out = subprocess.run(
            ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "-s", script.name, *sent, f"http://127.0.0.1:{port}{TARGET}"],
            capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
        after = envoy.cpu_times()
    if "Non-2xx" in out:
        raise SystemExit(out)
    requests = int(found(r"(\d+) requests in", out))
    cpu = after.user + after.system - before.user - before.system
    result = {
        "case": case,
        "connections": connections,
        "requests_per_second": round(requests / seconds),
        "p50": found(r"50%\s+(\S+)", out),
        "p99": found(r"99%\s+(\S+)", out),
        "cpu_us_per_request": round(cpu / requests * 1e6, 1),
    }
    print(json.dumps(result), flush=True)


def found(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    if match is None:
        raise SystemExit(f"wrk said something else:\n{text}")
    return match[1]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def main() -> None:
    seconds = min(int(sys.argv[1]) if len(sys.argv) > 1 else 3, 5)
    basic = base64.b64encode(f"{CLIENT}:{SECRET}".encode()).decode()
    key = base64.b64encode(f"{CLIENT}.{SECRET}:".encode()).decode()
    forms = {
        "gateway, Basic": {"authorization": f"Basic {basic}"},
        "gateway, two headers": {"client_id": CLIENT, "client_secret": SECRET},
        "gateway, key as Bearer": {"authorization": f"Bearer {CLIENT}.{SECRET}"},
        "gateway, key as Basic user": {"authorization": f"Basic {key}"},
    }
    with tempfile.TemporaryDirectory() as name:
        settings = replace(Settings(folder=Path(name)), gateway_port=free_port())
        folder = settings.state_folder
        (folder / "run/w").mkdir(parents=True)
        gateway = Gateway(settings)
        gateway.publish(
            GatewayPolicy.of(
                services=[ManagedService("bench", (UPSTREAM,), 100_000)],
                clients=[Client(CLIENT, hash_secret(SECRET))],
                contracts=[Contract(CLIENT, "bench", RateLimit(1_000_000, 1000))],
            )
        )
        everything = {"prefix": "/"}
        answer = {
            "match": everything,
            "direct_response": {"status": 200, "body": {"inline_string": '{"result":1}'}},
        }
        at = {"pipe": {"path": UPSTREAM}}
        cluster = {
            "name": "one",
            "type": "STATIC",
            "load_assignment": {
                "cluster_name": "one",
                "endpoints": [{"lb_endpoints": [{"endpoint": {"address": at}}]}],
            },
        }
        port = free_port()
        listen = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
        forward = {"match": everything, "route": {"cluster": "one"}}
        with process(plain(proxy(at, answer, [])), folder):
            for connections in (1, 32):
                with process(plain(proxy(listen, forward, [cluster])), folder) as envoy:
                    measure("plain Envoy", port, {}, connections, seconds, envoy)
                with process(gateway.command().argv, folder) as envoy:
                    for case, headers in forms.items():
                        measure(case, settings.gateway_port, headers, connections, seconds, envoy)


if __name__ == "__main__":
    main()
