"""A call of an endpoint as several clients write it, to be pasted and run: curl, Python, dataikuapi, JavaScript. Pure.

Credentials are read from the environment, so that none is pasted into a program: CLIENT_ID and CLIENT_SECRET of an
application with a contract, API_KEY of a service that has keys of its own, TOKEN, or USER_NAME and PASSWORD.
"""

from __future__ import annotations

import json
import pprint
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tulle.serving.access import Access
from tulle.serving.kinds import KINDS
from tulle.serving.ways_in import KEY, Credential, WayIn, easiest, ways_of

LANGUAGES: Mapping[str, str] = {
    "curl": "curl",
    "python": "Python",
    "dataikuapi": "Python with dataikuapi",
    "javascript": "JavaScript",
}
# How the stock client of API nodes calls an endpoint of each kind; what it is given of the body.
_METHODS = {
    "predict": ("predict_record", "features"),
    "forecast": ("forecast", "items"),
    "lookup": ("lookup_record", "data"),
    "query": ("sql_query", ""),
    "function": ("run_function", "**"),
    "compose": ("run_function", "**"),
}


@dataclass(frozen=True, slots=True)
class Snippet:
    """A program that makes one call and prints the answer."""

    language: str
    title: str
    text: str


@dataclass(frozen=True, slots=True)
class Call:
    """A call to be shown: of which endpoint, with what body, and by which way into the service."""

    base: str  # the gateway's address, with the environment where there is one
    service: str
    endpoint: str
    kind: str
    body: Mapping[str, Any]
    access: Access = Access()
    ways: Sequence[WayIn] | None = None  # in force; without them those that `access` says

    @property
    def way(self) -> WayIn:
        """The way in that is shown."""
        return easiest(ways_of(self.access) if self.ways is None else self.ways)

    @property
    def address(self) -> str:
        """Where the request goes."""
        return f"{self.base}/public/api/v1/{self.service}/{self.endpoint}/{KINDS[self.kind].actions[0]}"


def snippets(call: Call) -> tuple[Snippet, ...]:
    """The call in every language that can make it."""
    made = {"curl": _curl, "python": _python, "dataikuapi": _dataikuapi, "javascript": _javascript}
    texts = ((word, make(call)) for word, make in made.items())
    return tuple(Snippet(word, LANGUAGES[word], text) for word, text in texts if text)


def curl_credentials(url: str, way: WayIn) -> list[str]:
    """The address, in quotes of a shell, and what sends the credentials of a way in."""
    query = "&".join(f"{one.name}=${one.variables[0]}" for one in way if one.place == "query")
    join = "&" if "?" in url else "?"
    lines = [shlex.quote(url) + (f'"{join}{query}"' if query else "")]
    for one in way:
        if one.place == "basic":
            lines.append('-u "' + ":".join(f"${name}" for name in one.variables) + '"')
        elif one.place != "query":
            name, before = _header(one)
            lines.append(f'-H "{name}: {before}${one.variables[0]}"')
    return lines


def python_credentials(way: WayIn) -> tuple[list[str], list[str]]:
    """Of a call in Python: entries of its headers, and further arguments."""
    headers, more = [], []
    for one in way:
        values = [f"os.environ[{json.dumps(name)}]" for name in one.variables]
        if one.place == "basic":
            more.append(f"auth=({', '.join(values)})")
        elif one.place != "query":
            name, before = _header(one)
            value = f'f"{before}{{os.environ[{one.variables[0]!r}]}}"' if before else values[0]
            headers.append(f"{json.dumps(name)}: {value}")
    query = [
        f"{json.dumps(one.name)}: os.environ[{json.dumps(one.variables[0])}]"
        for one in way
        if one.place == "query"
    ]
    return headers, [*more, *([f"params={{{', '.join(query)}}}"] if query else [])]


def javascript_credentials(url: str, way: WayIn) -> tuple[str, list[str]]:
    """The address as an expression, and entries of the headers."""
    headers = []
    for one in way:
        values = [f"process.env.{name}" for name in one.variables]
        if one.place == "basic":
            text = ":".join(f"${{{value}}}" for value in values)
            headers.append(f'"Authorization": "Basic " + Buffer.from(`{text}`).toString("base64")')
        elif one.place != "query":
            name, before = _header(one)
            headers.append(f"{json.dumps(name)}: {f'`{before}${{{values[0]}}}`' if before else values[0]}")
    query = ", ".join(
        f"{json.dumps(one.name)}: process.env.{one.variables[0]}" for one in way if one.place == "query"
    )
    join = "&" if "?" in url else "?"
    address = json.dumps(url) + (f' + "{join}" + new URLSearchParams({{{query}}})' if query else "")
    return address, headers


def _header(one: Credential) -> tuple[str, str]:
    """The header of a credential, and what is in it before the secret."""
    return ("Authorization", "Bearer ") if one.place == "bearer" else (one.name, "")


def _curl(call: Call) -> str:
    address, *credentials = curl_credentials(call.address, call.way)
    lines = [f"curl -sS {address}", *credentials, "-H 'content-type: application/json'"]
    lines.append(f"-d {shlex.quote(json.dumps(call.body, ensure_ascii=False))}")
    return " \\\n  ".join(lines) + "\n"


def _python(call: Call) -> str:
    headers, more = python_credentials(call.way)
    shown = ["    headers={", *(f"        {one}," for one in headers), "    },"] if headers else []
    lines = [
        *(["import os", ""] if headers or more else []),
        "import httpx",
        "",
        "answer = httpx.post(",
        f"    {json.dumps(call.address)},",
        *shown,
        *(f"    {one}," for one in more),
        f"    json={_literal(call.body, 9)},",
        ")",
        "answer.raise_for_status()",
        "print(answer.json())",
    ]
    return "\n".join(lines) + "\n"


def _dataikuapi(call: Call) -> str:
    method, part = _METHODS[call.kind]
    if part == "**":
        given = f", **{_literal(call.body, 8)}" if call.body else ""
    else:
        given = f", {_literal(call.body.get(part, {}) if part else call.body, 4)}"
    variables = [name for one in call.way for name in one.variables]
    if len(call.way) == 1 and call.way[0].place == "bearer" and KEY not in variables:
        access = f"bearer_token=os.environ[{json.dumps(variables[0])}]"
    else:
        key = {
            (): "None",
            (KEY,): 'os.environ["API_KEY"]',
            ("CLIENT_ID", "CLIENT_SECRET"): "f\"{os.environ['CLIENT_ID']}.{os.environ['CLIENT_SECRET']}\"",
        }.get(tuple(variables))
        if key is None:  # it sends keys and tokens alone
            return ""
        access = f"api_key={key}"
    lines = [
        *(["import os", ""] if variables else []),
        "import dataikuapi",
        "",
        f"client = dataikuapi.APINodeClient({json.dumps(call.base)}, {json.dumps(call.service)}, {access})",
        f"print(client.{method}({json.dumps(call.endpoint)}{given}))",
    ]
    return "\n".join(lines) + "\n"


def _javascript(call: Call) -> str:
    address, credentials = javascript_credentials(call.address, call.way)
    headers = ['    "content-type": "application/json",', *(f"    {one}," for one in credentials)]
    body = json.dumps(call.body, indent=2, ensure_ascii=False).replace("\n", "\n  ")
    text = f"JSON.stringify({body})"
    if not _is_javascript(call.body):
        text = json.dumps(json.dumps(call.body, ensure_ascii=False), ensure_ascii=False)
    lines = [
        "(async () => {",
        *(
            f"  {line}".rstrip()
            for line in (
                f"const answer = await fetch({address}, {{",
                '  method: "POST",',
                "  headers: {",
                *(f"  {line}" for line in headers),
                "  },",
                f"  body: {text},",
                "});",
                "if (!answer.ok) throw new Error(`${answer.status} ${await answer.text()}`);",
                "console.log(await answer.json());",
            )
        ),
        "})();",
    ]
    return "\n".join(lines) + "\n"


def _is_javascript(value: Any) -> bool:
    """Whether an object of JavaScript keeps a value: whole numbers beyond 2^53 and one name it does not."""
    match value:
        case dict():
            return "__proto__" not in value and all(map(_is_javascript, value.values()))
        case list():
            return all(map(_is_javascript, value))
        case int():
            return abs(value) < 2**53
    return True


def _literal(value: Any, indent: int) -> str:
    """A value as Python writes it, over several lines where it is long."""
    text = pprint.pformat(value, width=100 - indent, sort_dicts=False)
    return text.replace("\n", "\n" + " " * indent)


def example_of(schema: Mapping[str, Any], *, depth: int = 6) -> Any:  # noqa: PLR0911  a type a line
    """The least value of an OpenAPI schema, for an endpoint that has no test query."""
    if depth == 0:
        return None
    for word in ("const", "default"):
        if word in schema:
            return schema[word]
    for word in ("examples", "enum"):
        if schema.get(word):
            return schema[word][0]
    kinds = schema.get("type", "object" if "properties" in schema else None)
    kind = next((k for k in kinds if k != "null"), None) if isinstance(kinds, list) else kinds
    match kind:
        case "object":
            needed = [*schema.get("required", ())]
            needed += next((one["required"] for one in schema.get("anyOf", ()) if "required" in one), [])
            properties = schema.get("properties", {})
            return {
                name: example_of(properties.get(name, {}), depth=depth - 1) for name in dict.fromkeys(needed)
            }
        case "array":
            return [example_of(schema["items"], depth=depth - 1)] if "items" in schema else []
        case "string":
            formats = {"date": "2026-01-31", "date-time": "2026-01-31T12:00:00Z"}
            return formats.get(schema.get("format", ""), "text")
        case "integer" | "number":
            return schema.get("minimum", 1)
        case "boolean":
            return True
    return None
