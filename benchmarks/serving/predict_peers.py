"""The peers that predict: how each is started, asked, and what of its answer is the probability.

Each runs in its own environment (`environments`), as pip installs it, with one worker process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.serving.customers import NAMES, Trained
from benchmarks.serving.environments import python_of
from benchmarks.serving.load import Side
from benchmarks.serving.processes import ONE_THREAD, free_port, posts, server

HERE = Path(__file__).parent / "peers"


@dataclass(frozen=True)
class Peer:
    """One peer with one form of the model, and how many times its rate ours is to be."""

    name: str
    environment: str
    onnx: bool
    wanted: float | None

    @property
    def told(self) -> str:
        """What it is called in tables."""
        return f"{self.name} + {'ONNX' if self.onnx else 'scikit-learn'}"


PEERS = (
    Peer("MLflow", "mlflow", onnx=False, wanted=50),
    Peer("BentoML", "bentoml", onnx=False, wanted=50),
    Peer("Ray Serve", "ray", onnx=False, wanted=50),
    Peer("LitServe", "litserve", onnx=False, wanted=20),
    Peer("FastAPI", "fastapi", onnx=False, wanted=15),
    Peer("FastAPI", "fastapi", onnx=True, wanted=3),
    Peer("BentoML", "bentoml", onnx=True, wanted=25),
    Peer("MLflow", "mlflow", onnx=True, wanted=25),
    Peer("LitServe", "litserve", onnx=True, wanted=None),
    Peer("Ray Serve", "ray", onnx=True, wanted=None),
)


@contextmanager
def running(peer: Peer, trained: Trained, peers: Path, scratch: Path) -> Iterator[Side | None]:
    """The peer's server as a side; None when it cannot be installed."""
    python = python_of(peer.environment, peers)
    if python is None:
        yield None
        return
    scratch.mkdir(parents=True, exist_ok=True)
    port, records = free_port(), trained.records
    wrapped = peer.environment == "mlflow"
    bodies = [json.dumps({"dataframe_records": [one]} if wrapped else one) for one in records]
    url = f"http://127.0.0.1:{port}/{'invocations' if wrapped else 'predict'}"
    environment = {
        "PORT": str(port),
        "FEATURES": ",".join(NAMES),
        "MODEL": str(trained.onnx if peer.onnx else trained.joblib),
        "EXAMPLE": json.dumps(records[0]),
        "PYTHONPATH": str(HERE),
        "PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(scratch),  # what they leave there goes with it
        # No peer is to tell its makers that it was here.
        "BENTOML_DO_NOT_TRACK": "True",
        "RAY_USAGE_STATS_ENABLED": "0",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "1",
    }
    argv = _command(peer, python, port, scratch, environment)
    with server(argv, scratch, posts(url, bodies[0]), environment) as process:
        yield Side(peer.told, url, bodies, processes=[process])


def _command(
    peer: Peer, python: Path, port: int, scratch: Path, environment: dict[str, str]
) -> Sequence[str]:
    if peer.environment == "bentoml":
        serve = ["serve", "bentoml_peer:Predictor", "--host", "127.0.0.1", "--port", str(port)]
        return [str(python), "-m", "bentoml", *serve, "--working-dir", str(HERE)]
    if peer.environment == "mlflow":
        folder = scratch / "model"
        made = subprocess.run(
            [str(python), str(HERE / "mlflow_model.py"), str(folder)],
            env={**os.environ, **ONE_THREAD, **environment},
            cwd=scratch,
            capture_output=True,
            text=True,
            check=False,
        )
        if made.returncode:
            sys.exit(f"the model for {peer.told} cannot be made:\n{made.stderr[-2000:]}")
        serve = ["models", "serve", "-m", str(folder), "--env-manager", "local", "--workers", "1"]
        return [str(python), "-m", "mlflow", *serve, "--host", "127.0.0.1", "--port", str(port)]
    return [str(python), str(HERE / f"{peer.environment}_peer.py")]


def probability(answer: Any) -> float:
    """The second class's, from what any side answers."""
    if "result" in answer:
        return float(answer["result"]["probas"]["1"])
    if "probas" in answer:
        return float(answer["probas"]["1"])
    found = answer[
        "predictions"
    ]  # MLflow: of scikit-learn a list for each record, of ONNX a row for each class
    return float(found[1]["probabilities"] if isinstance(found[0], dict) else found[0][1])


Asked = Callable[[str, str], Any]


def compare(side: Side, expected: Sequence[float], ask: Asked, count: int = 100) -> None:
    """Refuse to time what does not answer the same."""
    for body, wanted in list(zip(side.bodies, expected, strict=True))[:count]:
        said = probability(ask(side.url, body))
        if abs(said - wanted) > 1e-5:
            sys.exit(f"{side.name} answers {said} where the model says {wanted}: {body}")
