"""The routes of applications' pages: parse the request, ask the read model, fill a template.

What is asked for or decided goes to the mesh's API with the reader's own key, from the page.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import Query, Request
from fastapi.responses import Response

from tulle.catalog.exchange_pages import reader_of
from tulle.catalog.portal import Reader
from tulle.catalog.routes import Routes
from tulle.catalog.uses import LONGEST_PLACE

Text = Annotated[str, Query(max_length=255)]
Place = Annotated[str, Query(max_length=LONGEST_PLACE)]
Render = Callable[[Request, str, Any], Response]


def application_routes(router: Routes, reader: Reader, render: Render) -> None:
    """Applications, one of them, what waits for a decision, and who may use what."""

    def who(request: Request) -> str:
        return reader_of(request, reader.readers, reader.settings)

    @router.get("/applications")
    def applications(request: Request, q: Text = "", owner: Text = "", after: Text = "") -> Response:
        user = who(request)
        names = tuple(service.name for service in reader.services.all(user))
        page = reader.callers.page(names, query=q.strip(), owner=owner.strip(), after=after, user=user)
        return render(request, "applications.html", page)

    @router.get("/applications/{name}")
    def application(
        request: Request, name: str, q: Text = "", page: Annotated[int, Query(ge=1, le=100)] = 1
    ) -> Response:
        found = reader.callers.one(name, who(request), query=q.strip(), page=page)
        return render(request, "application.html", found)

    @router.get("/access/requests")
    def requests(
        request: Request,
        product: Text = "",
        mine: bool = False,
        q: Text = "",
        page: Annotated[int, Query(ge=1, le=10_000)] = 1,
    ) -> Response:
        found = reader.callers.requests(product.strip(), who(request), mine=mine, query=q.strip(), page=page)
        return render(request, "access_requests.html", found)

    @router.get("/access")
    def access(request: Request, product: Text = "", service: Text = "", after: Place = "") -> Response:
        page = reader.callers.uses(product.strip(), service.strip(), who(request), after)
        return render(request, "access.html", page)
