"""Deployments: what is wanted, what answers, what answered before."""

from __future__ import annotations

import pytest
from tests.serving.conftest import LOOKUPS, PREDICTOR, Mesh

from tulle.errors import Broken, Conflict, NotFound
from tulle.serving import generation
from tulle.state import log

SERVICE = "customer-features"
OTHER = LOOKUPS.replace("columns: [customer_id, vip]", "columns: [vip]")


def kinds(mesh: Mesh) -> list[tuple[str, str]]:
    events = log.read(mesh.database, subject=SERVICE)
    return [(e.kind, e.data["version"]) for e in events if e.kind.startswith("generation.") and e.data]


def test_a_version_is_asked_for_becomes_active_and_is_replaced(mesh: Mesh) -> None:
    mesh.build(LOOKUPS)
    mesh.build(OTHER)
    asked = generation.request(mesh.database, SERVICE, "v1")
    assert (asked.status, asked.desired_version, asked.active_version) == ("starting", "v1", None)
    assert asked.product == "high-value-customers"
    assert generation.request(mesh.database, SERVICE, "v1") == asked
    active = generation.activate(mesh.database, SERVICE, "v1")
    assert (active.status, active.active_version, active.previous_version) == ("active", "v1", None)
    assert generation.activate(mesh.database, SERVICE, "v1") == active
    generation.request(mesh.database, SERVICE, "v2")
    second = generation.activate(mesh.database, SERVICE, "v2")
    assert (second.active_version, second.previous_version) == ("v2", "v1")
    assert generation.deployment(mesh.database, SERVICE) == second
    assert generation.deployments(mesh.database) == (second,)
    back = generation.request(mesh.database, SERVICE, second.previous_version or "")
    assert (back.status, back.desired_version, back.active_version) == ("starting", "v1", "v2")
    assert generation.activate(mesh.database, SERVICE, "v1").previous_version == "v2"
    assert kinds(mesh) == [
        ("generation.requested", "v1"),
        ("generation.activated", "v1"),
        ("generation.requested", "v2"),
        ("generation.activated", "v2"),
        ("generation.requested", "v1"),
        ("generation.activated", "v1"),
    ]
    assert log.verify(mesh.database) is None


def test_a_version_that_fails_leaves_the_active_one(mesh: Mesh) -> None:
    mesh.build(LOOKUPS)
    mesh.build(OTHER)
    generation.request(mesh.database, SERVICE, "v1")
    generation.activate(mesh.database, SERVICE, "v1")
    generation.request(mesh.database, SERVICE, "v2")
    failed = generation.fail(mesh.database, SERVICE, "v2", "its worker ended 3 times")
    assert (failed.status, failed.message, failed.active_version) == (
        "failed",
        "its worker ended 3 times",
        "v1",
    )
    again = generation.request(mesh.database, SERVICE, "v2")
    assert (again.status, again.message) == ("starting", "")


def test_asking_for_the_active_version_calls_off_a_later_one(mesh: Mesh) -> None:
    mesh.build(LOOKUPS)
    mesh.build(OTHER)
    generation.request(mesh.database, SERVICE, "v1")
    generation.activate(mesh.database, SERVICE, "v1")
    generation.request(mesh.database, SERVICE, "v2")
    back = generation.request(mesh.database, SERVICE, "v1")
    assert (back.status, back.desired_version, back.active_version) == ("active", "v1", "v1")
    with pytest.raises(Conflict, match="version 'v2' is not the one that is wanted now"):
        generation.activate(mesh.database, SERVICE, "v2")
    with pytest.raises(Conflict):
        generation.fail(mesh.database, SERVICE, "v2", "late")


def test_what_was_never_built_or_deployed_is_told(mesh: Mesh) -> None:
    with pytest.raises(NotFound, match="has no version 'v1'"):
        generation.request(mesh.database, SERVICE, "v1")
    with pytest.raises(NotFound, match="service 'customer-features' is not deployed"):
        generation.deployment(mesh.database, SERVICE)
    with pytest.raises(Conflict):
        generation.activate(mesh.database, SERVICE, "v1")


def test_a_withdrawn_service_is_gone_and_its_packages_stay(mesh: Mesh) -> None:
    mesh.build(LOOKUPS)
    generation.request(mesh.database, SERVICE, "v1")
    with mesh.database.write() as connection:
        generation.withdraw(connection, SERVICE)
        generation.withdraw(connection, "nothing")
    assert generation.deployments(mesh.database) == ()
    assert generation.request(mesh.database, SERVICE, "v1").status == "starting"


def test_the_saved_queries_are_run_in_a_process_of_their_own(mesh: Mesh) -> None:
    wrong = PREDICTOR.replace(
        "features: {customer_id: '00003'}}", "features: {customer_id: '00003'}, expect: {probas: {'1': 0.9}}}"
    )
    folder = generation.unpack(mesh.build(wrong), mesh.settings)
    first, second = generation.test(folder)
    assert (first.endpoint, first.name, first.passed, first.status) == (
        "high-value",
        "a known customer",
        False,
        200,
    )
    assert first.message.startswith("probas.1 is 0.1")
    assert first.message.endswith("expected 0.9")
    assert (second.passed, second.status, second.message) == (True, 404, "")
    assert second.body == {"features": {"customer_id": "nobody"}}
    (folder / "models/high_value/model.onnx").unlink()
    with pytest.raises(Broken, match="cannot be tested"):
        generation.test(folder)
