"""An OpenAPI 3.x document as checks: which operation a request is of, and what it and its answer have to be.

Compiled once. Nothing outside the document is fetched, and no pattern takes exponential time. A document of version 3.0
has its own dialect, whose differences are brought into JSON Schema. Knows nothing of requests as they come in.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import jsonschema_rs

from tulle.errors import Invalid
from tulle.gateway.processing.violation_words import violation
from tulle.spec.openapi_document import METHODS

MOST_OPERATIONS: Final = 2000
MOST_NESTED: Final = 100  # levels of a document
MOST_REFERENCES: Final = 20  # that lead to one another
MOST_TOLD: Final = 5  # things wrong that are told of one request
_TEMPLATE: Final = re.compile(r"\{[^{}/]+\}")
_NUMBER: Final = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?")
_LISTS: Final = {"form": ",", "simple": ",", "spaceDelimited": " ", "pipeDelimited": "|"}


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of an operation: where it is, and what its value has to be."""

    name: str
    place: str  # path | query | header | cookie
    is_required: bool
    check: Check | None
    type: str  # what its text is read as: integer number boolean array object string
    item_type: str
    separator: str  # between the elements of a list in one value; empty where each has its own
    is_bare: bool  # nothing is known of how its value is written: it is not checked

    def problems(self, texts: Sequence[str]) -> list[str]:
        """What is wrong with the values it was sent with."""
        if self.check is None or self.is_bare:
            return []
        if self.type == "array":
            parts = [
                one for text in texts for one in (text.split(self.separator) if self.separator else [text])
            ]
            value: Any = [_read(one, self.item_type) for one in parts]
        elif len(texts) > 1:
            return [f"{self.place} parameter '{self.name}' is there {len(texts)} times"]
        else:
            value = _read(texts[0], self.type)
        return [f"{self.place} parameter '{self.name}': {told}" for told in self.check.problems(value)]


class Check:
    """A compiled schema."""

    __slots__ = ("_validator",)

    def __init__(self, schema: Any, components: Any) -> None:
        whole = {"allOf": [schema], "components": components} if components else schema
        self._validator = jsonschema_rs.Draft202012Validator(
            whole,
            validate_formats=True,
            retriever=_no_fetching,
            pattern_options=jsonschema_rs.RegexOptions(),
        )

    def problems(self, value: Any) -> list[str]:
        """What is wrong with a value, some of it: where, and what; never the value."""
        if self._validator.is_valid(value):
            return []
        found = []
        for error in self._validator.iter_errors(value):
            found.append(violation(error))
            if len(found) == MOST_TOLD:
                break
        return found


@dataclass(frozen=True, slots=True)
class Body:
    """What a body may be, by its type; `needed`: it must be there."""

    checks: Mapping[str, Check | None]
    needed: bool

    def check_of(self, content_type: str) -> tuple[bool, Check | None]:
        """Whether this type is accepted, and by which schema it is checked."""
        group = content_type.partition("/")[0] + "/*"
        for name in (content_type, group, "*/*"):
            if name in self.checks:
                return True, self.checks[name]
        return False, None


@dataclass(frozen=True, slots=True)
class Operation:
    """One method at one path."""

    name: str
    pattern: re.Pattern[str]
    path_names: Sequence[str]
    parameters: Sequence[Parameter]
    body: Body | None
    answers: Mapping[str, Body]  # by status, `2XX` or `default`

    def answer(self, status: int) -> Body | None:
        """What an answer of this status is to be, None where nothing is said."""
        for name in (str(status), f"{status // 100}XX", f"{status // 100}xx", "default"):
            if name in self.answers:
                return self.answers[name]
        return None


class Operations:
    """All operations of a document."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        """Invalid when it cannot be compiled."""
        version = str(document.get("openapi", ""))
        if not version.startswith(("3.0", "3.1", "3.2")):
            raise Invalid(
                f"the OpenAPI document is of version '{version[:20]}', expected 3.0, 3.1 or 3.2",
                hint="convert it, for example from Swagger 2.0",
            )
        if _depth(document) > MOST_NESTED:
            raise Invalid(f"the OpenAPI document is nested more than {MOST_NESTED} levels")
        self._document = _modern(document) if version.startswith("3.0") else document
        self._components = self._document.get("components") or {}
        self._by_method: dict[str, list[Operation]] = {}
        self.paths: list[re.Pattern[str]] = []
        count = 0
        # those without templates first: /pets/mine is not /pets/{id}
        paths = self._document.get("paths") or {}
        for path in sorted(paths, key=lambda one: (len(_TEMPLATE.findall(one)), one)):
            item = self._followed(paths[path])
            for method in METHODS:
                if isinstance(item.get(method), Mapping):
                    count += 1
                    if count > MOST_OPERATIONS:
                        raise Invalid(f"the OpenAPI document has more than {MOST_OPERATIONS} operations")
                    self._by_method.setdefault(method.upper(), []).append(self._operation(path, method, item))
            self.paths.append(_pattern(path)[0])

    def find(self, method: str, path: str) -> tuple[Operation, Sequence[str]] | None:
        """The operation of a request and the values in its path; None when there is none."""
        for operation in self._by_method.get(method, ()):
            if match := operation.pattern.fullmatch(path):
                return operation, match.groups()
        return None

    def knows(self, path: str) -> bool:
        """Whether there is any method at this path."""
        return any(pattern.fullmatch(path) for pattern in self.paths)

    # ── reading the document ─────────────────────────────────────────────────────────────────────────────

    def _operation(self, path: str, method: str, item: Mapping[str, Any]) -> Operation:
        where = f"{method.upper()} {path}"
        said = item[method]
        parameters: dict[tuple[str, str], Mapping[str, Any]] = {}
        for one in (*(item.get("parameters") or ()), *(said.get("parameters") or ())):
            one = self._followed(one)  # noqa: PLW2901  what it refers to
            parameters[
                str(one.get("name", "")).lower() if one.get("in") == "header" else str(one.get("name")),
                str(one.get("in")),
            ] = one
        pattern, names = _pattern(path)
        body = None
        if isinstance(said.get("requestBody"), Mapping):
            asked = self._followed(said["requestBody"])
            body = self._body(where, asked, needed=bool(asked.get("required", False)))
        answers = {
            str(status): self._body(f"{where} {status}", self._followed(one), needed=False)
            for status, one in (said.get("responses") or {}).items()
        }
        return Operation(
            where, pattern, names, tuple(self._parameters(where, parameters.values())), body, answers
        )

    def _body(self, where: str, said: Mapping[str, Any], *, needed: bool) -> Body:
        checks = {
            str(kind).partition(";")[0].strip().lower(): self._check(where, media)
            for kind, media in (said.get("content") or {}).items()
        }
        return Body(checks, needed)

    def _parameters(self, where: str, found: Iterator[Any] | Any) -> Iterator[Parameter]:
        for one in found:
            place, name = str(one.get("in")), str(one.get("name"))
            # RFC-wise not parameters of ours: OpenAPI says that these are to be ignored
            if place == "header" and name.lower() in {"accept", "content-type", "authorization"}:
                continue
            schema = self._resolved(one.get("schema"))
            kind = _type_of(schema)
            items = self._resolved(schema.get("items")) if isinstance(schema, Mapping) else {}
            style = str(one.get("style") or ("form" if place in {"query", "cookie"} else "simple"))
            explode = bool(one.get("explode", style == "form"))
            is_split = kind == "array" and not (place in {"query", "cookie"} and explode)
            yield Parameter(
                name.lower() if place == "header" else name,
                place,
                bool(one.get("required", place == "path")),
                self._check(f"{where} parameter {name}", one),
                kind,
                _type_of(items),
                _LISTS.get(style, ",") if is_split else "",
                kind == "object" or "content" in one or style not in _LISTS,
            )

    def _check(self, where: str, said: Any) -> Check | None:
        if not isinstance(said, Mapping) or not isinstance(said.get("schema"), Mapping | bool):
            return None
        try:
            return Check(said["schema"], self._components)
        except (
            jsonschema_rs.ValidationError,
            jsonschema_rs.ReferencingError,
            ValueError,
            RecursionError,
        ) as exc:
            raise Invalid(
                f"the OpenAPI document's schema of {where} cannot be used: {str(exc).splitlines()[0][:200]}",
                hint="only references within the document are followed; patterns may not look around",
            ) from None

    def _followed(self, said: Any) -> Mapping[str, Any]:
        for _ in range(MOST_REFERENCES):
            if not isinstance(said, Mapping):
                raise Invalid("the OpenAPI document has something else where an object is expected")
            if not isinstance(said.get("$ref"), str):
                return said
            said = self._at(said["$ref"])
        raise Invalid(f"references of the OpenAPI document lead in a circle, at '{str(said)[:80]}'")

    def _resolved(self, schema: Any) -> Mapping[str, Any]:
        return self._followed(schema) if isinstance(schema, Mapping) else {}

    def _at(self, reference: str) -> Any:
        if not reference.startswith("#/"):
            raise Invalid(
                f"the OpenAPI document refers to '{reference[:80]}', which is outside of it",
                hint="bundle it into one document",
            )
        value: Any = self._document
        for part in reference[2:].split("/"):
            name = part.replace("~1", "/").replace("~0", "~")
            value = value.get(name) if isinstance(value, Mapping) else None
        if value is None:
            raise Invalid(f"the OpenAPI document refers to '{reference[:80]}', which is not in it")
        return value


def _pattern(path: str) -> tuple[re.Pattern[str], list[str]]:
    """A path with templates as an expression that takes linear time; a template is within one segment."""
    pieces, names, at = [], [], 0
    for match in _TEMPLATE.finditer(path):
        pieces += [re.escape(path[at : match.start()]), "([^/]+)"]
        names.append(match[0][1:-1])
        at = match.end()
    return re.compile("".join([*pieces, re.escape(path[at:]), "/?"])), names


def _type_of(schema: Any) -> str:
    kind = schema.get("type") if isinstance(schema, Mapping) else None
    if isinstance(kind, list):
        kind = next((one for one in kind if one != "null"), None)
    return kind if isinstance(kind, str) else "string"


def _read(text: str, kind: str) -> Any:
    """A text as the value that its schema speaks of; what cannot be read stays a text, which the schema refuses."""
    if kind == "boolean" and text in {"true", "false"}:
        return text == "true"
    if kind in {"integer", "number"} and len(text) <= 300 and _NUMBER.fullmatch(text):
        if kind == "integer" and not re.fullmatch(r"-?\d+", text):
            return float(text)
        return int(text) if re.fullmatch(r"-?\d+", text) else float(text)
    return text


def _modern(value: Any) -> Any:
    """A document of version 3.0 in the words of JSON Schema: `nullable`, and bounds that are left out by a flag."""
    if isinstance(value, list):
        return [_modern(one) for one in value]
    if not isinstance(value, Mapping):
        return value
    made = {name: _modern(one) for name, one in value.items()}
    for bound, flag in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
        if isinstance(made.get(flag), bool) and made.pop(flag) and bound in made:
            made[flag] = made.pop(bound)
    if made.get("nullable") is True:
        del made["nullable"]
        if isinstance(made.get("type"), str):
            made["type"] = [made["type"], "null"]
            if isinstance(made.get("enum"), list) and None not in made["enum"]:
                made["enum"] = [*made["enum"], None]
        elif "type" not in made and made:
            made = {"anyOf": [{"type": "null"}, made]}
    return made


def _depth(value: Any) -> int:
    depth, level = 0, [value]
    while level and depth <= MOST_NESTED:
        depth += 1
        below: list[Any] = []
        for one in level:
            if isinstance(one, Mapping):
                below.extend(one.values())
            elif isinstance(one, list):
                below.extend(one)
        level = below
    return depth


def _no_fetching(uri: str) -> Any:
    raise ValueError(f"'{uri}' is outside the document")
