"""Environments as mesh.yaml has them: defaults, order, what cannot be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tulle.config import Settings, settings_from
from tulle.errors import Invalid, NotFound, Place
from tulle.spec.environment import environment, environments, of_branch, places, production, read_from
from tulle.spec.mesh import load_settings


def settings_of(environments: Any) -> Settings:
    return settings_from(Path("/mesh"), {"environments": environments}, {})


def test_a_mesh_that_names_none_has_production_alone() -> None:
    (only,) = environments(settings_from(Path("/mesh"), {}, {}))
    assert (only.name, only.branch, only.approvals, only.schedules) == (
        "prod",
        "main",
        0,
        True,
    )


def test_deployments_name_that_of_consumers_by_nothing() -> None:
    settings = settings_of({"live": {"branch": "main"}, "lab": {}})
    assert places(settings) == {"live": "", "lab": "lab"}


def test_releases_go_in_order_and_production_is_added() -> None:
    settings = settings_of({"test": {"after": "dev", "fallback": "prod"}, "dev": None})
    assert [e.name for e in environments(settings)] == ["dev", "prod", "test"]
    assert production(settings).branch == "main"
    test = environment(settings, "test")
    assert (test.branch, test.schedules, test.connections, test.approvals) == ("test", False, "test", 0)
    assert [e.name for e in read_from(settings, "test")] == ["test", "prod"]
    assert environment(settings, "main").name == "prod"
    assert of_branch(settings, "feature") is None


def test_an_approver_is_asked_once_unless_more_are_wanted() -> None:
    settings = settings_of(
        {"prod": {"approvers": ["ann", "bob"]}, "test": {"approvers": ["a", "b"], "approvals": 2}}
    )
    assert [environment(settings, n).approvals for n in ("prod", "test")] == [1, 2]


def test_a_stage_is_said_and_production_that_says_so_goes_back() -> None:
    plain = settings_of({"test": {"stage": "test"}, "dev": {"stage": "development", "test_queries": "skip"}})
    said = {one.name: (one.stage, one.test_queries) for one in environments(plain)}
    assert said == {"dev": ("development", "skip"), "prod": ("production", "tell"), "test": ("test", "tell")}
    assert environment(settings_of({"other": None}), "other").stage == ""
    strict = production(settings_of({"prod": {"stage": "production"}}))
    assert (strict.stage, strict.test_queries) == ("production", "rollback")
    mild = production(settings_of({"prod": {"stage": "production", "test_queries": "tell"}}))
    assert mild.test_queries == "tell"


def test_an_unknown_one_is_refused_with_the_nearest() -> None:
    with pytest.raises(NotFound) as refused:
        environment(settings_of({"test": None}), "tset")
    assert refused.value.hint == "did you mean 'test'?"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([], "'environments' must map names"),
        ({"Dev": {}}, "'environments.Dev' is no name"),
        ({"run-1": {}}, "'environments.run-1' is no name"),
        ({"a--b": {}}, "'environments.a--b' is no name"),
        ({"dev": 3}, "'environments.dev' must be a mapping"),
        ({"dev": {"brnch": "x"}}, "unknown setting 'brnch' in 'environments.dev'"),
        ({"dev": {"branch": "a/b"}}, "'environments.dev.branch' is 'a/b'"),
        ({"dev": {"branch": "preview-x"}}, "'environments.dev.branch' is 'preview-x'"),
        ({"dev": {"schedules": "yes"}}, "'environments.dev.schedules' is 'yes'"),
        ({"dev": {"approvers": "ann"}}, "'environments.dev.approvers' must be a list"),
        ({"dev": {"approvals": 1}}, "'environments.dev.approvals' is 1, and 0 people may approve"),
        ({"dev": {"approvers": ["a", "a"], "approvals": 2}}, "is 2, and 1 people may approve"),
        ({"dev": {"after": "tst"}, "test": {}}, "'environments.dev.after' is 'tst'"),
        ({"a": {"after": "b"}, "b": {"after": "a"}}, "leads in a circle: a → b → a"),
        ({"a": {"branch": "x"}, "b": {"branch": "x"}}, "'environments.b' has the branch 'x' of 'a'"),
        ({"prod": {"branch": "live"}}, "no environment has 'main'"),
        ({"dev": {"stage": "prod"}}, "'environments.dev.stage' is 'prod', expected one of: development,"),
        ({"dev": {"stage": 3}}, "'environments.dev.stage' is 3"),
        ({"dev": {"test_queries": "never"}}, "expected one of: tell, rollback, skip"),
    ],
)
def test_what_cannot_be_is_refused_by_name(given: Any, said: str) -> None:
    with pytest.raises(Invalid) as refused:
        settings_of(given)
    assert said in refused.value.message


def test_a_wrong_binding_is_shown_where_it_is_written(mesh: Path) -> None:
    (mesh / "mesh.yaml").write_text("environments:\n  dev: {}\n  test:\n    after: dve\n")
    with pytest.raises(Invalid) as refused:
        load_settings(mesh, {})
    (problem,) = refused.value.problems
    assert (problem.place, problem.hint) == (Place("mesh.yaml", 4, 5), "did you mean 'dev'?")
