"""Who asks for a change over HTTP: what the trail names as the actor.

With a credential of a user's own it is that user. The mesh's token is the administrator's: whoever holds it may name
for whom is asked, in the header `x-tulle-by`, as the command line does with the name of who types. That name is a note
for people and opens nothing; who approves is who holds the credential (`release_api`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Final
from urllib.parse import unquote

from fastapi import Depends, Request

from tulle.catalog.query_log import QUERIES, find_repository
from tulle.catalog.routes import Routes
from tulle.control import query_log
from tulle.control.environments import by_whom
from tulle.control.release import declared_in
from tulle.control.workspace import Workspace
from tulle.errors import NotFound, did_you_mean
from tulle.gateway.apis.sight import Sight
from tulle.lake.access import ADMINISTRATOR, Access
from tulle.sdk.client import BY_HEADER
from tulle.spec.environment import production

SERVICES: Final = "/mesh/v1/services/"


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


def hides(workspace: Workspace, access: Access) -> Callable[[Request], None]:
    """What every call of a service asks first: one that somebody may not know is as one that is not there. NotFound."""
    sight = Sight(workspace.database, access)

    def demand(request: Request) -> None:
        user, name = user_of(request), request.path_params.get("name")
        if user is None or name is None or not request.url.path.startswith(SERVICES):
            return
        if name not in (known := sight.names(user)) and (name in sight.hidden(user) or not is_declared(name)):
            hint = did_you_mean(name, known) or "declare it in products/<domain>/<product>/services/"
            raise NotFound(f"there is no service '{name}'", hint=hint)

    def is_declared(name: str) -> bool:
        try:
            declared_in(workspace, name)
        except NotFound:
            return False
        return True

    return demand


def for_who_may_change(workspace: Workspace, access: Access, routes: Routes) -> Routes:
    """Routes of one service, by `name`, guarded: who asks with a key of their own must be allowed to change it.

    That is, to change what its product publishes to consumers. Denied.
    """

    def demand(request: Request) -> None:
        user = user_of(request)
        if user is not None:
            product = declared_in(workspace, request.path_params["name"])[0].name
            branch = production(workspace.settings).branch
            access.demand(user, "fs:CreateCommit", access.resource_branch(product, branch))

    guarded = Routes(dependencies=[Depends(demand)])
    guarded.include(routes)
    return guarded


def for_who_may_read_log(workspace: Workspace, access: Access, routes: Routes) -> Routes:
    """Routes of one service's log, by `name`, guarded: who asks with a key of their own must be allowed to read it.

    That is, the repository it is kept in, as by any other door. NotFound where nothing is kept, Denied.
    """

    def demand(request: Request) -> None:
        user = user_of(request)
        if user is None:
            return
        name = request.path_params["name"]
        if (log := find_repository(workspace.lake, name)) is None:
            query_log.collect_all(
                workspace, name
            )  # with the first that is kept the product's people may read it
            access.forget()
            log = find_repository(workspace.lake, name)
        if log is None:
            told = f"nothing that was asked of a service '{name}' is kept"
            raise NotFound(told, hint="its log begins with the first query")
        resource = access.resource_object(log.name, log.default_branch, f"{QUERIES}/")
        access.demand(user, "fs:ReadObject", *resource)

    guarded = Routes(dependencies=[Depends(demand)])
    guarded.include(routes)
    return guarded
