"""What a request pays for passing a gateway: this one with several policies, and others, before one upstream."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil
from benchmarks.gateway.envoys import BODY, CLIENT, SECRET, TARGET, plain, process
from benchmarks.gateway.meshes import basic, for_one, running, token_and_keys
from benchmarks.gateway.upstream import has_nginx, nginx_proxy, upstream
from benchmarks.serving.load import (
    CONNECTIONS,
    Figures,
    Pace,
    Side,
    awake,
    in_turn,
    on_one_processor,
    told,
    verdict,
)
from benchmarks.serving.processes import free_port, posts, server

from tulle.gateway.envoy_listener import access_log
from tulle.gateway.envoy_values import typed

JSON = {"content-type": "application/json"}
KEYED = {"client_id": CLIENT, "client_secret": SECRET}
PEERS = Path(__file__).parent / "peers"
ALONE, BARE, PYTHON = "upstream alone", "bare Envoy", "FastAPI + httpx, same checks"
LOGGING = "bare Envoy, our access log"
PLAIN, LIMITED, HEADERS = "ours, plain proxy", "ours, client id + limit", "ours, the same in two headers"
TOKENS, REDACTED = "ours, JWT + tier + log", "ours, redaction"
NGINX, NGINX_LIMITED = "nginx", "nginx, limit_req"
# side → what it is held against, and how many times its rate it is to have
WANTED = (
    (LIMITED, PLAIN, 0.85),
    (LIMITED, BARE, 0.85),
    (HEADERS, BARE, 0.85),
    (LIMITED, LOGGING, 0.85),
    (HEADERS, LOGGING, None),
    (LIMITED, PYTHON, 10.0),
    (BARE, PYTHON, None),  # the most that anything made of an Envoy can have of it
    (LIMITED, NGINX_LIMITED, None),
    (PLAIN, BARE, None),
)


def measure(*, quick: bool) -> None:
    """Print rates and latencies of all sides, what each adds to the upstream's, and the ratios that are wanted."""
    pace = Pace.of(quick=quick)
    with tempfile.TemporaryDirectory(prefix="tulle-hop-") as name, ExitStack() as stack:
        sides = list(_sides(stack, Path(name)))
        for connections in CONNECTIONS:
            many = connections > 1
            with awake(), ExitStack() as one:
                if not many:
                    one.enter_context(on_one_processor(sides))
                figures = dict(zip([s.name for s in sides], in_turn(sides, connections, pace), strict=True))
            _tell(figures, connections)


def _tell(figures: Mapping[str, Figures], connections: int) -> None:
    print(f"\n{connections} at a time{'':24}rate   p50 ms  p99 ms  cpu us  added p50 us  p99 us")
    alone = figures[ALONE]
    for name, one in figures.items():
        added = f"{(one.p50 - alone.p50) * 1000:>13,.0f} {(one.p99 - alone.p99) * 1000:>7,.0f}"
        print(f"  {name:30} {told(one)} {'' if name == ALONE else added}")
    for name, other, wanted in WANTED:
        if other in figures:
            ratio = figures[name].rps / figures[other].rps
            print(f"  rate of '{name}' over '{other}': {verdict(ratio, wanted)}")
            # Others who share the processors change it little.
            spent = figures[other].cpu / max(figures[name].cpu, 0.001)
            print(f"    by processor time: {verdict(spent, wanted)}")
    sys.stdout.flush()


def _sides(stack: ExitStack, folder: Path) -> Iterator[Side]:
    behind = stack.enter_context(upstream(folder / "upstream"))
    yield _side(ALONE, behind)
    for name, place in ((BARE, ""), (LOGGING, str(folder / "bare.jsonl"))):
        port, bare = stack.enter_context(_bare(folder, behind, place))
        yield _side(name, port, process=[bare])
    token, keys = token_and_keys()
    hiding = "- {policy: redaction, fields: [{path: '$.customer.ssn', action: mask, keep_last: 4}]}"
    ours = {
        PLAIN: (for_one(behind, public=True), {}),
        LIMITED: (for_one(behind), basic()),
        HEADERS: (for_one(behind), KEYED),
        TOKENS: (for_one(behind, keys=keys), {"authorization": f"Bearer {token}"}),
        REDACTED: (for_one(behind, listed=hiding), basic()),
    }
    for number, (name, (policy, headers)) in enumerate(ours.items()):
        mesh = stack.enter_context(running(folder / f"ours-{number}", policy, processor=name == REDACTED))
        yield _side(name, mesh.port, headers, mesh.processes)
    if has_nginx():
        for name, limited in ((NGINX, False), (NGINX_LIMITED, True)):
            port, proxy = stack.enter_context(
                nginx_proxy(folder / f"nginx-{limited}", behind, limited=limited)
            )
            yield _side(name, port, KEYED, [proxy])
    port, python = stack.enter_context(_python(folder, behind))
    yield _side(PYTHON, port, KEYED, [python])


def _side(
    name: str, port: int, headers: Mapping[str, str] = {}, process: Sequence[psutil.Process] = ()
) -> Side:
    return Side(name, f"http://127.0.0.1:{port}{TARGET}", [BODY], {**JSON, **headers}, list(process))


@contextmanager
def _bare(folder: Path, behind: int, log: str = "") -> Iterator[tuple[int, psutil.Process]]:
    """An Envoy that sends on and does nothing else, but for a line in a log: one listener, one route, no filters."""
    port = free_port()
    route = {"match": {"prefix": "/"}, "route": {"cluster": "one"}}
    manager = typed(
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix="plain",
        route_config={"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        http_filters=[
            {"name": "router", "typed_config": typed("envoy.extensions.filters.http.router.v3.Router")}
        ],
        access_log=[access_log(log)] if log else [],
    )
    address = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    listener = {
        "name": "plain",
        "address": address,
        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
    }
    at = {"socket_address": {"address": "127.0.0.1", "port_value": behind}}
    endpoints = {"cluster_name": "one", "endpoints": [{"lb_endpoints": [{"endpoint": {"address": at}}]}]}
    cluster = {"name": "one", "type": "STATIC", "load_assignment": endpoints}
    config = {"static_resources": {"listeners": [listener], "clusters": [cluster]}}
    with process(plain(config), folder) as envoy:
        yield port, envoy


@contextmanager
def _python(folder: Path, behind: int) -> Iterator[tuple[int, psutil.Process]]:
    port = free_port()
    place = folder / "python"
    place.mkdir()
    environment = {
        "PORT": str(port),
        "UPSTREAM": f"http://127.0.0.1:{behind}",
        "CLIENT": CLIENT,
        "SECRET": SECRET,
    }
    argv = [sys.executable, str(PEERS / "fastapi_gateway.py")]
    ready = posts(f"http://127.0.0.1:{port}{TARGET}", BODY, {**JSON, **KEYED})
    with server(argv, place, ready, environment) as one:
        yield port, one
