"""A call of an operation as several clients write it, to be pasted and run: curl, Python, JavaScript. Pure.

Credentials are read from the environment, so that none is pasted into a program.
"""

from __future__ import annotations

import base64
import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tulle.errors import Invalid
from tulle.serving.access import Access
from tulle.serving.snippets import (
    LANGUAGES,
    Snippet,
    curl_credentials,
    javascript_credentials,
    python_credentials,
)
from tulle.serving.ways_in import KEY, WayIn, easiest, ways_of


@dataclass(frozen=True, slots=True)
class ApiCall:
    """A call to be shown: `url` is whole, `body` is as it is sent, empty where none is; `media` is its content type."""

    method: str
    url: str
    access: Access = Access()
    body: str = ""
    media: str = "application/json"
    ways: Sequence[WayIn] | None = None  # in force; without them those that `access` says

    @property
    def way(self) -> WayIn:
        """The way in that is shown."""
        return easiest(ways_of(self.access) if self.ways is None else self.ways)


def snippets_of(call: ApiCall) -> tuple[Snippet, ...]:
    """The call in every language."""
    made = {"curl": _curl, "python": _python, "javascript": _javascript}
    return tuple(Snippet(word, LANGUAGES[word], make(call)) for word, make in made.items())


def _curl(call: ApiCall) -> str:
    address, *credentials = curl_credentials(call.url, call.way)
    lines = [f"curl -sS -X {call.method} {address}", *credentials]
    if call.body:
        lines += [f"-H {shlex.quote(f'content-type: {call.media}')}", f"-d {shlex.quote(call.body)}"]
    return " \\\n  ".join(lines) + "\n"


def _python(call: ApiCall) -> str:
    headers, more = python_credentials(call.way)
    lines = ["import os", ""] if headers or more else []
    if call.body:
        headers.append(f'"content-type": {json.dumps(call.media)}')
    lines += [
        "import httpx",
        "",
        "answer = httpx.request(",
        f'    "{call.method}",',
        f"    {json.dumps(call.url)},",
    ]
    if headers:
        lines += ["    headers={", *(f"        {line}," for line in headers), "    },"]
    lines += [f"    {one}," for one in more]
    if call.body:
        lines.append(f"    content={call.body!r},")
    return "\n".join([*lines, ")", "print(answer.status_code, answer.text)"]) + "\n"


def _javascript(call: ApiCall) -> str:
    address, headers = javascript_credentials(call.url, call.way)
    if call.body:
        headers.append(f'"content-type": {json.dumps(call.media)}')
    lines = [f"const answer = await fetch({address}, {{", f'  method: "{call.method}",']
    if headers:
        lines += ["  headers: {", *(f"    {line}," for line in headers), "  },"]
    if call.body:
        lines.append(f"  body: {json.dumps(call.body, ensure_ascii=False)},")
    return "\n".join([*lines, "});", "console.log(answer.status, await answer.text());"]) + "\n"


def way_of_form(way: WayIn) -> str:
    """What a form to try begins with for a way in: `client`, `key`, `token`, `password` or `none`."""
    if not way:
        return "none"
    first = way[0]
    if first.place == "basic":
        return "password"
    if first.place == "bearer":
        return "key" if first.scheme == "apiKey" else "token"
    return "key" if KEY in first.variables else "client"


def headers_of(way: str, given: Mapping[str, str]) -> Mapping[str, str]:
    """The headers by which somebody shows who they are, of what they typed: a way as forms have it, or `none`.

    Invalid for a name with a colon, which ends it where name and password are sent together (HTTP Basic).
    """
    if way == "client":
        return {"client_id": given.get("client_id", ""), "client_secret": given.get("client_secret", "")}
    if way in {"key", "token"}:
        return {"authorization": f"Bearer {given.get('token', '')}"}
    if way == "password":
        name, password = given.get("user", ""), given.get("password", "")
        if ":" in name:
            raise Invalid("a name has no colon", hint="the password has a field of its own")
        if not name or not password:
            return {"authorization": ""}
        pair = base64.b64encode(f"{name}:{password}".encode("utf-8", "replace")).decode()
        return {"authorization": f"Basic {pair}"}
    return {}
