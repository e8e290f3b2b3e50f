"""One prediction for one record: our worker beside the peers, and the whole gateway beside our worker.

    python -m benchmarks.serving.predict [--quick] [--peers FOLDER] [--only fastapi,bentoml,…] [--no-gateway]

The same trees everywhere, one worker process each, one OpenMP thread, input checked by each in its own way, answers
compared before anything is timed. Each peer takes turns with our worker, at 1 and at 32 connections. Peers are
installed once, at fixed versions, into environments of their own under --peers. Through the gateway a request has an
application's credentials (as HTTP's Basic, and as the two headers of API managers), a contract and a rate limit, an
access log, and a place in the query log, with the control plane running beside. On a machine of two processors the
load, the gateway and the worker share them.

--quick: runs of a second, and FastAPI alone unless --only says more.
"""

from __future__ import annotations

import argparse
import base64
import json
import math
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.serving.customers import Trained, features_bodies, train
from benchmarks.serving.environments import DEFAULT
from benchmarks.serving.load import (
    CONNECTIONS,
    TITLE,
    Pace,
    Side,
    awake,
    in_turn,
    need_wrk,
    on_one_processor,
    told,
    verdict,
)
from benchmarks.serving.mesh import BenchMesh, answer, predictor, worker
from benchmarks.serving.predict_peers import PEERS, Peer, compare, running

SERVICE = "will-return"
PATH = f"{SERVICE}/predict/predict"
THROUGH_GATEWAY = 0.4
ONE = "on one processor"
QUARTER = 0.25  # of the best peer's median latency at one connection
LINE = "{:<26} {:>3}  {:>36}  {:>36}  {}"


def main() -> None:
    """Build what is needed, compare, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="short runs that only show that all works")
    parser.add_argument("--peers", type=Path, default=DEFAULT, help=f"where peers live; default {DEFAULT}")
    parser.add_argument("--only", help="peers by environment, with commas; default: all")
    parser.add_argument("--no-gateway", action="store_true")
    options = parser.parse_args()
    need_wrk()
    names = options.only or ("fastapi" if options.quick else "")
    peers = [peer for peer in PEERS if not names or peer.environment in names.split(",")]
    pace = Pace.of(quick=options.quick)
    with tempfile.TemporaryDirectory(prefix="tulle-predict-") as name:
        scratch = Path(name)
        trained = train(scratch / "model")
        mesh = BenchMesh(scratch / "mesh")
        tables = {"customers": trained.table}
        mesh.begin({SERVICE: predictor(SERVICE)}, tables)
        mesh.publish(tables, {"will_return": trained.saved.folder})
        folder = mesh.package(SERVICE)
        bodies = features_bodies(trained)
        with worker(folder, scratch / "worker", PATH, bodies[0]) as (url, process, _):
            ours = Side("ours", url, bodies, processes=[process])
            compare(ours, trained.probabilities, ask)
            against_peers(peers, ours, trained, options.peers.absolute(), scratch, pace)
            if not options.no_gateway:
                through_gateway(mesh, ours, trained, pace)


def ask(url: str, body: str) -> Any:
    """One answer."""
    return answer(url, json.loads(body))


def against_peers(
    peers: Sequence[Peer], ours: Side, trained: Trained, folder: Path, scratch: Path, pace: Pace
) -> None:
    """Each peer in turn with our worker."""
    print(LINE.format("peer", "c", f"ours {TITLE}", f"peer {TITLE}", "ratio of rates"))
    best: dict[str, float] = {}  # medians of peers at one connection
    medians: dict[str, tuple[float, float]] = {}  # of ours and of the best, by what was done about waking up
    for number, peer in enumerate(peers):
        with running(peer, trained, folder, scratch / f"peer-{number}") as side:
            if side is None:
                continue
            compare(side, trained.probabilities, ask)
            for connections in CONNECTIONS:
                a, b = in_turn([ours, side], connections, pace)
                wanted = peer.wanted if connections > 1 else None
                ratio = verdict(a.rps / b.rps, wanted)
                print(LINE.format(peer.told, connections, told(a), told(b), ratio), flush=True)
                if connections == 1 and b.p50 < min(best.values(), default=math.inf):
                    best[peer.told] = b.p50
                    medians = one_after_the_other(ours, side, pace)
    if best:
        print(f"p50 at one connection, of the best peer's ({min(best, key=best.__getitem__)}):")
        for where, (a50, b50) in medians.items():
            wanted = QUARTER if where == ONE else None
            print(f"  {where:<24} {a50:.3f} of {b50:.3f} ms, {verdict(a50 / b50, wanted, at_most=True)}")


def one_after_the_other(ours: Side, peer: Side, pace: Pace) -> dict[str, tuple[float, float]]:
    """Median latencies of requests one after the other: also where no processor has to be woken up for each, which in a
    virtual machine takes longer than an answer of ours, whoever answers."""
    found = {}
    with awake():
        a, b = in_turn([ours, peer], 1, pace)
        found["processors kept awake"] = a.p50, b.p50
    with on_one_processor([ours, peer]):
        a, b = in_turn([ours, peer], 1, pace)
        found[ONE] = a.p50, b.p50
    return found


def through_gateway(mesh: BenchMesh, ours: Side, trained: Trained, pace: Pace) -> None:
    """The whole gateway, in turn with the worker alone."""
    with mesh.up(SERVICE) as headers:
        # Gateway, its worker, and the control plane, which collects the query log.
        processes = [one for one in mesh.processes() if one not in ours.processes]
        for form, sent in (("Basic", as_basic(headers)), ("client_id", headers)):
            side = Side("gateway", mesh.gateway(PATH), ours.bodies, sent, processes)
            compare(side, trained.probabilities, lambda url, body, of=sent: answer(url, json.loads(body), of))
            for connections in CONNECTIONS:
                a, b = in_turn([ours, side], connections, pace)
                wanted = THROUGH_GATEWAY if connections > 1 and form == "Basic" else None
                share = verdict(b.rps / a.rps, wanted, unit=" of the rate")
                print(
                    LINE.format(f"through gateway, {form}", connections, told(a), told(b), share), flush=True
                )


def as_basic(headers: Mapping[str, str]) -> dict[str, str]:
    """The same credentials in the form that every HTTP library sends, which the gateway reads without a script."""
    pair = base64.b64encode(f"{headers['client_id']}:{headers['client_secret']}".encode()).decode()
    return {"content-type": headers["content-type"], "authorization": f"Basic {pair}"}


if __name__ == "__main__":
    main()
