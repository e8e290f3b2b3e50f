"""An operation of an API as its page shows it: programs that call it as they are, what a form begins with.

Pure. What nobody gave an example of is made of the schema; where that says nothing, the parameter's name stands.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from tulle.catalog.api_snippets import ApiCall, snippets_of
from tulle.catalog.openapi import Operation, sample_body
from tulle.catalog.way_forms import WayForm, forms_of
from tulle.serving.snippets import Snippet
from tulle.serving.ways_in import WayIn, easiest


@dataclass(frozen=True, slots=True)
class Shown:
    """An operation with programs that call it, and what a form to try it begins with.

    `variables` are those of the environment that the programs have credentials in.
    """

    operation: Operation
    snippets: tuple[Snippet, ...]
    form: Mapping[str, Any]
    ways: tuple[WayForm, ...]
    variables: tuple[str, ...] = ()

    @property
    def curl(self) -> str:
        """The call in a shell; empty where it can be called nowhere."""
        return next((one.text for one in self.snippets if one.language == "curl"), "")


def shown(document: Mapping[str, Any], operation: Operation, url: str, ways: Sequence[WayIn]) -> Shown:
    """An operation of a document at the address of its API, empty where that is nowhere."""
    forms = forms_of(ways)
    takes = bool(operation.fields or operation.examples or operation.method in {"post", "put", "patch"})
    body = operation.examples[0].text if operation.examples else sample_body(document, operation)
    form = {
        "ways": [one.id for one in forms],
        "method": operation.method,
        "path": operation.path,
        "parameters": [
            {
                "name": one.name,
                "in": one.place,
                "required": one.required,
                "type": one.type,
                "value": one.example if one.required or one.place == "path" else "",
            }
            for one in operation.parameters
        ],
        "takes": takes,
        "body": body,
        "media": operation.media,
    }
    if not url:
        return Shown(operation, (), form, forms)
    call = ApiCall(
        operation.method.upper(),
        url.rstrip("/") + _filled(operation),
        body=body,
        media=operation.media or "application/json",
        ways=ways,
        headers=tuple(
            (one.name, one.example or one.name.upper())
            for one in operation.parameters
            if one.place == "header" and one.required
        ),
    )
    variables = dict.fromkeys(name for one in easiest(ways) for name in one.variables)
    return Shown(operation, snippets_of(call), form, forms, tuple(variables))


def _filled(operation: Operation) -> str:
    """Path and query of a call with all that is required; a name in capitals where nobody knows a value."""
    path, query = operation.path, []
    for one in operation.parameters:
        value = quote(one.example or one.name.upper(), safe="")
        if one.place == "path":
            path = path.replace(f"{{{one.name}}}", value)
        elif one.place == "query" and one.required:
            query.append(f"{quote(one.name, safe='')}={value}")
    return path + (f"?{'&'.join(query)}" if query else "")
