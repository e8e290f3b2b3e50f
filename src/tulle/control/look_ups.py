"""What services look up, over HTTP: `GET /mesh/v1/services/{service}/look-ups`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from tulle.catalog.routes import Routes
from tulle.control.workspace import Workspace
from tulle.serving.look_ups import look_ups


def router(workspace: Workspace) -> Routes:
    """The routes on one mesh."""
    api = Routes(prefix="/mesh/v1")

    @api.get("/services/{name}/look-ups")
    def of_service(name: str, version: str | None = None) -> dict[str, Any]:
        found, each = look_ups(workspace.settings, workspace.database, workspace.lake, name, version)
        return {"service": name, "version": found, "look_ups": [asdict(one) for one in each]}

    return api
