"""What reading the access log costs: processor time a request, and how long pages' questions take.

    python benchmarks/insight.py [--lines 300000] [--only counting]

Lines as the gateway writes them, of 20 services with 3 operations each and 200 clients or 10, over ten minutes; then
thirty days of 100 APIs. Prints JSON.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from pathlib import Path

from tulle.config import Settings
from tulle.gateway.last_used import LastUsed
from tulle.gateway.log_line import LineReader
from tulle.gateway.log_place import LogReader
from tulle.observe.batch import Batch, Cell, Key
from tulle.observe.calls import HOUR, Calls, Place
from tulle.observe.insight import Insight, Which, span_of
from tulle.observe.operations import Operations
from tulle.observe.tally import Tally
from tulle.state.db import open_database

BEGIN = 1_800_014_400


def write_log(file: Path, number: int, clients: int) -> None:
    """A log of so many requests."""
    drawn = random.Random(1)
    with file.open("w") as log:
        for n in range(number):
            at = time.gmtime(BEGIN + n * 600 // number)
            us = int(drawn.lognormvariate(7, 1))
            service = f"service-{drawn.randrange(20)}"
            line = {
                "access": "contract",
                "bytes_in": 180,
                "bytes_out": 420,
                "client": f"{service}-app-{int(drawn.expovariate(0.05)) % clients}",
                "code": 200 if drawn.random() < 0.97 else 429,
                "details": "via_upstream",
                "duration_ms": us // 1000,
                "duration_us": us,
                "environment": None,
                "flags": "-",
                "generation": "v1",
                "method": "POST",
                "path": f"/public/api/v1/{service}/endpoint-{drawn.randrange(3)}/predict",
                "reason": None,
                "request_id": f"{n:08x}-1111-4222-8333-444444444444",
                "service": service,
                "time": time.strftime("%Y-%m-%dT%H:%M:%S.123Z", at),
                "upstream_ms": 1,
            }
            log.write(json.dumps(line, separators=(",", ":")) + "\n")


def counting(folder: Path, number: int, clients: int) -> dict[str, float]:
    """Processor time of reading, counting and writing, and of noting who called, a request, in microseconds."""
    file = folder / "access.jsonl"
    write_log(file, number, clients)
    known = {f"service-{n}": [f"POST /endpoint-{m}/predict" for m in range(3)] for n in range(20)}
    lines, tally, calls = LineReader(), Tally(Operations(known, "/public/api/v1/")), Calls(folder)
    database = open_database(f"sqlite:///{folder}/state.db")
    callers, noted = LastUsed(Settings(folder=folder), database), 0.0
    began, written = time.process_time(), 0.0
    for piece in LogReader(file).pieces():
        told = lines.read(piece.data)
        noting = time.process_time()
        callers.see(told)
        noted += time.process_time() - noting
        tally.count(told)
        if tally.waiting >= 60_000:  # what comes in three seconds, of many
            noting = time.process_time()
            callers.write()
            noted += time.process_time() - noting
            writing = time.process_time()
            calls.add(tally.taken(), Place(piece.file, piece.position))
            written += time.process_time() - writing
    writing = time.process_time()
    calls.add(tally.taken(), Place("end", 0))
    written += time.process_time() - writing
    spent = time.process_time() - began
    size = sum(one.stat().st_size for one in folder.glob("calls.db*"))
    calls.close()
    database.close()
    return {
        "lines": number,
        "microseconds_a_request": round(spent / number * 1e6, 2),
        "of_which_writing": round(written / number * 1e6, 2),
        "of_which_callers": round(noted / number * 1e6, 2),
        "megabytes": round(size / 1e6, 1),
    }


def asking(folder: Path) -> dict[str, float]:
    """Milliseconds of questions over thirty days of 100 APIs with three operations and ten clients each."""
    drawn, calls = random.Random(2), Calls(folder)
    now = BEGIN
    for hour in range(30 * 24):
        cells = {}
        for api in range(100):
            for operation in range(3):
                key = Key(
                    f"api-{api:03}", "", f"POST /operation-{operation}", "v1", f"app-{drawn.randrange(10)}"
                )
                buckets = {160 + n: drawn.randrange(1, 50) for n in range(20)}
                asked = sum(buckets.values())
                cells[now - hour * HOUR, key] = Cell([asked, asked, 0, 0, 0, 0, 9, 9, asked * 900], buckets)
        calls.add(Batch.of(cells), Place("f", hour))
    calls.keep(days=60, most_bytes=1 << 40, now=now)
    insight, found = Insight(calls), {}
    for name, ask in {
        "mesh_month": lambda: insight.told("api", span_of("month", now)),
        "mesh_week": lambda: insight.told("api", span_of("week", now)),
        "mesh_day": lambda: insight.told("api", span_of("day", now)),
        "api_month": lambda: insight.told("operation", span_of("month", now), Which("api-007", "")),
        "clients_month": lambda: insight.told(
            "client", span_of("month", now), Which("api-007", ""), points=False
        ),
    }.items():
        times = []
        for _ in range(5):
            began = time.perf_counter()
            ask()
            times.append(time.perf_counter() - began)
        found[name] = round(sorted(times)[2] * 1000, 1)
    calls.close()
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=300_000)
    parser.add_argument("--only", choices=["counting", "asking"])
    options = parser.parse_args()
    found: dict[str, object] = {}
    for clients in (200, 10) if options.only != "asking" else ():
        with tempfile.TemporaryDirectory() as folder:
            found[f"counting_{clients}_clients"] = counting(Path(folder), options.lines, clients)
    if options.only != "counting":
        with tempfile.TemporaryDirectory() as folder:
            found["milliseconds"] = asking(Path(folder))
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
