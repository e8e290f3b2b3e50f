"""The portal's pages: parse the request, ask the reader, fill a template. Decides nothing, reads no store.

What a page may change is one thing: sending a request to a service, as its own consumer would. What is asked of
the lake (a merge, a download) never comes here: `lake.js` sends it to the lake's API with the reader's own key.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any

from fastapi import Query, Request
from fastapi.responses import HTMLResponse, Response
from jinja2 import Environment

from tulle.catalog import look
from tulle.catalog.api_trial import ApiAnswer, ApiCaller, ApiRequest
from tulle.catalog.application_pages import application_routes
from tulle.catalog.exchange_pages import exchange_routes, reader_of
from tulle.catalog.insight_pages import insight_routes
from tulle.catalog.lake_pages import lake_routes
from tulle.catalog.portal import Reader
from tulle.catalog.routes import Routes
from tulle.catalog.service_pages import service_routes
from tulle.catalog.trial import Caller
from tulle.errors import TulleError, Unavailable
from tulle.gateway.envoy_values import READER_COOKIE

Text = Annotated[str, Query(max_length=200)]
Path = Annotated[str, Query(max_length=1024)]
Who = Callable[[Request], str]  # who reads; empty for nobody in particular


@dataclass(frozen=True, slots=True)
class FailurePage:
    """What the page of a failure shows."""

    status: int
    error: TulleError


@cache
def _templates() -> Environment:
    return look.environment()


def _no_gateway(_request: ApiRequest) -> ApiAnswer:
    raise Unavailable("the mesh is not up, so there is no gateway to try", hint="`tulle up`")


def portal(reader: Reader, caller: Caller, api_caller: ApiCaller = _no_gateway) -> Routes:
    """The pages on one mesh; `caller` sends a request to a service through the gateway, `api_caller` one to an API."""
    router = Routes()

    def who(request: Request) -> str:
        return _who(request, reader)

    _mesh_routes(router, reader, who)
    _model_routes(router, reader, who)
    _run_routes(router, reader, who)
    _data_set_routes(router, reader, who)
    _rejected_routes(router, reader)
    _plan_routes(router, reader, who)
    _schedule_routes(router, reader, who)
    application_routes(router, reader, lambda request, name, page: _page(request, reader, name, page))
    service_routes(router, reader, caller, lambda request, name, page: _page(request, reader, name, page))
    insight_routes(
        router,
        reader.insight,
        lambda request: reader.exchange.hidden(who(request)),
        lambda request, name, page: _page(request, reader, name, page),
    )
    exchange_routes(
        router,
        reader.exchange,
        reader.api_pages,
        reader.readers,
        api_caller,
        lambda request, name, page: _page(request, reader, name, page),
    )
    _lake_routes(router, reader)
    lake_routes(
        router,
        reader.browser,
        lambda request: reader.unseen.of(who(request)),
        lambda request, name, page: _page(request, reader, name, page),
    )
    return router


def _who(request: Request, reader: Reader) -> str:
    return reader_of(request, reader.readers, reader.settings)


def _mesh_routes(router: Routes, reader: Reader, who: Who) -> None:
    @router.get("/")
    @router.get("/products")
    def home(request: Request) -> Response:
        return _page(request, reader, "home.html", reader.home(who(request)))

    @router.get("/search")
    def search(request: Request, q: Text = "") -> Response:
        return _page(
            request,
            reader,
            "search.html",
            reader.search(q, who(request)),
        )

    @router.get("/domains/{name}")
    def domain(request: Request, name: str, after: Text = "") -> Response:
        return _page(request, reader, "domain.html", reader.domain(name, after, who(request)))

    @router.get("/products/{name}")
    def product(request: Request, name: str) -> Response:
        return _page(
            request,
            reader,
            "product.html",
            reader.product(name, who(request)),
        )

    @router.get("/products/{name}/quality")
    def quality(request: Request, name: str, environment: Text = "main") -> Response:
        return _page(request, reader, "quality.html", reader.quality(name, environment))

    @router.get("/releases")
    def releases(request: Request, after: Text = "") -> Response:
        return _page(request, reader, "releases.html", reader.releases.page(after=after))

    @router.get("/products/{name}/releases")
    def product_releases(request: Request, name: str) -> Response:
        return _page(request, reader, "releases.html", reader.releases.page(name))

    @router.get("/gateway")
    def gateway(request: Request) -> Response:
        return _page(request, reader, "gateway.html", reader.gateway.page())

    @router.get("/capabilities")
    def capabilities(request: Request) -> Response:
        return _page(request, reader, "capabilities.html", reader.capabilities())


def _model_routes(router: Routes, reader: Reader, who: Who) -> None:
    @router.get("/products/{name}/models")
    def models(request: Request, name: str) -> Response:
        return _page(request, reader, "models.html", reader.models.models(name))

    @router.get("/products/{name}/models/{model}")
    def model(request: Request, name: str, model: str) -> Response:
        page = reader.models.model(name, model, reader.exchange.hidden(who(request)))
        return _page(request, reader, "model.html", page)

    @router.get("/products/{name}/experiments")
    def experiments(
        request: Request, name: str, id_: Annotated[tuple[Text, ...], Query(alias="id", max_length=100)] = ()
    ) -> Response:
        return _page(request, reader, "experiments.html", reader.experiments.page(name, id_))


def _run_routes(router: Routes, reader: Reader, who: Who) -> None:
    @router.get("/runs")
    def runs(
        request: Request,
        product: Text = "",
        environment: Text = "",
        status: Text = "",
        page: Annotated[int, Query(ge=1, le=100_000)] = 1,
    ) -> Response:
        found = reader.runs(
            product=product.strip(), environment=environment.strip(), status=status, page=page
        )
        return _page(request, reader, "runs.html", found)

    @router.get("/runs/{run_id}")
    def run(request: Request, run_id: str) -> Response:
        return _page(request, reader, "run.html", reader.run(run_id, who(request)))

    @router.get("/runs/{run_id}/progress")
    def progress(request: Request, run_id: str) -> Response:
        """The part of a run's page that changes while it is running."""
        return _page(request, reader, "run_progress.html", reader.run(run_id, who(request)))


def _data_set_routes(router: Routes, reader: Reader, who: Who) -> None:
    @router.get("/products/{name}/data-sets/{data_set}")
    def data_set(request: Request, name: str, data_set: str, environment: Text = "main") -> Response:
        return _page(request, reader, "data_set.html", reader.data_sets.page(name, data_set, environment))

    @router.get("/products/{name}/data-sets/{data_set}/lineage")
    def column_lineage(request: Request, name: str, data_set: str, column: Text = "") -> Response:
        page = reader.data_sets.lineage(name, data_set, column, reader.exchange.hidden(who(request)))
        return _page(request, reader, "column_lineage.html", page)


def _rejected_routes(router: Routes, reader: Reader) -> None:
    @router.get("/rejected")
    def all_rejected(request: Request) -> Response:
        return _page(request, reader, "put_aside.html", reader.rejected.all())

    @router.get("/products/{name}/data-sets/{data_set}/rejected")
    def rejected(
        request: Request,
        name: str,
        data_set: str,
        environment: Text = "main",
        run: Text = "",
        reason: Path = "",
        page: Annotated[int, Query(ge=1, le=1_000_000)] = 1,
    ) -> Response:
        found = reader.rejected.page(
            name, data_set, environment=environment, run=run, reason=reason, page=page
        )
        return _page(request, reader, "rejected.html", found)


def _plan_routes(router: Routes, reader: Reader, who: Who) -> None:
    @router.get("/plans")
    def plans(request: Request) -> Response:
        return _page(request, reader, "plans.html", reader.plans(user=who(request)))

    @router.get("/products/{name}/plans")
    def plans_of(request: Request, name: str) -> Response:
        return _page(request, reader, "plans.html", reader.plans(name, who(request)))


def _schedule_routes(router: Routes, reader: Reader, who: Who) -> None:
    @router.get("/schedules")
    def schedules(request: Request) -> Response:
        return _page(request, reader, "schedules.html", reader.schedules(who(request)))

    @router.get("/schedules/calendar")
    def calendar(request: Request, month: Text = "", product: Text = "", day: Text = "") -> Response:
        return _page(request, reader, "calendar.html", reader.calendar(month, product.strip(), day))


def _lake_routes(router: Routes, reader: Reader) -> None:
    @router.get("/lake")
    def lake(request: Request, q: Text = "", after: Text = "") -> Response:
        return _page(
            request,
            reader,
            "lake.html",
            reader.repositories(query=q.strip(), after=after, user=_who(request, reader)),
        )


def render_failure(request: Request, status: int, exc: TulleError) -> Response:
    """A failure as a page. Falls back to plain text, so that a failure to render never hides the first one."""
    signed = any(name.startswith(READER_COOKIE) for name in request.cookies)
    try:
        html = (
            _templates()
            .get_template("failure.html")
            .render(page=FailurePage(status, exc), mesh="Tulle", path=request.url.path, who="", signed=signed)
        )
    except Exception:  # noqa: BLE001  whatever is wrong with the template, the reader gets the message
        hint = f"\n{exc.hint}" if exc.hint else ""
        return Response(f"{exc.message}{hint}\n", status_code=status, media_type="text/plain")
    return HTMLResponse(html, status_code=status, headers={"cache-control": "no-store"})


def _page(request: Request, reader: Reader, template: str, page: Any) -> Response:
    html = (
        _templates()
        .get_template(template)
        .render(
            page=page,
            mesh=reader.settings.name,
            path=request.url.path,
            who=_who(request, reader),
        )
    )
    return HTMLResponse(html, headers={"cache-control": "no-store"})
