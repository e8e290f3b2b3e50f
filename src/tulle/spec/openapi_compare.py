"""What changed between two OpenAPI documents, told in sentences, and what of it breaks who calls by the older one.

Looks at operations, parameters, bodies and answers, following references. Pure: two documents in, changes out, in an
order that depends on the documents alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from tulle.spec.openapi_document import METHODS, form_of, resolved

_DEEPEST: Final = 60  # of schemas in schemas; documents themselves are read to a depth of 50
_MOST_CHANGES: Final = 2000
_LONGEST_SAID: Final = 60

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ApiChange:
    """One difference: `kind` is added, removed or changed; `operation` as `GET /items/{id}`; empty: of the whole."""

    kind: str
    operation: str
    sentence: str
    breaking: bool = False


def compare_openapi(old: Json, new: Json) -> tuple[ApiChange, ...]:
    """The differences from `old` to `new`; what is told first comes first in the older document."""
    found: list[ApiChange] = []
    for change in _changes(old, new):
        found.append(change)
        if len(found) == _MOST_CHANGES:
            told = f"more than {_MOST_CHANGES} differences: the rest is not told"
            found.append(ApiChange("changed", "", told, breaking=True))
            break
    return tuple(found)


def _changes(old: Json, new: Json) -> Iterator[ApiChange]:
    before, after = _operations(old), _operations(new)
    for key, (name, item, one) in before.items():
        if key not in after:
            yield ApiChange("removed", name, f"{name} is removed", breaking=True)
            continue
        _, new_item, other = after[key]
        side = _Sides(old, new, name)
        yield from side.deprecation(one, other)
        yield from side.parameters((item, one), (new_item, other))
        yield from side.bodies(one, other)
        yield from side.answers(one, other)
    for key, (name, _, _) in after.items():
        if key not in before:
            yield ApiChange("added", name, f"{name} is added")


def _operations(document: Json) -> dict[tuple[str, str], tuple[str, Json, Json]]:
    """By method and form of path: the operation's name, its path's own part, itself."""
    return {
        (method, form_of(path)): (f"{method.upper()} {path}", item, _mapping(item[method]))
        for path, item in _mapping(document.get("paths")).items()
        if isinstance(item, Mapping)
        for method in METHODS
        if method in item
    }


@dataclass(frozen=True, slots=True)
class _Sides:
    """The two documents while one operation of them is compared."""

    old: Json
    new: Json
    name: str
    met: set[tuple[str, str, bool]] = field(default_factory=set)

    def _changed(self, what: str, *, breaking: bool = False) -> ApiChange:
        return ApiChange("changed", self.name, f"{self.name}: {what}", breaking)

    def deprecation(self, one: Json, other: Json) -> Iterator[ApiChange]:
        """That it is deprecated, or is so no more."""
        if bool(one.get("deprecated")) != bool(other.get("deprecated")):
            word = "is deprecated" if other.get("deprecated") else "is no longer deprecated"
            yield self._changed(f"it {word}")

    def parameters(self, one: tuple[Json, Json], other: tuple[Json, Json]) -> Iterator[ApiChange]:
        """Of query, header and cookie; `one` and `other` are a path as a whole, and the operation itself."""
        before = {key: value for part in one for key, value in self._parameters(self.old, part).items()}
        after = {key: value for part in other for key, value in self._parameters(self.new, part).items()}
        for key, was in before.items():
            told = f"{key[0]} parameter '{key[1]}'"
            now = after.get(key)
            if now is None:
                yield self._changed(f"{told} is no longer taken", breaking=True)
                continue
            if bool(was.get("required")) != bool(now.get("required")):
                must = bool(now.get("required"))
                yield self._changed(f"{told} {'is needed' if must else 'may be left out'}", breaking=must)
            yield from self._schemas(
                told, _schema_of(self.old, was), _schema_of(self.new, now), sent=True, depth=0
            )
        for key, now in after.items():
            if key not in before:
                must = bool(now.get("required"))
                told = f"{key[0]} parameter '{key[1]}' is taken{', and needed' if must else ''}"
                yield self._changed(told, breaking=must)

    def _parameters(self, document: Json, one: Json) -> dict[tuple[str, str], Json]:
        found: dict[tuple[str, str], Json] = {}
        for number, value in enumerate(_list(one.get("parameters"))):
            parameter = resolved(document, value)
            place = str(parameter.get("in", ""))
            name = str(parameter.get("name", number))
            # a path's parameters may be named anew: callers send their values by position
            if place != "path":
                found[place, name.lower() if place == "header" else name] = parameter
        return found

    def bodies(self, one: Json, other: Json) -> Iterator[ApiChange]:
        """What is sent."""
        was, now = resolved(self.old, one.get("requestBody")), resolved(self.new, other.get("requestBody"))
        if was and not now:
            yield self._changed("a body is no longer taken", breaking=True)
        elif now and not was:
            must = bool(now.get("required"))
            yield self._changed(f"a body is taken{', and needed' if must else ''}", breaking=must)
        elif was:
            if bool(was.get("required")) != bool(now.get("required")):
                must = bool(now.get("required"))
                yield self._changed(f"the body {'is needed' if must else 'may be left out'}", breaking=must)
            yield from self._contents("the body", was, now, sent=True)

    def answers(self, one: Json, other: Json) -> Iterator[ApiChange]:
        """What comes back, by status."""
        before, after = _mapping(one.get("responses")), _mapping(other.get("responses"))
        for status in before:
            if status not in after:
                good = status.startswith("2") or status == "default"
                yield self._changed(f"it no longer answers {status}", breaking=good)
            else:
                was, now = resolved(self.old, before[status]), resolved(self.new, after[status])
                yield from self._contents(f"answer {status}", was, now, sent=False)
        for status in after:
            if status not in before:
                yield self._changed(f"it answers {status} as well")

    def _contents(self, told: str, was: Json, now: Json, *, sent: bool) -> Iterator[ApiChange]:
        before, after = _mapping(was.get("content")), _mapping(now.get("content"))
        for kind in before:
            if kind not in after:
                yield self._changed(
                    f"{told}: {kind} is no longer {'taken' if sent else 'given'}", breaking=True
                )
            else:
                one, other = _mapping(before[kind]).get("schema"), _mapping(after[kind]).get("schema")
                yield from self._schemas(told, one, other, sent=sent, depth=0)
        for kind in after:
            if kind not in before:
                yield self._changed(f"{told}: {kind} is {'taken' if sent else 'given'} as well")

    def _schemas(self, told: str, one: Any, other: Any, *, sent: bool, depth: int) -> Iterator[ApiChange]:
        """Two schemas of what is sent, or of what is given."""
        was, now = _merged(self.old, one), _merged(self.new, other)
        # Equal words may refer to unequal things. What is referred to is compared once an operation, so it ends.
        if depth > _DEEPEST or (was == now and not _refers(was)):
            return
        pair = (_reference(one), _reference(other), sent)
        if pair[:2] != ("", ""):
            if pair in self.met:
                return
            self.met.add(pair)
        types, others = _types(was), _types(now)
        if types != others:
            fewer, more = bool(types - others) or not types, bool(others - types) or not others
            narrower = fewer if sent else more
            if types and others:
                said = f"is {_said_types(others)} (was {_said_types(types)})"
            else:
                said = f"is {_said_types(others)}" if others else "is of any type"
            yield self._changed(f"{told} {said}", breaking=narrower)
        yield from self._choices(told, was, now, sent=sent)
        yield from self._fields(told, was, now, sent=sent, depth=depth)
        if "items" in was or "items" in now:
            inner = f"{told}, each item"
            yield from self._schemas(inner, was.get("items"), now.get("items"), sent=sent, depth=depth + 1)

    def _choices(self, told: str, was: Json, now: Json, *, sent: bool) -> Iterator[ApiChange]:
        before, after = was.get("enum"), now.get("enum")
        if before == after or not (isinstance(before, list) or isinstance(after, list)):
            return
        old, new = (
            [repr(v) for v in value] if isinstance(value, list) else None for value in (before, after)
        )
        gone = [v for v in old or () if new is not None and v not in new]
        come = [v for v in new or () if old is not None and v not in old]
        if gone:
            yield self._changed(f"{told}: {_listed(gone)} is no longer one of its values", breaking=sent)
        if come:
            yield self._changed(f"{told}: {_listed(come)} is one of its values", breaking=not sent)
        if old is None:
            yield self._changed(f"{told} is one of {_listed(new or [])}", breaking=sent)
        if new is None:
            yield self._changed(f"{told} may have any value", breaking=not sent)

    def _fields(self, told: str, was: Json, now: Json, *, sent: bool, depth: int) -> Iterator[ApiChange]:
        before, after = _mapping(was.get("properties")), _mapping(now.get("properties"))
        needed, needs = set(_list(was.get("required"))), set(_list(now.get("required")))
        for name, one in before.items():
            inner = f"{told}: field '{name}'"
            if name not in after:
                said = "is no longer taken" if sent else "is no longer given"
                yield self._changed(f"{inner} {said}", breaking=True)
                continue
            if (name in needed) != (name in needs):
                if sent:
                    said = "is needed" if name in needs else "may be left out"
                    yield self._changed(f"{inner} {said}", breaking=name in needs)
                else:
                    said = "is always given" if name in needs else "may be missing"
                    yield self._changed(f"{inner} {said}", breaking=name not in needs)
            yield from self._schemas(inner, one, after[name], sent=sent, depth=depth + 1)
        for name in after:
            if name not in before:
                must = sent and name in needs
                said = "is taken" if sent else "is given"
                inner = f"{told}: field '{name}'"
                yield self._changed(f"{inner} {said}{', and needed' if must else ''}", breaking=must)


def _schema_of(document: Json, parameter: Json) -> Any:
    if "schema" in parameter:
        return parameter["schema"]
    content = next(iter(_mapping(parameter.get("content")).values()), None)
    return resolved(document, content).get("schema")


def _merged(document: Json, schema: Any, depth: int = 0) -> Json:
    """A schema with what `allOf` adds to it."""
    value = resolved(document, schema)
    if depth > _DEEPEST or not _list(value.get("allOf")):
        return value
    found: dict[str, Any] = {}
    properties: dict[str, Any] = {}
    required: list[str] = []
    for part in (*_list(value["allOf"]), {k: v for k, v in value.items() if k != "allOf"}):
        one = _merged(document, part, depth + 1)
        properties |= _mapping(one.get("properties"))
        required += [name for name in _list(one.get("required")) if isinstance(name, str)]
        found |= one
    return {**found, **({"properties": properties, "required": required} if properties else {})}


def _reference(schema: Any) -> str:
    """What a schema refers to; empty when it is written out."""
    return str(schema.get("$ref", "")) if isinstance(schema, Mapping) else ""


def _refers(value: Any) -> bool:
    """Whether a schema leaves anything to a reference."""
    if isinstance(value, Mapping):
        return "$ref" in value or any(_refers(inner) for inner in value.values())
    return isinstance(value, list) and any(_refers(inner) for inner in value)


def _types(schema: Json) -> set[str]:
    said = schema.get("type", ())
    found = {said} if isinstance(said, str) else {str(one) for one in _list(said)}
    if schema.get("nullable") is True and found:
        found.add("null")
    if not found and "properties" in schema:
        found = {"object"}
    return found


def _said_types(types: set[str]) -> str:
    return " or ".join(sorted(types)) if types else "of any type"


def _listed(values: list[str]) -> str:
    text = ", ".join(values)
    return text if len(text) <= _LONGEST_SAID else text[:_LONGEST_SAID] + "…"


def _mapping(value: Any) -> Json:
    return value if isinstance(value, Mapping) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
