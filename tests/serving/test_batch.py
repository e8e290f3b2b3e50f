"""Batches as processes of their own: one commit at the end that names what was read, and nothing from one that fails."""

from __future__ import annotations

import datetime as dt
import json
import os
import signal
import time
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.serving.conftest import LOOKUPS, PREDICTOR, Mesh, parquet
from tests.serving.test_refresh import publish

from tulle.control import batches
from tulle.control.workspace import Workspace
from tulle.errors import Invalid, NotFound
from tulle.serving import batch as work
from tulle.serving.batch import Batch
from tulle.serving.live import write
from tulle.spec.capability import load_registry

NOW = dt.datetime(2024, 5, 1, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)
LEVELS = """
service: levels
endpoints:
- name: level
  type: lookup
  product: customer-features
  data_set: levels
  key: customer_id
  columns: [level]
  several: first
  order_by: [-since]
  event_time: since
"""


def workspace(mesh: Mesh) -> Workspace:
    (mesh.settings.folder / "mesh.yaml").write_text("name: test\n")
    return Workspace(mesh.settings, mesh.database, mesh.lake, load_registry(mesh.settings))


def asked(kind: str, service: str, endpoint: str, rows: str, out: str, **more: Any) -> Batch:
    return Batch("", kind, service, endpoint, "", ("", rows), ("", out), "", **more)


def done(mesh: Mesh, batch: Batch) -> Batch:
    deadline = time.monotonic() + 60
    while (found := work.read(mesh.settings, batch.id)).status == work.RUNNING:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found


def rows_of(mesh: Mesh, product: str, data_set: str) -> list[dict[str, Any]]:
    repository = mesh.lake.repository(product)
    files = [repository.location(entry) for entry in repository.entries("main", f"{data_set}/")]
    return [row for file in files for row in pq.read_table(file).to_pylist()]


def levels(mesh: Mesh) -> None:
    """What level customers had since when, and visits of theirs."""
    table = pa.table(
        {
            "customer_id": ["a", "a", "b"],
            "level": [1, 2, 7],
            "since": pa.array([NOW - 9 * DAY, NOW - DAY, NOW - DAY], pa.timestamp("us", "UTC")),
        }
    )
    features = mesh.lake.repository("customer-features")
    features.put("main", "levels/part-0000.parquet", parquet(table))
    features.commit("main", "levels")
    visits = {
        "customer_id": ["a", "a", "b", "b"],
        "at": [NOW - 5 * DAY, NOW, NOW, NOW - 5 * DAY],
        "bought": [1, 0, 1, 0],
    }
    own = mesh.lake.repository("high-value-customers")
    own.put("main", "visits/part-0000.parquet", parquet(pa.table(visits)))
    own.commit("main", "visits")


@pytest.mark.system
def test_a_training_set_is_a_data_set_whose_commit_tells_what_it_was_made_from(mesh: Mesh) -> None:
    levels(mesh)
    built = mesh.build(LEVELS)
    begun = batches.start(
        workspace(mesh), asked(work.TRAINING, "levels", "level", "visits", "learned", time="at")
    )
    ended = done(mesh, begun)
    assert (ended.status, ended.message) == (work.SUCCEEDED, "")
    assert (ended.result["rows"], ended.result["left_out"]) == (
        3,
        1,
    )  # what b was five days before, nobody knows
    rows = rows_of(mesh, "high-value-customers", "learned")
    assert [(r["customer_id"], r["bought"], r["level"]) for r in rows] == [
        ("a", 1, 1),
        ("a", 0, 2),
        ("b", 1, 7),
    ]
    info = mesh.lake.repository("high-value-customers").commit_info("main")
    assert info.id == ended.result["commit"]
    assert info.metadata["tulle.training-set"] == "levels/level"
    read = json.loads(info.metadata["tulle.read"])
    assert read["customer-features"] == built.manifest.commits["customer-features"]
    assert read["high-value-customers/visits"] == info.parents[0]


def test_many_rows_are_joined_in_parts_and_none_is_lost(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    levels(mesh)
    version = mesh.build(LEVELS).version
    wanted = Batch(
        *("1-00000000", work.TRAINING, "levels", "level", version),
        ("high-value-customers", "visits"),
        ("high-value-customers", "learned"),
        *("main", "at"),
    )
    found = []
    for most in (1_000, 1):
        monkeypatch.setattr(work, "ROWS_AT_ONCE", most)
        told = work.carry_out(wanted, mesh.settings, mesh.database, mesh.lake)
        assert (told["rows"], told["left_out"]) == (3, 1)
        found.append(sorted(map(str, rows_of(mesh, "high-value-customers", "learned"))))
    assert found[0] == found[1]


@pytest.mark.system
def test_a_scored_data_set_is_one_commit_too(mesh: Mesh) -> None:
    mesh.build(PREDICTOR)
    own = mesh.lake.repository("high-value-customers")
    own.put("main", "asked/part-0000.parquet", parquet(pa.table({"customer_id": ["00003", "nobody"]})))
    own.commit("main", "asked")
    begun = batches.start(
        workspace(mesh),
        asked(work.SCORE, "high-value-predictor", "high-value", "asked", "customer-features/answers"),
    )
    ended = done(mesh, begun)
    assert (ended.status, ended.message) == (work.SUCCEEDED, "")
    assert (ended.result["rows"], ended.result["errors"]) == (2, {"NoMatch": 1})
    rows = rows_of(mesh, "customer-features", "answers")
    assert [row["error"] is None for row in rows] == [True, False]


@pytest.mark.system
def test_one_that_is_killed_or_fails_has_published_nothing_and_says_so(mesh: Mesh) -> None:
    levels(mesh)
    mesh.build(LEVELS)
    before = mesh.lake.repository("high-value-customers").resolve("main")
    begun = batches.start(
        workspace(mesh), asked(work.TRAINING, "levels", "level", "visits", "learned", time="when")
    )
    ended = done(mesh, begun)
    assert (ended.status, ended.message) == (
        work.FAILED,
        "the entities have no column 'when' that tells the time",
    )
    begun = batches.start(
        workspace(mesh), asked(work.TRAINING, "levels", "level", "visits", "learned", time="at")
    )
    deadline = time.monotonic() + 30
    while (running := work.read(mesh.settings, begun.id)).pid is None:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    os.kill(running.pid, signal.SIGKILL)
    ended = done(mesh, begun)
    assert ended.status == work.FAILED
    assert "its process ended before it was done; nothing was published" in ended.message
    assert mesh.lake.repository("high-value-customers").resolve("main") == before


@pytest.mark.system
def test_one_whose_process_cannot_even_begin_has_failed(mesh: Mesh) -> None:
    levels(mesh)
    mesh.build(LEVELS)
    opened = workspace(mesh)
    (mesh.settings.folder / "mesh.yaml").write_text("name: [what\n")
    begun = batches.start(opened, asked(work.TRAINING, "levels", "level", "visits", "learned", time="at"))
    ended = done(mesh, begun)
    assert (ended.status, "before it began" in ended.message) == (work.FAILED, True)


def test_what_can_be_told_at_once_is(mesh: Mesh) -> None:
    publish(mesh, 1)
    mesh.build(LOOKUPS)
    opened = workspace(mesh)
    rows = "customer-features/stock"
    for wanted, message in (
        (asked(work.SCORE, "nothing", "profile", rows, "x"), "service 'nothing' has no package"),
        (asked(work.SCORE, "customer-features", "profil", rows, "x"), "has no endpoint 'profil'"),
        (
            asked(work.SCORE, "customer-features", "profile", "customer-features/stok", "x"),
            "no data set 'stok'",
        ),
        (asked(work.SCORE, "customer-features", "profile", rows, rows), "cannot be read and written at once"),
        (
            asked(work.SCORE, "customer-features", "profile", rows, "../x"),
            "is no name of a data set|no repository",
        ),
        (asked(work.SCORE, "customer-features", "profile", rows, "X y"), "is no name of a data set"),
        (asked(work.SCORE, "customer-features", "profile", rows, "models"), "cannot be named 'models'"),
    ):
        with pytest.raises((Invalid, NotFound), match=message):
            batches.start(opened, wanted)
    for name in ("nothing", "../../etc/passwd", "1-00000000"):
        with pytest.raises(NotFound, match="there is no batch"):
            batches.get(opened, name)


def test_a_process_that_never_began_is_told(mesh: Mesh) -> None:
    batch = replace(asked(work.SCORE, "s", "e", "rows", "x"), id="1-00000000", created_at=time.time())
    file = work.file_of(mesh.settings, batch.id)
    file.parent.mkdir(parents=True)
    write(file, batch)
    assert work.read(mesh.settings, batch.id).status == work.RUNNING
    write(file, replace(batch, created_at=time.time() - work._START_SECONDS - 1))
    assert work.read(mesh.settings, batch.id).status == work.FAILED
