"""The gateway over HTTP, below `/mesh/v1/gateway`: parses, calls one function, renders."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import Query
from pydantic import BaseModel, ConfigDict, Field

from tulle.catalog.routes import Routes
from tulle.control import gateway, mesh_file
from tulle.control.asking import AskedBy
from tulle.control.switchboard import Switchboard
from tulle.control.workspace import Workspace
from tulle.gateway.faults import read_faults

_MOST: int = 2**53
Number = Annotated[int | None, Query(ge=1, le=_MOST)]


class RollbackBody(BaseModel):
    """To which version, by default the one before; and why."""

    model_config = ConfigDict(extra="forbid")

    version: int | None = Field(None, ge=1, le=_MOST)
    reason: str = Field("", max_length=gateway.LONGEST_REASON)


class ReloadBody(BaseModel):
    """Whether it is only asked what would change."""

    model_config = ConfigDict(extra="forbid")

    dry_run: bool = False


def router(workspace: Workspace, switchboard: Switchboard, settle: Callable[[], bool]) -> Routes:
    """The API of one mesh's gateway; `settle` puts in force what was said."""
    api = Routes(prefix="/mesh/v1/gateway")

    @api.get("")
    def show() -> dict[str, Any]:
        """How it fares, which version is in force, whether it is pinned."""
        return {**gateway.view(workspace, switchboard), "mesh_file": mesh_file.view(workspace)}

    @api.get("/versions")
    def versions(limit: Annotated[int, Query(ge=1, le=500)] = 50, before: Number = None) -> dict[str, Any]:
        """The versions that are kept, the newest first."""
        return {"versions": gateway.versions(workspace, limit=limit, before=before)}

    @api.get("/versions/{number}")
    def version(number: int) -> dict[str, Any]:
        """One version with its content and what it changed."""
        return gateway.show(workspace, number)

    @api.get("/diff")
    def diff(
        first: Annotated[int | None, Query(alias="from", ge=1, le=_MOST)] = None,
        second: Annotated[int | None, Query(alias="to", ge=1, le=_MOST)] = None,
    ) -> dict[str, Any]:
        """What differs between two versions, or from the one before `to`; or between what is pinned and what waits."""
        return gateway.diff(workspace, switchboard, first, second)

    @api.post("/check")
    def check() -> dict[str, Any]:
        """Whether what is recorded now would be published."""
        return {**gateway.check(switchboard), "mesh_file": mesh_file.view(workspace)}

    @api.post("/reload")
    def reload(by: AskedBy, body: ReloadBody | None = None) -> dict[str, Any]:
        """Take up what mesh.yaml says now, as far as that needs no restart."""
        is_dry = body is not None and body.dry_run
        found = mesh_file.take_up(workspace, switchboard, by=by, is_dry=is_dry)
        return {**found, "in_force": settle() if found["taken_up"] else True}

    @api.post("/rollback")
    def rollback(by: AskedBy, body: RollbackBody | None = None) -> dict[str, Any]:
        """Do as a version says, until it is resumed."""
        said = body or RollbackBody(version=None, reason="")
        made = gateway.rollback(workspace, switchboard, said.version, reason=said.reason, by=by)
        return {**made, "in_force": settle()}

    @api.post("/resume")
    def resume(by: AskedBy) -> dict[str, Any]:
        """Follow what is applied and deployed again."""
        made = {**gateway.resume(workspace, by=by), "in_force": settle()}
        return {**made, "faults": [asdict(fault) for fault in read_faults(workspace.settings)]}

    @api.post("/restart")
    def restart(by: AskedBy) -> dict[str, Any]:
        """Have another process take it over without a lost request."""
        return {**gateway.restart(workspace, by=by), "in_force": settle()}

    return api
