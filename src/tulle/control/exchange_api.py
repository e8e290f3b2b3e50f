"""Finding APIs and products over HTTP, at `/mesh/v1/exchange`: parses, asks the Exchange, renders."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request

from tulle.catalog.exchange import Exchange
from tulle.catalog.exchange_search import FACETS, PAGE, Wanted
from tulle.control.asking import user_of

Text = Annotated[str, Query(max_length=200)]


def router(exchange: Exchange) -> APIRouter:
    """The API of the Exchange."""
    api = APIRouter(prefix="/mesh/v1", tags=["apis"])

    @api.get("/exchange")
    def search(
        request: Request,
        q: Text = "",
        kind: Text = "",
        domain: Text = "",
        tag: Text = "",
        status: Text = "",
        way: Text = "",
        page: Annotated[int, Query(ge=1, le=10_000)] = 1,
    ) -> dict[str, Any]:
        """What who asks may see of APIs and products: with words the nearest first, else by name; a page at a time."""
        chosen = dict(zip(FACETS, (kind, domain, tag, status, way), strict=True))
        found = exchange.search(
            Wanted(q.strip(), {k: v for k, v in chosen.items() if v}, page), user_of(request)
        )
        entries = [asdict(one) for one in found.entries]
        for one in entries:
            del one["detail"]
            one["versions"] = [{"version": name, "status": said} for name, said in one["versions"]]
        return {
            "found": entries,
            "count": found.count,
            "page": page,
            "a_page": PAGE,
            "choices": {facet: dict(values) for facet, values in found.choices.items()},
        }

    return api
