"""One request to an API that somebody tries from its page: made of what they typed, for one declared operation.

Where it goes follows from the API's own address alone; nothing that was typed leads elsewhere. Pure: it is sent by
whoever is given it, to the gateway of this mesh.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import quote

from tulle.catalog.openapi import Operation
from tulle.catalog.way_forms import Sent
from tulle.errors import Invalid
from tulle.spec.openapi_document import leads_upwards

LARGEST_ANSWER: Final = 1_000_000  # bytes that are shown
_TEXT: Final = re.compile(
    r"\s*(text/|application/([a-z0-9.+-]*[.+-])?(json|xml|yaml|javascript|graphql|x-www-form-urlencoded|x-ndjson)\s*(;|$))",
    re.IGNORECASE,
)
_MAYBE_TEXT: Final = re.compile(r"\s*(application/octet-stream|\*/\*)", re.IGNORECASE)
_FILE_NAME: Final = re.compile(
    r"""\bfilename\s*=\s*"?([A-Za-z0-9_-][A-Za-z0-9_. -]{0,99})(?=["\s;]|$)""", re.IGNORECASE
)
_PARAMETER: Final = re.compile(r"\{([^{}/]+)\}")
_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}")
_VALUE: Final = re.compile(r"[\x20-\x7e]{0,4000}")
_QUERY: Final = re.compile(r"[\x21-\x7e]{0,4000}")
# What is the connection's, the gateway's, or a credential's: said elsewhere or not at all.
_NOT_TYPED: Final = frozenset(
    {
        "authorization",
        "client_id",
        "client_secret",
        "connection",
        "content-length",
        "cookie",
        "expect",
        "host",
        "keep-alive",
        "origin",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)


@dataclass(frozen=True, slots=True)
class ApiRequest:
    """A request to the gateway: `target` is path and query, `host` what it is called by, empty for the usual."""

    method: str
    target: str = field(repr=False)  # a credential may be in its query
    host: str = ""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)  # with somebody's credentials
    body: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class ApiAnswer:
    """The answer of an API as it came: `file` is what is no text, in the place of `body`; `is_cut`: there was more."""

    status: int
    headers: Mapping[str, str]
    body: str
    milliseconds: float
    file: bytes | None = None
    is_cut: bool = False


ApiCaller = Callable[[ApiRequest], ApiAnswer]  # Unavailable when the gateway does not answer


@dataclass(frozen=True, slots=True)
class Typed:
    """What somebody typed: values of the path's parameters, the query as it is sent, headers, a body."""

    path: Mapping[str, str] = field(default_factory=dict)
    query: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    prefer: str = ""
    media: str = ""
    body: str = ""


def request_of(
    operation: Operation,
    typed: Typed,
    credentials: Sent,
    *,
    base: str,
    hosts: tuple[str, ...] = (),
) -> ApiRequest:
    """The request that tries `operation` of the API at the path `base`. Invalid."""
    declared = {one.name.lower() for one in operation.parameters if one.place == "header"}
    headers = {"accept": "*/*"}
    for name, value in typed.headers.items():
        if name.lower() not in declared or _is_not_typed(name.lower()) or _NAME.fullmatch(name) is None:
            raise Invalid(
                f"the operation takes no header '{name[:100]}'", hint=f"known: {', '.join(sorted(declared))}"
            )
        headers[name.lower()] = _checked(value, f"header '{name[:100]}'")
    if typed.prefer:
        headers["prefer"] = _checked(typed.prefer, "header 'prefer'")
    if typed.body:
        headers["content-type"] = _checked(typed.media or "application/json", "the content type")
    for name, value in credentials.headers.items():
        headers[name] = _checked(value, "a credential", is_secret=True)
    query = typed.query.removeprefix("?")
    if _QUERY.fullmatch(query) is None or "#" in query:
        raise Invalid("the query cannot be sent as it is", hint="write it as a URL has it: page=2&sort=name")
    path = base.rstrip("/") + _PARAMETER.sub(lambda found: _filled(found[1], typed.path), operation.path)
    if leads_upwards(path):
        raise Invalid("the path leads out of the operation", hint="give its parameters other values")
    query = "&".join(part for part in (query, credentials.query) if part)
    target = quote(path, safe="/%:@!$&'()*+,;=~-._") + (f"?{query}" if query else "")
    return ApiRequest(
        operation.method.upper(),
        target,
        hosts[0] if hosts else "",
        headers,
        typed.body.encode("utf-8", "replace"),
    )


def is_file(media: str, content: bytes) -> bool:
    """Whether an answer is no text that a page can show: by its content type, else by what it holds."""
    if _TEXT.match(media):
        return False
    if media and not _MAYBE_TEXT.match(media):
        return bool(content)
    try:
        content.decode()
    except UnicodeDecodeError as exc:
        return exc.start < len(content) - 3  # the last sign may be cut
    return b"\0" in content


def file_name(disposition: str) -> str:
    """What an answer that is a file calls itself; `answer` where that is no plain name."""
    found = _FILE_NAME.search(disposition)
    return found[1] if found else "answer"


def _is_not_typed(name: str) -> bool:
    # by the second a proxy says who it passes on, and the portal may call from a proxy's address
    return name in _NOT_TYPED or name.startswith("x-forwarded-")


def _filled(name: str, values: Mapping[str, str]) -> str:
    value = values.get(name, "")
    if value in {"", ".", ".."} or len(value) > 500:
        raise Invalid(
            f"the parameter '{name[:100]}' of the path has no value that can be sent", hint="give one"
        )
    return quote(value.encode("utf-8", "replace"), safe="")


def _checked(value: str, what: str, *, is_secret: bool = False) -> str:
    if _VALUE.fullmatch(value) is None:
        shown = "" if is_secret else f": '{value[:60]!r}'"
        raise Invalid(f"{what} cannot be sent{shown}", hint="letters, digits and signs of ASCII, in one line")
    return value.strip()
