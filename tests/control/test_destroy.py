"""Destroying: what would go and whom it hits is told first; who is relied on goes only with notice."""

from __future__ import annotations

import shutil

import pytest
from tests.control.conftest import fill
from tests.pipeline.conftest import Mesh

from tulle.control import retirement
from tulle.control.apply import apply_plan, current_plan, one_at_a_time
from tulle.control.destroy import destroy, preview
from tulle.control.workspace import Workspace
from tulle.errors import Conflict, Denied, NotFound
from tulle.events import BACKFILL_CANCELLED, NOTICE_GIVEN
from tulle.lake import leftovers
from tulle.pipeline import backfill
from tulle.pipeline.scheduler import Scheduler
from tulle.state import log, plans, products


def names(workspace: Workspace) -> list[str]:
    return [item.product.name for item in products.applied(workspace.database)]


def test_a_preview_tells_what_goes_and_changes_nothing(workspace: Workspace) -> None:
    apply_plan(workspace)
    found = preview(workspace, "sales", data=True)
    told = [step.operation for step in found.steps]
    assert told == ["take-roles", "unregister", "forget-findings", "delete-repository"]
    assert "0 objects of 0 bytes on 'main'" in found.steps[3].sentence
    assert found.hits == ("product 'features' reads it by input port 'from-sales'",)
    assert names(workspace) == ["features", "sales"]
    with pytest.raises(NotFound, match="product 'sale' is not applied"):
        preview(workspace, "sale")


def test_nobody_reads_it_so_it_goes_and_its_data_stays(workspace: Workspace) -> None:
    apply_plan(workspace)
    found, sentence = destroy(workspace, "features", actor="ann")
    assert "its data stay" in sentence
    assert names(workspace) == ["sales"]
    assert workspace.lake.repository("features")
    record = plans.recent(workspace.database)[0]
    assert (record.kind, record.digest, record.status, record.actor) == (
        "destroy",
        found.digest,
        "succeeded",
        "ann",
    )


def test_who_is_relied_on_goes_only_by_force_and_with_notice(workspace: Workspace) -> None:
    apply_plan(workspace)
    for options in ({}, {"force": True}, {"notice": "moved"}, {"force": True, "notice": "  "}):
        with pytest.raises(Denied) as refused:
            destroy(workspace, "sales", **options)  # type: ignore[arg-type]
        assert "product 'features' reads it" in refused.value.problems[0].message
    assert names(workspace) == ["features", "sales"]
    retirement.deprecate(workspace, "sales", sunset="2099-01-31", reason="moved", by="ann")
    destroy(workspace, "sales", force=True, notice="moved to tills", actor="ann")
    assert retirement.deprecations(workspace.database) == ()
    (notice,) = [e for e in log.read(workspace.database) if e.kind == NOTICE_GIVEN]
    assert (notice.subject, notice.actor) == ("product features", "ann")
    assert notice.data == {"product": "sales", "notice": "moved to tills"}


def test_backfills_end_with_the_product(mesh: Mesh, workspace: Workspace) -> None:
    apply_plan(workspace)
    made = backfill.start(workspace.database, "features", "2026-01-01", "2026-01-04", environment="main")
    (told,) = [s for s in preview(workspace, "features").steps if s.operation == "cancel-backfill"]
    assert told.sentence == f"backfill {made.id} in 'main' is cancelled: what it has not made yet is not made"
    shutil.rmtree(mesh.folder / "products/people")
    (step,) = [
        s for s in current_plan(workspace)[0].steps if s.operation == "retire"
    ]  # the other way to end one
    assert told.sentence in [detail.sentence for detail in step.details]
    fill(mesh)
    destroy(workspace, "features", actor="ann")
    ended = backfill.get(workspace.database, made.id)
    assert (ended.status, ended.counts) == ("cancelled", {"cancelled": 3})
    (event,) = [e for e in log.read(workspace.database) if e.kind == BACKFILL_CANCELLED]
    assert event.actor == "ann"
    apply_plan(workspace)  # a product that is called so again begins with none
    assert Scheduler(workspace.settings, workspace.database).start_waiting() == 0


def test_data_goes_only_when_asked_and_is_collected(workspace: Workspace) -> None:
    apply_plan(workspace)
    destroy(workspace, "features", data=True)
    with pytest.raises(NotFound):
        workspace.lake.repository("features")
    assert len(leftovers.collections(workspace.lake)) == 1


def test_a_repository_left_by_a_crash_is_deleted_by_doing_it_again(workspace: Workspace) -> None:
    apply_plan(workspace)
    destroy(workspace, "features")
    _, sentence = destroy(workspace, "features", data=True)
    assert sentence == "repository 'features' is deleted"
    with pytest.raises(NotFound):
        destroy(workspace, "features", data=True)


def test_what_was_shown_is_what_goes(mesh: Mesh, workspace: Workspace) -> None:
    apply_plan(workspace)
    shown = preview(workspace, "features", data=True).digest
    repository = workspace.lake.repository("features")
    repository.put("main", "a", [b"more"])
    repository.commit("main", "more")
    with pytest.raises(Conflict, match="is no longer what was shown"):
        destroy(workspace, "features", data=True, digest=shown)
    assert names(workspace) == ["features", "sales"]
    for said in ("", preview(workspace, "features").digest[:5]):  # which could be any
        with pytest.raises(Conflict, match="is no longer what was shown"):
            destroy(workspace, "features", digest=said)
    shown = preview(workspace, "features").digest
    with one_at_a_time(workspace), pytest.raises(Conflict, match="being carried out at this moment"):
        destroy(workspace, "features", digest=shown)
    assert names(workspace) == ["features", "sales"]
    destroy(workspace, "features", digest=shown[:6])
    assert names(workspace) == ["sales"]
