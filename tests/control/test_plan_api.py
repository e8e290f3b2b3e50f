"""Plans over HTTP: who follows one is told when the gateway follows too, and what it does not take."""

from __future__ import annotations

import threading

import httpx

from tulle.catalog.routes import RoutedLate, Routes
from tulle.cli.connect import InProcess
from tulle.control.plan_api import plan_routes
from tulle.control.workspace import Workspace
from tulle.gateway.faults import Fault, write_faults


def test_a_plan_is_under_way_until_the_gateway_follows(workspace: Workspace) -> None:
    settles, may_end = threading.Event(), threading.Event()

    def settle() -> bool:
        settles.set()
        assert may_end.wait(30)
        write_faults(workspace.settings, [Fault("orders@v1", "", "no such connection", 1.0, True, "set it")])
        return True

    routes, app = Routes(), RoutedLate()
    plan_routes(routes, workspace, settle)
    app.include(routes)
    with httpx.Client(transport=InProcess(app), base_url="http://mesh") as client:
        record = client.post("/apply", json={"wait": False}).json()["record"]
        assert settles.wait(30)
        found = client.get(f"/plans/{record}").json()
        assert (found["status"], found["under_way"], found["warning"]) == ("succeeded", True, "")
        may_end.set()
        while found["under_way"]:
            found = client.get(f"/plans/{record}").json()
    assert found["warning"] == (
        "service 'orders@v1': the gateway does not take what is wanted of it, it answers as before: no such connection"
        " (set it)"
    )
