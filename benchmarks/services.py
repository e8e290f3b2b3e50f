"""Prediction and lookup through the gateway, against a handwritten FastAPI + scikit-learn service.

Both do the same work on the same machine in one run: a customer id comes in, that customer's features are looked
up, the same scikit-learn model says the probability. Tulle's side does it behind the real Envoy with credentials,
a contract and a rate limit per application and an access log; the peer's has none of that. Answers are compared
before anything is timed. Load comes from `wrk` (one thread, keep-alive, 500 different customers).

    python benchmarks/services.py [--mesh FOLDER] [--seconds 4] [--repeats 3]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pyarrow.parquet as pq

from tulle.server.app import open_workspace
from tulle.spec.mesh import load_settings

TULLE = str(Path(sys.executable).parent / "tulle")
PREDICT = "high-value-predictor/high-value/predict"
LOOKUP = "customer-features/customer-profile/lookup"

PEER = """
import json, sys
import joblib, numpy, pyarrow.parquet as pq
from fastapi import FastAPI, HTTPException
from pydantic import BaseModel

model = joblib.load(sys.argv[1])
names = json.loads(sys.argv[2])
rows = {row["customer_id"]: row for row in pq.read_table(sys.argv[3]).to_pylist()}
app = FastAPI()

class Question(BaseModel):
    customer_id: str

@app.post("/predict")
def predict(question: Question):
    row = rows.get(question.customer_id)
    if row is None:
        raise HTTPException(404)
    record = numpy.array([[float(row[name]) for name in names]])
    probabilities = model.predict_proba(record)[0]
    best = int(probabilities.argmax())
    probas = dict(zip(map(str, model.classes_), probabilities.tolist()))
    return {"prediction": model.classes_[best].item(), "probas": probas}

@app.post("/lookup")
def lookup(question: Question):
    row = rows.get(question.customer_id)
    if row is None:
        raise HTTPException(404)
    return row

import uvicorn
uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[4]), log_level="warning", access_log=False)
"""

LOAD = """
local ids = { %(ids)s }
local bodies = {}
for i, id in ipairs(ids) do bodies[i] = '%(before)s"customer_id": "' .. id .. '"%(after)s' end
local n = 0
wrk.method = "POST"
%(headers)s
function request()
  n = n %% #bodies + 1
  return wrk.format(nil, nil, nil, bodies[n])
end
function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format('RESULT {"rps": %%f, "p50": %%f, "p99": %%f, "errors": %%d}\\n',
    summary.requests / summary.duration * 1e6, latency:percentile(50) / 1000, latency:percentile(99) / 1000,
    e.connect + e.read + e.write + e.status + e.timeout))
end
"""


def main() -> None:
    """Build what is needed, compare answers, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--mesh", type=Path, help="a running demo mesh; default: one is built and stopped again"
    )
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    if shutil.which("wrk") is None:
        sys.exit("wrk is missing: apt-get install wrk")
    with (
        tempfile.TemporaryDirectory() as scratch,
        demo_mesh(options.mesh) as mesh,
        peer(mesh, Path(scratch)) as port,
    ):
        measure(mesh, port, Path(scratch), options.seconds, options.repeats)


@contextmanager
def demo_mesh(folder: Path | None) -> Iterator[Path]:
    """A running example mesh."""
    if folder is not None:
        yield folder
        return
    with tempfile.TemporaryDirectory() as scratch:
        mesh = Path(scratch) / "mesh"
        for door in ("GATEWAY", "CONTROL_PLANE", "S3"):
            os.environ[f"TULLE_{door}_PORT"] = str(free_port())
        subprocess.run([TULLE, "demo", str(mesh)], check=True, stdout=subprocess.DEVNULL)
        try:
            yield mesh
        finally:
            subprocess.run([TULLE, "--mesh", str(mesh), "down"], check=True)


@contextmanager
def peer(mesh: Path, scratch: Path) -> Iterator[int]:
    """The handwritten service on the model and the features of the mesh, with one OpenMP thread like our worker."""
    workspace = open_workspace(load_settings(mesh))
    models = workspace.lake.repository("high-value-customers")
    (scratch / "model.joblib").write_bytes(models.get("main", "models/high_value/model.joblib"))
    signature = json.loads(models.get("main", "models/high_value/signature.json"))
    names = [feature["name"] for feature in signature["features"]]
    files = workspace.lake.repository("customer-features").files("main", "customer_features/")
    pq.write_table(pq.read_table(files), scratch / "features.parquet")
    workspace.database.close()
    (scratch / "peer.py").write_text(PEER)
    port = free_port()
    argv = [sys.executable, "peer.py", "model.joblib", json.dumps(names), "features.parquet", str(port)]
    process = subprocess.Popen(argv, cwd=scratch, env={**os.environ, "OMP_NUM_THREADS": "1"})
    try:
        wait_for(f"http://127.0.0.1:{port}/lookup")
        yield port
    finally:
        process.terminate()
        process.wait()


def measure(mesh: Path, port: int, scratch: Path, seconds: int, repeats: int) -> None:
    """Compare answers, then time each pair in turn."""
    settings = load_settings(mesh)
    gateway = f"http://127.0.0.1:{settings.gateway_port}/public/api/v1"
    made = subprocess.run(
        [
            *(TULLE, "--mesh", str(mesh), "app", "create", f"bench-{int(time.time())}", "--json"),
            *(
                "--service",
                "high-value-predictor=1000000000/1s",
                "--service",
                "customer-features=1000000000/1s",
            ),
        ],
        check=True,
        capture_output=True,
        text=True,
    )
    credentials = json.loads(made.stdout)
    headers = {"client_id": credentials["client_id"], "client_secret": credentials["client_secret"]}
    ids = [
        row["customer_id"] for row in pq.read_table(scratch / "features.parquet").slice(0, 500).to_pylist()
    ]
    compare_answers(gateway, headers, port, ids)
    ours = {
        "predict": (f"{gateway}/{PREDICT}", '{"features": {', "}}", headers),
        "lookup": (f"{gateway}/{LOOKUP}", '{"data": {', "}}", headers),
    }
    theirs = {
        "predict": (f"http://127.0.0.1:{port}/predict", "{", "}", {"content-type": "application/json"}),
        "lookup": (f"http://127.0.0.1:{port}/lookup", "{", "}", {"content-type": "application/json"}),
    }
    line = "{:<8} {:>3}  {:>9} {:>8} {:>8}   {:>9} {:>8} {:>8}   {:>7}"
    print(line.format("work", "c", "tulle/s", "p50 ms", "p99 ms", "peer/s", "p50 ms", "p99 ms", "ratio"))
    for work in ("predict", "lookup"):
        for connections in (1, 32):
            results: dict[str, list[dict[str, float]]] = {"tulle": [], "peer": []}
            for _ in range(repeats):  # in turn, so that a drift of the machine hits both
                for side, target in (("tulle", ours[work]), ("peer", theirs[work])):
                    results[side].append(
                        load(scratch, ids, *target, connections=connections, seconds=seconds)
                    )
            a, b = (median(results[side]) for side in ("tulle", "peer"))
            figures = [f"{a['rps']:,.0f}", f"{a['p50']:.2f}", f"{a['p99']:.2f}"]
            figures += [
                f"{b['rps']:,.0f}",
                f"{b['p50']:.2f}",
                f"{b['p99']:.2f}",
                f"{a['rps'] / b['rps']:.1f}x",
            ]
            print(line.format(work, connections, *figures), flush=True)


def compare_answers(gateway: str, headers: dict[str, str], port: int, ids: list[str]) -> None:
    """Refuse to time two things that do not do the same."""
    with httpx.Client() as client:
        for customer in ids[:100]:
            ours = client.post(
                f"{gateway}/{PREDICT}", json={"features": {"customer_id": customer}}, headers=headers
            )
            theirs = client.post(f"http://127.0.0.1:{port}/predict", json={"customer_id": customer})
            a, b = ours.json()["result"]["probas"], theirs.json()["probas"]
            assert a.keys() == b.keys(), (a, b)
            assert all(abs(a[name] - b[name]) < 1e-5 for name in a), (customer, a, b)


def load(
    scratch: Path, ids: list[str], url: str, before: str, after: str, headers: dict[str, str],
    *, connections: int, seconds: int,
) -> dict[str, float]:  # fmt: skip
    """One timed run; half a second of warm-up first."""
    lines = "\n".join(f'wrk.headers["{name}"] = "{value}"' for name, value in headers.items())
    script = scratch / "load.lua"
    names = ", ".join(f"'{i}'" for i in ids)
    script.write_text(
        textwrap.dedent(LOAD) % {"ids": names, "before": before, "after": after, "headers": lines}
    )
    result: dict[str, float] = {}
    for duration in (1, seconds):
        command = ["wrk", "-t1", f"-c{connections}", f"-d{duration}s", "--latency", "-s", str(script), url]
        out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        result = json.loads(next(x for x in out.splitlines() if x.startswith("RESULT"))[7:])
    assert result["errors"] == 0, result
    return result


def median(runs: list[dict[str, float]]) -> dict[str, float]:
    """The median of each figure."""
    return {name: statistics.median(run[name] for run in runs) for name in runs[0]}


def free_port() -> int:
    """A port nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(url: str) -> None:
    """Until something answers there."""
    for _ in range(200):
        try:
            httpx.get(url, timeout=1)
        except httpx.TransportError:
            time.sleep(0.1)
        else:
            return
    sys.exit(f"nothing answers at {url}")


if __name__ == "__main__":
    main()
