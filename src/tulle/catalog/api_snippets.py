"""A call of an operation as several clients write it, to be pasted and run: curl, Python, JavaScript. Pure.

Credentials are read from the environment, so that none is pasted into a program.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from tulle.serving.access import Access
from tulle.serving.snippets import (
    LANGUAGES,
    Snippet,
    curl_credentials,
    javascript_credentials,
    python_credentials,
)
from tulle.serving.ways_in import WayIn, easiest, ways_of


@dataclass(frozen=True, slots=True)
class ApiCall:
    """A call to be shown: `url` is whole, `body` is as it is sent, empty where none is; `media` is its content type."""

    method: str
    url: str
    access: Access = Access()
    body: str = ""
    media: str = "application/json"
    ways: Sequence[WayIn] | None = None  # in force; without them those that `access` says
    headers: Sequence[tuple[str, str]] = ()

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
    lines += [f"-H {shlex.quote(f'{name}: {value}')}" for name, value in call.headers]
    if call.body:
        lines += [f"-H {shlex.quote(f'content-type: {call.media}')}", f"-d {shlex.quote(call.body)}"]
    return " \\\n  ".join(lines) + "\n"


def _python(call: ApiCall) -> str:
    headers, more = python_credentials(call.way)
    lines = ["import os", ""] if headers or more else []
    headers += _quoted(call.headers)
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
    headers += _quoted(call.headers)
    if call.body:
        headers.append(f'"content-type": {json.dumps(call.media)}')
    lines = [f"const answer = await fetch({address}, {{", f'  method: "{call.method}",']
    if headers:
        lines += ["  headers: {", *(f"    {line}," for line in headers), "  },"]
    if call.body:
        lines.append(f"  body: {json.dumps(call.body, ensure_ascii=False)},")
    return "\n".join([*lines, "});", "console.log(answer.status, await answer.text());"]) + "\n"


def _quoted(headers: Sequence[tuple[str, str]]) -> list[str]:
    return [f"{json.dumps(name)}: {json.dumps(value)}" for name, value in headers]
