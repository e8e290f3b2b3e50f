"""A new API made of what an external service says of itself: its OpenAPI document, and where it is.

Returns texts by their path below the product's folder; whoever calls writes them. Knows nothing of what is in force.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import yaml

from tulle.errors import Invalid
from tulle.gateway.apis.load import FOLDER
from tulle.gateway.front import check_url
from tulle.gateway.policy import SERVICE_NAME
from tulle.spec.document import refuse
from tulle.spec.load import load_document
from tulle.spec.openapi_document import read_openapi
from tulle.spec.product import kebab

_MARKS: Final = re.compile(r"(?m)^#{1,6} .*$|[*`]+")
_MAJOR: Final = re.compile(r"v?(\d{1,4})(?:\.|$)")


@dataclass(frozen=True, slots=True)
class NewApi:
    """The files of a new API, the external service it leads to (empty: it is not said), and its version."""

    files: Mapping[str, str]
    upstream: str
    version: str


def new_api(name: str, text: str, *, source: str, upstream: str = "") -> NewApi:
    """The files of API `name`, of a document's text that errors call `source`.

    Without `upstream` it leads to the first server that the document names with its whole address. Invalid with every
    problem of the document, for a name that no API can have, or an `upstream` that the gateway cannot lead to.
    """
    if SERVICE_NAME.fullmatch(name) is None:
        better = kebab(name)
        hint = "use lower-case letters, digits and hyphens"
        raise Invalid(
            f"'{name[:60]}' is no name of an API",
            hint=f"{hint}, for example {better}" if SERVICE_NAME.fullmatch(better) else hint,
        )
    document = load_document(text, name=source)
    _, problems = read_openapi(document)
    refuse(source, problems)
    said: Mapping[str, Any] = document.value
    upstream = check_url(upstream).url if upstream else _server(said)
    major = _MAJOR.match(str(said["info"]["version"]))
    version = f"v{major[1]}" if major else "v1"
    one: dict[str, Any] = {"version": version, "openapi": f"{name}.openapi.yaml"}
    if upstream:
        one |= {"upstream": upstream, "publish": True}
    declared: dict[str, Any] = {"api": name, "title": _line(said["info"]["title"], 100)}
    described = _MARKS.sub("", str(said["info"].get("description") or ""))  # Markdown, and this is plain text
    if summary := _line(said["info"].get("summary") or described, 200):
        declared["summary"] = summary
    declared["versions"] = [one]
    written = yaml.safe_dump(declared, sort_keys=False, allow_unicode=True, width=110)
    if not upstream:
        written += "  # upstream: https://…   what answers; until it is said, or bound, nothing does\n"
    files = {f"{FOLDER}/{name}.yaml": written, f"{FOLDER}/{name}.openapi.yaml": text}
    return NewApi(files, upstream, version)


def _server(document: Mapping[str, Any]) -> str:
    """The first server with a whole address and nothing to be filled in."""
    for server in document.get("servers", ()):
        url = server.get("url")
        if isinstance(url, str) and "{" not in url:
            parts = urlsplit(url)
            if parts.scheme in {"http", "https"} and parts.hostname and not (parts.query or parts.fragment):
                return url.rstrip("/")
    return ""


def _line(text: Any, longest: int) -> str:
    """Somebody's text on one line, its first sentence where all of it is too long."""
    line = " ".join(str(text).split())
    if len(line) > longest:
        line = line.split(". ", 1)[0]
    return line if len(line) <= longest else line[: longest - 1].rstrip() + "…"
