"""`kill -9` at dangerous moments: what was acknowledged is there, and the lake goes on working."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tulle.lake.repository import Repository, open_lake
from tulle.state.db import Database, open_database

DATABASES = ("sqlite", "postgres")
# Of some 200 moments so many are left out; none where TULLE_TEST_CRASHES is set.
STRIDE = {"sqlite": 11, "postgres": 23}
CHILD = Path(__file__).parent / "crash_child.py"


def content(repository: Repository, ref: str) -> dict[str, bytes]:
    return {entry.path: repository.get(ref, entry.path) for entry in repository.entries(ref)}


@pytest.mark.timeout(600)
def test_nothing_acknowledged_is_lost_wherever_the_process_is_killed(
    database: Database, database_kind: str, database_url: str, tmp_path: Path
) -> None:
    open_lake(database, f"local://{tmp_path / 'objects'}").create_repository("sales")
    database.close()
    stride = 1 if "TULLE_TEST_CRASHES" in os.environ else STRIDE[database_kind]
    urls = [database_url] if database_kind == "postgres" else []
    subprocess.run([sys.executable, str(CHILD), str(tmp_path), str(stride), *urls], check=True, timeout=600)
    states = runpy.run_path(str(CHILD))["STATES"]
    points = sorted((p for p in tmp_path.iterdir() if p.name.isdigit()), key=lambda p: int(p.name))
    assert len(points) > 150 / stride
    reached = set()
    for place in points:
        done = (place / "done").read_text().splitlines()
        assert done == [state[0] for state in states[1 : len(done) + 1]]
        reached.add(len(done))
        # The step the process died in may have happened or not; nothing else may.
        _check(place, states[len(done) : len(done) + 2])
    assert len(reached) > len(states) / 3, "the moments are spread over the work"


def _check(
    place: Path, allowed: list[tuple[str, dict[str, bytes], dict[str, bytes], dict[str, bytes] | None]]
) -> None:
    database = open_database((place / "url").read_text(), migrate=False)
    repository = open_lake(database, f"local://{place / 'objects'}").repository("sales")
    has_try = any(branch.name == "try" for branch in repository.branches())
    found = (
        content(repository, "main"),
        content(repository, "main@"),
        content(repository, "try") if has_try else None,
    )
    assert found in [state[1:] for state in allowed], f"{place.name}: died in '{allowed[-1][0]}'"
    assert not list(repository.log("main", prefix="nothing/"))
    began = time.monotonic()
    repository.put("main", "after", b"the crash")
    repository.commit("main", "after the crash")
    assert time.monotonic() - began < 5, "the dead process still holds the branch"
    assert content(repository, "main@") == {**found[0], "after": b"the crash"}
    database.close()
