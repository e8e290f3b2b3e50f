"""A plain Envoy to hold the gateway against, and the credentials and requests that benchmarks of it use."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from tulle.gateway.envoy_binary import binary
from tulle.gateway.envoy_values import typed

CLIENT, SECRET = "bench-app-00000000", "5e" * 20
TARGET = "/public/api/v1/bench/x/predict"
BODY = '{"features":{"customer_id":"00003"}}'


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


def found(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    if match is None:
        raise SystemExit(f"wrk said something else:\n{text}")
    return match[1]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
