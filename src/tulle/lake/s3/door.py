"""The S3 door as an ASGI application: who calls, which operation, and failures as S3's clients expect them."""

from __future__ import annotations

import itertools
import logging
import re
import secrets
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from tulle.errors import TulleError
from tulle.lake.door import Application, Disconnected, Incoming, NotQuickError, Outgoing, application
from tulle.lake.repository import Lake
from tulle.lake.s3 import xml
from tulle.lake.s3.address import bucket_and_key, bucket_of_host, checked_bucket, checked_values
from tulle.lake.s3.call import XML, Call
from tulle.lake.s3.failure import S3Error, refusal_of
from tulle.lake.s3.routing import route
from tulle.lake.s3.sign import Verifier, query_pairs

if TYPE_CHECKING:
    from tulle.lake.access import Access

DOMAIN = "s3.local.lakefs.io"
THREADS = 32

_ONE = re.compile(rb"/[\w.-]+/[^~^%]*[^/~^%]")
_BUCKET = re.compile(rb"/[\w.-]*/?")
_UNWRITABLE = re.compile("[\x00-\x08\x0b-\x1f\ud800-\udfff\ufffe\uffff]")

log = logging.getLogger(__name__)


class RequestLog(Protocol):
    """Where requests are noted."""

    def request(self, user: str, request: Incoming, operation: str, status: int, seconds: float) -> None:
        """One request was answered."""
        ...


def s3_application(
    lake: Lake,
    access: Access,
    *,
    domain: str | Sequence[str] = DOMAIN,
    access_log: RequestLog | None = None,
    threads: int = THREADS,
    clock: Callable[[], float] = time.time,
) -> Application:
    """The S3 API of a lake: bucket = repository, key = ref/path, path style and `<bucket>.<domain>`.

    `access_log` is told every request, `clock` (seconds since the epoch) is what signatures are held against.
    """
    domains = (domain,) if isinstance(domain, str) else tuple(domain)
    door = S3Door(lake, access, domains, access_log=access_log, clock=clock)
    if not lake.is_local:
        return application(door.answer, threads=threads, name="lake-s3")
    return application(door.answer, threads=threads, name="lake-s3", is_quick=_reads_one, is_busy=_lists)


def _reads_one(request: Incoming) -> bool:
    # Not a listing, which may have to look at much more than it tells, nor a ref that is many steps back.
    return (
        request.method in {"GET", "HEAD"}
        and not request.raw_query
        and _ONE.fullmatch(request.raw_path) is not None
    )


def _lists(request: Incoming) -> bool:
    return request.method == "GET" and _BUCKET.fullmatch(request.raw_path) is not None


class S3Door:
    """Answers requests."""

    def __init__(
        self,
        lake: Lake,
        access: Access,
        domains: Sequence[str],
        *,
        access_log: RequestLog | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._lake = lake
        self._access = access
        self._domains = tuple(domain.lower() for domain in domains)
        self._verifier = Verifier(access.key, clock=clock)
        self._log = access_log
        self._session = secrets.token_hex(4).upper()
        self._numbers = itertools.count(1)

    def answer(self, request: Incoming) -> Outgoing:
        """The answer to one request; every failure becomes one in S3's form."""
        began = time.perf_counter()
        number = f"{self._session}{next(self._numbers):08X}"
        call: Call | None = None
        operation = ""
        try:
            call = self._call(request)
            operation, handler = route(call)
            outgoing = handler(call)
        except (Disconnected, NotQuickError):
            raise
        except S3Error as exc:
            outgoing = _refused(exc, request, number)
        except Exception as exc:  # noqa: BLE001  every failure is answered
            outgoing = _refused(self._failure(exc, call, number), request, number)
        outgoing.headers = [*outgoing.headers, ("x-amz-request-id", number)]
        if self._log is not None:
            user = call.user if call is not None else ""
            self._log.request(user, request, operation, outgoing.status, time.perf_counter() - began)
        return outgoing

    def _failure(self, exc: Exception, call: Call | None, number: str) -> S3Error:
        # A store that was given a body we refuse may have put the refusal into words of its own.
        if call is not None and call.taken is not None and call.taken.refused is not None:
            return call.taken.refused
        if isinstance(exc, TulleError):
            return refusal_of(exc)
        log.error("S3 request %s failed", number, exc_info=exc)
        return S3Error("InternalError", "we encountered an internal error; its details are in our log")

    def _call(self, request: Incoming) -> Call:
        pairs = query_pairs(request.raw_query)
        host = request.header("host")
        bucket, key = bucket_and_key(host, request.path, self._domains)
        signed = self._verifier.verify(request, pairs, bucket_of_host(host, self._domains))
        values: dict[str, str] = {}
        for name, value in pairs:
            if values.setdefault(name, value) != value:  # whichever we took, it could be the wrong one
                raise S3Error("InvalidArgument", f"the query has '{name[:40]}' twice, with different values")
        checked_values(values.values())
        checked_bucket(bucket)
        return Call(request, self._lake, self._access, signed.user, bucket, key, signed.payload, values)


def _refused(error: S3Error, request: Incoming, number: str) -> Outgoing:
    headers = [(name, value) for name, value in error.headers.items()]
    if error.status == 304:
        return Outgoing(304, b"", headers)
    resource = request.raw_path.partition(b"?")[0].decode("latin-1")
    parts = [xml.element("Code", error.code), xml.element("Message", _UNWRITABLE.sub("�", error.message))]
    # What a client sent comes back in a document every parser can read.
    parts.extend(xml.element(name, _UNWRITABLE.sub("�", value)) for name, value in error.details.items())
    parts.extend(
        [xml.element("Resource", resource), xml.element("RequestId", number), "<HostId>lake</HostId>"]
    )
    return Outgoing(error.status, xml.document("Error", parts, namespace=False), [XML, *headers])
