"""A load whose process is killed, with SIGKILL, while it reads and while it publishes: nothing lost, nothing twice."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import psycopg
import pytest
from tests.pipeline.sources.conftest import Api, Shop
from tests.pipeline.sources.crash_loads import CASES

from tulle.pipeline import run as runs
from tulle.pipeline import run_end, worker
from tulle.spec.mesh import load_mesh


def begin(shop: Shop) -> tuple[str, int]:
    """Start a run as a process of its own."""
    run_id = runs.request(shop.database, "orders")
    return run_id, worker.start(load_mesh(shop.folder).settings, run_id)


def kill(shop: Shop, run_id: str, pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):  # it has ended by itself
        os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 30
    while not runs.get(shop.database, run_id).ended:
        run_end.recover(shop.database)
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_killed_while_it_reads(shop: Shop, api: Api) -> None:
    waits, reached = threading.Event(), threading.Event()

    def pages(query: dict[str, str]) -> Any:
        if query["page"] == "2":
            reached.set()
            waits.wait(60)
        return [{"id": int(query["page"])}] if query["page"] in {"1", "2"} else []

    api.gives(pages)
    source = {"type": "http", "connection": "api", "path": "orders", "paging": {"type": "page"}}
    shop.source(**source, load="incremental", cursor="id")
    run_id, pid = begin(shop)
    assert reached.wait(60)
    kill(shop, run_id, pid)
    waits.set()
    assert not shop.names()
    shop.good()
    assert [row["id"] for row in shop.rows()] == [1, 2]


def pages_of(path: str, query: dict[str, str]) -> Any:
    """What an API has of each case's old and new rows."""
    rows = [{"id": 1, "at": 1}, {"id": 2, "at": 2}]
    if path.startswith("/new"):
        rows = [{"id": 2, "at": 2}, {"id": 1, "at": 3}, {"id": 3, "at": 3}]
    return rows[int(query["page"]) - 1 :][:1]


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("case", sorted(CASES))
def test_killed_after_each_step(case: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Some of some forty points a case; all of them where TULLE_TEST_CRASHES is set.

    The first step asks for a run; killed there, it waits in the queue for whoever comes.
    """
    script, url = Path(__file__).with_name("crash_loads.py"), ""
    if case == "postgres":
        url = request.getfixturevalue("pg")
    elif case == "http":
        server = Api()
        request.addfinalizer(server.close)
        server.answer = lambda path, query, _headers: (200, {}, json.dumps(pages_of(path, query)).encode())
        url = server.url
    every = "TULLE_TEST_CRASHES" in os.environ
    first, stride = (2, 1) if every else (3 + sorted(CASES).index(case), 16)
    command = [sys.executable, str(script), case, str(tmp_path / "crash"), str(first), str(stride), url]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=170 if not every else 3000, check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    whole, *points = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert points[-1]["ended"] is not None
    assert {point["crashed"] for point in points} == {"stopped", "succeeded"}
    for point in points:
        assert point["published"] in (whole["old"], whole["new"]), point
        assert point["again"] in {"succeeded", "unchanged"}, point
        assert point["after"] == whole["new"], point
        assert (point["then"], point["last"], point["alive"]) == ("unchanged", whole["new"], []), point


def test_killed_at_any_moment(shop: Shop, pg: str) -> None:
    shop.connect("db", "sql", pg)
    shop.source(type="sql", connection="db", table="orders", load="incremental", cursor="at")
    with psycopg.connect(pg, autocommit=True) as cx:
        cx.execute("CREATE TABLE orders (id int, at int)")
        cx.execute("INSERT INTO orders SELECT n, n / 10 FROM generate_series(1, 100) n")
        shop.good()
        for turn in range(1, 4):
            cx.execute(
                "INSERT INTO orders SELECT n, n / 10 FROM generate_series(%s::int, %s::int) n",
                [turn * 100 + 1, turn * 100 + 100],
            )
            run_id, pid = begin(shop)
            while runs.get(shop.database, run_id).status == "queued":
                time.sleep(0.01)
            time.sleep(0.08 * turn)  # somewhere between its beginning and after its end
            kill(shop, run_id, pid)
    run = shop.run()
    assert run.status in {"succeeded", "unchanged"}
    assert [row["id"] for row in shop.rows()] == list(range(1, 401))
