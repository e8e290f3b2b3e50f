"""Who may come in at the control plane's door, and how a failure looks in HTTP. The one translation of errors.

- The `Host` header must name this machine: a page of another site cannot reach us by pointing its name here.
- `/mesh/v1` needs the mesh's token, which may do everything; or a user's access key (Basic) or token (Bearer), with
  which what concerns promotions, APIs, applications and contracts, and the keys and the logs of services, may be asked:
  who approves is who holds the credential.
- `/metrics` is read without one and with either: what is told there depends on who asks.
- `/admin/api`, the admin API of API nodes, needs a key of its own; it is off until one is made.
- The portal's pages may be read without one, as only this machine's users reach a loopback address; what a page may
  change (trying a service) must come from a page of ours.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from tulle.config import Settings
from tulle.control.node_admin_api import node_error
from tulle.errors import (
    AlreadyExists,
    Broken,
    Conflict,
    Denied,
    Gone,
    Invalid,
    LimitExceeded,
    NotFound,
    PreconditionFailed,
    Problem,
    TulleError,
    Unavailable,
    Vetoed,
)
from tulle.gateway.apis.sight import NOBODY
from tulle.server.token import is_token
from tulle.serving.package_import import MOST_BYTES
from tulle.spec.document import shown

LOG = logging.getLogger("tulle")

STATUS: dict[type[TulleError], int] = {
    Invalid: 422,
    NotFound: 404,
    Gone: 410,
    AlreadyExists: 409,
    Conflict: 409,
    PreconditionFailed: 412,
    Denied: 403,
    Vetoed: 412,
    LimitExceeded: 413,
    Unavailable: 503,
    Broken: 500,
}

MAX_BODY = 4 * 1024 * 1024  # bytes; no call of the API needs more, but for what is an archive

Next = Callable[[Request], Awaitable[Response]]
RenderFailure = Callable[[Request, int, TulleError], Response]
UserOf = Callable[[str], str]  # whose the credential of an Authorization header is; Denied
AdminOf = Callable[[str], str | None]  # the same of a key of the admin API; None: it is off
ADMIN_API = "/admin/api/"
METRICS = "/metrics"

_HOST = re.compile(r"(?P<name>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:[0-9]{1,5})?")
_SERVICE = r"/mesh/v1/services/[^/]+"
_API = r"/mesh/v1/apis/[^/]+"
_ARCHIVE = re.compile(rf"{_SERVICE}/packages/archive")
_USERS_MAY = {
    "GET": re.compile(
        rf"{METRICS}|/mesh/v1/(products|environments|environments/[^/]+|releases|products/[^/]+/releases/.+|promotions|promotions/[^/]+)"
        rf"|{_SERVICE}/(deployments|compare/recorded|file|annotations|keys|queries|log|load|feedback|drift|drift/history)"
        rf"|/mesh/v1/(deployment-requests|exchange|apis|apis-schema)|{_API}(/diff|/status|/keys|/ratings|/questions|/versions/[^/]+/(operations|policies|openapi\.json))?"
        rf"|/mesh/v1/(applications|applications/[^/]+|contracts|contracts/[^/]+(/terms)?|access|products/[^/]+/offer)|{_SERVICE}/offer"
    ),
    "POST": re.compile(
        r"/mesh/v1/(promotions/[^/]+/(decisions|withdraw)|products/[^/]+/(promotions|rollback)"
        r"|deployment-requests/[^/]+/(decision|cancel)"
        r"|applications|applications/[^/]+/rotate|contracts|contracts/[^/]+/(approve|reject|revoke|restore|change))"
        rf"|{_SERVICE}/(keys|deploy|rollback|enable|disable|generations/[^/]+/(preload|unload|test)|endpoints/[^/]+/(attempt|test-queries)|compare|compare/replay)"
        rf"|{_API}/(versions/[^/]+/(publish|deprecate|retire|unbind)|keys|questions|questions/[^/]+/answers)"
    ),
    "PUT": re.compile(
        rf"{_SERVICE}/(traffic|bounds|ending|file|annotations)|/mesh/v1/(contracts/[^/]+/terms|applications/[^/]+/hook)"
        rf"|{_API}/(versions/[^/]+/binding|rating|ratings/[^/]+/reply)"
    ),
    "PATCH": re.compile(rf"({_SERVICE}|{_API})/keys/[^/]+|/mesh/v1/applications/[^/]+"),
    "DELETE": re.compile(
        rf"{_SERVICE}/(keys/[^/]+|ending|deployment)|{_API}/(versions/[^/]+/binding|keys/[^/]+|rating|questions/[^/]+(/answers/[^/]+)?)"
        r"|/mesh/v1/(applications/[^/]+|applications/[^/]+/(former-secret|hook)|contracts/[^/]+)"
    ),
}


def hosts(settings: Settings) -> set[str]:
    """The names by which this machine may be asked for, without a port."""
    return {"127.0.0.1", "localhost", "[::1]", settings.host}


def guard(
    app: FastAPI, settings: Settings, render_failure: RenderFailure, user_of: UserOf, admin_of: AdminOf
) -> None:
    """Put the guards and the translation of errors on `app`; `render_failure` gives them their looks.

    `request.state.user` is the user whose credential came, None for the mesh's token, `NOBODY` where `METRICS` are
    asked for without any; `request.state.admin` whoever came with a key of the admin API.
    """
    ours = hosts(settings)

    @app.middleware("http")
    async def door(request: Request, call_next: Next) -> Response:
        request.state.user = None
        if request.url.path.startswith(
            "/" + ADMIN_API
        ):  # clients that are given an address with a slash at its end
            request.scope["path"] = request.url.path[1:]
        if request.scope["path"].startswith(ADMIN_API):
            if (refused := await _as_admin(request, ours, admin_of)) is not None:
                return refused
        elif (refusal := await _refusal(request, settings, ours, user_of)) is not None:
            return refusal
        response = await call_next(request)
        response.headers["x-content-type-options"] = "nosniff"
        response.headers["x-frame-options"] = "DENY"
        response.headers["referrer-policy"] = "same-origin"
        response.headers.setdefault(
            "content-security-policy",
            "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; frame-ancestors 'none'",
        )
        return response

    @app.exception_handler(TulleError)
    async def failure(request: Request, exc: TulleError) -> Response:
        return render_failure(request, _status(exc), exc)

    @app.exception_handler(RequestValidationError)
    async def unusable(request: Request, exc: RequestValidationError) -> Response:
        problems = [Problem(_told(error)) for error in exc.errors()]
        return render_failure(request, 422, Invalid("the request is not usable", problems=problems))

    @app.exception_handler(HTTPException)
    async def framework(request: Request, exc: HTTPException) -> Response:
        path = request.url.path
        hint = "the portal starts at /"
        if path.startswith("/mesh/"):
            hint = "no name may have a '/' in it; /mesh/v1/openapi.json has all calls"
        error: TulleError = NotFound(f"there is nothing at {path}", hint=hint)
        if exc.status_code != 404:
            error = Invalid(f"{request.method} {path}: {exc.detail}")
        return render_failure(request, exc.status_code, error)

    @app.exception_handler(Exception)
    async def defect(request: Request, exc: Exception) -> Response:
        LOG.error("%s %s", request.method, request.url.path, exc_info=exc)
        error = Broken(
            f"a defect in tulle: {type(exc).__name__}",
            hint="`tulle logs control_plane` or `tulle logs command` has the details",
        )
        return render_failure(request, 500, error)


async def _refusal(request: Request, settings: Settings, hosts: set[str], user_of: UserOf) -> Response | None:
    """Why this request may not come in, or None."""
    if (stranger := _foreign(request, hosts)) is not None:
        return _answer(403, stranger)
    path = str(request.scope["path"])  # by which the route is found; a URL may read otherwise
    header = request.headers.get("authorization")
    if path == METRICS and header is None:
        request.state.user = NOBODY
    elif path.startswith("/mesh/") or path == METRICS:
        if not is_token(settings, header) and (refusal := await _as_user(request, header or "", user_of)):
            return refusal
    elif request.method not in {"GET", "HEAD"} and not _from_our_page(request):
        return _answer(403, Denied("this may only be sent from a page of the portal"))
    is_archive = request.method == "POST" and _ARCHIVE.fullmatch(path) is not None
    wrong = _wrong_length(request, MOST_BYTES if is_archive else MAX_BODY)
    return None if wrong is None else _answer(*wrong)


def host_of(header: str) -> str:
    """The host that a Host header names, without its port; "" when it names none."""
    found = _HOST.fullmatch(header)
    return found["name"] if found is not None else ""


def _foreign(request: Request, hosts: set[str]) -> Denied | None:
    host = host_of(request.headers.get("host", ""))
    if host in hosts:
        return None
    return Denied(f"host '{host}' is not this mesh", hint=f"use http://{next(iter(sorted(hosts)))}")


def _wrong_length(request: Request, most: int = MAX_BODY) -> tuple[int, TulleError] | None:
    if "chunked" in request.headers.get("transfer-encoding", "").lower():
        return 411, Invalid("the body's length is not said", hint="send a Content-Length header")
    length = request.headers.get("content-length", "0")
    if not length.isdigit() or int(length) > most:
        return 413, LimitExceeded(f"the body is {length} bytes, at most {most} are accepted")
    return None


async def _as_admin(request: Request, hosts: set[str], admin_of: AdminOf) -> Response | None:
    """Why a request of the admin API may not come in, or None; then it is known with which key it came."""
    if (stranger := _foreign(request, hosts)) is not None:
        return node_failure(403, stranger)
    try:
        admin = await asyncio.to_thread(admin_of, request.headers.get("authorization", ""))
    except Denied as exc:
        refused = node_failure(401, exc)
        refused.headers["www-authenticate"] = 'Basic realm="tulle admin", charset="UTF-8"'
        return refused
    if admin is None:
        hint = "`tulle service admin-key create` makes a key, and turns it on"
        return node_failure(404, NotFound("the admin API is off", hint=hint))
    request.state.admin = admin
    wrong = _wrong_length(request)
    return None if wrong is None else node_failure(*wrong)


def node_failure(status: int, exc: TulleError) -> Response:
    """A failure as clients of API nodes read it."""
    detail = f"{exc.message} ({exc.hint})" if exc.hint else exc.message
    return node_error(400 if status == 422 else status, type(exc).__name__, exc.message, detail)


async def _as_user(request: Request, header: str, user_of: UserOf) -> Response | None:
    """Why a credential that is not the mesh's token may not do this, or None; then it is known whose it is."""
    try:
        user = await asyncio.to_thread(user_of, header)
    except Denied as exc:
        hint = "send the token of .tulle/token as `Authorization: Bearer …`"
        return _answer(401, Denied("the API needs the mesh's token", hint=exc.hint or hint))
    may = _USERS_MAY.get(request.method)
    if may is None or not may.fullmatch(request.scope["path"]):
        hint = (
            "with an access key of their own, users promote releases, deploy services, bind APIs, read logs, decide, "
            "and make keys"
        )
        return _answer(403, Denied(f"user '{user}' may not do this: it needs the mesh's token", hint=hint))
    request.state.user = user
    return None


def _from_our_page(request: Request) -> bool:
    origin = request.headers.get("origin")
    return origin is not None and origin.partition("://")[2] == request.headers.get("host")


def _status(exc: TulleError) -> int:
    return STATUS.get(type(exc), 500)


def _answer(status: int, exc: TulleError) -> Response:
    return JSONResponse({"error": exc.as_dict()}, status_code=status)


def answer_in_json(_request: Request, status: int, exc: TulleError) -> Response:
    """A failure as the API shows it."""
    return _answer(status, exc)


def _told(error: Mapping[str, Any]) -> str:
    """What is wrong with a request, by its part; no value of a body, which may be a secret."""
    where, *steps = (str(step) for step in error["loc"])
    name = ".".join(steps)
    if error["type"] == "json_invalid":
        return f"the body is not JSON: {str(error['ctx']['error']).lower()} at character {name}"
    if error["type"] == "missing":
        return f"'{name}' is missing in the {where}" if name else f"the {where} is missing"
    if error["type"] == "extra_forbidden":
        return f"unknown property '{name}' in the {where}"
    said = str(error["msg"])
    given = f"'{name}' in the {where}" if name else f"the {where}"
    if where in {"query", "path"}:
        given += f" is '{shown(str(error['input']))}'"
    return f"{given}: {said[:1].lower()}{said[1:]}"
