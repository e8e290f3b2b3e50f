"""Who asks for a change over HTTP: what the trail names as the actor.

With a credential of a user's own it is that user. The mesh's token is the administrator's: whoever holds it may name
for whom is asked, in the header `x-tulle-by`, as the command line does with the name of who types. That name is a note
for people and opens nothing; who approves is who holds the credential (`release_api`).
"""

from __future__ import annotations

from typing import Annotated
from urllib.parse import unquote

from fastapi import APIRouter, Depends, Request

from tulle.control.environments import by_whom
from tulle.control.release import declared_service
from tulle.control.workspace import Workspace
from tulle.lake.access import ADMINISTRATOR, Access
from tulle.sdk.client import BY_HEADER
from tulle.spec.environment import production


def user_of(request: Request) -> str | None:
    """Whose credential was sent; None for the mesh's own token."""
    found = getattr(request.state, "user", None)
    return None if found is None else str(found)


def asked_by(request: Request) -> str:
    """Who asks. Invalid when what is said is no name."""
    if (user := user_of(request)) is not None:
        return user
    said = request.headers.get(BY_HEADER, "")
    return by_whom(unquote(said)) if said else ADMINISTRATOR


AskedBy = Annotated[str, Depends(asked_by)]


def for_who_may_change(workspace: Workspace, access: Access, routes: APIRouter) -> APIRouter:
    """Routes of one service, by `name`, guarded: who asks with a key of their own must be allowed to change it.

    That is, to change what its product publishes to consumers. Denied.
    """

    def demand(request: Request) -> None:
        user = user_of(request)
        if user is not None:
            product = declared_service(workspace, request.path_params["name"]).product.name
            branch = production(workspace.settings).branch
            access.demand(user, "fs:CreateCommit", access.resource_branch(product, branch))

    guarded = APIRouter(dependencies=[Depends(demand)])
    guarded.include_router(routes)
    return guarded
