"""The run as a process: bounds, being killed at any moment, being stopped."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from tests.pipeline.conftest import ROWS, World
from tests.pipeline.crash_points import stride

from tulle.config import Warehouse
from tulle.errors import Unavailable
from tulle.pipeline import alive, mesh_lake, run_end, run_turn, worker
from tulle.pipeline import run as runs
from tulle.pipeline.share import niceness

SLOW = """
import pathlib, time
inputs = ["sales"]
def model(run):
    flag = pathlib.Path({flag!r})
    flag.touch()
    while flag.exists():
        time.sleep(0.01)
    return run.read("sales")
"""


def until(done: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def start(world: World, product: str = "sales") -> str:
    run_id = runs.request(world.database, product)
    worker.start(world.settings, run_id)
    return run_id


def end(world: World, run_id: str, seconds: float = 30) -> runs.Run:
    until(lambda: runs.get(world.database, run_id).ended or bool(run_end.recover(world.database)), seconds)
    return runs.get(world.database, run_id)


@pytest.fixture
def slow(world: World) -> Iterator[Callable[[], None]]:
    """A model that waits inside; calling the fixture's value waits until it is there."""
    flag = world.mesh.folder / "busy"
    file = world.mesh.sales("transform/slow.py", SLOW.format(flag=str(flag)))
    yield lambda: until(flag.exists)
    flag.unlink(missing_ok=True)
    file.unlink(missing_ok=True)


def test_a_process_carries_the_run_out_within_bounds(world: World) -> None:
    world.mesh.sales(
        "transform/bounds.py",
        """
        import os, resource, sys
        assert "numpy" in sys.modules
        import pyarrow as pa
        from threadpoolctl import threadpool_info
        inputs = []
        def model(run):
            run.log("hello from the model")
            return pa.table({
                "numpy": [max(pool["num_threads"] for pool in threadpool_info() if "numpy" in pool["filepath"])],
                "threads": [os.environ["OMP_NUM_THREADS"]],
                "cpus": [pa.cpu_count()],
                "nice": [os.nice(0)],
                "data": [resource.getrlimit(resource.RLIMIT_DATA)[0]],
                "leader": [os.getsid(0) == os.getpid()],
            })
        """,
    )
    run = end(world, start(world))
    assert (run.status, run.error) == ("succeeded", None)
    (row,) = world.rows("sales", "bounds")
    assert row == {
        "numpy": 1,
        "threads": "1",
        "cpus": 1,
        "nice": os.nice(0) + niceness(2),
        "data": 4 << 30,
        "leader": True,
    }
    text = worker.log_file(world.settings, run.id).read_text()
    assert "hello from the model" in text
    assert f"published as {run.commit_id}" in text


@pytest.mark.parametrize("how", ["kill", "stop"])
def test_a_run_ended_in_the_middle_publishes_nothing_and_runs_again(
    world: World, slow: Callable[[], None], how: str
) -> None:
    published = world.run_sql_only()
    world.mesh.sales("data/sales.csv", ROWS + "4,eve,04.02.2020,7\n")
    run_id = start(world)
    slow()
    until(lambda: runs.get(world.database, run_id).steps[2].status == "running")
    pid = runs.get(world.database, run_id).pid
    assert pid is not None
    if how == "kill":
        os.kill(pid, signal.SIGKILL)
    else:
        worker.stop(world.database, run_id)
        assert not alive.is_alive(pid, 0)
    stopped = end(world, run_id)
    assert (stopped.status, stopped.cause) == ("stopped", "lost" if how == "kill" else "cancelled")
    assert stopped.error is not None
    assert "nothing was published" in stopped.error["message"]
    assert {s.name: s.status for s in stopped.steps} == {
        "till_rows": "succeeded",
        "sales": "succeeded",
        "slow": "failed",
        "publish": "skipped",
    }
    repository = world.lake.repository("sales")
    assert repository.resolve("main") == published
    assert len(world.rows("sales", "sales")) == 3
    assert stopped.branch in {b.name for b in repository.branches()}  # kept, to look at
    until(lambda: not psutil.pid_exists(pid))

    (world.mesh.folder / "products/shop/sales/transform/slow.py").unlink()
    assert world.run("sales").status == "succeeded"
    assert len(world.rows("sales", "sales")) == 4


def test_a_run_has_ended_when_it_has_published(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """No crash comes between: main moves and the run ends by one transaction."""
    run_id = runs.request(world.database, "sales")
    monkeypatch.setattr(run_end, "finish", lambda *_, **__: True)
    from tulle.pipeline.execute import execute

    execute(world.database, world.lake, world.mesh.spec(), run_id)
    run = runs.get(world.database, run_id)
    assert (run.status, run.commit_id) == ("succeeded", world.lake.repository("sales").resolve("main"))


def test_a_mesh_that_does_not_load_fails_the_run(world: World) -> None:
    run_id = runs.request(world.database, "sales")
    world.mesh.sales("product.yaml", "kind: nonsense")
    assert worker.main(["--mesh", str(world.mesh.folder), "--run", run_id]) == 1
    run = runs.get(world.database, run_id)
    assert run.status == "failed"
    assert run.error is not None
    assert run.error["problems"]


def test_a_lake_that_cannot_be_opened_fails_the_run(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: object) -> None:
        raise Unavailable("the store is down")

    run_id = runs.request(world.database, "sales")
    monkeypatch.setattr(worker, "bound", lambda _warehouse: None)  # this process is not a run's own
    monkeypatch.setattr(mesh_lake, "open_mesh_lake", away)
    assert worker.main(["--mesh", str(world.mesh.folder), "--run", run_id]) == 1
    run = runs.get(world.database, run_id)
    assert (run.status, run.cause) == ("failed", "error")
    assert run.error is not None
    assert run.error["message"] == "the store is down"


def test_stopping_what_has_ended_or_never_began(world: World) -> None:
    run_id = world.run("sales").id
    worker.stop(world.database, run_id)
    assert runs.get(world.database, run_id).status == "succeeded"
    waiting = runs.request(world.database, "sales")
    worker.stop(world.database, waiting)
    assert runs.get(world.database, waiting).status == "stopped"
    mine = runs.request(world.database, "sales")
    run_turn.claim(world.database, mine, warehouse="shop", bounds=Warehouse())
    worker.stop(world.database, mine)  # the process is this one, which is no worker: it is let be
    assert runs.get(world.database, mine).status == "stopped"


BOUNDED = """
import resource, sys
from tulle.pipeline import worker
worker._LEAST_DATA_BYTES = 1
status = worker.main(["--mesh", sys.argv[1], "--run", sys.argv[2]])
print(status, resource.getrlimit(resource.RLIMIT_DATA)[0])
"""


def test_memory_beyond_the_bound_is_a_clear_failure(world: World) -> None:
    world.mesh.write("mesh.yaml", "name: test\nwarehouse: {threads: 1, memory: 1GB}\n")
    world.mesh.sales("transform/big.py", "inputs = []\ndef model(run):\n    return bytearray(9 << 30)\n")
    run_id = runs.request(world.database, "sales")
    command = [sys.executable, "-c", BOUNDED, str(world.mesh.folder), run_id]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.splitlines()[-1] == "1 4000000000", done.stderr
    run = runs.get(world.database, run_id)
    assert run.error is not None
    assert run.error["kind"] == "limit_exceeded"
    assert run.error["message"] == "products/shop/sales/transform/big.py ran out of memory"


@pytest.mark.parametrize(
    ("text", "size"),
    [("2GB", 2 * 10**9), ("512MiB", 512 << 20), ("1.5 gb", 1_500_000_000), ("100", 100), ("80%", 0)],
)
def test_sizes(text: str, size: int) -> None:
    assert worker.bytes_of(text) == size


@pytest.mark.system
@pytest.mark.timeout(600)
def test_killed_at_any_commit_the_old_or_the_new_is_published_as_a_whole(tmp_path: Path) -> None:
    """Every ninth of some forty points; all of them where TULLE_TEST_CRASHES is set.

    The first asks for a run: killed until it is begun, it waits in the queue for whoever comes.
    """
    script = Path(__file__).with_name("crash_points.py")
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path), "4", stride(9)],
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
        env={**os.environ, "PYTHONPATH": str(script.parents[2])},
    )
    points = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert len(points) > 3, done.stderr
    for point in points:
        is_new = point["published"] == {"till_rows": 4, "sales": 4}
        assert is_new or point["published"] == {"till_rows": 3, "sales": 3}, point
        assert (point["crashed"], point["again"]) == (
            ("succeeded", "unchanged") if is_new else ("stopped", "succeeded")
        ), point
        assert point["rows"] == {"till_rows": 4, "sales": 4}, point
        assert point["alive"] == [], point
    assert points[-1]["ended"] == "succeeded"
    assert {point["crashed"] for point in points} == {"stopped", "succeeded"}
