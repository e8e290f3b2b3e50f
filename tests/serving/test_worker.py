"""The worker as a real process: socket, stock client, drain, and what keeps it from starting."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dataikuapi
import numpy as np
import pytest
from dataikuapi.utils import DataikuException
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.model_selection import FixedThresholdClassifier
from tests.serving.conftest import FEATURES, PREDICTOR, customers, make_mesh

from tulle.errors import AlreadyExists, Broken, Invalid
from tulle.pipeline.model_file import save_model
from tulle.serving import worker
from tulle.serving.endpoint import Headed
from tulle.serving.loaded import load
from tulle.serving.predict import Predict


def start(folder: Path, *arguments: str, cwd: Path | None = None) -> subprocess.Popen[str]:
    argv = [sys.executable, "-m", "tulle.serving.worker", "--package-folder", str(folder), *arguments]
    return subprocess.Popen(
        argv, cwd=cwd, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )


def first_line(process: subprocess.Popen[str]) -> str:
    assert process.stderr is not None
    return process.stderr.readline()


@contextmanager
def running(
    folder: Path, *arguments: str, cwd: Path | None = None
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    process = start(folder, *arguments, cwd=cwd)
    try:
        yield process, first_line(process)
    finally:
        process.terminate()
        process.communicate(timeout=60)


def whole(connection: socket.socket) -> bytes:
    """One whole answer: the bodies end with two braces."""
    answer = b""
    while not answer.endswith(b"}}"):
        piece = connection.recv(65536)
        assert piece, answer
        answer += piece
    return answer


PROFILE = "/public/api/v1/customer-features/profile/lookup"


class Unix(http.client.HTTPConnection):
    """A connection to a unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("worker", timeout=10)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.connect(str(self.path))


def test_the_stock_client_works_on_both_services(predictor_folder: Path, lookups_folder: Path) -> None:
    with (
        running(predictor_folder, "--port", "0", "--generation", "g7") as (_, predicts),
        running(lookups_folder, "--port", "0") as (_, looks_up),
    ):
        uri = "http://" + re.findall(r"answers on (\S+)", predicts)[0]
        client = dataikuapi.APINodeClient(
            uri + "/", "high-value-predictor", "a-key"
        )  # ends with a slash on purpose
        one = client.predict_record("high-value", {"customer_id": "00003"})
        assert one["apiContext"]["serviceGeneration"] == "g7"
        assert set(one["result"]["probas"]) == {"0", "1"}
        same = client.predict_record(
            "high-value", {"recency": 9, "frequency": 22, "spend": 5.25}, context={"a": 1}
        )
        assert same["result"] == one["result"]
        forced = client.predict_record("high-value", {"customer_id": "00003"}, forced_generation="g7")
        assert forced["result"] == one["result"]
        records = [{"features": {"customer_id": "00003"}}, {"features": {"customer_id": "nobody"}}]
        many = client.predict_records("high-value", records)
        assert many["results"][0] == one["result"]
        assert many["results"][1]["ignoreReason"] == "NoMatch"
        with pytest.raises(DataikuException, match='NoMatch: nothing is known of customer_id "nobody"'):
            client.predict_record("high-value", {"customer_id": "nobody"})
        with pytest.raises(DataikuException, match="UnknownEndpoint: there is no"):
            client.predict_record("high-valu", {})
        with pytest.raises(DataikuException, match="ExplanationsNotAvailable"):
            client.predict_record("high-value", {"customer_id": "00003"}, with_explanations=True)

        uri = "http://" + re.findall(r"answers on (\S+)", looks_up)[0]
        client = dataikuapi.APINodeClient(uri, "customer-features")
        assert client.lookup_record("profile", {"customer_id": "00003"})["data"]["spend"] == 5.25
        found = client.lookup_records("profile", [{"data": {"customer_id": k}} for k in ("00001", "00002")])
        assert [one["data"]["number"] for one in found["results"]] == [1, 2]


def test_a_worker_answers_on_a_socket_of_its_own_and_leaves_nothing(
    predictor_folder: Path, tmp_path: Path
) -> None:
    deep = tmp_path / ("a-long-name-" * 8)
    (deep / "run").mkdir(parents=True)
    path = deep / "run" / "w.sock"
    stale = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    handle = os.open(deep, os.O_RDONLY)
    stale.bind(f"/proc/self/fd/{handle}/run/w.sock")  # left by a worker that was killed
    stale.close()
    process = start(predictor_folder, "--socket", "run/w.sock", cwd=deep)
    try:
        assert "service 'high-value-predictor' v1 answers on run/w.sock" in first_line(process)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        connection = Unix(Path(f"/proc/self/fd/{handle}/run/w.sock"))
        connection.request(
            "POST", "/public/api/v1/high-value-predictor/high-value/predict", body=b'{"features": {}}'
        )
        assert connection.getresponse().status == 400
        second = start(predictor_folder, "--socket", "run/w.sock", cwd=deep)
        assert "another process answers on 'run/w.sock'" in second.communicate(timeout=60)[1]
        assert second.returncode == 1
        connection.close()
    finally:
        process.terminate()
        _, log = process.communicate(timeout=60)
        os.close(handle)
    assert process.returncode == 0
    assert "has stopped" in log
    assert not path.exists()


def test_a_worker_loads_nothing_that_only_packaging_needs() -> None:
    """It is started in a fraction of a second, for each worker there is, and again when load comes."""
    code = "import sys, tulle.serving.worker; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"pyarrow", "pandas", "sqlglot", "duckdb", "sqlalchemy", "sklearn", "fastapi", "httpx"}
    assert heavy.isdisjoint(loaded.stdout.split())
    assert "tulle.serving.worker" in loaded.stdout.split()


def test_what_is_in_flight_is_finished_when_told_to_stop(lookups_folder: Path) -> None:
    process = start(lookups_folder, "--port", "0")
    port = int(re.findall(r"answers on \S+:(\d+)", first_line(process))[0])
    body = b'{"data": {"customer_id": "00003"}}'
    head = f"POST {PROFILE} HTTP/1.1\r\nhost: worker\r\ncontent-length: {len(body)}\r\n\r\n".encode()
    try:
        with (
            socket.create_connection(("127.0.0.1", port), timeout=10) as idle,
            socket.create_connection(("127.0.0.1", port), timeout=10) as half,
        ):
            idle.sendall(head + body)
            assert b"200 OK" in whole(idle)
            half.sendall(head + body[:10])
            time.sleep(0.2)  # it is being read now
            process.send_signal(signal.SIGTERM)
            assert idle.recv(1) == b""  # no request is on it: closed
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", port), timeout=10)
            half.sendall(body[10:])
            answer = whole(half)
            assert b"200 OK" in answer
            assert b'"number":3' in answer
        assert process.wait(timeout=60) == 0
    finally:
        process.kill()
        process.communicate(timeout=60)


def test_a_native_model_is_served_natively(tmp_path: Path) -> None:
    table = customers()
    matrix = np.column_stack([np.asarray(table.column(f).to_pylist(), dtype=float) for f in FEATURES])
    target = np.where(matrix[:, 1] * matrix[:, 2] > 1500, "high", "usual")
    inner = GradientBoostingClassifier(n_estimators=30, random_state=0)
    # A threshold of its own makes the class differ from the most probable one, which ONNX cannot tell us.
    estimator = FixedThresholdClassifier(inner, threshold=0.95, pos_label="usual").fit(matrix, target)
    saved = save_model(tmp_path / "m", "high_value", estimator, features=FEATURES, sample=table, metrics={})
    assert saved.signature.conversion.form == "native"
    mesh = make_mesh(tmp_path / "mesh", saved)
    try:
        folder = mesh.unpacked(mesh.build(PREDICTOR))
        service = load(folder)
        seen = set()
        for number in range(0, 200, 7):
            status, answer = asyncio.run(
                service.ask("high-value", {"features": {"customer_id": f"{number:05}"}})
            )
            result = json.loads(answer)["result"]
            row = matrix[number : number + 1]
            assert status == 200
            assert result["prediction"] == estimator.predict(row)[0]
            assert list(result["probas"].values()) == estimator.predict_proba(row)[0].tolist()
            seen.add(result["prediction"])
        assert seen == {"high", "usual"}
        many = json.dumps({"items": [{"features": {"customer_id": f"{i:05}"}} for i in range(200)]}).encode()
        action = service.endpoints["high-value"].actions["predict-multi"]
        assert isinstance(action, Headed)
        results = json.loads(asyncio.run(action.call(many, "r", ())).body)["results"]
        assert [one["prediction"] for one in results] == estimator.predict(matrix).tolist()
        (folder / "models/high_value/model.joblib").write_bytes(b"damaged")
        service.close()
        failed = asyncio.run(load(folder).ready())
        assert "model 'high_value' cannot be loaded" in failed["high-value"]
    finally:
        mesh.database.close()


def test_what_cannot_start_says_why(tmp_path: Path, predictor_folder: Path) -> None:
    process = start(tmp_path, "--port", "0")
    assert "the package lacks manifest.json" in process.communicate(timeout=60)[1]
    assert process.returncode == worker.EXIT_DAMAGED
    (tmp_path / "file").write_text("")
    with pytest.raises(AlreadyExists, match="is not a socket"):
        worker.open_socket(tmp_path / "file")
    with pytest.raises(Invalid, match="longer than 107 bytes"):
        worker.open_socket(tmp_path / ("x" * 120))


def test_an_index_that_is_damaged_inside_ends_a_worker_as_damaged(
    tmp_path: Path, lookups_folder: Path
) -> None:
    """Its size tells nothing; whoever started it unpacks the package again, which it would not for another reason."""
    folder = tmp_path / "generation"
    shutil.copytree(lookups_folder, folder)
    for index in folder.rglob("*.mdb"):
        whole_size = index.stat().st_size
        index.chmod(0o600)
        with index.open("r+b") as file:
            file.seek(2 * 4096)  # what says how it is laid out is as it was
            file.write(b"\xff" * (whole_size - 2 * 4096))
    for process in [start(folder, *arguments) for arguments in (("--port", "0"), ("--test",))]:
        _, said = process.communicate(timeout=60)
        assert process.returncode == worker.EXIT_DAMAGED, said
        assert "Traceback" not in said
        assert "is damaged" in said


def test_a_service_that_cannot_answer_its_own_query_does_not_start(
    predictor_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = load(predictor_folder)

    def broken(_row: Any) -> list[float]:
        raise RuntimeError("out of order")

    monkeypatch.setattr(service.endpoints["high-value"], "_single", broken)
    with pytest.raises(Broken, match="endpoint 'high-value': RuntimeError: out of order"):
        asyncio.run(worker.warm_up(service))


def test_a_service_that_answers_slowly_is_not_warmed_up_for_long(
    predictor_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = load(predictor_folder)
    endpoint = service.endpoints["high-value"]
    assert isinstance(endpoint, Predict)
    asked: list[Any] = []
    single = endpoint._single

    def counted(row: Any) -> Any:
        asked.append(row)
        return single(row)

    monkeypatch.setattr(endpoint, "_single", counted)
    monkeypatch.setattr(worker, "WARM_UP_SECONDS", -1.0)
    asyncio.run(worker.warm_up(service))
    assert len(asked) == 1
