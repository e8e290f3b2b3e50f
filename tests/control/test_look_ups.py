"""What is told of a service's look-ups: commits, ages, rows, what is behind and what failed."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import httpx
import pytest
from tests.serving.conftest import Mesh, make_mesh, mesh, model  # noqa: F401  fixtures
from tests.serving.test_refresh import LATEST, following, publish, refreshed

from tulle.catalog.routes import RoutedLate
from tulle.cli.features import _age
from tulle.control.look_ups import router
from tulle.control.workspace import Workspace
from tulle.errors import NotFound
from tulle.serving.look_ups import LookUp, look_ups
from tulle.spec.capability import load_registry


def workspace(mesh: Mesh) -> Workspace:  # noqa: F811
    return Workspace(mesh.settings, mesh.database, mesh.lake, load_registry(mesh.settings))


def told(mesh: Mesh, name: str = "newest") -> tuple[str, Sequence[LookUp]]:  # noqa: F811
    return look_ups(mesh.settings, mesh.database, mesh.lake, name)


def test_look_ups_tell_commit_age_and_rows_and_whether_they_are_behind(mesh: Mesh) -> None:  # noqa: F811
    old = publish(mesh, 1)
    _, app, follows = following(mesh, LATEST)
    version, (latest, bundled) = told(mesh)
    assert (version, latest.endpoint, latest.source) == ("v1", "it", "latest")
    assert (latest.commit, latest.rows, latest.behind, latest.message) == (old, 2, False, "")
    assert latest.age_seconds is not None
    assert 0 <= latest.age_seconds < 60
    new = publish(mesh, 2, items=("a", "b", "c"))
    _, (latest, bundled) = told(mesh)
    assert (latest.behind, bundled.behind) == (True, True)
    refreshed(mesh, follows)
    app.renew(follows.look())
    _, (latest, bundled) = told(mesh)
    assert (latest.commit, latest.rows, latest.behind) == (new, 3, False)
    assert (bundled.commit, bundled.rows, bundled.behind) == (old, 2, True)
    publish(mesh, 3, items=("a", "a"))
    refreshed(mesh, follows)
    _, (latest, _) = told(mesh)
    assert (latest.commit, latest.rows, latest.behind) == (new, 3, True)
    assert "is not unique" in latest.message


def test_they_are_told_over_http(mesh: Mesh) -> None:  # noqa: F811
    publish(mesh, 1)
    mesh.build(LATEST)
    app = RoutedLate()
    app.include(router(workspace(mesh)))

    async def asked() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://mesh") as client:
            return await client.get("/mesh/v1/services/newest/look-ups")

    answer = asyncio.run(asked()).json()
    assert (answer["service"], answer["version"]) == ("newest", "v1")
    assert [one["data_set"] for one in answer["look_ups"]] == ["stock", "stock"]
    with pytest.raises(NotFound, match="service 'nothing' has no package"):
        told(mesh, "nothing")


def test_ages_are_told_in_one_word() -> None:
    assert [_age(s) for s in (None, 5, 61, 7300, 200_000)] == [None, "5 s", "1 min", "2 h", "2 d"]
