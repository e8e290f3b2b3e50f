"""The supervisor on real child processes: start, restart, replace, stop, and what a killed one leaves."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from tulle.deploy.supervise import Drain, Supervisor, Takeover, Wanted, alive, end_leftovers

SLEEPER = "import time\nprint('up', flush=True)\ntime.sleep(60)"


def want(
    tmp_path: Path, name: str = "a", code: str = SLEEPER, ready: Callable[[], bool] = lambda: True
) -> Wanted:
    return Wanted(name, "test", [sys.executable, "-c", code], tmp_path, tmp_path / f"{name}.log", ready)


def tick_until(supervisor: Supervisor, condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        supervisor.tick()
        time.sleep(0.02)


def row(table: Path, name: str = "a") -> dict[str, object]:
    return dict(json.loads(table.read_text())["processes"].get(name, {})) if table.exists() else {}


def test_a_child_runs_comes_back_when_killed_and_ends_with_the_supervisor(tmp_path: Path) -> None:
    table = tmp_path / "processes.json"
    supervisor = Supervisor(table, lambda: [want(tmp_path)], about={})
    tick_until(supervisor, lambda: row(table).get("state") == "running")
    first = row(table)["pid"]
    assert isinstance(first, int)
    os.kill(first, signal.SIGKILL)
    supervisor.rest(60)  # ends with the child
    supervisor.tick()
    assert row(table)["pid"] not in {first, None}  # at once
    tick_until(supervisor, lambda: row(table).get("state") == "running")
    assert row(table)["restarts"] == 1
    second = row(table)["pid"]
    assert isinstance(second, int)
    supervisor.stop_all()
    assert not psutil.pid_exists(second)
    assert not table.exists()


def test_a_full_disk_does_not_end_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = Path("/dev/full").open("w")  # noqa: SIM115  closed below, which fails as writing does
    monkeypatch.setattr("sys.stderr", full)
    gone = tmp_path / "no-such-folder" / "processes.json"
    supervisor = Supervisor(gone, lambda: [want(tmp_path)], about={})
    before = {one.pid for one in psutil.Process().children()}

    def pids() -> list[int]:  # tests before may have left children of their own
        return [one.pid for one in psutil.Process().children() if one.pid not in before]

    try:
        tick_until(supervisor, lambda: bool(pids()))
        (first,) = pids()
        os.kill(first, signal.SIGKILL)
        tick_until(supervisor, lambda: any(one != first for one in pids()))
    finally:
        supervisor.stop_all()
        with contextlib.suppress(OSError):
            full.close()


def test_children_that_hang_while_they_start_keep_no_other_one_waiting(tmp_path: Path) -> None:
    table = tmp_path / "processes.json"
    asked: list[str] = []

    def hangs(name: str) -> Callable[[], bool]:
        def ready() -> bool:
            asked.append(name)
            time.sleep(0.6)
            return False

        return ready

    names = [f"h{number}" for number in range(4)]
    wanted = [want(tmp_path, name, ready=hangs(name)) for name in names]
    supervisor = Supervisor(table, lambda: [*wanted, want(tmp_path, "z")], about={})
    supervisor.tick()  # starts them
    supervisor.tick()
    assert len(asked) == 1
    tick_until(supervisor, lambda: row(table, "z").get("state") == "running")
    assert asked[:5] == [*names, "h0"]  # each in its turn
    supervisor.stop_all()


def test_a_child_is_not_running_before_it_is_ready(tmp_path: Path) -> None:
    table = tmp_path / "processes.json"
    ready = False
    supervisor = Supervisor(table, lambda: [want(tmp_path, ready=lambda: ready)], about={})
    for _ in range(5):
        supervisor.tick()
    assert row(table)["state"] == "starting"
    ready = True
    supervisor.tick()
    supervisor.tick()
    assert row(table)["state"] == "running"
    supervisor.stop_all()


def test_a_child_that_dies_at_once_is_tried_again_slower_and_slower(tmp_path: Path) -> None:
    table = tmp_path / "processes.json"
    supervisor = Supervisor(
        table, lambda: [want(tmp_path, code="raise SystemExit(3)", ready=lambda: False)], about={}
    )
    tick_until(supervisor, lambda: int(str(row(table).get("restarts", 0))) >= 4)
    assert row(table)["last_exit"] == 3
    began, restarts = time.monotonic(), row(table)["restarts"]
    while time.monotonic() - began < 0.3:
        supervisor.tick()
        time.sleep(0.02)
    assert row(table)["restarts"] == restarts  # by now it waits longer than 0.3 s
    supervisor.stop_all()


def test_what_is_no_longer_wanted_ends_and_what_changed_is_replaced(tmp_path: Path) -> None:
    table = tmp_path / "processes.json"
    wanted = [want(tmp_path), want(tmp_path, "b")]
    supervisor = Supervisor(table, lambda: wanted, about={})
    tick_until(supervisor, lambda: row(table).get("state") == row(table, "b").get("state") == "running")
    old = row(table)["pid"]
    wanted[:] = [want(tmp_path, code=SLEEPER + "  # changed")]
    tick_until(supervisor, lambda: not row(table, "b"))
    tick_until(supervisor, lambda: row(table).get("state") == "running" and row(table)["pid"] != old)
    supervisor.stop_all()


def test_children_die_with_a_killed_supervisor_and_leftovers_are_ended(tmp_path: Path) -> None:
    table = tmp_path / "processes.json"
    code = f"""
        import sys, time
        from pathlib import Path
        from tulle.deploy.supervise import Supervisor, Wanted
        where = Path({str(tmp_path)!r})
        stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
        wants = [
            Wanted("polite", "test", [sys.executable, "-c", "import time; time.sleep(60)"], where, where / "p.log", lambda: True),
            Wanted("stubborn", "test", [sys.executable, "-c", stubborn], where, where / "s.log",
                   lambda: "up" in (where / "s.log").read_text()),
        ]
        Supervisor(where / "processes.json", lambda: wants, about={{}}).run()
    """
    parent = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)])
    deadline = time.monotonic() + 60
    while not (row(table, "polite").get("state") == row(table, "stubborn").get("state") == "running"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    rows = json.loads(table.read_text())["processes"]
    parent.kill()
    parent.wait()
    polite, stubborn = rows["polite"], rows["stubborn"]
    while alive(polite["pid"], polite["pid_created"]) is not None:
        assert time.monotonic() < deadline + 5
        time.sleep(0.05)
    assert end_leftovers(table) == ["stubborn"]
    assert alive(stubborn["pid"], stubborn["pid_created"]) is None


@pytest.mark.parametrize("pid", [None, 2**22 + 1])
def test_a_process_that_is_not_there_is_not_alive(pid: int | None) -> None:
    assert alive(pid, 1.0) is None


def test_an_id_that_was_used_again_is_not_the_same_process() -> None:
    me = psutil.Process()
    assert alive(me.pid, me.create_time()) is not None
    assert alive(me.pid, me.create_time() - 100) is None


def test_what_should_run_may_be_unknown_for_a_while(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "processes.json"
    broken = False

    def wanted() -> list[Wanted]:
        if broken:
            raise RuntimeError("the database is locked")
        return [want(tmp_path)]

    supervisor = Supervisor(table, wanted, about={})
    tick_until(supervisor, lambda: row(table).get("state") == "running")
    broken = True
    pid = row(table)["pid"]
    supervisor.tick()
    supervisor.tick()
    assert row(table)["pid"] == pid
    assert capsys.readouterr().err.count("the database is locked") == 1
    supervisor.stop_all()


def test_a_child_that_cannot_be_started_does_not_hold_up_the_others(tmp_path: Path) -> None:
    table = tmp_path / "processes.json"
    missing = Wanted("b", "test", ["/no/such/program"], tmp_path, tmp_path / "b.log", lambda: True)
    supervisor = Supervisor(table, lambda: [missing, want(tmp_path)], about={})
    tick_until(supervisor, lambda: row(table).get("state") == "running")
    assert int(str(row(table, "b")["restarts"])) >= 1
    supervisor.stop_all()


def test_a_child_that_never_gets_ready_is_counted_as_failing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tulle.deploy.supervise.READY_TIMEOUT", 0.2)
    table = tmp_path / "processes.json"
    supervisor = Supervisor(table, lambda: [want(tmp_path, ready=lambda: False)], about={})
    tick_until(supervisor, lambda: int(str(row(table).get("restarts", 0))) >= 2)
    supervisor.stop_all()


# ── one takes over from another, and what drains before it ends ──────────────────────────────────────────


def taken_over(tmp_path: Path, asked: list[str], code: str = SLEEPER, seconds: float = 0.3) -> Wanted:
    argv = [sys.executable, "-c", code]
    takeover = Takeover(asked[0], lambda _taken: argv, lambda _taken: True, seconds)
    return replace(want(tmp_path), takeover=takeover)


def test_another_process_takes_over_while_the_one_before_goes_on(tmp_path: Path) -> None:
    table, asked = tmp_path / "processes.json", ["one"]
    supervisor = Supervisor(table, lambda: [taken_over(tmp_path, asked)], about={})
    tick_until(supervisor, lambda: row(table).get("state") == "running")
    first = row(table)["pid"]
    asked[0] = "two"
    tick_until(supervisor, lambda: row(table).get("taken") == 1 and row(table)["state"] == "running")
    assert row(table)["pid"] != first
    before = row(table, "a/before")
    assert (before["pid"], before["state"]) == (first, "stopping")
    tick_until(supervisor, lambda: not row(table, "a/before"))  # its time is over
    assert not psutil.pid_exists(int(str(first)))
    assert row(table)["restarts"] == 0
    asked[0] = "three"
    tick_until(supervisor, lambda: row(table).get("taken") == 2)
    left = [int(str(row(table, name)["pid"])) for name in ("a", "a/before")]
    supervisor.stop_all()
    assert not [pid for pid in left if psutil.pid_exists(pid)]


def test_where_the_other_one_ends_the_one_before_goes_on(tmp_path: Path) -> None:
    table, asked = tmp_path / "processes.json", ["one"]
    wanted = [taken_over(tmp_path, asked)]
    supervisor = Supervisor(table, lambda: wanted, about={})
    tick_until(supervisor, lambda: row(table).get("state") == "running")
    first, asked[0] = row(table)["pid"], "two"
    takeover = Takeover("two", lambda _: [sys.executable, "-c", "raise SystemExit(7)"], lambda _: False, 1)
    wanted[0] = replace(wanted[0], takeover=takeover)
    tick_until(supervisor, lambda: bool(row(table).get("trouble")))
    assert (row(table)["pid"], row(table)["state"], row(table)["taken"]) == (first, "running", 0)
    assert row(table)["trouble"] == "who should have taken over ended with 7, so the one before goes on"
    wanted[0] = replace(
        wanted[0], takeover=replace(takeover, asked="three", argv=lambda _: ["/no/such/program"])
    )
    tick_until(supervisor, lambda: "could not be taken over" in str(row(table).get("trouble")))
    assert row(table)["pid"] == first
    supervisor.stop_all()


def test_one_that_is_killed_while_the_one_before_drains_starts_by_itself(tmp_path: Path) -> None:
    table, asked = tmp_path / "processes.json", ["one"]
    supervisor = Supervisor(table, lambda: [taken_over(tmp_path, asked, seconds=60)], about={})
    tick_until(supervisor, lambda: row(table).get("state") == "running")
    first, asked[0] = row(table)["pid"], "two"
    tick_until(supervisor, lambda: row(table).get("taken") == 1)
    os.kill(int(str(row(table)["pid"])), signal.SIGKILL)
    tick_until(supervisor, lambda: row(table).get("restarts") == 1 and row(table)["state"] == "running")
    assert row(table)["taken"] == 0
    assert not psutil.pid_exists(int(str(first)))  # the doors are free again
    supervisor.stop_all()


def test_who_drains_ends_before_the_others_and_not_later_than_it_may(tmp_path: Path) -> None:
    table, told = tmp_path / "processes.json", []

    def done() -> bool:
        told.append(all(psutil.pid_exists(pid) for pid in pids))
        return len(told) >= 3

    wanted = [replace(want(tmp_path), drain=Drain(lambda: told.append(True), done, 30)), want(tmp_path, "b")]
    supervisor = Supervisor(table, lambda: wanted, about={})
    tick_until(supervisor, lambda: row(table).get("state") == row(table, "b").get("state") == "running")
    pids = [int(str(row(table, name)["pid"])) for name in ("a", "b")]
    supervisor.stop_all()
    assert told == [True, True, True]
    hangs = [replace(want(tmp_path), drain=Drain(lambda: 1 / 0, lambda: False, 0.2))]  # type: ignore[arg-type, return-value]
    supervisor = Supervisor(table, lambda: hangs, about={})
    tick_until(supervisor, lambda: row(table).get("state") == "running")
    pid = int(str(row(table)["pid"]))
    supervisor.stop_all()
    assert not psutil.pid_exists(pid)
