"""Runs from files to published data sets, on a real lake: what is seen, by whom, and when something fails."""

from __future__ import annotations

import errno
import json
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from sqlalchemy import update
from tests.pipeline.conftest import ROWS, World

from tulle.errors import LimitExceeded, Unavailable
from tulle.lake.dag import RunBranch
from tulle.lake.repository import Repository
from tulle.pipeline import alive, run_end
from tulle.pipeline import carry as execution
from tulle.pipeline import execute as run_as_a_whole
from tulle.pipeline import run as runs
from tulle.pipeline.execute import execute
from tulle.pipeline.run import Run
from tulle.state import log
from tulle.state.tables import runs as run_table


def statuses(run: Run) -> dict[str, str]:
    return {step.name: step.status for step in run.steps}


def step(run: Run, name: str) -> runs.Step:
    return next(s for s in run.steps if s.name == name)


def test_two_products_from_file_to_features(world: World) -> None:
    sales = world.run("sales")
    assert (sales.status, sales.error) == ("succeeded", None)
    assert statuses(sales) == {"till_rows": "succeeded", "sales": "succeeded", "publish": "succeeded"}
    features = world.run("features")
    assert features.status == "succeeded"
    assert world.rows("features", "features") == [
        {"customer": "ann", "total": 11.75},
        {"customer": "bob", "total": 3},
    ]

    repository = world.lake.repository("features")
    assert [b.name for b in repository.branches()] == ["main"]
    assert repository.resolve("main") == features.commit_id
    commit = repository.commit_info("main")
    assert commit.metadata["run"] == features.id
    assert commit.metadata["code"]
    version = json.loads(commit.metadata["inputs"])["sold"]
    assert (version["product"], version["commit"]) == ("sales", sales.commit_id)
    assert step(features, "features").lineage["total"] == [["sold", "amount"]]
    assert step(features, "features").columns == (("customer", "string"), ("total", "decimal(12,2)"))
    assert step(sales, "till_rows").lineage["amount"] == [["till", "amount"]]
    kinds = [entry.kind for entry in log.read(world.database)]
    assert kinds[0] == "run.started"
    assert kinds[-1] == "run.finished"
    assert kinds.count("step.started") == kinds.count("step.finished") == 6


def test_a_run_publishes_in_one_merge(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    merge = Repository.merge

    def watched(self: Repository, source: str, dest: str, **kwargs: Any) -> Any:
        before = [e.path for e in self.entries("main")]
        result = merge(self, source, dest, **kwargs)
        seen.append((dest.partition("-")[0], before, [e.path for e in self.entries("main")]))
        return result

    monkeypatch.setattr(Repository, "merge", watched)
    world.run("sales")
    assert [dest for dest, _, _ in seen] == ["main"]
    assert seen[0][1] == []
    assert [path for path in seen[-1][2] if path.endswith(".parquet")] == [
        "sales/part-0000.parquet",
        "till_rows/part-0000.parquet",
    ]


# ── unchanged ────────────────────────────────────────────────────────────────────────────────────────────


def test_nothing_new_publishes_nothing(world: World) -> None:
    first = world.run("sales")
    again = world.run("sales")
    assert again.status == "unchanged"
    assert statuses(again) == {"till_rows": "unchanged", "sales": "unchanged", "publish": "unchanged"}
    assert [s.rows for s in again.steps] == [3, 3, None]
    repository = world.lake.repository("sales")
    assert repository.resolve("main") == first.commit_id
    assert [b.name for b in repository.branches()] == ["main"]


def test_full_makes_everything_again(world: World) -> None:
    world.run("sales")
    again = world.run("sales", full=True)
    assert statuses(again) == {"till_rows": "succeeded", "sales": "succeeded", "publish": "succeeded"}


def test_only_what_a_change_reaches_is_made_again(world: World) -> None:
    world.mesh.sales("transform/other.sql", "SELECT count(*) AS n FROM sales")
    world.run("sales")
    world.run("features")
    world.mesh.sales("transform/other.sql", "SELECT count(*) AS m FROM sales")
    changed = world.run("sales")
    assert statuses(changed) == {
        "till_rows": "unchanged",
        "sales": "unchanged",
        "other": "succeeded",
        "publish": "succeeded",
    }
    # The rows of `sales` are the same, though its product has a new commit: nothing to do downstream.
    assert world.run("features").status == "unchanged"

    world.mesh.sales("data/sales.csv", ROWS + "4,eve,04.02.2020,7\n")
    assert statuses(world.run("sales"))["other"] == "succeeded"
    assert world.run("features").status == "succeeded"
    assert len(world.rows("features", "features")) == 3


def test_other_bytes_with_the_same_rows_stop_the_ripple(world: World) -> None:
    world.run("sales")
    world.mesh.sales("data/sales.csv", ROWS.replace("3.\n", "3.00\n").replace(",3\n", ",3.0\n"))
    again = world.run("sales")
    assert statuses(again) == {"till_rows": "succeeded", "sales": "unchanged", "publish": "succeeded"}


def test_a_new_check_is_carried_out_on_data_that_is_not_made_again(world: World) -> None:
    world.run("sales")
    world.mesh.sales("checks/c.yaml", "checks: [{data_set: sales, type: row_count, min: 2}]")
    checked = world.run("sales")
    assert statuses(checked) == {"till_rows": "unchanged", "sales": "succeeded", "publish": "succeeded"}
    assert "only checked again" in str(step(checked, "sales").message)
    assert len(step(checked, "sales").checks) == 5
    assert world.run("sales").status == "unchanged"


def test_data_put_there_by_hand_is_made_again(world: World) -> None:
    world.run("sales")
    repository = world.lake.repository("sales")
    file = Path(repository.files("main", "sales/")[0])
    table = pq.read_table(file).slice(0, 1)
    other = world.mesh.folder / "other.parquet"
    pq.write_table(table, other)
    repository.put("main", "sales/part-0000.parquet", other)
    repository.commit("main", "By hand")
    assert len(world.rows("sales", "sales")) == 1
    assert statuses(world.run("sales")) == {
        "till_rows": "unchanged",
        "sales": "succeeded",
        "publish": "succeeded",
    }
    assert len(world.rows("sales", "sales")) == 3


@pytest.mark.parametrize(
    "damaged", [b"", b"{}", b"[1]", b'{"format": 99}', b'{"format": 1, "other": 2}', b"\xff"]
)
def test_a_record_we_do_not_understand_is_no_record(world: World, damaged: bytes) -> None:
    world.run("sales")
    repository = world.lake.repository("sales")
    repository.put("main", "_tulle/jobs/sales.json", damaged)
    repository.commit("main", "Damage")
    assert statuses(world.run("sales")) == {
        "till_rows": "unchanged",
        "sales": "succeeded",
        "publish": "succeeded",
    }


def test_no_rows_are_rows_too(world: World) -> None:
    world.mesh.sales("transform/sales.sql", "SELECT id, customer, day, amount FROM till_rows WHERE false")
    world.mesh.sales(
        "transform/none.py", "inputs = ['sales']\ndef model(run):\n    return run.read('sales').slice(0, 0)\n"
    )
    run = world.run("sales")
    assert [s.rows for s in run.steps] == [3, 0, 0, None]
    assert step(run, "none").columns == step(run, "sales").columns
    assert world.run("features").status == "succeeded"
    assert world.rows("features", "features") == []


def test_what_nothing_makes_any_more_is_taken_out(world: World) -> None:
    world.mesh.sales("transform/other.sql", "SELECT count(*) AS n FROM sales")
    world.run("sales")
    assert world.rows("sales", "other") == [{"n": 3}]
    (world.mesh.folder / "products/shop/sales/transform/other.sql").unlink()
    run = world.run("sales")
    assert run.status == "succeeded"
    assert "removed other" in str(step(run, "publish").message)
    repository = world.lake.repository("sales")
    assert list(repository.entries("main", "other/")) == []
    assert not repository.exists("main", "_tulle/jobs/other.json")


# ── checks ───────────────────────────────────────────────────────────────────────────────────────────────


def test_a_failing_check_leaves_main_as_it_was(world: World) -> None:
    published = world.run("sales").commit_id
    world.mesh.sales("data/sales.csv", ROWS + "3,eve,04.02.2020,7\n4,,05.02.2020,1\n")
    failed = world.run("sales")
    assert failed.status == "failed"
    assert statuses(failed) == {"till_rows": "succeeded", "sales": "failed", "publish": "skipped"}
    repository = world.lake.repository("sales")
    assert repository.resolve("main") == published
    assert failed.commit_id is None

    verdicts = {check.name: check for check in step(failed, "sales").checks}
    assert verdicts["id is part of the key"].passed
    assert verdicts["id is the key"].failing_count == 1
    assert [row["customer"] for row in verdicts["id is the key"].failing_rows] == ["ann", "eve"]
    assert verdicts["customer is required"].failing_rows == (
        {"id": 4, "customer": None, "day": "2020-02-05", "amount": "1.00"},
    )
    assert failed.error is not None
    assert failed.error["message"].startswith("2 checks of 'sales' failed: ")
    assert len(failed.error["problems"]) == 2

    branches = {b.name for b in repository.branches()}
    assert branches >= {"main", failed.branch, f"{failed.branch}-sales"}
    assert len(world.rows("sales", "sales", ref=f"{failed.branch}-sales")) == 5  # kept, to look at
    assert world.rows("sales", "till_rows", ref=str(failed.branch))
    assert len(world.rows("sales", "till_rows")) == 3

    world.mesh.sales("data/sales.csv", ROWS + "4,eve,04.02.2020,7\n")
    assert world.run("sales").status == "succeeded"
    assert len(world.rows("sales", "sales")) == 4


def test_a_warning_does_not_stop(world: World) -> None:
    world.mesh.sales("checks/c.yaml", "checks: [{data_set: sales, type: row_count, min: 99, severity: warn}]")
    run = world.run("sales")
    assert run.status == "succeeded"
    assert [c.name for c in step(run, "sales").checks if not c.passed] == [
        "the number of rows is at least 99"
    ]


def test_a_check_across_data_sets_waits_for_the_last_of_them(world: World) -> None:
    world.mesh.sales("transform/a_known.sql", "SELECT DISTINCT customer FROM sales WHERE customer <> 'bob'")
    check = "{data_set: sales, type: references, column: customer, to: {data_set: a_known, column: customer}}"
    world.mesh.sales("checks/c.yaml", f"checks: [{check}]")
    run = world.run("sales")
    assert statuses(run) == {
        "till_rows": "succeeded",
        "sales": "succeeded",
        "a_known": "failed",
        "publish": "skipped",
    }
    (verdict,) = step(run, "a_known").checks
    assert verdict.data_set == "sales"
    assert [row["customer"] for row in verdict.failing_rows] == ["bob"]


def test_rows_of_another_product_can_be_checked_on_arrival(world: World) -> None:
    world.run("sales")
    world.mesh.features("checks/c.yaml", "checks: [{data_set: sold, type: row_count, min: 4}]")
    run = world.run("features")
    assert statuses(run) == {"sold": "failed", "features": "skipped", "publish": "skipped"}
    assert run.error is not None
    assert "3 rows, expected at least 4" in run.error["message"]


def test_rows_refused_on_arrival_are_kept_and_never_published(world: World) -> None:
    world.run("sales")
    world.mesh.features(
        "checks/c.yaml", "checks: [{data_set: sold, type: range, column: amount, min: 5, name: amounts}]"
    )
    run = world.run("features")
    kept = step(run, "sold")
    (check,) = kept.checks
    repository = world.lake.repository("features")
    assert kept.branch == f"run-{run.id}-sold"
    assert pq.read_table(repository.files(kept.branch, check.kept)[0]).num_rows == 2
    world.mesh.features(
        "checks/c.yaml", "checks: [{data_set: sold, type: range, column: amount, min: 0, name: amounts}]"
    )
    again = runs.request(world.database, "features", options={"resume": run.id})
    assert execute(world.database, world.lake, world.mesh.spec(), again).status == "succeeded"
    assert list(repository.entries("main", "_tulle/failing/")) == []


def test_drift_between_declaration_and_data(world: World) -> None:
    world.mesh.sales(
        "transform/sales.py",
        "inputs = ['till_rows']\ndef model(run):\n    return run.read('till_rows').drop_columns(['day'])\n",
    )
    (world.mesh.folder / "products/shop/sales/transform/sales.sql").unlink()
    run = world.run("sales")
    assert statuses(run)["sales"] == "failed"
    assert "column 'day' is missing" in str(step(run, "sales").message)
    assert [c.kind for c in step(run, "sales").checks] == ["schema"]


# ── what can go wrong ────────────────────────────────────────────────────────────────────────────────────


def test_code_that_is_wrong_is_told_before_anything_is_made(world: World) -> None:
    world.mesh.sales("transform/sales.sql", "SELECT id, custmer FROM till_rows")
    run = world.run("sales")
    assert (run.status, run.steps, run.branch) == ("failed", (), None)
    assert run.error is not None
    assert run.error["problems"][0]["place"]["line"] == 1


def test_a_file_that_does_not_parse(world: World) -> None:
    world.run("sales")
    world.mesh.sales("data/sales.csv", ROWS + "4,eve,today,7\n")
    run = world.run("sales")
    assert statuses(run) == {"till_rows": "failed", "sales": "skipped", "publish": "skipped"}
    assert run.error is not None
    assert run.error["problems"][0]["place"] == {
        "file": "products/shop/sales/data/sales.csv",
        "line": 5,
        "column": 0,
    }
    assert len(world.rows("sales", "sales")) == 3


def test_an_upstream_that_never_ran(world: World) -> None:
    run = world.run("features")
    assert run.status == "failed"
    assert run.error is not None
    assert run.error["message"] == "product 'sales' has not published 'sales' yet"
    assert run.error["hint"] == "`tulle run sales` first"


def test_a_product_without_repository_and_an_unknown_branch(world: World) -> None:
    world.lake.delete_repository("features")
    run = world.run("features")
    assert run.error is not None
    assert "no repository yet" in run.error["message"]
    elsewhere = world.run("sales", environment="nowhere")
    assert elsewhere.status == "failed"
    assert elsewhere.error is not None
    assert "nowhere" in elsewhere.error["message"]


def test_a_run_on_another_branch_leaves_main_alone(world: World) -> None:
    world.run("sales")
    world.lake.repository("sales").create_branch("dev", "main")
    world.mesh.sales("data/sales.csv", ROWS + "4,eve,04.02.2020,7\n")
    run = world.run("sales", environment="dev")
    assert run.status == "succeeded"
    assert len(world.rows("sales", "sales")) == 3
    assert len(world.rows("sales", "sales", ref="dev")) == 4


def full_disk(*_: Any, **__: Any) -> Any:
    raise OSError(errno.ENOSPC, "No space left on device", "/somewhere/data")


def full_engine(*_: Any, **__: Any) -> Any:
    raise LimitExceeded("no room left on the disk: …", hint="free space")


@pytest.mark.parametrize(
    ("target", "fail", "failing"),
    [
        ("tulle.pipeline.ingest.pq.ParquetWriter.write_batch", full_disk, "till_rows"),
        ("tulle.engine.duck.DuckEngine.write", full_engine, "sales"),
        ("tulle.lake.blobs.LocalBlobs.put", full_disk, "till_rows"),
        ("tulle.lake.draft.Draft.link_many", full_disk, "till_rows"),
    ],
)
def test_a_full_disk_publishes_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch, target: str, fail: Callable[..., Any], failing: str
) -> None:
    published = world.run("sales").commit_id
    data = set((world.mesh.folder / ".tulle/objects").rglob("*.parquet"))
    world.mesh.sales("data/sales.csv", ROWS + "4,eve,04.02.2020,7\n")
    with monkeypatch.context() as patched:
        patched.setattr(target, fail)
        run = world.run("sales")
    assert statuses(run)[failing] == "failed"
    assert run.error is not None
    assert run.error["kind"] == "limit_exceeded"
    assert "disk" in run.error["message"]
    assert world.lake.repository("sales").resolve("main") == published
    if failing == "till_rows" and "put" not in target:
        assert set((world.mesh.folder / ".tulle/objects").rglob("*.parquet")) == data
    assert world.run("sales").status == "succeeded"


def test_a_disk_that_fills_up_for_real(world: World) -> None:
    world.run("sales")
    world.mesh.sales(
        "transform/sales.sql",
        """
        SELECT 10 * n + id AS id, md5(CAST(10 * n + id AS VARCHAR)) AS customer, day, amount FROM till_rows, range(100000) t(n)
    """,
    )
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, before[1]))
    try:
        run = world.run("sales")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert statuses(run)["sales"] == "failed"
    assert run.error is not None
    assert (run.error["kind"], "no room left on the disk" in run.error["message"]) == ("limit_exceeded", True)
    assert len(world.rows("sales", "sales")) == 3


def test_main_moved_meanwhile_without_touching_the_same_data(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = world.lake.repository("sales")
    publish = execution.Execution._publish

    def moved(self: Any, base: str) -> Any:
        repository.put("main", "notes/readme.txt", b"by hand")
        repository.commit("main", "A note")
        return publish(self, base)

    monkeypatch.setattr(execution.Execution, "_publish", moved)
    assert world.run("sales").status == "succeeded"
    assert repository.get("main", "notes/readme.txt") == b"by hand"
    assert len(world.rows("sales", "sales")) == 3


def test_somebody_else_changed_the_same_data(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    repository = world.lake.repository("sales")
    publish = execution.Execution._publish

    def moved(self: Any, base: str) -> Any:
        repository.put("main", "sales/part-0000.parquet", b"by hand")
        repository.commit("main", "Data by hand")
        return publish(self, base)

    monkeypatch.setattr(execution.Execution, "_publish", moved)
    run = world.run("sales")
    assert run.status == "failed"
    assert run.error is not None
    assert run.error["kind"] == "conflict"
    assert repository.get("main", "sales/part-0000.parquet") == b"by hand"


def test_a_run_stopped_at_the_last_moment_publishes_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish = execution.Execution._publish

    def stopped(self: Any, base: str) -> Any:
        run_end.finish(world.database, self.run.id, "stopped")
        return publish(self, base)

    monkeypatch.setattr(execution.Execution, "_publish", stopped)
    run = world.run("sales")
    assert run.status == "stopped"
    assert list(world.lake.repository("sales").entries("main")) == []


def test_what_was_published_succeeded_whatever_goes_wrong_after_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: Any) -> None:
        raise Unavailable("the database is busy")

    monkeypatch.setattr(RunBranch, "discard", away)
    run = world.run("sales")
    assert (run.status, run.error, run.cause) == ("succeeded", None, None)
    assert run.commit_id == world.lake.repository("sales").resolve("main")
    assert set(statuses(run).values()) == {"succeeded"}
    assert str(step(run, "publish").message).startswith("2 data sets as ")
    assert step(run, "publish").branch == "main"


def test_why_a_run_failed_is_recorded_when_the_database_is_back(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish, tries = run_end.finish, []

    def away(*given: Any, **said: Any) -> bool:
        tries.append(given)
        if len(tries) < 3:
            raise Unavailable("the database cannot be reached")
        return finish(*given, **said)

    monkeypatch.setattr(run_as_a_whole, "RECORD_AGAIN_SECONDS", 0.0)
    monkeypatch.setattr(run_end, "finish", away)
    world.mesh.sales("transform/sales.sql", "SELECT id, custmer FROM till_rows")
    run = world.run("sales")
    assert (run.status, len(tries)) == ("failed", 3)
    assert run.error is not None
    assert "has 1 problem" in run.error["message"]


def test_who_is_taken_for_dead_just_before_it_publishes_publishes_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a run on another machine that says so too late that it lives; beside it the product runs again."""
    publish, beside = RunBranch.publish, []

    def late(branches: RunBranch, *given: Any, **more: Any) -> Any:
        with monkeypatch.context() as patched:
            patched.setattr(RunBranch, "publish", publish)
            (run_id,) = (run.id for run in runs.recent(world.database, status="running"))
            with world.database.write() as cx:
                cx.execute(update(run_table).where(run_table.c.id == run_id).values(machine="elsewhere:1"))
            patched.setattr(alive, "GONE_AFTER_SECONDS", 0.0)
            assert run_end.recover(world.database) == (run_id,)
            beside.append(world.run("sales"))
        return publish(branches, *given, **more)

    monkeypatch.setattr(RunBranch, "publish", late)
    run = world.run("sales")
    assert (run.status, run.cause, run.commit_id) == ("stopped", "lost", None)
    assert statuses(run)["publish"] != "succeeded"
    assert beside[0].status == "succeeded"
    repository = world.lake.repository("sales")
    assert repository.resolve("main") == beside[0].commit_id
    assert repository.log("main")[0].metadata["run"] == beside[0].id


def test_a_run_that_takes_too_long_is_ended(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.mesh.write("mesh.yaml", "name: test\nwarehouse: {threads: 1, run_timeout_seconds: 1}\n")
    world.mesh.sales("transform/slow.py", "import time\ninputs = []\ndef model(run):\n    time.sleep(1.6)\n")
    ended: list[bool] = []
    monkeypatch.setattr(execution.Watchdog, "end_process", lambda _self: ended.append(True))
    run = world.run("sales")
    assert ended == [True]
    assert run.status == "failed"
    assert run.error is not None
    assert run.error["message"] == "the run took longer than 1 s and was stopped"
    assert run.cause == "timeout"
    assert list(world.lake.repository("sales").entries("main")) == []


def test_a_schedule_may_give_a_run_less_time(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.mesh.sales("transform/slow.py", "import time\ninputs = []\ndef model(run):\n    time.sleep(1.6)\n")
    monkeypatch.setattr(execution.Watchdog, "end_process", lambda _self: None)
    run_id = runs.request(world.database, "sales", options={"timeout": 1})
    run = execute(world.database, world.lake, world.mesh.spec(), run_id)
    assert run.error is not None
    assert run.error["message"] == "the run took longer than 1 s and was stopped"
    assert run.cause == "timeout"


def test_a_defect_of_ours_is_recorded_and_raised(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise ZeroDivisionError

    monkeypatch.setattr(execution, "make", broken)
    with pytest.raises(ZeroDivisionError):
        world.run("sales")
    (run,) = runs.recent(world.database)
    assert run.status == "failed"
    assert run.error is not None
    assert run.error["kind"] == "broken"
    assert run.id in run.error["hint"]


def test_no_files_are_left_behind(world: World, tmp_path: Path) -> None:
    world.run("sales")
    left = [file.parent.name for file in (world.mesh.folder / ".tulle/run").rglob("*/*")]
    assert left == ["columns"]  # which the next run begins with
    for file in (world.mesh.folder / ".tulle/objects").rglob("*.parquet"):
        assert pq.ParquetFile(file).metadata.num_rows == 3
