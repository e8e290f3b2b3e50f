"""One place that lists who may use what and why, for whoever asks. What there is to list is `catalog.uses`' matter."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from tulle.catalog.uses import Use, Wanted, one_page, owners
from tulle.control import access_requests, apis, applications
from tulle.control.workspace import Workspace
from tulle.gateway import applications as registered
from tulle.gateway.apis import records
from tulle.gateway.apis.sight import Sight
from tulle.gateway.contract_record import Place
from tulle.lake.access import Access
from tulle.state import products

MOST_SHOWN: Final = 10_000  # at once


def overview(
    workspace: Workspace,
    access: Access,
    *,
    product: str | None = None,
    api: str | None = None,
    application: str | None = None,
    user: str | None = None,
    after: str = "",
    limit: int = MOST_SHOWN,
) -> tuple[tuple[Use, ...], str | None]:
    """Who may use what, of a product, an API or by an application; for a user what concerns them. And where it ends.

    That is: their own applications, everything of products that they may change, and of all that they find whom it
    lets in beside applications and keys. NotFound for a name that is not there, Invalid for a place that is none.
    """
    if product is not None:
        products.applied_product(workspace.database, product)
    if api is not None:
        access_requests.demand_seen(workspace, access, Place("api", api), user)
        apis.product_of(workspace, api)
    if application is not None and user is None:
        application = applications.one(workspace, application).name
    is_hidden = api in records.hidden(workspace.database)  # a contract for its product does not open it
    product_of = owners(workspace.database)
    owner = "" if is_hidden else product_of.get(api or "", "")
    wanted = Wanted(product or "", api or "", owner, application or "")
    if user is None:
        return one_page(workspace.settings, workspace.database, wanted, after=after, limit=limit)
    known = {*product_of.values(), *products.versions(workspace.database)} - {""}
    decided = frozenset(
        name for name in known if access_requests.may_decide(workspace, access, Place("product", name), user)
    )
    mine = frozenset(registered.names(workspace.database, owner=user).values()) - {registered.PORTAL}
    seen = Sight(workspace.database, access).names(user)

    def concerns(use: Use) -> bool:
        return (
            (use.by == "application" and use.who in mine)
            or (use.is_open_way and use.name in seen)
            or use.product in decided
        )

    wanted = replace(wanted, concerning=(mine, decided))
    return one_page(workspace.settings, workspace.database, wanted, concerns, after=after, limit=limit)


def as_plain(use: Use) -> dict[str, Any]:
    """One use as plain values."""
    return {name: getattr(use, name) for name in use.__slots__}
