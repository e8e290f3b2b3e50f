"""One place that lists who may use what and why, for whoever asks. What there is to list is `catalog.uses`' matter."""

from __future__ import annotations

from typing import Any, Final

from tulle.catalog.uses import Use, one_page, owners, uses
from tulle.control import access_requests, apis, applications
from tulle.control.workspace import Workspace
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
    owner = "" if is_hidden else owners(workspace.database).get(api or "", "")
    decides: dict[str, bool] = {}
    mine = set() if user is None else {a.name for a in applications.visible(workspace, user=user)}
    seen = frozenset() if user is None else Sight(workspace.database, access).names(user)

    def concerns(use: Use) -> bool:
        if user is None or (use.by == "application" and use.who in mine):
            return True
        if use.is_open_way and use.name in seen:
            return True
        if use.product not in decides:
            place = Place("product", use.product)
            decides[use.product] = bool(use.product) and access_requests.may_decide(
                workspace, access, place, user
            )
        return decides[use.product]

    found = tuple(
        use
        for use in uses(workspace.settings, workspace.database)
        if (product is None or use.product == product)
        and (api is None or use.covers(api, owner))
        and (application is None or (use.by == "application" and use.who == application))
        and concerns(use)
    )
    return one_page(found, after=after, limit=limit)


def as_plain(use: Use) -> dict[str, Any]:
    """One use as plain values."""
    return {name: getattr(use, name) for name in use.__slots__}
