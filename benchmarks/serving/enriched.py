"""What our own parts cost: looking features up, composing, logging; and how far all of it is from the limit.

    python -m benchmarks.serving.enriched [--quick] [--in-process]

No peers: a prediction from an id alone beside one from all features; a composition of a lookup and a prediction beside
the two alone (by request over HTTP, and in one process without a server); a worker that logs every query beside one
that logs none; and beneath all of that the bare server's hello, the model's call alone, the JSON alone. Sides take
turns, at 1 and at 32 connections, one worker process each.

--in-process: only what needs neither server nor load.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec
import psutil
from benchmarks.serving.customers import NAMES, Trained, features_bodies, train
from benchmarks.serving.load import CONNECTIONS, TITLE, Figures, Pace, Side, in_turn, need_wrk, told, verdict
from benchmarks.serving.mesh import BenchMesh, answer, predictor, worker
from benchmarks.serving.processes import free_port, posts, server

from tulle.pipeline.model_score import OnnxScorer
from tulle.serving.loaded import load

SERVICE = "will-return"
OF_PLAIN = 0.8  # an enriched prediction's rate
OF_PARTS = 1.3  # a composition's time
LOGGED = 0.9  # of the rate without a log
MORE = (
    "- {name: profile, type: lookup, data_set: customers, key: customer_id}",
    "- name: offer",
    "  type: compose",
    "  input: {customer: {}}",
    "  steps:",
    "  - {name: profile, call: profile, with: {customer_id: $input.customer}}",
    f"  - {{name: chance, call: predict, with: {{{', '.join(f'{n}: $profile.{n}' for n in NAMES)}}}}}",
    "  output: {chance: $chance.probas, spend: $profile.spend}",
)
LINE = "{:<24} {:>3}  {:>36}  {}"


def main() -> None:
    """Build what is needed, compare, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="short runs that only show that all works")
    parser.add_argument("--in-process", action="store_true", help="without servers and load")
    options = parser.parse_args()
    if not options.in_process:
        need_wrk()
    pace = Pace.of(quick=options.quick)
    with tempfile.TemporaryDirectory(prefix="tulle-enriched-") as name:
        scratch = Path(name)
        trained = train(scratch / "model")
        mesh = BenchMesh(scratch / "mesh")
        tables = {"customers": trained.table}
        mesh.begin({SERVICE: predictor(SERVICE, more=MORE)}, tables)
        mesh.publish(tables, {"will_return": trained.saved.folder})
        folder = mesh.package(SERVICE)
        bodies = features_bodies(trained)
        if not options.in_process:
            over_http(folder, trained, bodies, scratch, pace)
        in_process(folder, trained, bodies, 200 if options.quick else 5_000)


def over_http(folder: Path, trained: Trained, bodies: Sequence[str], scratch: Path, pace: Pace) -> None:
    """All sides in turn."""
    with ExitStack() as stack:
        probe = f"{SERVICE}/predict/predict"
        url, process, _ = stack.enter_context(worker(folder, scratch / "worker", probe, bodies[0]))
        sides = sides_of(url, trained, bodies, process)
        compare(sides, trained)
        logs = scratch / "log"
        logged, logging, _ = stack.enter_context(
            worker(folder, scratch / "logging", probe, bodies[0], log=logs)
        )
        sides["logged"] = Side("every query logged", logged, bodies, processes=[logging])
        sides["hello"] = stack.enter_context(hello(scratch / "hello", bodies))
        print(LINE.format("side", "c", TITLE, ""))
        with collected(logs):
            for connections in CONNECTIONS:
                figures = in_turn(list(sides.values()), connections, pace)
                tell(connections, dict(zip(sides, figures, strict=True)))
        check_log(logged)


def sides_of(url: str, trained: Trained, bodies: Sequence[str], process: psutil.Process) -> dict[str, Side]:
    """The endpoints of one worker."""
    home = url.removesuffix("/predict/predict")
    ids = trained.ids
    asked = {
        "plain": (url, bodies),
        "enriched": (url, [json.dumps({"features": {"customer_id": i}}) for i in ids]),
        "lookup": (f"{home}/profile/lookup", [json.dumps({"data": {"customer_id": i}}) for i in ids]),
        "composed": (f"{home}/offer/run", [json.dumps({"customer": i}) for i in ids]),
    }
    return {name: Side(name, *what, processes=[process]) for name, what in asked.items()}


def compare(sides: dict[str, Side], trained: Trained) -> None:
    """Refuse to time what does not answer the same."""
    for place, wanted in enumerate(trained.probabilities[:100]):
        bodies = {name: json.loads(side.bodies[place]) for name, side in sides.items()}
        found = {
            "plain": answer(sides["plain"].url, bodies["plain"])["result"]["probas"],
            "enriched": answer(sides["enriched"].url, bodies["enriched"])["result"]["probas"],
            "composed": answer(sides["composed"].url, bodies["composed"])["response"]["chance"],
        }
        for name, probas in found.items():
            if abs(probas["1"] - wanted) > 1e-5:
                sys.exit(f"{name} answers {probas} where the model says {wanted}")


@contextmanager
def hello(scratch: Path, bodies: Sequence[str]) -> Iterator[Side]:
    """The bare server, sent the same requests."""
    port = free_port()
    scratch.mkdir()
    url = f"http://127.0.0.1:{port}/"
    argv = [sys.executable, str(Path(__file__).with_name("hello.py")), str(port)]
    with server(argv, scratch, posts(url, "{}")) as process:
        yield Side("bare server's hello", url, bodies, processes=[process])


@contextmanager
def collected(folder: Path) -> Iterator[None]:
    """Complete segments of the query log go away meanwhile, as the control plane takes them."""
    stop = threading.Event()

    def collect() -> None:
        while not stop.wait(0.5):
            for path in folder.glob("*.segment"):
                path.unlink()

    thread = threading.Thread(target=collect)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def check_log(url: str) -> None:
    """Every query was written: a log that drops costs nothing."""
    home = url.partition("/public/")[0]
    time.sleep(1)
    log = httpx.get(f"{home}/metrics", timeout=10).json()["log"]
    if log["dropped"] or not log["written"]:
        sys.exit(f"the query log dropped {log['dropped']} of {log['written'] + log['dropped']} queries")
    print(f"the query log wrote {log['written']:,} queries and dropped none")


def tell(connections: int, figures: dict[str, Figures]) -> None:
    """One table."""
    plain = figures["plain"].rps

    def wanted(value: float) -> float | None:
        return value if connections > 1 else None

    parts = 1 / figures["lookup"].rps + 1 / plain
    notes = {
        "enriched": verdict(figures["enriched"].rps / plain, wanted(OF_PLAIN), unit=" of features sent"),
        "composed": verdict(
            1 / figures["composed"].rps / parts,
            wanted(OF_PARTS),
            at_most=True,
            unit=" of the time of its parts",
        ),
        "logged": verdict(figures["logged"].rps / plain, wanted(LOGGED), unit=" of the rate without"),
        "hello": f"{plain / figures['hello'].rps:>7.2f} of it is the prediction's rate",
    }
    for name, one in figures.items():
        print(LINE.format(name, connections, told(one), notes.get(name, "")), flush=True)


def in_process(folder: Path, trained: Trained, bodies: Sequence[str], times: int) -> None:
    """Microseconds of processor time without a server."""
    service = load(folder)
    signature = trained.saved.signature
    scorer = OnnxScorer(trained.onnx.read_bytes(), double=signature.conversion.input == "double")
    rows = [list(record.values()) for record in trained.records]
    record = msgspec.defstruct("Record", [(n, int if n in {"channel", "region"} else float) for n in NAMES])
    decode = msgspec.json.Decoder(msgspec.defstruct("Body", [("features", record)])).decode
    raw = [body.encode() for body in bodies]
    ids = [json.dumps({"features": {"customer_id": i}}).encode() for i in trained.ids]
    keys = [json.dumps({"data": {"customer_id": i}}).encode() for i in trained.ids]
    starts = [json.dumps({"customer": i}).encode() for i in trained.ids]
    predict: Any = service.endpoints["predict"].actions["predict"]
    lookup: Any = service.endpoints["profile"].actions["lookup"]
    run: Any = service.endpoints["offer"].actions["run"]

    async def compose(times: int) -> float:
        begun = time.process_time()
        for n in range(times):
            await run.call(starts[n % len(starts)], "r", ())
        return (time.process_time() - begun) / times * 1e6

    spent = {
        "a prediction from features": each(lambda n: predict(raw[n], "r"), len(raw), times),
        "a prediction by id": each(lambda n: predict(ids[n], "r"), len(ids), times),
        "a lookup": each(lambda n: lookup(keys[n], "r"), len(keys), times),
        "the composition of both": min(asyncio.run(compose(times)) for _ in range(5)),
        "the model's call alone": each(lambda n: scorer.single(rows[n]), len(rows), times),
        "the JSON alone, checked": each(lambda n: decode(raw[n]), len(raw), times),
    }
    service.close()
    print("\nin one process, microseconds of processor time (the least of five rounds):")
    for name, microseconds in spent.items():
        print(f"  {name:<30} {microseconds:>7.2f}")
    parts = spent["a prediction from features"] + spent["a lookup"]
    ratio = spent["the composition of both"] / parts
    print(f"  the composition of its parts: {verdict(ratio, OF_PARTS, at_most=True)}")


def each(call: Callable[[int], Any], count: int, times: int) -> float:
    """Microseconds of one call, over `count` different ones in turn."""
    best = float("inf")
    for _ in range(5):
        begun = time.process_time()
        for n in range(times):
            call(n % count)
        best = min(best, (time.process_time() - begun) / times * 1e6)
    return best


if __name__ == "__main__":
    main()
