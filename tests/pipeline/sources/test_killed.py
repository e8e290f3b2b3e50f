"""A load whose process is killed, with SIGKILL, while it reads and while it publishes: nothing lost, nothing twice."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from typing import Any

import psycopg
from tests.pipeline.sources.conftest import Api, Shop

from tulle.pipeline import run as runs
from tulle.pipeline import worker
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
        runs.recover(shop.database)
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


def test_killed_at_any_moment(shop: Shop, pg: str) -> None:
    shop.connect("db", "sql", pg)
    shop.source(type="sql", connection="db", table="orders", load="incremental", cursor="at")
    with psycopg.connect(pg, autocommit=True) as cx:
        cx.execute("CREATE TABLE orders (id int, at int)")
        cx.execute("INSERT INTO orders SELECT n, n / 10 FROM generate_series(1, 100) n")
        shop.good()
        for turn in range(1, 7):
            cx.execute(
                "INSERT INTO orders SELECT n, n / 10 FROM generate_series(%s::int, %s::int) n",
                [turn * 100 + 1, turn * 100 + 100],
            )
            run_id, pid = begin(shop)
            while runs.get(shop.database, run_id).status == "queued":
                time.sleep(0.01)
            time.sleep(0.04 * turn)  # somewhere between its beginning and after its end
            kill(shop, run_id, pid)
    run = shop.run()
    assert run.status in {"succeeded", "unchanged"}
    assert [row["id"] for row in shop.rows()] == list(range(1, 701))
