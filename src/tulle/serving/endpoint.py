"""One endpoint of a running service: what every kind of endpoint answers, and what its answers tell.

An endpoint takes the bytes of a body and gives the bytes of an answer, or raises RequestError. It knows
nothing of HTTP servers, sockets or credentials.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Protocol

import msgspec

from tulle.serving.request import RequestError, meant

# Every answer of an API node says which user API its paths and bodies follow, and what software answers.
NODE_HEADERS = ((b"dss-api-version", b"1"), (b"dss-version", b"tulle-" + version("tulle").encode()))

Header = tuple[bytes, bytes]


class Answer(msgspec.Struct, frozen=True, gc=False):
    """An answer that is not simply JSON with status 200. A struct, since one is made for every request."""

    body: bytes
    status: int = 200
    content_type: str = "application/json"
    headers: Mapping[str, str] = {}  # msgspec gives each its own
    commits: Mapping[str, str] | None = None  # where they are others than its endpoint's
    rows: Any = None  # for the query log: the features of one, or places and features of many


@dataclass(frozen=True, slots=True)
class Headed:
    """What is done by code outside of this process, and is told the headers of the request."""

    call: Callable[[Any, str, Sequence[Header]], Awaitable[Answer]]


# What is answered at once is bytes; what takes a while is awaited.
Given = bytes | Awaitable[Answer]
# The body of a request, or the pairs of a query string, and the request's id.
Action = Callable[[bytes, str], Given] | Headed
# The body of a request to what is answered for it, without what an answer tells beside; None: ask the usual way.
Direct = Callable[[bytes], bytes | None]
Query = Callable[[Sequence[tuple[str, str]], str], Given] | Headed
MOST_ITEMS = 10_000  # of one request for many
_SAFE_ID = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")


class Endpoint(Protocol):
    """One endpoint, loaded; one thread calls it."""

    name: str
    kind: str
    main: str  # the action by which it is tested
    commits: Mapping[str, str]  # the commits its answers are made from, by repository

    @property
    def actions(self) -> Mapping[str, Action]:
        """What a POST to /{endpoint}/{action} does."""

    @property
    def queries(self) -> Mapping[str, Query]:
        """What a GET of /{endpoint}/{action} does."""

    async def ready(self) -> None:
        """Start what it needs beside this process. RequestError when that cannot be."""

    def close(self) -> None:
        """End that again."""


@dataclass(frozen=True, slots=True)
class Trace:
    """What every answer tells: which service, version and generation gave it, made from which package."""

    service: str
    version: str
    generation: str
    digest: str

    def context(self, endpoint: str, commits: Mapping[str, str], **more: str) -> str:
        """The answer's last member, up to the request id, which `end` closes."""
        values: dict[str, Any] = {
            "serviceId": self.service,
            "endpointId": endpoint,
            "serviceGeneration": self.generation,
            "packageVersion": self.version,
            "packageDigest": self.digest,
            "dataCommits": dict(commits),
            **more,
        }
        return '"apiContext":' + msgspec.json.encode(values).decode().removesuffix("}") + ',"requestId":"'


def is_safe_id(request_id: str) -> bool:
    """Whether a caller's request id may be repeated in headers and answers as it is."""
    return _SAFE_ID.fullmatch(request_id) is not None


class Dispatch(msgspec.Struct, gc=False):
    """Which generation the caller wants; the gateway chooses, a worker only checks that it is the one."""

    forced: str | None = msgspec.field(name="forcedGeneration", default=None)
    key: Any = msgspec.field(name="dispatchKey", default=None)


def check_generation(dispatch: Dispatch | None, generation: str) -> None:
    """Refuse to answer for another generation than this one."""
    if dispatch is not None and dispatch.forced is not None and dispatch.forced != generation:
        raise RequestError(
            404,
            "UnknownGeneration",
            f"generation '{dispatch.forced[:60]}' does not answer here",
            f"Active is '{generation}'; leave 'forcedGeneration' out to have it chosen",
        )


def envelope(raw: Any, known: Sequence[str], struct: Any) -> Any:
    """The members of a body beside its values, read into `struct`; RequestError when one has a wrong form."""
    try:
        return msgspec.convert({name: raw[name] for name in known if name in raw}, struct)
    except msgspec.ValidationError as exc:
        raise RequestError(400, "InvalidRequest", f"the body is not understood: {exc}") from None


def error_body(error: RequestError, request_id: str, trace: str = "") -> bytes:
    """The one JSON form of every error; `trace` is the id of the request's trace, where it has one."""
    return msgspec.json.encode(
        {
            "errorType": error.error_type,
            "message": error.message,
            "detailedMessage": error.detail,
            "requestId": request_id,
            **({"traceId": trace} if trace else {}),
        }
    )


def error_item(error: RequestError) -> bytes:
    """The result of one item of many that could not be answered; the others are."""
    return msgspec.json.encode(
        {
            "ignored": True,
            "ignoreReason": error.error_type,
            "error": {
                "status": error.status,
                "errorType": error.error_type,
                "message": error.message,
                "detailedMessage": error.detail,
            },
        }
    )


def items_of(raw: Any, most: int | None = None) -> list[Any]:
    """The list of items in the body of a request for many; RequestError when there is none, or more than `most`."""
    if not isinstance(raw, dict) or not isinstance(raw.get("items"), list):
        near = meant("items", raw) if isinstance(raw, dict) and "items" not in raw else ""
        raise RequestError(
            400, "InvalidRequest", f"'items' is missing or not a list{near}", 'Send {"items": [{…}]}'
        )
    items: list[Any] = raw["items"]
    if most is not None and len(items) > most:
        message = f"{len(items):,} items are too many at once"
        raise RequestError(
            400, "TooManyItems", message, f"Send {most:,} at most, and the others in a request of their own"
        )
    return items
