"""The mesh's trust over HTTP, below `/mesh/v1/trust`: parses, calls one function, renders."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydantic import BaseModel, ConfigDict

from tulle.catalog.routes import Routes
from tulle.control import trust
from tulle.control.asking import AskedBy
from tulle.control.workspace import Workspace


class RotateBody(BaseModel):
    """How the authority is replaced; `at_once`: what the old one signed holds no more."""

    model_config = ConfigDict(extra="forbid")

    at_once: bool = False


def router(workspace: Workspace, settle: Callable[[], bool]) -> Routes:
    """The API of one mesh's trust; `settle` has new certificates made at once."""
    api = Routes(prefix="/mesh/v1/trust")

    @api.get("")
    def show() -> dict[str, Any]:
        return trust.view(workspace)

    @api.post("/rotate")
    def rotate(by: AskedBy, body: RotateBody | None = None) -> dict[str, Any]:
        made = trust.rotate(workspace, at_once=body is not None and body.at_once, actor=by)
        return {**made, "in_force": settle()}

    return api
