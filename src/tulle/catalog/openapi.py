"""An OpenAPI 3.1 document as values a page can show: operations, their fields, examples and answers.

The document is taken as it is: what is missing is left out, what is nested too deeply or refers to itself is cut.
Pure; knows nothing of services.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

from tulle.spec.openapi_document import METHODS, resolved
from tulle.spec.openapi_examples import made_of

_DEEPEST: Final = 8
_MOST_FIELDS: Final = 300
_SHOWN_CHOICES: Final = 8

_LONGEST_TYPED: Final = 200
_SAID: Final = {"example", "examples", "const", "default", "enum", "format"}
_IN_PATH: Final = re.compile(r"\{([^{}/]+)\}")

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Field:
    """One member of a body: `depth` counts from 0, `type` is for readers (`string or null`, `list of object`)."""

    name: str
    depth: int
    type: str
    required: bool
    description: str


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of a request, outside its body."""

    name: str
    place: str  # path | query | header | cookie
    type: str
    required: bool
    description: str
    example: str = ""  # a value as it is typed; empty where the document says none


@dataclass(frozen=True, slots=True)
class Example:
    """A body to send, as indented JSON."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Answer:
    """One status that an operation answers with."""

    status: str
    description: str
    fields: tuple[Field, ...]
    examples: tuple[Example, ...] = ()


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path."""

    id: str
    method: str
    path: str
    summary: str
    description: str
    note: str  # what the schema of the body says of it as a whole
    parameters: tuple[Parameter, ...]
    fields: tuple[Field, ...]
    examples: tuple[Example, ...]
    answers: tuple[Answer, ...]
    media: str = ""  # the content type of the body, where it takes one

    @property
    def endpoint(self) -> str:
        """The first part of the path: the endpoint, in the APIs of services."""
        return self.path.strip("/").split("/")[0]

    @property
    def action(self) -> str:
        """The rest of the path: what the endpoint is to do."""
        return self.path.strip("/").partition("/")[2]


@dataclass(frozen=True, slots=True)
class Api:
    """A document, read."""

    title: str
    version: str
    description: str
    operations: tuple[Operation, ...]

    def of(self, endpoint: str) -> tuple[Operation, ...]:
        """The operations of one endpoint."""
        return tuple(operation for operation in self.operations if operation.endpoint == endpoint)

    def actions(self) -> Mapping[str, tuple[str, ...]]:
        """What can be posted: the actions of each endpoint."""
        found: dict[str, list[str]] = {}
        for operation in self.operations:
            if operation.method == "post" and operation.action:
                found.setdefault(operation.endpoint, []).append(operation.action)
        return {endpoint: tuple(actions) for endpoint, actions in found.items()}


def read_api(document: Json) -> Api:
    """Read a document that was parsed from JSON."""
    info = _mapping(document.get("info"))
    operations = [
        _operation(document, path, method, _mapping(item[method]), item.get("parameters"))
        for path, item in _mapping(document.get("paths")).items()
        for method in METHODS
        if isinstance(item, Mapping) and method in item
    ]
    return Api(
        title=_text(info.get("title")),
        version=_text(info.get("version")),
        description=_text(info.get("description")),
        operations=tuple(operations),
    )


def _operation(document: Json, path: str, method: str, value: Json, of_path: Any = None) -> Operation:
    """One of them; `of_path` are the parameters that all operations of the path have."""
    media = _media(document, value.get("requestBody"))
    content = _content(document, value.get("requestBody"))
    parameters = {
        (one.place, one.name): one
        for said in (of_path, value.get("parameters"))
        for one in _parameters(document, said)
    }
    for name in _IN_PATH.findall(path):  # also one that nobody describes
        parameters.setdefault(("path", name), Parameter(name, "path", "", required=True, description=""))
    schema = _resolved(document, content.get("schema"))
    return Operation(
        id=_text(value.get("operationId")) or f"{method} {path}",
        method=method,
        path=path,
        summary=_text(value.get("summary")),
        description=_text(value.get("description")),
        note=_note(document, schema),
        parameters=tuple(parameters.values()),
        fields=tuple(_fields(document, schema)),
        examples=tuple(_examples(document, content, media)),
        answers=tuple(
            _answer(document, status, answer) for status, answer in _mapping(value.get("responses")).items()
        ),
        media=media,
    )


def _answer(document: Json, status: str, value: Any) -> Answer:
    resolved = _resolved(document, value)
    content = _content(document, resolved)
    schema = _resolved(document, content.get("schema"))
    if schema.get("type") == "array":
        schema = _resolved(document, schema.get("items"))
    examples = tuple(_examples(document, content, _media(document, resolved)))
    return Answer(status, _text(resolved.get("description")), tuple(_fields(document, schema)), examples)


def _content(document: Json, value: Any) -> Json:
    """The JSON content of a body or an answer, else the first there is."""
    by_type = _mapping(_resolved(document, value).get("content"))
    return _mapping(by_type.get(_media(document, value)))


def _media(document: Json, value: Any) -> str:
    """Of which type that is, empty for none."""
    by_type = _mapping(_resolved(document, value).get("content"))
    return "application/json" if by_type.get("application/json") else str(next(iter(by_type), ""))


def _parameters(document: Json, value: Any) -> Iterator[Parameter]:
    for item in _list(value):
        one = _resolved(document, item)
        schema = _resolved(document, one.get("schema"))
        required, description = bool(one.get("required")), _text(one.get("description"))
        place = _text(one.get("in"))
        kind, example = _type(document, schema), _typed(document, one, schema)
        yield Parameter(_text(one.get("name")), place, kind, required, description, example)


def _typed(document: Json, parameter: Json, schema: Json) -> str:
    """A value of a parameter as somebody types it: an example, else what its schema says but any text."""
    given = [parameter["example"]] if "example" in parameter else []
    given += [one.get("value") for one in map(_mapping, _mapping(parameter.get("examples")).values())]
    plain = schema.get("type") == "string" and not schema.keys() & _SAID
    if not given and schema and not plain:
        given = [made_of(document, schema)]
    value = given[0] if given else None
    if isinstance(value, list):
        value = value[0] if value else None  # as the only one of them
    if isinstance(value, str):
        return value[:_LONGEST_TYPED]
    return json.dumps(value) if isinstance(value, bool | int | float) else ""


def sample_body(document: Json, operation: Operation) -> str:
    """A body that the schema of a request stands for, as indented JSON or as a form; empty where there is none."""
    is_form = operation.media == "application/x-www-form-urlencoded"
    if not operation.media or not ("json" in operation.media or is_form):
        return ""
    said = _mapping(_mapping(_mapping(document.get("paths")).get(operation.path)).get(operation.method))
    schema = _content(document, said.get("requestBody")).get("schema")
    if not schema:
        return ""
    made = made_of(document, schema)
    if is_form:
        return urlencode(made, doseq=True) if isinstance(made, dict) else ""
    return json.dumps(made, indent=2, ensure_ascii=False)


def _examples(document: Json, content: Json, media: str) -> Iterator[Example]:
    if "example" in content:
        yield Example("example", _shown(content["example"], media))
    for name, item in _mapping(content.get("examples")).items():
        value = _resolved(document, item)
        if "value" in value:
            yield Example(_text(value.get("summary")) or name, _shown(value["value"], media))


def _shown(value: Any, media: str) -> str:
    """An example as it is sent: text of another type than JSON as it is."""
    if isinstance(value, str) and media and "json" not in media:
        return value
    return json.dumps(value, indent=2, ensure_ascii=False)


def _note(document: Json, schema: Json) -> str:
    """The description of the body, or of the one object it is made of."""
    if text := _text(schema.get("description")):
        return text
    inner = list(_mapping(schema.get("properties")).values())
    return _text(_resolved(document, inner[0]).get("description")) if len(inner) == 1 else ""


# ── schemas ──────────────────────────────────────────────────────────────────────────────────────────────


def _fields(document: Json, schema: Json) -> Iterator[Field]:
    for number, field in enumerate(_walk(document, schema, 0)):
        if number == _MOST_FIELDS:
            yield Field("…", field.depth, "", required=False, description="further fields are not shown")
            return
        yield field


def _walk(document: Json, schema: Json, depth: int) -> Iterator[Field]:
    if depth > _DEEPEST:
        return
    required = _list(schema.get("required"))
    for name, item in _mapping(schema.get("properties")).items():
        value = _resolved(document, item)
        kind = _type(document, value)
        yield Field(str(name), depth, kind, name in required, _text(value.get("description")))
        yield from _walk(document, _inner(document, value), depth + 1)


def _inner(document: Json, value: Json) -> Json:
    """The object that a member holds: itself, the items of a list, or the first choice that is an object."""
    if "items" in value:
        return _inner(document, _resolved(document, value["items"]))
    if not value.get("properties"):
        for choice in _list(value.get("anyOf")) or _list(value.get("oneOf")):
            found = _resolved(document, choice)
            if found.get("properties"):
                return found
    return value


def _type(document: Json, schema: Json) -> str:
    if "const" in schema:
        return json.dumps(schema["const"])
    if choices := _list(schema.get("enum")):
        shown = [json.dumps(choice, ensure_ascii=False) for choice in choices[:_SHOWN_CHOICES]]
        return " | ".join(shown) + (" | …" if len(choices) > _SHOWN_CHOICES else "")
    kinds = schema.get("type", ())
    names = [kinds] if isinstance(kinds, str) else [str(kind) for kind in _list(kinds)]
    if "array" in names:
        inner = _type(document, _inner_of_list(document, schema))
        names[names.index("array")] = f"list of {inner}" if inner else "list"
    elif schema.get("format"):
        names = [_formatted(name, str(schema["format"])) for name in names]
    if not names and (choices := _list(schema.get("anyOf")) or _list(schema.get("oneOf"))):
        names = [_type(document, _resolved(document, choice)) for choice in choices]
    return " or ".join(dict.fromkeys(name for name in names if name))


def _inner_of_list(document: Json, schema: Json) -> Json:
    return _resolved(document, schema.get("items"))


def _formatted(name: str, form: str) -> str:
    return name if name == "null" or form in {"int64", "double"} else f"{name} ({form})"


def _resolved(document: Json, value: Any) -> Json:
    """What a value refers to within the document; empty when it refers to nothing or to itself."""
    reference = _mapping(value).get("$ref")
    if isinstance(reference, str) and not reference.startswith("#/"):
        return {"description": f"see {reference}"}
    return resolved(document, value)


def _mapping(value: Any) -> Json:
    return value if isinstance(value, Mapping) else {}


def _list(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list | tuple) else ()


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
