"""The routes of the Exchange: parse the request, ask the read model, fill a template.

What an API's page sends by itself is a request to that API, with the credentials that its reader typed. Who reads is
known by a cookie, which opens pages to read and no more.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final
from urllib.parse import parse_qs, urlsplit

from fastapi import Depends, Query, Request
from fastapi.responses import JSONResponse, RedirectResponse, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from tulle.catalog.api_page import ApiPages
from tulle.catalog.api_trial import ApiAnswer, ApiCaller, Typed, file_name, request_of
from tulle.catalog.exchange import Exchange
from tulle.catalog.exchange_search import FACETS, Wanted
from tulle.catalog.readers import LASTS, Readers
from tulle.catalog.routes import Routes
from tulle.catalog.service import pretty
from tulle.catalog.way_forms import NOBODY, sent_of
from tulle.config import Settings
from tulle.errors import Denied, Invalid, TulleError
from tulle.gateway.envoy_values import READER_COOKIE

Text = Annotated[str, Query(max_length=200)]


def asked_for(
    q: Text = "",
    kind: Text = "",
    domain: Text = "",
    tag: Text = "",
    status: Text = "",
    way: Text = "",
    page: Annotated[int, Query(ge=1, le=10_000)] = 1,
) -> Wanted:
    """What is looked for, as the parameters of a request say it."""
    chosen = dict(zip(FACETS, (kind, domain, tag, status, way), strict=True))
    return Wanted(q.strip(), {facet: value for facet, value in chosen.items() if value}, page)


AskedFor = Annotated[Wanted, Depends(asked_for)]
Render = Callable[[Request, str, Any], Response]
_LARGEST_FORM: Final = 4096  # bytes of what is signed in with
_PRETTY_BYTES: Final = 1_000_000
_NOT_SHOWN: Final = frozenset({"set-cookie", "connection", "transfer-encoding", "server", "date"})


class TryBody(BaseModel):
    """A request to try, as it was typed; the credentials are sent along and kept nowhere."""

    model_config = ConfigDict(extra="forbid")

    version: str = Field("", max_length=63)
    environment: str = Field("", max_length=63)
    method: str = Field(max_length=10)
    path: str = Field(max_length=500)
    values: dict[str, str] = Field(default_factory=dict, max_length=50)
    query: str = Field("", max_length=4000)
    headers: dict[str, str] = Field(default_factory=dict, max_length=50)
    prefer: str = Field("", max_length=200)
    media: str = Field("", max_length=200)
    body: str = Field("", max_length=1_000_000)
    way: str = Field(NOBODY, max_length=200)
    given: dict[str, str] = Field(default_factory=dict, max_length=20, repr=False)


@dataclass(frozen=True, slots=True)
class SignInPage:
    """The form to sign in, and what was wrong with the last try; `to` is where it leads then."""

    to: str
    reader: str
    problem: str = ""


def cookie_of(settings: Settings) -> str:
    """The name of the cookie by which a reader is known: one for each mesh of a machine, as cookies know no ports."""
    return f"{READER_COOKIE}{settings.control_plane_port}"


def reader_of(request: Request, readers: Readers, settings: Settings) -> str:
    """Who reads, empty for nobody in particular."""
    return readers.user_of(request.cookies.get(cookie_of(settings), ""))


def exchange_routes(
    router: Routes,
    exchange: Exchange,
    pages: ApiPages,
    readers: Readers,
    caller: ApiCaller,
    render: Render,
) -> None:
    """Put the pages below /exchange on `router`."""

    def who(request: Request) -> str:
        return reader_of(request, readers, exchange.settings)

    _shelf_routes(router, exchange, who, render)
    _api_routes(router, pages, who, render)
    _try_routes(router, pages, who, caller)
    _sign_in_routes(router, exchange.settings, readers, render)


def _shelf_routes(router: Routes, exchange: Exchange, who: Callable[[Request], str], render: Render) -> None:
    @router.get("/exchange")
    def shelf(request: Request, wanted: AskedFor) -> Response:
        found = exchange.search(wanted, who(request))
        return render(request, "exchange.html", {"found": found, "reader": who(request)})


def _api_routes(router: Routes, pages: ApiPages, who: Callable[[Request], str], render: Render) -> None:
    @router.get("/exchange/apis/{name}")
    def api(
        request: Request,
        name: str,
        version: Text = "",
        environment: Text = "",
        part: Annotated[int, Query(ge=1, le=1000)] = 1,
    ) -> Response:
        return render(request, "api.html", pages.page(name, who(request), version, environment, part))

    @router.get("/exchange/apis/{name}/changes")
    def changes(request: Request, name: str, before: Text = "", after: Text = "") -> Response:
        return render(request, "api_changes.html", pages.changes(name, who(request), before, after))

    @router.get("/exchange/apis/{name}/openapi.json")
    def document(request: Request, name: str, version: Text = "", environment: Text = "") -> Response:
        return JSONResponse(pages.document(name, who(request), version, environment))


def _try_routes(router: Routes, pages: ApiPages, who: Callable[[Request], str], caller: ApiCaller) -> None:
    @router.post("/exchange/apis/{name}/try")
    def attempt(request: Request, name: str, wanted: TryBody) -> Response:
        operation, address, ways = pages.operation(
            name, who(request), wanted.version, wanted.environment, wanted.method, wanted.path
        )
        typed = Typed(wanted.values, wanted.query, wanted.headers, wanted.prefer, wanted.media, wanted.body)
        shown_as = sent_of(ways, wanted.way, wanted.given)
        answer = caller(request_of(operation, typed, shown_as, base=address.path, hosts=address.hosts))
        return JSONResponse(_shown(answer))


def _sign_in_routes(router: Routes, settings: Settings, readers: Readers, render: Render) -> None:
    name = cookie_of(settings)

    @router.get("/exchange/sign-in")
    def form(request: Request, to: Annotated[str, Query(max_length=500)] = "") -> Response:
        return render(request, "sign_in.html", SignInPage(_ours(to), reader_of(request, readers, settings)))

    @router.post("/exchange/sign-in")
    async def sign_in(request: Request) -> Response:
        said = await _form(request)
        to = _ours(said.get("to", ""))
        try:
            token = await run_in_threadpool(
                readers.sign_in, said.get("key", "").strip(), said.get("secret", "").strip()
            )
        except TulleError as exc:
            shown = render(request, "sign_in.html", SignInPage(to, "", exc.message))
            shown.status_code = 403 if isinstance(exc, Denied) else 429
            return shown
        answer = RedirectResponse(to, 303, headers={"cache-control": "no-store"})
        by_tls = request.url.scheme == "https"  # which a proxy on this machine may speak for the portal
        answer.set_cookie(
            name, token, max_age=LASTS, path="/", httponly=True, samesite="strict", secure=by_tls
        )
        return answer

    @router.post("/exchange/sign-out")
    def sign_out(request: Request) -> Response:
        readers.sign_out(request.cookies.get(name, ""))
        answer = RedirectResponse("/exchange", 303, headers={"cache-control": "no-store"})
        answer.delete_cookie(name, path="/", httponly=True, samesite="strict")
        return answer


def _shown(answer: ApiAnswer) -> dict[str, Any]:
    headers = {k: v for k, v in sorted(answer.headers.items()) if k.lower() not in _NOT_SHOWN}
    told = {
        "status": answer.status,
        "headers": headers,
        "body": _pretty(answer.body),
        "milliseconds": answer.milliseconds,
        "is_cut": answer.is_cut,
    }
    if answer.file is not None:
        said = {name.lower(): value for name, value in headers.items()}
        told["file"] = {
            "name": file_name(said.get("content-disposition", "")),
            "media": said.get("content-type", "").partition(";")[0],
            "content": base64.b64encode(answer.file).decode(),
        }
    return told


async def _form(request: Request) -> Mapping[str, str]:
    """A small form, as browsers send it without scripts. Invalid."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > _LARGEST_FORM:
            raise Invalid("the form is larger than one to sign in with", hint="send a key and its secret")
    try:
        said = parse_qs(body.decode(), max_num_fields=10)
    except ValueError:
        raise Invalid("the form cannot be read", hint="send a key and its secret") from None
    return {name: values[0] for name, values in said.items()}


def _ours(to: str) -> str:
    """A page of ours that is to follow; the Exchange for what is none."""
    try:
        parts = urlsplit(to)
    except ValueError:
        return "/exchange"
    plain = to.isascii() and to.isprintable() and "\\" not in to
    if not plain or parts.scheme or parts.netloc or not to.startswith("/") or to.startswith("//"):
        return "/exchange"
    return to


def _pretty(body: str) -> str:
    """The answer indented where it is JSON."""
    if len(body) > _PRETTY_BYTES:
        return body
    try:
        return pretty(json.loads(body))
    except (ValueError, RecursionError):
        return body
