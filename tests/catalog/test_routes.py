"""Routes that are made when they are first asked for answer as FastAPI's own do."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import httpx
import pytest
from fastapi import APIRouter, Depends, FastAPI, Query, Request
from pydantic import BaseModel

from tulle.catalog.routes import LateRoute, RoutedLate, Routes
from tulle.cli.connect import InProcess
from tulle.server.app import application
from tulle.spec.mesh import load_settings

ASKED: list[str] = []


def guard(name: str) -> object:
    def demand() -> None:
        ASKED.append(name)

    return Depends(demand)


class Body(BaseModel):
    """What a shelf holds."""

    books: int


def declare(shop: Routes | APIRouter) -> None:
    @shop.get("/shelves/{name}", dependencies=[guard("own")])
    @shop.get("/shelf/{name}")
    def shelf(request: Request, name: str, most: Annotated[int, Query(le=9)] = 3) -> dict[str, object]:
        return {"name": name, "most": most, "path": request.url.path}

    @shop.post("/shelves/{name}", status_code=201)
    def put(name: str, body: Body) -> Body:
        return Body(books=body.books + len(name))

    @shop.put("/shelves/{name}")
    @shop.patch("/shelves/{name}")
    async def change(name: str) -> str:
        return name

    @shop.get("/files/{rest:path}")
    def file(rest: str) -> str:
        return rest

    @shop.get("/{name}.json")
    def named(name: str) -> str:
        return name

    @shop.delete("/everything", include_in_schema=False)
    def delete() -> None:
        return None


def late() -> RoutedLate:
    inner = Routes(prefix="/shop", tags=["shop"], dependencies=[guard("router")])
    declare(inner)
    outer = Routes(prefix="/v1", tags=["all"], dependencies=[guard("outer")])
    outer.include(inner)
    app = RoutedLate(title="Shop", openapi_url="/v1/openapi.json")
    app.include(outer, dependencies=[guard("application")])
    return app


def usual() -> FastAPI:
    inner = APIRouter(prefix="/shop", tags=["shop"], dependencies=[guard("router")])
    declare(inner)
    outer = APIRouter(prefix="/v1", tags=["all"], dependencies=[guard("outer")])
    outer.include_router(inner)
    app = FastAPI(title="Shop", openapi_url="/v1/openapi.json")
    app.include_router(outer, dependencies=[guard("application")])
    return app


def ask(app: FastAPI, method: str, path: str, body: object = None) -> httpx.Response:
    with InProcess(app) as transport:
        return httpx.Client(transport=transport, base_url="http://shop").request(method, path, json=body)


CALLS = [
    ("GET", "/v1/shop/shelves/a", None),
    ("GET", "/v1/shop/shelf/a%20b?most=9", None),
    ("GET", "/v1/shop/shelves/a?most=10", None),
    ("GET", "/v1/shop/shelves/a/b", None),
    ("GET", "/v1/shop/shelves/a/", None),
    ("GET", "/v1/openapi.json", None),
    ("GET", "/v1/shop/files/a/b", None),
    ("GET", "/v1/shop/files", None),
    ("GET", "/v1/shop/a.json", None),
    ("GET", "/v1/shop/a.yaml", None),
    ("POST", "/v1/shop/shelves/ab", {"books": 3}),
    ("POST", "/v1/shop/shelves/ab", {"books": "many"}),
    ("PUT", "/v1/shop/shelves/ab", None),
    ("PATCH", "/v1/shop/shelves/ab", None),
    ("DELETE", "/v1/shop/everything", None),
    ("DELETE", "/v1/shop/shelves/ab", None),
    ("GET", "/v1/shop/everything", None),
    ("GET", "/shop/shelves/a", None),
]


@pytest.mark.parametrize(("method", "path", "body"), CALLS)
def test_they_answer_as_fastapi_s_own(method: str, path: str, body: object) -> None:
    said = []
    for app in (late(), usual()):
        ASKED.clear()
        answer = ask(app, method, path, body)
        said.append((answer.status_code, answer.content, dict(answer.headers), tuple(ASKED)))
    assert said[0] == said[1]


def test_guards_are_asked_from_the_outermost_on() -> None:
    ASKED.clear()
    assert ask(late(), "GET", "/v1/shop/shelves/a").status_code == 200
    assert ASKED == ["application", "outer", "router", "own"]


def test_a_route_is_made_by_the_first_request_that_fits_its_path() -> None:
    app = late()
    ask(app, "GET", "/v1/shop/shelf/a")
    made = [one.path_format for one in app.routes if isinstance(one, LateRoute) and "route" in vars(one)]
    assert made == ["/v1/shop/shelf/{name}"]


def test_what_is_kept_out_of_the_document_is_answered_all_the_same() -> None:
    app = RoutedLate()
    routes = Routes()
    declare(routes)
    app.include(routes, include_in_schema=False)
    assert app.openapi()["paths"] == {}
    assert ask(app, "GET", "/shelf/a").status_code == 200


def test_every_route_of_the_control_plane_can_be_made(tmp_path: Path) -> None:
    (tmp_path / "mesh.yaml").write_text("name: all\n")
    app = application(load_settings(tmp_path))
    routes = [one for one in app._portal.routes if isinstance(one, LateRoute)]
    assert len(routes) > 200
    assert {one.path_format for one in routes} == {one.route.path for one in routes}
    app.state.close()
