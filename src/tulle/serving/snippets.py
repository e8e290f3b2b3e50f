"""A call of an endpoint as several clients write it, to be pasted and run: curl, Python, dataikuapi, JavaScript. Pure.

Credentials are read from the environment, so that none is pasted into a program: CLIENT_ID and CLIENT_SECRET of an
application with a contract, API_KEY of a service that has keys of its own, or TOKEN.
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

    @property
    def address(self) -> str:
        """Where the request goes."""
        return f"{self.base}/public/api/v1/{self.service}/{self.endpoint}/{KINDS[self.kind].actions[0]}"


def snippets(call: Call) -> tuple[Snippet, ...]:
    """The call in every language."""
    made = {"curl": _curl, "python": _python, "dataikuapi": _dataikuapi, "javascript": _javascript}
    return tuple(Snippet(word, LANGUAGES[word], make(call)) for word, make in made.items())


def credential_headers(access: Access) -> Sequence[tuple[str, str, str]]:
    """Of the way in that is shown: headers, what is before the secret in each, the variable the secret is in."""
    if access.public is not None:
        return ()
    if access.api_keys is not None:
        return (("Authorization", "Bearer ", "API_KEY"),)
    if access.contracts:
        return (("client_id", "", "CLIENT_ID"), ("client_secret", "", "CLIENT_SECRET"))
    return (("Authorization", "Bearer ", "TOKEN"),)


def _curl(call: Call) -> str:
    headers = [
        f'-H "{name}: {before}${variable}"' for name, before, variable in credential_headers(call.access)
    ]
    lines = [f"curl -sS {shlex.quote(call.address)}", *headers, "-H 'content-type: application/json'"]
    lines.append(f"-d {shlex.quote(json.dumps(call.body, ensure_ascii=False))}")
    return " \\\n  ".join(lines) + "\n"


def _python(call: Call) -> str:
    headers = [
        f'        "{name}": '
        + (f'f"{before}{{os.environ[{variable!r}]}}"' if before else f'os.environ["{variable}"]')
        for name, before, variable in credential_headers(call.access)
    ]
    shown = ["    headers={", *(f"{line}," for line in headers), "    },"] if headers else []
    lines = [
        *(["import os", ""] if headers else []),
        "import httpx",
        "",
        "answer = httpx.post(",
        f"    {json.dumps(call.address)},",
        *shown,
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
    variables = [variable for _, _, variable in credential_headers(call.access)]
    key = {
        (): "None",
        ("API_KEY",): 'os.environ["API_KEY"]',
        ("CLIENT_ID", "CLIENT_SECRET"): "f\"{os.environ['CLIENT_ID']}.{os.environ['CLIENT_SECRET']}\"",
    }.get(tuple(variables))
    access = f"api_key={key}" if key else 'bearer_token=os.environ["TOKEN"]'
    lines = [
        *(["import os", ""] if variables else []),
        "import dataikuapi",
        "",
        f"client = dataikuapi.APINodeClient({json.dumps(call.base)}, {json.dumps(call.service)}, {access})",
        f"print(client.{method}({json.dumps(call.endpoint)}{given}))",
    ]
    return "\n".join(lines) + "\n"


def _javascript(call: Call) -> str:
    headers = ['    "content-type": "application/json",']
    headers += [
        f'    "{name}": '
        + (f"`{before}${{process.env.{variable}}}`," if before else f"process.env.{variable},")
        for name, before, variable in credential_headers(call.access)
    ]
    body = json.dumps(call.body, indent=2, ensure_ascii=False).replace("\n", "\n  ")
    text = f"JSON.stringify({body})"
    if not _is_javascript(call.body):
        text = json.dumps(json.dumps(call.body, ensure_ascii=False), ensure_ascii=False)
    lines = [
        "(async () => {",
        *(
            f"  {line}".rstrip()
            for line in (
                f"const answer = await fetch({json.dumps(call.address)}, {{",
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
