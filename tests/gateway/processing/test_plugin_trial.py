"""Policies of somebody's own are made once where a list is said, in a process of its own; what is wrong is told."""

from __future__ import annotations

import contextlib
from pathlib import Path

import psutil
import pytest
from tests.gateway.processing.test_plugin import install

from tulle.errors import Invalid
from tulle.gateway.policies.listed import parse_policies
from tulle.gateway.processing import plugin_trial


@pytest.fixture(autouse=True)
def acme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    usual = plugin_trial.users_environment
    monkeypatch.setattr(plugin_trial, "users_environment", lambda: {**usual(), "PYTHONPATH": str(tmp_path)})


@pytest.mark.parametrize("plugin", ["acme", "like", "no-package-brings-it"])
def test_what_can_be_made_is_taken_and_what_is_not_here_is_told_elsewhere(plugin: str) -> None:
    parse_policies(f"- {{policy: custom, plugin: {plugin}}}")


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("plugin: unmade", "policy 'unmade' cannot be made: ValueError: never"),
        ("plugin: missing", "AttributeError: "),
        ("plugin: other", "TypeError: acme_policies:Other has no method `request`"),
        ("plugin: gone", "ModuleNotFoundError: No module named 'acme_gone'"),
        ("plugin: greedy, settings: {bytes: 100000000000}, memory_mb: 64", "MemoryError"),
    ],
)
def test_what_cannot_be_made_is_refused_at_its_place(said: str, told: str) -> None:
    with pytest.raises(Invalid) as refused:
        parse_policies(f"- {{policy: custom, {said}}}")
    (problem,) = refused.value.problems
    assert told in problem.message
    assert "plugin_trial" in (problem.hint or "")
    assert problem.place is not None
    assert (problem.place.line, problem.place.column) == (1, 28)


def test_one_that_takes_too_long_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugin_trial, "TRIAL_SECONDS", 0.05)
    with pytest.raises(Invalid, match="policy 'slow' cannot be made: it took more than 0 s"):
        plugin_trial.demand_made("slow", {}, 256 << 20)


def test_whatever_it_has_started_ends_with_it(tmp_path: Path) -> None:
    place = tmp_path / "told"
    plugin_trial.demand_made("busy", {"told": str(place)}, 256 << 20)
    with contextlib.suppress(psutil.NoSuchProcess):
        started = psutil.Process(int(place.read_text()))
        assert psutil.wait_procs([started], timeout=20)[1] == []
