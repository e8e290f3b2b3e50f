"""The routes of the pages that tell what services are asked: parse the request, ask the reader, fill a template."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Annotated, Any

from fastapi import Query, Request
from fastapi.responses import Response

from tulle.catalog.insight import InsightReader, without
from tulle.catalog.routes import Routes

Text = Annotated[str, Query(max_length=200)]
Render = Callable[[Request, str, Any], Response]


def insight_routes(
    router: Routes, reader: InsightReader, hidden: Callable[[Request], Collection[str]], render: Render
) -> None:
    """Put the pages below /insight on `router`; `hidden` are the APIs that who asks may not see."""

    @router.get("/insight")
    def mesh(request: Request, environment: Text = "", span: Text = "day") -> Response:
        return render(request, "insight.html", without(reader.mesh(environment, span), hidden(request)))

    @router.get("/insight/apis/{name}")
    def api(
        request: Request,
        name: str,
        environment: Text = "",
        span: Text = "day",
        generation: Text = "",
        version: Text = "",
    ) -> Response:
        page = reader.api(name, environment, span, generation, version, hidden=hidden(request))
        return render(request, "insight.html", page)

    @router.get("/insight/clients/{name}")
    def client(request: Request, name: str, environment: Text = "", span: Text = "day") -> Response:
        return render(
            request, "insight.html", without(reader.client(name, environment, span), hidden(request))
        )
