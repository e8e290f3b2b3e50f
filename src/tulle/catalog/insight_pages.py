"""The routes of the pages that tell what services are asked: parse the request, ask the reader, fill a template."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from tulle.catalog.insight import InsightReader

Text = Annotated[str, Query(max_length=200)]
Render = Callable[[Request, str, Any], Response]


def insight_routes(router: APIRouter, reader: InsightReader, render: Render) -> None:
    """Put the pages below /insight on `router`; `render` fills a template."""

    @router.get("/insight")
    def mesh(request: Request, environment: Text = "", span: Text = "day") -> Response:
        return render(request, "insight.html", reader.mesh(environment, span))

    @router.get("/insight/apis/{name}")
    def api(
        request: Request, name: str, environment: Text = "", span: Text = "day", generation: Text = ""
    ) -> Response:
        return render(request, "insight.html", reader.api(name, environment, span, generation))

    @router.get("/insight/clients/{name}")
    def client(request: Request, name: str, environment: Text = "", span: Text = "day") -> Response:
        return render(request, "insight.html", reader.client(name, environment, span))
