"""The OpenAPI documents of versions of APIs as their callers meet them, their operations, and what differs between two.

Knows nothing of the lives of versions.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tulle.control import deployment, release
from tulle.control.apis import instance_of, version_of
from tulle.control.workspace import Workspace
from tulle.errors import NotFound
from tulle.gateway.apis import records
from tulle.gateway.apis.declared import ApiVersion, Target
from tulle.gateway.apis.document import as_met
from tulle.gateway.apis.records import RecordedApi
from tulle.gateway.in_force import ways_of_instance
from tulle.spec.openapi_compare import ApiChange, compare_openapi
from tulle.spec.openapi_document import METHODS


def openapi(workspace: Workspace, name: str, version: str, environment: str | None = None) -> dict[str, Any]:
    """The OpenAPI document of a version as its callers meet it: at the gateway's address, by its ways in.

    NotFound where there is none: an external service that was declared without, or nothing that answers.
    """
    api, chosen = version_of(workspace, name, version)
    place = deployment.place_of(workspace.settings, environment)
    found = instance_of(workspace, api, version, place)
    ways = ways_of_instance(workspace.settings, workspace.database, found)
    return as_met(workspace.settings, _document(workspace, api, chosen, found.target), found, ways)


def operations(workspace: Workspace, name: str, version: str) -> list[dict[str, Any]]:
    """The operations of a version, in the order of its document."""
    document = openapi(workspace, name, version)
    return [
        {
            "method": method.upper(),
            "path": path,
            "id": item[method].get("operationId", ""),
            "summary": item[method].get("summary", ""),
            "deprecated": bool(item[method].get("deprecated")),
        }
        for path, item in document["paths"].items()
        for method in METHODS
        if isinstance(item, dict) and isinstance(item.get(method), dict)
    ]


def diff(workspace: Workspace, name: str, one: str, other: str) -> tuple[ApiChange, ...]:
    """What differs between two versions of an API, and what of it breaks who calls by the first."""
    return compare_openapi(openapi(workspace, name, one), openapi(workspace, name, other))


def _document(
    workspace: Workspace, api: RecordedApi, version: ApiVersion, target: Target
) -> Mapping[str, Any]:
    text = records.openapi_text(workspace.database, api.name, version.version)
    if text is not None:
        found: Mapping[str, Any] = json.loads(text)
        return found
    if target.service:
        return release.openapi(workspace, target.service)
    raise NotFound(
        f"API '{api.name}' {version.version} has no OpenAPI document",
        hint="give it as `openapi:` in its file and `tulle apply`",
    )
