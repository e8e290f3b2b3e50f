"""`tulle apply`: each step is told when it ends, with what it took; how it ended is how the command ends."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from tests.control.conftest import fill, opened
from tests.pipeline.conftest import Mesh

from tulle.cli.main import cli
from tulle.control.apply import apply_plan, is_under_way
from tulle.errors import Broken


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of a mesh of two products."""
    return fill(Mesh(tmp_path / "mesh")).folder


def tulle(folder: Path, *words: str) -> Result:
    return CliRunner().invoke(cli, ["--mesh", str(folder), *words])


def test_every_step_is_told_when_it_ends(folder: Path) -> None:
    done = tulle(folder, "apply")
    assert done.exit_code == 0, done.output
    ended = re.findall(r"✓ +\d+\.\d\d s  (.+)", done.output)
    assert [line.split(" '")[0] for line in ended] == [
        "create repository",
        "register product",
        "grant the roles of product",
    ] * 2
    assert done.output.rstrip().endswith("✓ applied")
    again = tulle(folder, "apply")
    assert "nothing to do" in again.output
    record = json.loads(tulle(folder, "plans", "--json").output)[0]
    assert all(step["finished_at"] >= step["started_at"] for step in record["steps"])


def test_a_step_that_fails_is_told_and_ends_the_command(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("no disk")

    monkeypatch.setattr("tulle.control.environments.ensure_branches", fails)
    failed = tulle(folder, "apply")
    assert failed.exit_code == 1
    assert "✗" in failed.output
    assert "no disk" in failed.output
    assert isinstance(failed.exception, Broken)  # which the command line tells with its hint
    assert "apply again" in str(failed.exception.hint)
    monkeypatch.undo()
    carried_on = tulle(folder, "apply")
    assert carried_on.exit_code == 0, carried_on.output


def test_whether_a_plan_is_under_way_is_seen_from_outside(folder: Path) -> None:
    workspace = opened(Mesh(folder))
    assert not is_under_way(workspace)
    seen: list[bool] = []
    apply_plan(workspace, progress=lambda *_: seen.append(is_under_way(workspace)))
    assert seen == [True] * 6
    assert not is_under_way(workspace)
    workspace.database.close()
