"""Identities of services: their names, what they reach, and the circles they may not make. The rest is in tests/system."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tulle.control.identities import (
    PREFIX,
    Identities,
    Reach,
    application_of,
    end_others,
    reach_of,
    use_problems,
)
from tulle.control.workspace import Workspace
from tulle.deploy.local import Mounted
from tulle.gateway import application_secret, applications
from tulle.gateway.policy import SERVICE_NAME
from tulle.serving.outside import outside_file, read_outside
from tulle.serving.service import Service, load_service
from tulle.state.connections import Connection, open_connections

STEPS: list[dict[str, Any]] = [
    {
        "name": "a",
        "parallel": [{"name": "b", "call": "other/x"}, {"name": "c", "http": {"connection": "geo"}}],
    },
    {"name": "d", "call": "own"},
]


def test_names_of_applications_differ_and_are_never_too_long() -> None:
    assert application_of("offers") == f"{PREFIX}offers"
    names = {application_of("s" * 63), application_of("s" * 62 + "t"), application_of("s" * 63, "test")}
    names |= {application_of("offers", "qa-1"), application_of("offers", "qa_1")}
    assert len(names) == 5
    assert all(SERVICE_NAME.fullmatch(name) for name in names)  # as applications are called


def test_what_a_package_reaches_is_read_from_its_manifest() -> None:
    found = reach_of([{"name": "it", "type": "compose", "steps": STEPS, "callees": {"other/x": "lookup"}}])
    assert (found.services, found.connections) == ({"other"}, {"geo"})
    assert not reach_of([{"name": "it", "type": "lookup"}])


def service(name: str, *uses: str) -> Service:
    calls = "".join(f", {{name: c{n}, call: {one}/x}}" for n, one in enumerate(uses))
    text = f"service: {name}\nuses: [{', '.join(uses)}]\nendpoints:\n- {{name: x, type: compose, output: 1, "
    return load_service(f"{text}steps: [{{name: a, value: 1}}{calls}]}}\n", name=f"{name}.yaml")


@pytest.mark.parametrize(
    ("uses", "told"),
    [
        ({"aaa": ["bbb"], "bbb": ["ccc"], "ccc": []}, []),
        ({"aaa": ["aaa"]}, ["services use one another in a circle: aaa → aaa"]),
        ({"aaa": ["bbb"], "bbb": ["ccc"], "ccc": ["bbb"]}, ["in a circle: bbb → ccc → bbb"]),
        ({"aaa": ["zzz"]}, ["service 'aaa' uses 'zzz', which no product declares"]),
    ],
)
def test_circles_and_services_that_are_not_there_are_told(
    uses: dict[str, list[str]], told: list[str]
) -> None:
    known = {name: (object(), service(name, *others)) for name, others in uses.items()}
    found = [problem.message for problem in use_problems(known)]  # type: ignore[arg-type]
    assert len(found) == len(told)
    assert all(one in message for one, message in zip(told, found, strict=True))
    assert all(
        problem.place and Path(problem.place.file).suffix == ".yaml" for problem in use_problems(known)
    )  # type: ignore[arg-type]


# ── the credentials ──────────────────────────────────────────────────────────────────────────────────────


def test_a_file_that_opens_nothing_is_made_anew_at_once(workspace: Workspace) -> None:
    one = Mounted("offers", "v1", Path("nowhere"), 1, "")
    keeper = Identities(workspace)
    keeper._reach["offers", "v1"] = Reach(frozenset({"other"}))
    keeper.keep([one])
    file = outside_file(workspace.settings.state_folder, one.place)
    before = read_outside(file)
    keeper.keep([one])
    assert read_outside(file) == before
    # Who made a new secret died before it was written down.
    application_secret.rotate(workspace.database, application_of("offers"))
    keeper.keep([one])
    after = read_outside(file)
    assert after.client_secret != before.client_secret
    assert application_secret.opens(
        workspace.database, application_of("offers"), after.client_id, after.client_secret
    )
    assert not application_secret.opens(
        workspace.database, application_of("offers"), after.client_id, before.client_secret
    )


def test_a_worker_is_handed_no_connection_that_takes_a_token(workspace: Workspace) -> None:
    known = open_connections(workspace.settings, workspace.database)
    known.save(Connection("geo", "prod", "http", "https://geo.example.org", {"auth": "oauth2"}))
    known.save(
        Connection("map", "prod", "http", "https://map.example.org", {"auth": "bearer"}, {"token": "t"})
    )
    found = Identities(workspace)._ways(frozenset({"geo", "map", "none"}), "prod")
    assert {name: (dict(way.headers), way.why_not) for name, way in found.items()} == {
        "geo": ({}, "signs in with tokens of OAuth2, which APIs and sources do alone"),
        "map": ({"Authorization": "Bearer t"}, ""),
    }


def test_an_identity_ends_with_its_service_and_its_environment(workspace: Workspace) -> None:
    database = workspace.database
    names = [application_of("offers"), application_of("gone"), application_of("offers", "nowhere"), "an-app"]
    for name in names:
        applications.register(database, name)
    assert set(end_others(workspace, {"offers"}, actor="ann")) == {names[1], names[2]}
    assert {one.name for one in applications.applications(database)} == {names[0], "an-app"}
    assert end_others(workspace, {"offers"}) == ()
