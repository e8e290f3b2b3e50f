"""The routes of services' pages: parse the request, ask the page's reader, fill a template.

What a page may send by itself is a request to a service, as its own consumer would; what changes a deployment goes to
the mesh's API with the reader's own key, from the page.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import Depends, Query, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from tulle.catalog.design_pages import design_routes
from tulle.catalog.exchange_pages import reader_of
from tulle.catalog.portal import Reader
from tulle.catalog.routes import Routes
from tulle.catalog.service import ServiceView, endpoint_of, pretty
from tulle.catalog.trial import Caller, How
from tulle.config import Settings
from tulle.errors import Invalid, NotFound, did_you_mean
from tulle.spec import environment as declared

_SHOWN_HEADERS = ("content-type", "retry-after", "dss-api-version", "server-timing")
_SHOWN_PREFIXES = ("x-ratelimit-", "x-request-id", "x-tulle-")
_PRETTY_BYTES = 2_000_000  # a larger answer is shown as it came
_HEADER = r"^[^\x00-\x1f\x7f]*$"  # what goes into a header


Text = Annotated[str, Query(max_length=200)]
Render = Callable[[Request, str, Any], Response]


class TryBody(BaseModel):
    """A request to try; without client id and secret it is sent as the portal's own application."""

    model_config = ConfigDict(extra="forbid")

    endpoint: str = Field(max_length=63)
    action: str = Field(max_length=63)
    body: str = Field(max_length=2_000_000)  # as typed: what is not JSON may be tried too
    client_id: str = Field("", max_length=200, pattern=_HEADER)
    client_secret: str = Field("", max_length=200, pattern=_HEADER)
    environment: str = Field("", max_length=63)
    generation: str = Field("", max_length=63)
    key: str = Field("", max_length=1000, pattern=_HEADER)
    steps: bool = False

    def how(self, settings: Settings, service: ServiceView) -> How:
        """Where it goes. NotFound for an environment or a generation that is not there."""
        known = [version.version for version in service.versions]
        if self.generation and self.generation not in known:
            hint = did_you_mean(self.generation, known) or f"known: {', '.join(known) or 'none'}"
            raise NotFound(f"service '{service.name}' has no generation '{self.generation}'", hint=hint)
        place = declared.environment(settings, self.environment) if self.environment else None
        name = "" if place is None else declared.place_of(place)
        return How(name, self.generation, self.key, self.steps)


def service_routes(router: Routes, reader: Reader, caller: Caller, render: Render) -> None:
    """Put the pages below /services on `router`; `render` fills a template."""

    def who(request: Request) -> str:
        return reader_of(request, reader.readers, reader.settings)

    def seen(request: Request) -> None:
        if (name := request.path_params.get("name")) is not None:
            reader.services.demand_seen(name, who(request))

    pages = Routes(dependencies=[Depends(seen)])  # whatever page of a service it is
    _read_routes(pages, reader, render, who)
    _deployment_routes(pages, reader, render)
    _try_routes(pages, reader, caller)
    design_routes(pages, reader.services, render)
    router.include(pages)


def _read_routes(router: Routes, reader: Reader, render: Render, who: Callable[[Request], str]) -> None:
    @router.get("/services")
    def services(request: Request) -> Response:
        return render(request, "services.html", reader.services_page(who(request)))

    @router.get("/services/{name}")
    def service(request: Request, name: str) -> Response:
        return render(request, "service.html", reader.services.page(name))

    @router.get("/services/{name}/queries")
    def queries(request: Request, name: str, errors: bool = False) -> Response:
        return render(request, "service_queries.html", reader.queried.page(name, errors=errors))

    @router.get("/services/{name}/compare")
    def compare(request: Request, name: str, left: Text = "", right: Text = "") -> Response:
        return render(request, "service_compare.html", reader.services.compare(name, left, right))

    @router.get("/services/{name}/openapi.json")
    def openapi(name: str) -> Response:
        return JSONResponse(reader.services.openapi(name))


def _deployment_routes(router: Routes, reader: Reader, render: Render) -> None:
    @router.get("/services/{name}/deployments")
    def deployments(request: Request, name: str, environment: Text = "", span: Text = "hour") -> Response:
        filled = {key: value[:200] for key, value in request.query_params.items()}
        page = reader.deployments.page(name, environment, filled)
        fares = reader.load.page(name, environment, span)
        return render(request, "service_deployments.html", {"deployments": page, "load": fares})

    @router.get("/services/{name}/deployments/state")
    def state(request: Request, name: str, environment: Text = "") -> Response:
        """The part of the page that changes by itself."""
        return render(request, "service_state.html", reader.deployments.state(name, environment))

    @router.get("/services/{name}/load")
    def load(request: Request, name: str, environment: Text = "", span: Text = "hour") -> Response:
        """The part of the page that tells how it fares."""
        reader.deployments.demand_known(name)
        return render(request, "service_load.html", reader.load.page(name, environment, span))


def _try_routes(router: Routes, reader: Reader, caller: Caller) -> None:
    @router.post("/services/{name}/try")
    def attempt(name: str, wanted: TryBody) -> Response:
        if bool(wanted.client_id) != bool(wanted.client_secret):
            raise Invalid(
                "client id and client secret belong together", hint="give both, or none to use the portal's"
            )
        service = reader.services.one(name)
        endpoint = endpoint_of(service, wanted.endpoint, wanted.action)
        how = wanted.how(reader.settings, service)
        credentials = (wanted.client_id, wanted.client_secret) if wanted.client_id else None
        answer = caller(name, endpoint.name, wanted.action, wanted.body.encode(), credentials, how)
        shown = {k: v for k, v in sorted(answer.headers.items()) if _is_shown(k)}
        return JSONResponse(asdict(answer) | {"headers": shown, "body": _pretty(answer.body)})


def _is_shown(header: str) -> bool:
    return header.lower() in _SHOWN_HEADERS or header.lower().startswith(_SHOWN_PREFIXES)


def _pretty(body: str) -> str:
    """The answer indented where it is JSON."""
    if len(body) > _PRETTY_BYTES:
        return body
    try:
        return pretty(json.loads(body))
    except (ValueError, RecursionError):
        return body
