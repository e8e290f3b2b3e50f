"""Archives of packages over HTTP, below `/mesh/v1/services`: out of one mesh and into another."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from fastapi import Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse

from tulle.catalog.routes import Routes
from tulle.control import release
from tulle.control.workspace import Workspace
from tulle.serving import package_import
from tulle.serving.seal import public_key

KEY_HEADER, VERSION_HEADER = "x-tulle-public-key", "x-tulle-version"


def router(workspace: Workspace) -> Routes:
    """The API of one mesh."""
    api = Routes(prefix="/mesh/v1", tags=["packages"])

    @api.get("/services/{name}/packages/{version}/archive")
    def archive(name: str, version: str) -> FileResponse:
        """The signed archive of a version, a tar; of `active` that which answers, else the newest."""
        chosen, path = release.archive_of(workspace, name, None if version == "active" else version)
        headers = {KEY_HEADER: public_key(workspace.settings), VERSION_HEADER: chosen.version}
        file = f"{name}-{chosen.version}.tar"
        return FileResponse(path, media_type="application/x-tar", filename=file, headers=headers)

    @api.post("/services/{name}/packages/archive", status_code=201)
    async def take_in(name: str, request: Request) -> dict[str, Any]:
        """Import an archive, the body, as a version of a service."""
        length = int(request.headers.get("content-length", "0"))
        await run_in_threadpool(release.declared_service, workspace, name)  # before anything is read
        package_import.demand_room(workspace.settings, length)
        home = package_import.folder_of(workspace.settings)
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        # It has no name, so that nothing is left of it whatever ends this process.
        with tempfile.TemporaryFile(dir=home) as file:
            async for chunk in request.stream():
                await run_in_threadpool(file.write, chunk)
            file.seek(0)  # writes what is still held back, too
            sent = Path(f"/dev/fd/{file.fileno()}")
            made, created = await run_in_threadpool(release.take_in, workspace, name, sent)
        return {
            "service": name,
            "version": made.version,
            "digest": made.digest,
            "created": created,
            "bytes": made.bytes,
        }

    return api
