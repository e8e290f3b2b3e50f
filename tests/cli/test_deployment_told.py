"""What becomes of a deployment is told, also to who looks when it is over already."""

from __future__ import annotations

from typing import Any, cast

import pytest

from tulle.cli.deployment_told import tell_tested
from tulle.errors import Invalid
from tulle.sdk.client import Client
from tulle.sdk.deployments import DeploymentClient


def deployment(status: str, active: str, desired: str, **tested: dict[str, Any]) -> dict[str, Any]:
    def traffic(version: str) -> dict[str, Any]:
        return {"shares": [{"generation": version, "parts": 10_000}], "shadow": None, "preloaded": []}

    return {
        "service": "calc",
        "environment": "prod",
        "status": status,
        "mesh_is_up": True,
        "enabled": True,
        "fault": None,
        "traffic": active,
        "url": "http://x",
        "desired_version": desired,
        "message": "",
        "active": traffic(active),
        "desired": traffic(desired),
        "tested": tested,
    }


@pytest.mark.parametrize(
    ("tested", "told"),
    [
        ({"v4": {"status": "failed", "told": "1 of 1 fails; it goes back to v1"}}, "v4: 1 of 1 fails"),
        ({}, "'calc' v4 does not answer in 'prod' any more: v1 does"),
    ],
)
def test_that_it_was_gone_back_from_is_told_to_who_looks_later(
    monkeypatch: pytest.MonkeyPatch, tested: dict[str, Any], told: str
) -> None:
    over = deployment("active", "v1", "v1", **tested)
    monkeypatch.setattr(DeploymentClient, "deployment", lambda *_: over)
    with pytest.raises(Invalid, match=told):
        tell_tested(cast("Client", object()), "calc", deployment("starting", "v1", "v4"), False)


def test_one_that_passes_is_told_as_what_answers(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    over = deployment("active", "v4", "v4", v4={"status": "passed", "told": "1 of 1 passes"})
    monkeypatch.setattr(DeploymentClient, "deployment", lambda *_: over)
    tell_tested(cast("Client", object()), "calc", deployment("starting", "v1", "v4"), False)
    assert "v4 answers at http://x" in capsys.readouterr().out
