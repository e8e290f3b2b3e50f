"""Feast's feature server over the first of the rows, in SQLite or Redis: filled, started, asked.

A filled SQLite store is kept beside the environment, as filling takes longer than everything else.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
from benchmarks.serving.environments import python_of, redis_server
from benchmarks.serving.load import Side
from benchmarks.serving.processes import free_port, posts, server

FILL = Path(__file__).parent / "peers" / "feast_store.py"


@contextmanager
def feast(
    store: str, table: pa.Table, keys: Sequence[int], peers: Path, scratch: Path
) -> Iterator[Side | None]:
    """The feature server with all rows of `table`; None where it cannot be installed."""
    python = python_of("feast", peers)
    with ExitStack() as stack:
        where = "sqlite"
        if python is not None and store == "redis":
            port = stack.enter_context(redis(peers, scratch / "redis"))
            where = "" if port is None else f"redis:{port}"
        if python is None or not where:
            yield None
            return
        environment = {"HOME": str(scratch), "FEAST_USAGE": "False", "DO_NOT_TRACK": "1"}
        kept = f"feast-sqlite-{len(table)}-{table['key'][-1].as_py():x}"  # which rows, and not only how many
        folder = peers / kept if store == "sqlite" else scratch / "feast-redis"
        fill(python, folder, table, where, environment)
        port = free_port()
        url = f"http://127.0.0.1:{port}/get-online-features"
        bodies = [json.dumps({"feature_service": "wide", "entities": {"key": [key]}}) for key in keys]
        # One worker, which its default would start again every thousand requests.
        argv = [
            str(python.parent / "feast"),
            "-c",
            str(folder),
            "serve",
            "--port",
            str(port),
            "--workers",
            "1",
        ]
        argv += ["--no-access-log", "--max-requests", "1000000000"]
        logs = scratch / f"feast-{store}-server"
        logs.mkdir(parents=True)
        process = stack.enter_context(server(argv, logs, posts(url, bodies[0]), environment))
        yield Side(f"Feast ({store}), {len(table):,} rows", url, bodies, processes=[process])


def fill(python: Path, folder: Path, table: pa.Table, where: str, environment: dict[str, str]) -> None:
    """Load the rows, unless they are there."""
    done = folder / "filled"
    if done.exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.glob("*.db"):
        left.unlink()
    parquet = folder / "rows.parquet"
    pq.write_table(table, parquet)
    print(f"  filling Feast's {where.partition(':')[0]} store with {len(table):,} rows", file=sys.stderr)
    made = subprocess.run(
        [str(python), str(FILL), str(folder), str(parquet), where],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode:
        sys.exit(f"Feast's store cannot be filled:\n{made.stderr[-2000:]}")
    done.touch()


@contextmanager
def redis(peers: Path, scratch: Path) -> Iterator[int | None]:
    """A Redis that keeps everything in memory; its port, or None when there is none to be had."""
    found = redis_server(peers)
    if found is None:
        yield None
        return
    binary, environment = found
    port = free_port()
    scratch.mkdir(parents=True)
    argv = [str(binary), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]

    def listens() -> bool:
        with contextlib.suppress(psutil.Error):
            return any(
                one.laddr.port == port and one.status == psutil.CONN_LISTEN
                for one in psutil.net_connections("tcp")
                if one.laddr
            )
        return False

    with server(argv, scratch, listens, environment):
        yield port


def row_of(answer: Any) -> dict[str, Any]:
    """The columns of the one row Feast answered."""
    names = answer["metadata"]["feature_names"]
    return {
        name: one["values"][0]
        for name, one in zip(names, answer["results"], strict=True)
        if name.rpartition("__")[2] != "key"
    }
