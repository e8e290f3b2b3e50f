"""Faults around services, through the real gateway: a database is lost, bodies come slowly, callers leave half way.

Whoever has nothing to do with it is answered all the while, and no worker ends. On the same mesh a trained model is
put behind a service by one command, and asked by the stock client of API nodes.
"""

from __future__ import annotations

import contextlib
import json
import socket
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dataikuapi
import psycopg
import pyarrow as pa
import pytest
from dataikuapi.utils import DataikuException
from tests.lake.databases import Postgres
from tests.pipeline.conftest import ROWS, SALES
from tests.serving.test_finder import copied
from tests.system.conftest import Mesh, free_port

pytestmark = pytest.mark.system

STOCK = """
service: stock
endpoints:
- name: there
  type: lookup
  data_set: stock
  key: {what: id}
  columns: [number]
  source: {connection: shop-db, table: stock, timeout: 0.5}
- name: sold
  type: query
  sql: SELECT count(*) AS number, sum(amount) AS amount FROM sales WHERE amount >= $least
  parameters: {least: {type: decimal, default: 0}}
  pool: {floor: 1, ceil: 1}
- name: both
  type: compose
  input: {what: {type: integer}}
  steps:
  - {name: there, call: there, with: {what: $input.what}, on_failure: leave_out}
  - {name: sold, call: sold, with: {least: 3}}
  output: {left: $there.number?, sold: $sold.0.number}
"""
CALM = """
service: calm
endpoints:
- {name: sale, type: lookup, data_set: sales, key: id, columns: [customer]}
- {name: slowly, type: function, file: slowly.py, pool: {floor: 1, ceil: 1}}
"""
SLOWLY = """
import time
from pathlib import Path


def slowly(seconds: float, log: str) -> str:
    Path(log).write_text("begun")
    time.sleep(seconds)
    Path(log).write_text("ended")
    return "done"
"""
PEOPLE = """
import numpy as np
import pyarrow as pa
from sklearn.linear_model import LogisticRegression

inputs = ["till_rows"]


def model(run):
    rows = np.random.default_rng(1).normal(size=(200, 2))
    people = pa.table({"amount": rows[:, 0], "visits": rows[:, 1]})
    learnt = LogisticRegression().fit(rows, rows.sum(axis=1) > 0)
    run.save_model("will_return", learnt, features=["amount", "visits"], sample=people, metrics={"accuracy": 1.0})
    return people
"""


@pytest.fixture(scope="module")
def database(postgres: Postgres) -> Iterator[str]:
    url = postgres.make(empty=True)
    rows = pa.table({"id": pa.array([1, 2], pa.int64()), "number": pa.array([10, 20], pa.int64())})
    copied(url, "stock", rows)
    yield url
    postgres.drop(url)


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory, database: str) -> Iterator[Mesh]:
    made = Mesh(tmp_path_factory.mktemp("system") / "mesh", free_port(), free_port(), free_port())
    product = made.folder / "products/shop/sales"
    for file, text in (
        ("transform/sales.sql", "SELECT id, customer, day, amount FROM till_rows\n"),
        ("transform/people.py", PEOPLE),
        ("data/sales.csv", ROWS),
        ("product.yaml", textwrap.dedent(SALES)),
        ("services/stock.yaml", STOCK),
        ("services/calm.yaml", CALM),
        ("functions/slowly.py", SLOWLY),
    ):
        (product / file).parent.mkdir(parents=True, exist_ok=True)
        (product / file).write_text(text)
    (made.folder / "mesh.yaml").write_text("name: test\ndefault_rate_limit: 100000/1s\n")
    try:
        made.tulle("up", "--detach")  # first: what asks a mesh that is up starts sooner
        for command in (
            f"connection set shop-db --kind sql --address {database}",
            "apply",
            "run sales",
            "service package stock",
            "service package calm",
            "app create caller --service stock --service calm",
            "service deploy stock",
            "service deploy calm",
        ):
            made.tulle(*command.split())
        yield made
    finally:
        made.tulle("down", check=False)
    assert made.processes() == []
    for log in (made.folder / ".tulle").rglob("*.log"):
        assert "Traceback" not in log.read_text(errors="replace"), log


def ask(mesh: Mesh, path: str, body: object) -> tuple[int, Any]:
    answer = mesh.call(path, body, mesh.credentials("caller"))
    return answer.status_code, answer.json()


def workers(mesh: Mesh) -> dict[str, Any]:
    known = mesh.json("status")["processes"]
    return {name: about["pid"] for name, about in known.items() if "/" in name}


def others_answer(mesh: Mesh) -> None:
    """What has nothing to do with it: in the same worker, and in another."""
    status, sold = ask(mesh, "stock/sold/rows", {"least": "3"})
    assert (status, sold["rows"]) == (200, [[2, 13.5]])
    status, sale = ask(mesh, "calm/sale/lookup", {"data": {"id": 1}})
    assert (status, sale["results"]) == (200, [{"data": {"customer": "ann"}}])


def until(condition: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_lost_database_is_one_look_ups_loss_until_it_is_back(
    mesh: Mesh, database: str, postgres: Postgres
) -> None:
    name = database.rpartition("?")[0].rpartition("/")[2]
    before, there = workers(mesh), {"data": {"what": 2}}
    assert ask(mesh, "stock/there/lookup", there)[1]["results"][0]["data"] == {"number": 20}
    assert ask(mesh, "stock/both/run", {"what": 1})[1]["response"] == {"left": 10, "sold": 2}
    with psycopg.connect(postgres.url("postgres"), autocommit=True) as admin:
        admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
        for _ in range(3):
            status, error = ask(mesh, "stock/there/lookup", there)
            assert (status, error["errorType"]) == (503, "StoreUnavailable")
            others_answer(mesh)
        status, both = ask(mesh, "stock/both/run", {"what": 1})
        assert (status, both["response"]) == (200, {"left": None, "sold": 2})
        assert [one["errorType"] for one in both["failed"]] == ["StoreUnavailable"]
        admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
    assert ask(mesh, "stock/there/lookup", there)[1]["results"][0]["data"] == {"number": 20}
    assert ask(mesh, "stock/both/run", {"what": 1})[1]["response"] == {"left": 10, "sold": 2}
    assert workers(mesh) == before


class Caller:
    """A caller that sends a request in pieces of its own."""

    def __init__(self, mesh: Mesh, path: str, body: object) -> None:
        self.body = json.dumps(body).encode()
        credentials = mesh.credentials("caller")
        lines = [
            f"POST /public/api/v1/{path} HTTP/1.1",
            "host: gateway",
            f"content-length: {len(self.body)}",
            *(f"{name}: {value}" for name, value in credentials.items()),
        ]
        self.socket = socket.create_connection(("127.0.0.1", mesh.gateway), timeout=20)
        self.socket.sendall("\r\n".join([*lines, "", ""]).encode())

    def answer(self) -> bytes:
        data = b""
        while b"\r\n\r\n" not in data:
            data += self.socket.recv(65536) or pytest.fail("the gateway hung up")
        return data.split(b"\r\n", 1)[0]


def test_slow_bodies_hold_up_nobody_else(mesh: Mesh) -> None:
    before = workers(mesh)
    with contextlib.ExitStack() as stack:
        slow = [Caller(mesh, "calm/sale/lookup", {"data": {"id": 1}}) for _ in range(20)]
        slow += [Caller(mesh, "stock/sold/rows", {"least": 3}) for _ in range(20)]
        for caller in slow:
            stack.enter_context(caller.socket)
        for at in range(4):
            for caller in slow:
                caller.socket.sendall(caller.body[at : at + 1])
            others_answer(mesh)
        for caller in slow[::2]:  # the others never send the rest
            caller.socket.sendall(caller.body[4:])
        assert {caller.answer() for caller in slow[::2]} == {b"HTTP/1.1 200 OK"}
        others_answer(mesh)
    others_answer(mesh)
    assert workers(mesh) == before


def test_who_leaves_half_way_is_nobody_elses_loss(mesh: Mesh, tmp_path: Path) -> None:
    before, log = workers(mesh), tmp_path / "log"
    for _ in range(3):  # in the middle of its body
        half = Caller(mesh, "calm/slowly/run", {"seconds": 0, "log": str(log)})
        half.socket.sendall(half.body[:10])
        half.socket.close()
    left = Caller(mesh, "calm/slowly/run", {"seconds": 0.5, "log": str(log)})  # in the middle of its answer
    left.socket.sendall(left.body)
    until(lambda: log.exists() and log.read_text() == "begun")
    left.socket.close()
    others_answer(mesh)
    status, answer = ask(mesh, "calm/slowly/run", {"seconds": 0, "log": str(tmp_path / "other")})
    assert (status, answer["response"]) == (200, "done")
    assert workers(mesh) == before


def test_a_trained_model_is_put_behind_a_service_by_one_command(mesh: Mesh) -> None:
    said = mesh.tulle("model", "serve", "sales", "will_return", "--service", "returns").stdout
    assert "declared in products/shop/sales/services/returns.yaml" in said
    assert "v1" in said
    mesh.tulle("app", "create", "shop-window", "--service", "returns")
    own = mesh.credentials("shop-window")
    client = dataikuapi.APINodeClient(
        f"http://127.0.0.1:{mesh.gateway}", "returns", f"{own['client_id']}.{own['client_secret']}"
    )
    good, bad = {"amount": 3.0, "visits": 2.0}, {"amount": -3.0, "visits": -2.0}
    results = client.predict_records("will-return", [{"features": good}, {"features": bad}])["results"]
    assert [one["prediction"] for one in results] == [True, False]
    one = client.predict_record("will-return", good)
    assert one["result"]["probas"] == results[0]["probas"]
    assert one["apiContext"]["serviceGeneration"] == "v1"
    with pytest.raises(DataikuException, match="MissingFeatures"):
        client.predict_record("will-return", {"amount": 3.0})
    twice = mesh.tulle("model", "serve", "sales", "will_return", "--service", "returns", check=False)
    assert twice.returncode != 0
    assert "returns" in twice.stderr
    others_answer(mesh)
