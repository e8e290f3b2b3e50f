"""The file in which a service is declared, over HTTP, at `/mesh/v1/services/{name}/file`; and `…/annotations`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from tulle.catalog.routes import Routes
from tulle.control import service_file
from tulle.control.asking import AskedBy
from tulle.control.workspace import Workspace


class FileBody(BaseModel):
    """The file's new text, and the digest of the one that was looked at."""

    model_config = ConfigDict(extra="forbid")

    text: str = Field(max_length=service_file.MOST_CHARACTERS)
    before: str = Field(max_length=64)


def router(workspace: Workspace) -> Routes:
    """The routes on one mesh."""
    api = Routes(prefix="/mesh/v1")

    @api.get("/services/{name}/file")
    def read(name: str) -> dict[str, Any]:
        """The text that declares a service."""
        return asdict(service_file.read(workspace, name))

    @api.put("/services/{name}/file")
    def save(by: AskedBy, name: str, body: FileBody) -> dict[str, Any]:
        """Write it anew, unless something is wrong with it or somebody else has changed it."""
        return asdict(service_file.save(workspace, name, body.text, before=body.before, actor=by))

    @api.get("/services/{name}/annotations")
    def read_annotations(name: str) -> dict[str, Any]:
        """What is laid over its API document."""
        return asdict(service_file.read_annotations(workspace, name))

    @api.put("/services/{name}/annotations")
    def save_annotations(by: AskedBy, name: str, body: FileBody) -> dict[str, Any]:
        """Write it anew, unless something is wrong with it or somebody else has changed it; empty: there are none."""
        return asdict(service_file.save_annotations(workspace, name, body.text, before=body.before, actor=by))

    return api
