"""Policies of somebody's own are made once where a list is said, in a process of its own; what is wrong is told."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.gateway.processing.test_plugin import install

from tulle.errors import Invalid
from tulle.gateway.processing import plugin_trial
from tulle.gateway.processing.plugin_trial import Trials


@pytest.fixture(autouse=True)
def acme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    usual = plugin_trial.users_environment
    monkeypatch.setattr(plugin_trial, "users_environment", lambda: {**usual(), "PYTHONPATH": str(tmp_path)})


@pytest.mark.parametrize("plugin", ["acme", "like", "no-package-brings-it"])
def test_what_can_be_made_is_taken_and_what_is_not_here_is_told_elsewhere(plugin: str) -> None:
    assert Trials().problem({"plugin": plugin}) is None


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"plugin": "unmade"}, "policy 'unmade' cannot be made: ValueError: never"),
        ({"plugin": "missing"}, "AttributeError: "),
        ({"plugin": "other"}, "TypeError: acme_policies:Other has no method `request`"),
        ({"plugin": "gone"}, "ModuleNotFoundError: No module named 'acme_gone'"),
        ({"plugin": "quits"}, "policy 'quits' cannot be made: its process ended with 0"),
        ({"plugin": "greedy", "settings": {"bytes": 600_000_000}}, "MemoryError"),  # of 256 MB
    ],
)
def test_what_cannot_be_made_is_told(said: dict[str, Any], told: str) -> None:
    problem = Trials().problem(said)
    assert problem is not None
    assert told in problem.message
    assert "plugin_trial" in (problem.hint or "")


def test_equal_ones_are_tried_once_and_all_of_them_in_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[str] = []

    def noted(name: str, settings: object, memory: int) -> None:
        tried.append(f"{name} {settings} {memory >> 20}")
        raise Invalid("never")

    monkeypatch.setattr(plugin_trial, "demand_made", noted)
    trials = Trials()
    for said in ({"plugin": "acme"}, {"plugin": "acme", "timeout": 2}, {"plugin": "acme", "memory_mb": 64}):
        assert trials.problem(said) is not None
    assert tried == ["acme {} 256", "acme {} 64"]
    monkeypatch.setattr(plugin_trial, "ALL_SECONDS", -1.0)
    trials = Trials()
    assert trials.problem({"plugin": "acme"}) is None
    assert len(tried) == 2


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
