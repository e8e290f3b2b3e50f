"""The REST door as an ASGI application: who calls, which operation, and failures as lakeFS's clients expect them."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from tulle.errors import TulleError
from tulle.lake.door import Application, Disconnected, Incoming, NotQuickError, Outgoing, application
from tulle.lake.repository import Lake
from tulle.lake.rest.call import Call, failed
from tulle.lake.rest.failure import Refusal, message_of, status_of
from tulle.lake.rest.identity import Identity
from tulle.lake.rest.router import PREFIX, Router, all_routes

if TYPE_CHECKING:
    from tulle.lake.access import Access

THREADS = 32
_ONE = re.compile(rb"/refs/[\w.-]+/objects(/stat)?\Z")
_LIST = re.compile(rb"/refs/[^/]+/(objects/ls|diff/[^/]+|commits)\Z|/(branches|tags|repositories)\Z")

log = logging.getLogger(__name__)


def rest_application(
    lake: Lake,
    access: Access,
    *,
    is_mesh_token: Callable[[str], bool],
    endpoint: str = "",
    access_log: RequestLog | None = None,
    threads: int = THREADS,
) -> Application:
    """The lakeFS-compatible API of a lake at /api/v1.

    `is_mesh_token` tells the administrator's own token; `endpoint` is the URL callers know this server by,
    without a path, for addresses the API hands out where a request does not say; `access_log` is told every
    request.
    """
    door = RestDoor(lake, access, is_mesh_token=is_mesh_token, endpoint=endpoint, access_log=access_log)
    if not lake.is_local:
        return application(door.answer, threads=threads, name="lake-api")
    return application(door.answer, threads=threads, name="lake-api", is_quick=_reads_one, is_busy=_lists)


def _reads_one(request: Incoming) -> bool:
    # Not a listing, which may have to look at much more than it tells, nor a ref that is many steps back.
    return request.method in {"GET", "HEAD"} and _ONE.search(request.raw_path) is not None


def _lists(request: Incoming) -> bool:
    return request.method == "GET" and _LIST.search(request.raw_path) is not None


class RequestLog(Protocol):
    """Where requests are noted."""

    def request(self, user: str, request: Incoming, operation: str, status: int, seconds: float) -> None:
        """One request was answered."""
        ...


class RestDoor:
    """Answers requests."""

    def __init__(
        self,
        lake: Lake,
        access: Access,
        *,
        is_mesh_token: Callable[[str], bool],
        endpoint: str = "",
        access_log: RequestLog | None = None,
    ) -> None:
        self._lake = lake
        self._access = access
        self._identity = Identity(access, is_mesh_token)
        self._endpoint = endpoint.rstrip("/")
        self._log = access_log
        self.router = Router(all_routes())

    def answer(self, request: Incoming) -> Outgoing:
        """The answer to a request; failures are answers too."""
        began = time.perf_counter()
        call = Call(request, self._lake, self._access, "", {}, self._endpoint)
        try:
            outgoing = self._handled(call)
        except (Disconnected, NotQuickError):
            raise
        except TulleError as exc:
            more = (exc.headers, exc.fields) if isinstance(exc, Refusal) else ()
            status = status_of(exc)
            if status >= 500 and not isinstance(exc, Refusal):
                log.warning("%s %s: %s", request.method, request.path, exc.message)
            outgoing = failed(message_of(exc), status, *more)
        except Exception:
            log.exception("%s %s", request.method, request.path)
            outgoing = failed("an internal error; the server's log has it", 500)
        if self._log is not None:
            self._log.request(
                call.user, request, call.operation, outgoing.status, time.perf_counter() - began
            )
        return outgoing

    def _handled(self, call: Call) -> Outgoing:
        request = call.request
        raw_path = request.raw_path.partition(b"?")[0].removeprefix(PREFIX.encode())
        found = self.router.find(request.method, raw_path)
        if found is not None:
            route, call.parameters = found
            call.operation = route.operation
            if not route.public:
                call.user = self._identity.user_of(request)
            return route.handler(call)
        call.user = self._identity.user_of(request)  # strangers do not learn what there is
        if methods := self.router.methods(raw_path):
            allowed = [("allow", ", ".join(methods))]
            raise Refusal(405, f"{request.method} is not done at {request.path}", headers=allowed)
        raise Refusal(404, f"there is no {request.path!r} in this API")
