"""Orchestrators that drive a mesh: a real control plane, real runs; Airflow and Dagster where they are installed.

`scripts/test-orchestrators` makes their environments and names them in TULLE_TEST_AIRFLOW and TULLE_TEST_DAGSTER.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from tests.pipeline.conftest import ROWS, Mesh
from tests.pipeline.conftest import mesh as small_mesh

from tulle.errors import LimitExceeded, NotFound, Unavailable
from tulle.sdk import following
from tulle.sdk.client import Client
from tulle.sdk.following import failing_checks, is_good, wait_for_run, why
from tulle.server.app import application
from tulle.server.token import read_token
from tulle.spec.mesh import load_settings

HERE = Path(__file__).parent
mesh = small_mesh


class Up:
    """A mesh whose control plane answers over the network."""

    def __init__(self, mesh: Mesh) -> None:
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            self.port = sock.getsockname()[1]
        mesh.write(
            "mesh.yaml",
            f"name: t\ncontrol_plane_port: {self.port}\nwarehouse: {{threads: 1, memory: 256MB}}\n",
        )
        mesh.sales("checks/sales.yaml", "checks:\n- {type: range, data_set: sales, column: amount, min: 0}\n")
        self.mesh = mesh
        settings = load_settings(mesh.folder)
        self.token = read_token(settings)
        self.app = application(settings)
        config = uvicorn.Config(self.app, host="127.0.0.1", port=self.port, log_level="error", lifespan="off")
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run, daemon=True)
        self.thread.start()
        self.url = f"http://127.0.0.1:{self.port}"
        while not self.server.started:
            time.sleep(0.02)
        self.client = Client.connect(self.url, token=self.token)
        self.client.apply()

    def stop(self) -> None:
        self.client.close()
        self.server.should_exit = True
        self.thread.join(10)
        self.app.state.close()


@pytest.fixture
def up(mesh: Mesh) -> Iterator[Up]:
    made = Up(mesh)
    yield made
    made.stop()


def test_a_run_is_waited_for_and_says_why_it_failed(up: Up) -> None:
    good = wait_for_run(up.client, up.client.start_run("sales"), pause=0.1)
    assert is_good(good)
    up.mesh.sales("data/sales.csv", ROWS + "4,dora,04.02.2020,-7.00\n")
    bad = wait_for_run(up.client, up.client.start_run("sales"), pause=0.1)
    assert not is_good(bad)
    assert len(failing_checks(bad)) == 1
    assert f"run {bad['id']} of 'sales' failed" in why(bad)
    assert failing_checks(bad)[0]["name"] in why(bad)
    assert "dora" not in why(bad)
    with pytest.raises(NotFound):
        wait_for_run(up.client, "nothing")


class Away:
    """A client whose mesh is away for some calls."""

    def __init__(self, answers: list[Any]) -> None:
        self.answers = answers

    def run(self, _: str) -> dict[str, Any]:
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return {"status": answer}


def test_a_mesh_that_is_away_for_a_while_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    away = Away(["running", Unavailable("x"), Unavailable("x"), "succeeded"])
    run = wait_for_run(away, "r", sleep=lambda _: None)  # type: ignore[arg-type]
    assert run["status"] == "succeeded"
    with pytest.raises(LimitExceeded):
        wait_for_run(Away(["running"] * 3), "r", timeout=-1, sleep=lambda _: None)  # type: ignore[arg-type]
    monkeypatch.setattr(following, "AWAY_SECONDS", -1.0)
    with pytest.raises(Unavailable):
        wait_for_run(Away([Unavailable("x")]), "r", sleep=lambda _: None)  # type: ignore[arg-type]


def child(python: str, name: str, *arguments: str, **environment: str) -> dict[str, Any]:
    path = {"PYTHONPATH": str(HERE.parents[1] / "src"), "PATH": os.environ["PATH"]}
    done = subprocess.run(
        [python, str(HERE / name), *arguments],
        env={**path, **environment},
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


@pytest.mark.skipif("TULLE_TEST_AIRFLOW" not in os.environ, reason="scripts/test-orchestrators runs it")
def test_airflow_runs_a_product_and_fails_with_its_checks(up: Up, tmp_path: Path) -> None:
    def airflow(product: str) -> dict[str, Any]:
        connection = f"http://:{up.token}@127.0.0.1:{up.port}"
        return child(
            os.environ["TULLE_TEST_AIRFLOW"],
            "airflow_child.py",
            product,
            AIRFLOW_HOME=str(tmp_path / "airflow"),
            AIRFLOW_CONN_TULLE_DEFAULT=connection,
        )

    result = airflow("sales")["result"]
    assert (result["product"], result["status"]) == ("sales", "succeeded")
    assert result["commit_id"]
    up.mesh.sales("data/sales.csv", ROWS + "4,dora,04.02.2020,-7.00\n")
    failed = airflow("sales")
    assert failed["error"] == "AirflowFailException"  # the same data would fail again: no retry
    assert "1 row" in failed["message"] or "amount" in failed["message"]
    assert "dora" not in failed["message"]
    missing = airflow("sale")
    assert missing["error"] == "AirflowFailException"
    assert "did you mean 'sales'?" in missing["message"]


@pytest.mark.skipif("TULLE_TEST_DAGSTER" not in os.environ, reason="scripts/test-orchestrators runs it")
def test_dagster_has_an_asset_a_data_set_and_makes_them_in_order(up: Up, tmp_path: Path) -> None:
    def dagster() -> dict[str, Any]:
        home = tmp_path / "dagster"
        home.mkdir(exist_ok=True)
        python = os.environ["TULLE_TEST_DAGSTER"]
        return child(python, "dagster_child.py", up.url, up.token, DAGSTER_HOME=str(home))

    found = dagster()
    assert found["depends"] == {"sales/sales": [], "features/features": ["sales/sales"]}
    assert found["success"], found
    assert found["made"] == [["sales/sales", "succeeded"], ["features/features", "succeeded"]]
    assert [status for _, status in dagster()["made"]] == ["unchanged", "unchanged"]
    up.mesh.sales("data/sales.csv", ROWS + "4,dora,04.02.2020,-7.00\n")
    failed = dagster()
    assert not failed["success"]
    assert failed["made"] == []  # what is below is not made of data that failed
    assert "run" in failed["failures"][0]
    assert "dora" not in failed["failures"][0]
