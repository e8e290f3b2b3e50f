"""A real Envoy that has reached the bound of its memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tests.gateway.conftest import API, CONTRACTS, WORKERS, Mesh, as_client, check_error, policy, wait_until

from tulle.config import Settings
from tulle.gateway import envoy_overload
from tulle.gateway.envoy import Gateway
from tulle.gateway.vitals import vitals

pytestmark = pytest.mark.system


def test_it_refuses_requests_in_our_words_and_says_which_bound_it_is(
    tmp_path: Path, free_port: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    # not the last step, after which nobody is connected and nobody told
    monkeypatch.setattr(envoy_overload, "_STEPS", envoy_overload._STEPS[:-1])
    settings = replace(Settings(folder=tmp_path), gateway_port=free_port(), gateway_megabytes=1)
    mesh = Mesh(settings, Gateway(settings))
    mesh.gateway.publish(
        policy({"first": WORKERS["first"]}, {("app-a", "first"): CONTRACTS["app-a", "first"]})
    )
    mesh.start()
    try:
        wait_until(lambda: (found := vitals(settings)) is not None and bool(found.overloaded), "the bound")
        reply = mesh.ask(API + "first/x", as_client("app-a"))
        check_error(reply, 503, "ServiceUnavailable")
        assert reply.headers["retry-after"] == "1"
        found = vitals(settings)
        assert found is not None
        assert "stop_accepting_requests" in " ".join(found.overloaded)
        assert (found.state, found.memory_held > 1_000_000) == ("LIVE", True)
        assert found.version[0].isdigit()
    finally:
        mesh.stop()


def test_all_steps_are_taken_in_order() -> None:
    made = envoy_overload.overload(10_000, 2_000_000_000)
    parts = [one["triggers"][0]["threshold"]["value"] for one in made["actions"]]
    assert parts == sorted(parts)
    assert {one["triggers"][0]["name"] for one in made["actions"]} == {made["resource_monitors"][1]["name"]}
