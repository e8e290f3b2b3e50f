"""The admin API of API nodes, `/admin/api`: parses, calls one function, renders.

For tools that know it, tried with its vendor's client. Who may come in is the door's matter: `request.state.admin` is
the key that came. What its vendor does not publish (the members of answers) is our choice.
"""

from __future__ import annotations

import json
import math
import secrets
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from fastapi import Request
from fastapi.responses import Response
from starlette.concurrency import run_in_threadpool

from tulle.catalog.routes import Routes
from tulle.control import admin_keys, deployment, node_admin
from tulle.control.service_access import moment_of
from tulle.control.workspace import Workspace
from tulle.errors import Invalid
from tulle.serving.endpoint import NODE_HEADERS, error_body
from tulle.serving.request import RequestError
from tulle.serving.traffic import single

PREFIX = "/admin/api"
DONE = {"ok": True}


async def _body(request: Request) -> dict[str, Any]:
    """The body, whatever its type is said to be; none is an empty one."""
    raw = await request.body()
    if not raw.strip():
        return {}
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError):
        raise Invalid("the body is not JSON") from None
    if not isinstance(value, dict):
        raise Invalid("the body is no JSON object")
    return value


def _actor(request: Request) -> str:
    return str(request.state.admin)


def router(workspace: Workspace, settle: Callable[[], bool]) -> Routes:
    """The admin API of one mesh; `settle` makes the gateway follow at once."""
    api = Routes(prefix=PREFIX, include_in_schema=False)
    _service_routes(api, workspace, settle)
    _mapping_routes(api, workspace, settle)
    _key_routes(api, workspace)
    _node_routes(api, workspace)
    return api


def _service_routes(api: Routes, workspace: Workspace, settle: Callable[[], bool]) -> None:
    @api.get("/services")
    def services() -> list[dict[str, Any]]:
        return node_admin.services(workspace)

    @api.post("/services")
    @api.post("/services/")
    async def create(request: Request) -> dict[str, bool]:
        name = (await _body(request)).get("serviceId")
        if not isinstance(name, str):
            raise Invalid("'serviceId' is missing")
        await run_in_threadpool(node_admin.claim, workspace, name)
        return DONE

    @api.delete("/services/{name}")
    def remove(request: Request, name: str) -> dict[str, bool]:
        deployment.withdraw(workspace, name, actor=_actor(request))
        settle()
        return DONE

    @api.get("/services/{name}/generations")
    def generations(name: str) -> dict[str, Any]:
        return {"generations": node_admin.generations(workspace, name)}

    @api.post("/services/{name}/generations/actions/importFromArchive")
    def take_in(name: str, filePath: str = "") -> dict[str, Any]:  # noqa: N803  the vendor's word
        return {**DONE, "generation": node_admin.take_in(workspace, name, filePath)}

    @api.post("/services/{name}/generations/{version}/preload")
    def preload(request: Request, name: str, version: str, testQueries: str = "") -> dict[str, bool]:  # noqa: N803  as others
        node_admin.preload(workspace, name, version, actor=_actor(request), test_queries=testQueries)
        return DONE


def _mapping_routes(api: Routes, workspace: Workspace, settle: Callable[[], bool]) -> None:
    @api.post("/services/{name}/actions/enable")
    def enable(request: Request, name: str) -> dict[str, bool]:
        deployment.enable(workspace, name, is_enabled=True, actor=_actor(request))
        settle()
        return DONE

    @api.post("/services/{name}/actions/disable")
    def disable(request: Request, name: str) -> dict[str, bool]:
        deployment.enable(workspace, name, is_enabled=False, actor=_actor(request))
        settle()
        return DONE

    @api.post("/services/{name}/actions/setMapping")
    async def set_mapping(request: Request, name: str, testQueries: str = "") -> dict[str, Any]:  # noqa: N803  as others
        entries = (await _body(request)).get("entries")
        how = {"actor": _actor(request), "test_queries": testQueries}
        await run_in_threadpool(node_admin.map_generations, workspace, name, entries, **how)
        await run_in_threadpool(settle)
        return DONE

    @api.post("/services/{name}/actions/switchToNewest")
    def switch_to_newest(request: Request, name: str, testQueries: str = "") -> dict[str, Any]:  # noqa: N803  as others
        version = node_admin.newest(workspace, name)
        node_admin.switch(workspace, name, single(version), actor=_actor(request), test_queries=testQueries)
        settle()
        return {**DONE, "generation": version}

    @api.post("/services/{name}/actions/switchTo/{version}")
    def switch_to(request: Request, name: str, version: str, testQueries: str = "") -> dict[str, Any]:  # noqa: N803  as others
        node_admin.switch(workspace, name, single(version), actor=_actor(request), test_queries=testQueries)
        settle()
        return {**DONE, "generation": version}


def _key_routes(api: Routes, workspace: Workspace) -> None:
    database = workspace.database

    @api.get("/keys")
    def keys() -> list[dict[str, Any]]:
        return [_key(key) for key in admin_keys.known(database)]

    @api.post("/keys")
    async def add(request: Request) -> dict[str, Any]:
        said = await _body(request)
        texts = {name: said.get(name) or "" for name in ("label", "description", "createdBy")}
        if not all(isinstance(text, str) for text in texts.values()):
            raise Invalid("'label', 'description' and 'createdBy' are text")
        key, opens = await run_in_threadpool(
            lambda: admin_keys.create(
                database,
                label=texts["label"],
                description=texts["description"],
                created_by=texts["createdBy"],
                expires_at=_expiry(said.get("expiry")),
                actor=_actor(request),
            )
        )
        return {**_key(key), "key": opens}

    @api.delete("/keys/{key}")
    def remove(request: Request, key: str) -> dict[str, bool]:
        admin_keys.remove(database, key, actor=_actor(request))
        return DONE

    @api.delete("/keys/{key}/key")
    def remove_by_id(request: Request, key: str) -> dict[str, bool]:
        admin_keys.remove(database, key, actor=_actor(request))
        return DONE


def node_error(status: int, error_type: str, message: str, detail: str) -> Response:
    """A failure as clients of API nodes read it, with an id by which it can be spoken of."""
    request_id = f"admin-{secrets.token_hex(8)}"
    body = error_body(RequestError(status, error_type, message, detail), request_id)
    headers = {name.decode(): value.decode() for name, value in NODE_HEADERS}
    headers["x-request-id"] = request_id
    return Response(body, status_code=status, media_type="application/json", headers=headers)


def _node_routes(api: Routes, workspace: Workspace) -> None:
    @api.get("/metrics")
    def metrics() -> dict[str, Any]:
        return node_admin.metrics(workspace)

    @api.delete("/services-clean-unused")
    def clean() -> dict[str, Any]:
        return node_admin.clean(workspace)

    # Packages bring all they need: there is no cache of environments or models to fill, so none is in use either.
    @api.post("/cached-code-envs")
    @api.post("/register-global-code-env")
    @api.post("/model-cache")
    def cache() -> Response:
        words = "a package holds all it needs: there is no cache of code environments or models"
        return node_error(501, "NotSupported", words, words)

    @api.delete("/cached-code-envs")
    def clean_code_envs() -> dict[str, Any]:
        return {"deletedCodeEnvs": []}

    @api.delete("/model-cache")
    def clear_models() -> dict[str, bool]:
        return DONE


def _key(key: admin_keys.AdminKey) -> dict[str, Any]:
    said = asdict(key)
    return {
        "id": key.id,
        "label": said["label"],
        "description": said["description"],
        "createdBy": said["created_by"],
        "createdOn": int(key.created_at * 1000),
        "expiry": None if key.expires_at is None else int(key.expires_at * 1000),
    }


def _expiry(said: Any) -> float | None:
    """Milliseconds since the epoch, or what `moment_of` reads; nothing: never."""
    if said is None or said in ("", 0):
        return None
    if isinstance(said, bool) or not isinstance(said, str | int | float):
        raise Invalid("'expiry' is milliseconds since the epoch, or a date")
    if isinstance(said, str):
        return moment_of(said)
    try:
        return float(said) / 1000
    except OverflowError:
        return math.inf  # which is refused as any end is that no calendar has
