"""Promotion behind approvals, checks and the breaking-change gate; rollback of code and data; both after crashes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.control.released import MESH, VERSIONED, Team, sales_at
from tests.pipeline.conftest import ROWS
from tests.pipeline.crash_points import stride

from tulle.config import Warehouse
from tulle.control import apply, destroy, environments, product_release, promotion
from tulle.errors import Conflict, Denied, NotFound, Unavailable
from tulle.lake.repository import Lake
from tulle.pipeline import promotion as record
from tulle.pipeline import run as runs
from tulle.pipeline import run_end, run_turn
from tulle.state import log
from tulle.state.db import Database
from tulle.state.tables import approvals, promotions

OPEN = MESH.replace("approvers: [ann, bob, eve], approvals: 2", "schedules: false").replace(
    "after: test, ", ""
)


@pytest.fixture
def team(tmp_path: Path) -> Iterator[Team]:
    """Everybody may promote to production at once."""
    made = Team(tmp_path / "mesh", OPEN)
    yield made
    made.workspace.database.close()


@pytest.fixture
def careful(tmp_path: Path) -> Iterator[Team]:
    """Production takes what was in test, and two of three people agree."""
    made = Team(tmp_path / "mesh")
    yield made
    made.workspace.database.close()


def released(team: Team, version: str, model: str = "") -> None:
    """Release a version of `sales`, by default with the code as it is."""
    team.mesh.sales("product.yaml", sales_at(version))
    if model:
        team.mesh.sales("transform/sales.sql", model)

    environments.ensure_branches(team.workspace, "sales")
    assert team.run("dev").status in {"succeeded", "unchanged"}
    product_release.make(team.workspace, "sales", by="ann")


def test_a_promoted_release_is_what_runs_are_made_by(team: Team) -> None:
    released(team, "1.0.0")
    workspace = team.workspace
    asked = promotion.promote(workspace, "sales", "1.0.0", to="prod", by="ann")
    assert asked.status == "running"
    done = team.wait(asked)
    assert (done.status, done.message) == ("done", "")
    assert record.in_force(workspace.database, "sales", "main") == "1.0.0"
    assert len(team.amounts("main")) == 3
    # What is edited afterwards changes nothing in production, new rows arrive all the same.
    team.mesh.sales("transform/sales.sql", "SELECT id, customer, day, amount * 2 AS amount FROM till_rows\n")
    team.mesh.sales("data/sales.csv", ROWS + "4,eve,04.02.2020,7\n")
    assert team.run("main").status == "succeeded"
    assert [str(amount) for amount in team.amounts("main")] == ["1.25", "3.00", "7.00", "10.50"]
    assert promotion.promote(workspace, "sales", "1.0.0", to="prod", by="ann").id == asked.id
    kinds = [entry.kind for entry in log.read(workspace.database, subject="sales", limit=1000)]
    assert kinds.index("release.made") < kinds.index("promotion.requested") < kinds.index("promotion.ended")


def test_seeds_of_a_release_are_its_own(team: Team) -> None:
    team.mesh.sales("seeds/rates.csv", "customer,rate\nann,2\nbob,3\n")
    released(
        team,
        "1.0.0",
        "SELECT id, customer, day, (amount * rate::INTEGER)::DECIMAL(10,2) AS amount FROM till_rows JOIN rates USING (customer)\n",
    )
    team.mesh.sales("seeds/rates.csv", "customer,rate\nann,200\nbob,300\n")
    team.wait(promotion.promote(team.workspace, "sales", "1.0.0", to="prod", by="ann"))
    assert [str(amount) for amount in team.amounts("main")] == ["2.50", "9.00", "21.00"]


def test_a_release_whose_checks_fail_on_the_target_is_not_in_force(team: Team) -> None:
    released(team, "1.0.0")
    team.wait(promotion.promote(team.workspace, "sales", "1.0.0", to="prod", by="ann"))
    before = team.workspace.lake.repository("sales").resolve("main")
    team.mesh.sales(
        "checks/sales.yaml", "checks:\n- {data_set: sales, type: range, column: amount, max: 11}\n"
    )
    released(team, "1.0.1")
    team.mesh.sales("data/sales.csv", ROWS + "4,eve,04.02.2020,700\n")
    failed = team.wait(promotion.promote(team.workspace, "sales", "1.0.1", to="prod", by="ann"))
    assert failed.status == "failed"
    assert "check" in failed.message
    assert record.in_force(team.workspace.database, "sales", "main") == "1.0.0"
    assert team.workspace.lake.repository("sales").resolve("main") == before


def test_code_and_data_go_back_together(team: Team) -> None:
    workspace = team.workspace
    released(team, "1.0.0")
    team.wait(promotion.promote(workspace, "sales", "1.0.0", to="prod", by="ann"))
    team.mesh.sales("data/sales.csv", ROWS + "4,eve,04.02.2020,7\n")
    assert team.run("main").status == "succeeded"
    last = workspace.lake.repository("sales").resolve("main")
    released(team, "1.1.0", "SELECT id, customer, day, -amount AS amount FROM till_rows\n")
    team.wait(promotion.promote(workspace, "sales", "1.1.0", to="prod", by="ann"))
    assert min(map(float, team.amounts("main"))) < 0  # type: ignore[arg-type]
    with pytest.raises(Conflict) as already:
        promotion.rollback(workspace, "sales", to="1.1.0", by="bob")
    assert "in force" in already.value.message
    done = promotion.rollback(workspace, "sales", to="1.0.0", by="bob", note="negative amounts")
    assert (done.status, done.before_version, done.commit_id) == ("done", "1.1.0", last)
    assert workspace.lake.repository("sales").resolve("main") == last
    assert len(team.amounts("main")) == 4
    assert promotion.rollback(workspace, "sales", to="1.0.0", by="bob").id == done.id
    assert team.run("main").status == "unchanged"
    forward = promotion.rollback(workspace, "sales", to="1.1.0", by="bob")
    assert forward.commit_id == done.before_commit
    with pytest.raises(NotFound):
        promotion.rollback(workspace, "sales", to="9.9.9", by="bob")


def test_nobody_rolls_back_under_a_run(team: Team) -> None:
    workspace = team.workspace
    released(team, "1.0.0")
    team.wait(promotion.promote(workspace, "sales", "1.0.0", to="prod", by="ann"))
    released(team, "1.0.1", "SELECT id, customer, day, amount FROM till_rows WHERE id < 9\n")
    team.wait(promotion.promote(workspace, "sales", "1.0.1", to="prod", by="ann"))
    run_id = runs.request(workspace.database, "sales")
    run_turn.claim(workspace.database, run_id, warehouse="shop", bounds=Warehouse())
    with pytest.raises(Conflict) as refused:
        promotion.rollback(workspace, "sales", to="1.0.0", by="bob")
    assert run_id in refused.value.message
    run_end.finish(workspace.database, run_id, runs.STOPPED)
    assert promotion.rollback(workspace, "sales", to="1.0.0", by="bob").status == "done"


def test_a_rollback_while_another_release_waits_does_not_confuse_what_was_where(tmp_path: Path) -> None:
    team = Team(tmp_path / "mesh", MESH.replace("after: test, ", "").replace("approvals: 2", "approvals: 1"))
    workspace = team.workspace

    def ask(version: str, model: str = "") -> record.Promotion:
        released(team, version, model)
        return promotion.promote(workspace, "sales", version, to="prod", by="ann")

    try:
        for version, model in (("1.0.0", ""), ("1.1.0", "SELECT * FROM till_rows WHERE id > 1\n")):
            last = team.wait(promotion.decide(workspace, ask(version, model).id, by="bob"))
            assert last.status == "done"
        waits = ask("1.2.0", "SELECT * FROM till_rows WHERE id > 2\n")
        assert promotion.rollback(workspace, "sales", to="1.0.0", by="bob").before_version == "1.1.0"
        done = team.wait(promotion.decide(workspace, waits.id, by="bob"))
        assert (done.status, done.before_version) == ("done", "1.0.0")
        with pytest.raises(Conflict, match=r"1\.2\.0 of 'sales' is in force"):
            promotion.rollback(workspace, "sales", to="1.2.0", by="bob")
        again = promotion.promote(workspace, "sales", "1.0.0", to="prod", by="ann")
        assert again.status == "waiting"
        back = promotion.rollback(workspace, "sales", to="1.1.0", by="bob")
        assert back.commit_id == last.commit_id
        assert len(team.amounts("main")) == 2
    finally:
        workspace.database.close()


def test_what_can_never_be_ended_has_failed_and_holds_up_nobody(
    team: Team, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = team.workspace
    released(team, "1.0.0")
    team.wait(promotion.promote(workspace, "sales", "1.0.0", to="prod", by="ann"))
    released(team, "1.0.1", "SELECT id, customer, day, amount FROM till_rows WHERE id < 3\n")
    team.wait(promotion.promote(workspace, "sales", "1.0.1", to="prod", by="ann"))

    def lost(*_: object) -> None:
        raise Unavailable("the database is away")

    with monkeypatch.context() as patch:
        patch.setattr(record, "_put_in_force", lost)
        with pytest.raises(Unavailable):
            promotion.rollback(workspace, "sales", to="1.0.0", by="bob")
    (half,) = record.recent(workspace.database, product="sales", status="running")
    assert len(team.amounts("main")) == 3  # the data went back, so the code has to follow
    repository = workspace.lake.repository("sales")
    for number in range(101):  # however often the branch was moved since
        repository.put("main", "notes.txt", str(number).encode())
        repository.commit("main", "a note")
    record.settle(workspace.database, workspace.lake)
    assert record.get(workspace.database, half.id).status == "done"
    assert record.in_force(workspace.database, "sales", "main") == "1.0.0"

    with workspace.database.write() as cx:
        half_id = record.add(
            cx,
            product="sales",
            environment="prod",
            branch="main",
            kind="rollback",
            version="1.0.1",
            status="running",
            by="bob",
            commit_id="0" * 64,
        )
    record.settle(workspace.database, workspace.lake)
    assert record.get(workspace.database, half_id).status == "failed"
    assert record.in_force(workspace.database, "sales", "main") == "1.0.0"


def test_a_rollback_replaces_what_it_was_asked_about_and_nothing_that_came_since(
    team: Team, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace, repository = team.workspace, team.workspace.lake.repository("sales")
    for version, model in (("1.0.0", ""), ("1.0.1", "SELECT * FROM till_rows WHERE id < 3\n")):
        released(team, version, model)
        team.wait(promotion.promote(workspace, "sales", version, to="prod", by="ann"))
    put_back = record.put_back

    def late(database: Database, lake: Lake, asked: record.Promotion) -> None:
        repository.put("main", "notes.txt", b"of somebody else")
        repository.commit("main", "a note")
        put_back(database, lake, asked)

    with monkeypatch.context() as patch:
        patch.setattr(record, "put_back", late)
        with pytest.raises(Conflict, match="branch 'main' is on commit"):
            promotion.rollback(workspace, "sales", to="1.0.0", by="bob")
    assert repository.get("main", "notes.txt") == b"of somebody else"
    (failed,) = record.recent(workspace.database, product="sales", status="failed")
    assert "by now" in failed.message
    assert record.in_force(workspace.database, "sales", "main") == "1.0.1"
    assert promotion.rollback(workspace, "sales", to="1.0.0", by="bob").status == "done"


def test_a_half_done_rollback_that_something_staged_forbids_has_failed_and_blocks_nobody(
    team: Team,
) -> None:
    """Killed right after it was recorded, for real; then somebody writes to the branch before anybody looks."""
    workspace, repository = team.workspace, team.workspace.lake.repository("sales")
    for version, model in (("1.0.0", ""), ("1.0.1", "SELECT * FROM till_rows WHERE id < 3\n")):
        released(team, version, model)
        team.wait(promotion.promote(workspace, "sales", version, to="prod", by="ann"))
    script = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from tulle.control import promotion\n"
        "from tulle.pipeline import promotion as record\n"
        "from tulle.server.app import open_workspace\n"
        "from tulle.spec.mesh import load_settings\n"
        "record.put_back = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "workspace = open_workspace(load_settings(Path(sys.argv[1])))\n"
        "promotion.rollback(workspace, 'sales', to='1.0.0', by='bob')\n"
    )
    killed = subprocess.run([sys.executable, "-c", script, str(team.mesh.folder)], check=False)
    assert killed.returncode == -signal.SIGKILL
    (half,) = record.recent(workspace.database, product="sales", status="running")
    repository.put("main", "notes.txt", b"not committed")
    promotion.keep(workspace)
    ended = record.get(workspace.database, half.id)
    assert (ended.status, record.in_force(workspace.database, "sales", "main")) == ("failed", "1.0.1")
    assert "it has staged changes, for example 'notes.txt'" in ended.message
    assert len(environments.placed(workspace, product="sales")) == 3
    repository.reset("main")
    assert promotion.rollback(workspace, "sales", to="1.0.0", by="bob").status == "done"


def test_one_that_cannot_be_ended_yet_is_told_and_holds_up_no_other_one(
    team: Team, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = team.workspace
    released(team, "1.0.0")
    asked = promotion.promote(workspace, "sales", "1.0.0", to="prod", by="ann")
    with workspace.database.write() as cx:
        half = record.add(
            cx,
            product="features",
            environment="prod",
            branch="main",
            kind="rollback",
            version="1.0.0",
            status="running",
            by="bob",
            commit_id="0" * 64,
        )

    def away(*_: object) -> bool:
        raise Unavailable("branch 'main' is being changed by somebody")

    with monkeypatch.context() as patch:
        patch.setattr(record, "was_put_back", away)
        deadline = time.monotonic() + 60
        while not runs.get(workspace.database, str(asked.run_id)).ended:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        with pytest.raises(
            Unavailable, match=f"rollback {half} of 'features' to 1.0.0 in 'prod' is half done"
        ):
            promotion.keep(workspace)
        assert record.get(workspace.database, asked.id).status == "done"
        assert environments.placed(workspace, product="sales")
    promotion.keep(workspace)
    assert record.get(workspace.database, half).status == "failed"


def test_one_that_waits_is_started_however_many_wait_beside_it(team: Team) -> None:
    workspace = team.workspace
    released(team, "1.0.0")
    with workspace.database.write() as cx:
        asked = {"product": "sales", "environment": "prod", "branch": "main", "kind": "promotion"}
        id_ = record.add(cx, **asked, version="1.0.0", status="waiting", by="ann")
        for number in range(101):  # in an environment that mesh.yaml names no more
            other = {**asked, "product": f"p{number}", "environment": "gone"}
            record.add(cx, **other, version="1.0.0", status="waiting", by="ann")
        cx.execute(promotions.update().values(changed_at=1.0))
    promotion.keep(workspace)
    assert team.wait(record.get(workspace.database, id_)).status == "done"


def test_a_product_destroyed_with_its_data_leaves_no_code_in_force(team: Team) -> None:
    workspace = team.workspace
    released(team, "1.0.0")
    team.wait(promotion.promote(workspace, "sales", "1.0.0", to="prod", by="ann"))
    environments.create_preview(workspace, "sales", "change", by="ann")
    destroy.destroy(workspace, "sales", data=True, force=True, notice="moved")
    assert record.in_force(workspace.database, "sales", "main") is None
    apply.apply_plan(workspace)
    assert environments.previews(workspace, "sales") == ()
    team.mesh.sales("transform/sales.sql", "SELECT id, customer, day, amount FROM till_rows WHERE id > 2\n")
    assert team.run("main").status == "succeeded"
    assert len(team.amounts("main")) == 1


def test_a_promotion_of_a_product_that_ends_does_not_start_any_more(careful: Team) -> None:
    team, workspace = careful, careful.workspace
    released(team, "1.0.0")
    team.wait(promotion.promote(workspace, "sales", "1.0.0", to="test", by="ann"))
    asked = promotion.promote(workspace, "sales", "1.0.0", to="prod", by="ann")
    told = [s.sentence for s in destroy.preview(workspace, "sales").steps if s.operation == "end-promotion"]
    assert told == [f"promotion {asked.id} to 1.0.0 in 'prod' ends: nobody approves it any more"]
    destroy.destroy(workspace, "sales", force=True, notice="moved")
    ended = record.get(workspace.database, asked.id)
    assert (ended.status, ended.message) == ("failed", "the product left the mesh")
    with pytest.raises(Conflict, match="is failed: nothing is to be decided"):
        promotion.decide(workspace, asked.id, by="bob")


def test_two_of_the_named_people_agree_and_none_of_them_asked(careful: Team) -> None:
    team, workspace = careful, careful.workspace
    released(team, "1.0.0")
    with pytest.raises(Denied) as early:
        promotion.promote(workspace, "sales", "1.0.0", to="prod", by="ann")
    assert "has not been in 'test'" in early.value.message
    team.wait(promotion.promote(workspace, "sales", "1.0.0", to="test", by="ann"))
    asked = promotion.promote(workspace, "sales", "1.0.0", to="prod", by="ann")
    assert (asked.status, asked.run_id) == ("waiting", None)
    assert promotion.promote(workspace, "sales", "1.0.0", to="prod", by="zoe").id == asked.id
    with pytest.raises(Denied, match="'mallory' may not approve"):
        promotion.decide(workspace, asked.id, by="mallory")
    with pytest.raises(Denied, match="'ann' asked for it"):
        promotion.decide(workspace, asked.id, by="ann")
    assert promotion.decide(workspace, asked.id, by="bob").status == "waiting"
    assert promotion.decide(workspace, asked.id, by="bob").status == "waiting"
    with pytest.raises(Conflict, match="'bob' has approved"):
        promotion.decide(workspace, asked.id, by="bob", approved=False)
    done = team.wait(promotion.decide(workspace, asked.id, by="eve", note="looks right"))
    assert done.status == "done"
    shown = promotion.as_plain(workspace, done)
    assert [(one["approver"], one["note"]) for one in shown["approvals"]] == [
        ("bob", ""),
        ("eve", "looks right"),
    ]


def test_one_refusal_ends_it_and_what_waits_can_be_withdrawn(careful: Team) -> None:
    team, workspace = careful, careful.workspace
    released(team, "1.0.0")
    team.wait(promotion.promote(workspace, "sales", "1.0.0", to="test", by="ann"))
    asked = promotion.promote(workspace, "sales", "1.0.0", to="prod", by="ann")
    refused = promotion.decide(workspace, asked.id, by="bob", approved=False, note="not on a Friday")
    assert (refused.status, refused.message) == ("refused", "refused by bob: not on a Friday")
    with pytest.raises(Conflict, match="is refused"):
        promotion.decide(workspace, asked.id, by="eve")
    again = promotion.promote(workspace, "sales", "1.0.0", to="prod", by="ann")
    assert again.id != asked.id
    assert promotion.withdraw(workspace, again.id, by="ann").status == "withdrawn"
    with pytest.raises(Conflict):
        promotion.withdraw(workspace, again.id, by="ann")


def test_a_breaking_release_names_whom_it_breaks(team: Team) -> None:
    workspace = team.workspace
    released(team, "1.0.0")
    team.wait(promotion.promote(workspace, "sales", "1.0.0", to="prod", by="ann"))
    fewer = sales_at("2.0.0").replace("      - {name: customer, type: string, required: true}\n", "")
    team.mesh.sales("product.yaml", fewer)
    team.mesh.sales("transform/sales.sql", "SELECT id, day, amount FROM till_rows\n")
    assert team.run("dev").status == "succeeded"
    product_release.make(workspace, "sales", by="ann")
    with pytest.raises(Denied) as refused:
        promotion.promote(workspace, "sales", "2.0.0", to="prod", by="ann")
    told = [problem.message for problem in refused.value.problems]
    assert any("'customer'" in sentence for sentence in told)
    assert "product 'features' reads it in 'prod'" in told
    done = team.wait(
        promotion.promote(workspace, "sales", "2.0.0", to="prod", by="ann", accept_breaking=True)
    )
    assert done.status == "done"
    assert list(done.breaking) == told


def test_what_starts_is_what_was_approved_or_it_waits_again(tmp_path: Path) -> None:
    team = Team(tmp_path / "mesh", MESH.replace("after: test, ", ""))
    workspace = team.workspace

    def ask(version: str, **more: bool) -> record.Promotion:
        assert team.run("dev").status in {"succeeded", "unchanged"}
        product_release.make(workspace, "sales", by="ann")
        return promotion.promote(workspace, "sales", version, to="prod", by="ann", **more)

    def agreed(asked: record.Promotion) -> record.Promotion:
        promotion.decide(workspace, asked.id, by="bob")
        return promotion.decide(workspace, asked.id, by="eve")

    try:
        environments.ensure_branches(workspace, "sales")
        assert team.wait(agreed(ask("1.0.0"))).status == "done"
        fewer = VERSIONED.replace("      - {name: customer, type: string, required: true}\n", "")
        team.mesh.sales("product.yaml", sales_at("2.0.0", fewer))
        team.mesh.sales("transform/sales.sql", "SELECT id, day, amount FROM till_rows\n")
        assert team.wait(agreed(ask("2.0.0", accept_breaking=True))).status == "done"
        team.mesh.sales("product.yaml", sales_at("2.0.1", fewer))
        team.mesh.sales("transform/sales.sql", "SELECT id, day, amount FROM till_rows WHERE id < 9\n")
        waits = ask("2.0.1")
        assert list(waits.breaking) == []
        promotion.decide(workspace, waits.id, by="bob")
        # The release it was compared with goes: against the one that comes back, it is breaking.
        promotion.rollback(workspace, "sales", to="1.0.0", by="zoe")
        with pytest.raises(Conflict, match="breaks more than was known") as stale:
            promotion.decide(workspace, waits.id, by="eve")
        told = [problem.message for problem in stale.value.problems]
        assert any("'customer'" in sentence for sentence in told)
        again = record.get(workspace.database, waits.id)
        assert (again.status, list(again.breaking)) == ("waiting", told)
        assert "what was approved before is void" in again.message
        assert promotion.decisions(workspace.database, waits.id) == ()
        trail = log.read(workspace.database, subject="sales", limit=1000)
        (event,) = [entry for entry in trail if entry.kind == "promotion.reopened"]
        assert (event.actor, event.data["breaking"]) == ("eve", told)
        # As if all had agreed before, and a crash had kept it from starting.
        with workspace.database.write() as cx:
            cx.execute(promotions.update().where(promotions.c.id == waits.id).values(breaking=[]))
            for name in ("bob", "eve"):
                values = {"promotion_id": waits.id, "approver": name, "approved": True, "at": 1.0}
                cx.execute(approvals.insert().values(**values))
        promotion.keep(workspace)
        again = record.get(workspace.database, waits.id)
        assert (again.status, list(again.breaking)) == ("waiting", told)
        with pytest.raises(Conflict):  # shown a page from before
            promotion.decide(workspace, waits.id, by="eve", breaking=[])
        assert promotion.decide(workspace, waits.id, by="bob", breaking=told).status == "waiting"
        done = team.wait(promotion.decide(workspace, waits.id, by="eve"))
        assert (done.status, done.message, list(done.breaking)) == ("done", "", told)
    finally:
        workspace.database.close()


@pytest.mark.system
@pytest.mark.timeout(600)
def test_killed_at_any_commit_code_and_data_are_of_one_release(tmp_path: Path) -> None:
    """Some of some twenty to fifty points of each kind; all of them where TULLE_TEST_CRASHES is set."""
    script = Path(__file__).with_name("release_crashes.py")
    kinds = ("release", "promote", "carry", "approve", "rollback", "retire")
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path), ",".join(kinds), "1", stride(5)],
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
        env={**os.environ, "PYTHONPATH": str(script.parents[2])},
    )
    points = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    for point in points:
        assert point["sound"], point
        assert point["again"] == "done", point
    for kind in kinds:
        found = [point for point in points if point["what"] == kind]
        assert len(found) > 1, done.stderr
        assert [point["ended"] is not None for point in found] == [False] * (len(found) - 1) + [True], found
