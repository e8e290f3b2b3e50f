"""What mutual TLS inside the mesh costs: the gateway before sidecars beside the same gateway before the workers.

    python benchmarks/mutual_tls.py [SECONDS]

Needs `wrk` (Debian package). Prints one JSON line a case: requests a second, latency, and the CPU time of gateway and
sidecars for a request, the latter also where a sidecar is a process a generation instead of one for the machine; then
what such a process takes in memory and time to start, with few sidecars in it and with many.
"""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import psutil
from benchmarks.gateway.envoys import BODY, CLIENT, SECRET, TARGET, found, free_port, plain, process, proxy

from tulle.config import Settings
from tulle.gateway.envoy import Gateway
from tulle.gateway.policy import Backend, Client, Contract, GatewayPolicy, ManagedService, RateLimit
from tulle.gateway.secret import hash_secret
from tulle.gateway.trust.keeper import Keeper
from tulle.serving.traffic import single
from tulle.state.db import open_database

UPSTREAM = "run/w/bench.sock"
GENERATIONS = (1, 20, 200)


def service(name: str) -> ManagedService:
    """A service of one generation, whose worker is the same for all."""
    return ManagedService(
        name, (), 100_000, traffic=single("v1"), backends=(Backend("v1", (UPSTREAM,)),), health_path="/"
    )


def measure(case: str, port: int, connections: int, seconds: int, hops: Sequence[psutil.Process]) -> None:
    """One line of what callers and processes see."""
    basic = base64.b64encode(f"{CLIENT}:{SECRET}".encode()).decode()
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(f"wrk.method = 'POST'; wrk.body = '{BODY}'")
        script.flush()
        address = f"http://127.0.0.1:{port}{TARGET}"
        argv = ["wrk", "-t1", f"-c{connections}", "--latency", "-s", script.name]
        argv += ["-H", f"authorization: Basic {basic}"]
        subprocess.run([*argv, "-d1s", address], capture_output=True, check=True)  # connections, handshakes
        before = [one.cpu_times() for one in hops]
        done = subprocess.run([*argv, f"-d{seconds}s", address], capture_output=True, text=True, check=True)
        after = [one.cpu_times() for one in hops]
    if "Non-2xx" in done.stdout:
        raise SystemExit(done.stdout)
    requests = int(found(r"(\d+) requests in", done.stdout))
    cpu = [
        (b.user + b.system - a.user - a.system) / requests * 1e6 for a, b in zip(before, after, strict=True)
    ]
    told = {
        "case": case,
        "connections": connections,
        "requests_per_second": round(requests / seconds),
        "p50": found(r"\n\s+50%\s+(\S+)", done.stdout),
        "p99": found(r"\n\s+99%\s+(\S+)", done.stdout),
        "cpu_us_per_request": [round(one, 1) for one in cpu],
        "cpu_us_together": round(sum(cpu), 1),
    }
    print(json.dumps(told), flush=True)


@contextmanager
def mesh(folder: Path, *, mutual_tls: bool, services: int = 1) -> Iterator[tuple[Keeper, Gateway, Settings]]:
    """A mesh's files, with so many services published."""
    settings = replace(
        Settings(folder=folder), gateway_port=free_port(), mutual_tls=mutual_tls, gateway_concurrency=1
    )
    (settings.state_folder / "run/w").mkdir(parents=True, exist_ok=True)
    database = open_database(settings.database_url)
    keeper, gateway = Keeper(settings, database), Gateway(settings)
    made = [service("bench" if n == 0 else f"bench-{n}") for n in range(services)]
    keeper.prepare([(one.name, "") for one in made])
    keeper.put_before((), made)
    gateway.publish(
        GatewayPolicy.of(
            services=keeper.entrusted(made),
            clients=[Client(CLIENT, hash_secret(SECRET))],
            contracts=[Contract(CLIENT, one.name, RateLimit(1_000_000, 1000)) for one in made],
        )
    )
    yield keeper, gateway, settings
    database.close()


def hops(seconds: int) -> None:
    """Requests through the gateway, without and with mutual TLS behind it."""
    answer = {
        "match": {"prefix": "/"},
        "direct_response": {"status": 200, "body": {"inline_string": '{"result":1}'}},
    }
    for connections in (1, 32):
        for mutual_tls in (False, True):
            with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
                made = mesh(Path(name), mutual_tls=mutual_tls)
                keeper, gateway, settings = stack.enter_context(made)
                worker = plain(proxy({"pipe": {"path": UPSTREAM}}, answer, []))
                stack.enter_context(process(worker, settings.state_folder))
                running = []
                if mutual_tls:
                    argv = keeper.sidecars.command().argv
                    running.append(stack.enter_context(process(argv, settings.state_folder)))
                stack.callback(gateway.process.forget)
                running.append(stack.enter_context(process(gateway.command().argv, settings.state_folder)))
                case = "gateway, sidecar" if mutual_tls else "gateway alone"
                measure(case, settings.gateway_port, connections, seconds, running[::-1])


def processes() -> None:
    """What the sidecars' process takes, by how many sidecars are in it."""
    for count in GENERATIONS:
        with tempfile.TemporaryDirectory() as name, mesh(Path(name), mutual_tls=True, services=count) as made:
            keeper, _, settings = made
            began = time.perf_counter()
            argv = keeper.sidecars.command().argv
            with subprocess.Popen(argv, cwd=settings.state_folder, stderr=subprocess.DEVNULL) as started:
                while not keeper.sidecars.ready():
                    time.sleep(0.005)
                took = time.perf_counter() - began
                about = psutil.Process(started.pid)
                used = about.cpu_times()
                told = {
                    "case": "start of the sidecars' process",
                    "sidecars": count,
                    "seconds": round(took, 3),
                    "cpu_seconds": round(used.user + used.system, 3),
                    "rss_mb": round(about.memory_info().rss / 1e6),
                }
                print(json.dumps(told), flush=True)
                started.terminate()


def main() -> None:
    """Hops first, as they want a machine that is quiet."""
    hops(min(int(sys.argv[1]) if len(sys.argv) > 1 else 3, 10))
    processes()


if __name__ == "__main__":
    main()
