"""Finding APIs and products over HTTP, at `/mesh/v1/exchange`: parses, asks the Exchange, renders."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from fastapi import Request

from tulle.catalog.exchange import Exchange
from tulle.catalog.exchange_pages import AskedFor
from tulle.catalog.exchange_search import PAGE
from tulle.catalog.routes import Routes
from tulle.control.asking import user_of


def router(exchange: Exchange) -> Routes:
    """The API of the Exchange."""
    api = Routes(prefix="/mesh/v1", tags=["apis"])

    @api.get("/exchange")
    def search(request: Request, wanted: AskedFor) -> dict[str, Any]:
        """What who asks may see of APIs and products: with words the nearest first, else by name; a page at a time."""
        found = exchange.search(wanted, user_of(request))
        entries = [asdict(one) for one in found.entries]
        for one in entries:
            del one["detail"]
            one["versions"] = [{"version": name, "status": said} for name, said in one["versions"]]
        return {
            "found": entries,
            "count": found.count,
            "page": wanted.page,
            "a_page": PAGE,
            "choices": {facet: dict(values) for facet, values in found.choices.items()},
        }

    return api
