"""Jobs of one run side by side."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from tests.pipeline.conftest import World

from tulle.pipeline import carry
from tulle.pipeline.make import Made, make
from tulle.pipeline.steps import Steps


@pytest.fixture
def two(world: World) -> World:
    """Two data sets that do not wait for one another, and one that waits for both."""
    world.mesh.write("mesh.yaml", "name: test\nwarehouse: {threads: 2, memory: 256MB}\n")
    world.mesh.sales("transform/a.sql", "SELECT id FROM till_rows WHERE id < 3")
    world.mesh.sales("transform/b.sql", "SELECT id FROM till_rows WHERE id > 1")
    world.mesh.sales("transform/both.sql", "SELECT id FROM a JOIN b USING (id)")
    return world


def test_what_does_not_wait_is_done_at_the_same_time(two: World, monkeypatch: pytest.MonkeyPatch) -> None:
    together = threading.Barrier(2)
    order: list[str] = []

    def watched(draft: Any, making: Any, before: Any) -> Made:
        if making.job.name in {"a", "b"}:
            together.wait(60)  # nobody goes on alone
        order.append(making.job.name)
        return make(draft, making, before)

    monkeypatch.setattr(carry, "make", watched)
    assert two.run("sales").status == "succeeded"
    assert order.index("both") > max(order.index("a"), order.index("b"))
    assert two.rows("sales", "both") == [{"id": 2}]


def test_one_thread_does_one_after_another(two: World, monkeypatch: pytest.MonkeyPatch) -> None:
    two.mesh.write("mesh.yaml", "name: test\nwarehouse: {threads: 1, memory: 256MB}\n")
    inside = threading.Lock()

    def watched(draft: Any, making: Any, before: Any) -> Made:
        assert inside.acquire(blocking=False)
        try:
            return make(draft, making, before)
        finally:
            inside.release()

    monkeypatch.setattr(carry, "make", watched)
    assert two.run("sales").status == "succeeded"


def test_after_a_failure_what_runs_ends_and_nothing_begins(
    two: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    two.mesh.sales("checks/c.yaml", "checks: [{data_set: a, type: row_count, min: 100}]")
    failed = threading.Event()
    finished = Steps.finished

    def watched(draft: Any, making: Any, before: Any) -> Made:
        if making.job.name == "b":
            assert failed.wait(60)
        return make(draft, making, before)

    def told(steps: Steps, name: str, status: str, **more: Any) -> None:
        finished(steps, name, status, **more)
        if (name, status) == ("a", "failed"):
            failed.set()

    monkeypatch.setattr(carry, "make", watched)
    monkeypatch.setattr(Steps, "finished", told)
    run = two.run("sales")
    statuses = {step.name: step.status for step in run.steps}
    assert (run.status, statuses["a"], statuses["b"]) == ("failed", "failed", "succeeded")
    assert {statuses["both"], statuses["publish"]} == {"skipped"}
    assert "'a' failed" in str(run.error)


def test_python_models_take_turns(two: World) -> None:
    model = "import threading, pyarrow as pa\ninputs = ['till_rows']\n"
    model += "def model(run):\n    import builtins, time\n    assert not getattr(builtins, 'busy', False)\n"
    model += "    builtins.busy = True\n    time.sleep(0.05)\n    builtins.busy = False\n"
    model += "    return run.read('till_rows').select(['id'])\n"
    for name in ("p", "q"):
        two.mesh.sales(f"transform/{name}.py", model)
    run = two.run("sales")
    assert run.status == "succeeded", run.error


def test_what_is_kept_is_told_step_by_step(two: World) -> None:
    two.run("sales")
    two.mesh.sales("transform/b.sql", "SELECT id FROM till_rows WHERE id > 2")
    run = two.run("sales")
    assert {step.name: step.status for step in run.steps} == {
        "till_rows": "unchanged",
        "sales": "unchanged",
        "a": "unchanged",
        "b": "succeeded",
        "both": "succeeded",
        "publish": "succeeded",
    }
    assert {step.name: step.rows for step in run.steps}["a"] == 2
