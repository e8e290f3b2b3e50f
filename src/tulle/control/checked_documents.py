"""The OpenAPI documents by which the gateway checks requests, where a policy names none: those of what is called.

A service's is that of its package, of the generation that most requests meet; an API's its own, else that of the
service behind it. Knows nothing of how a document is checked.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import msgspec

from tulle.config import Settings
from tulle.errors import Broken, NotFound
from tulle.gateway.apis.records import openapi_text
from tulle.gateway.policies.entry import Policy
from tulle.gateway.policy import ManagedService
from tulle.serving.generation import folder_of
from tulle.serving.manifest import OPENAPI
from tulle.state.db import Database

CHECKING: Final = "schema-validation"


def with_documents(settings: Settings, database: Database, service: ManagedService) -> ManagedService:
    """A service whose policies have the document they check by.

    NotFound when there is none, Broken when it is damaged.
    """
    if not any(_lacks(policy) for policy in service.policies):
        return service
    document = _document(settings, database, service)
    return replace(
        service,
        policies=tuple(
            replace(one, settings={**one.settings, "document": document}) if _lacks(one) else one
            for one in service.policies
        ),
    )


def _lacks(policy: Policy) -> bool:
    return policy.kind == CHECKING and "document" not in policy.settings


def _document(settings: Settings, database: Database, service: ManagedService) -> dict[str, Any]:
    text: str | bytes | None = None
    if service.front is not None:
        text = openapi_text(database, service.name, service.front.version)
    if text is None and service.has_workers and service.traffic is not None:
        name, _ = service.workers_of
        try:
            text = (folder_of(settings, name, service.traffic.main) / OPENAPI).read_bytes()
        except OSError as exc:
            raise Broken(
                f"'{service.path}': its package lacks {OPENAPI}: {exc.strerror}", hint="build it again"
            ) from exc
    if text is None:
        raise NotFound(
            f"'{service.path}' has no OpenAPI document for its policy {CHECKING}",
            hint="give it as `openapi:` in the API's file, or as `document:` of the policy",
        )
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except msgspec.MsgspecError as exc:
        raise Broken(f"'{service.path}': its OpenAPI document cannot be read: {exc}") from None
