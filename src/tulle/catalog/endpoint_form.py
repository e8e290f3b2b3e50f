"""A new endpoint of a services file as the fields of a form, and descriptions; what was filled in, back in the text.

A kind's form asks for what the kind needs; what else it may have is said in the text, or by the forms of its parts.
Pure: texts and plain values in and out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tulle.catalog.part_fields import (
    Changed,
    PartForm,
    Typed,
    demand_same,
    digest_of,
    told_by_field,
    value_of,
)
from tulle.errors import Invalid, NotFound
from tulle.serving.kinds import KINDS
from tulle.serving.query_declared import PARAMETER_TYPES
from tulle.serving.service import ENDPOINT_NAME
from tulle.spec.amend import amend
from tulle.spec.load import Schema, load_document

NEEDED: Mapping[str, tuple[str, ...]] = {
    "predict": ("model",),
    "forecast": ("model",),
    "lookup": ("data_set", "key"),
    "query": ("sql",),
    "function": ("file",),
    "compose": ("steps", "output"),
}
WHOLE = -1  # instead of an endpoint's number: the service itself
_NAME = {"type": "string", "pattern": ENDPOINT_NAME, "x-expected": "lower-case letters, digits and hyphens"}
_SCHEMAS = {
    name: Schema({"type": "object", "properties": {**kind.schema["properties"], "name": _NAME}})
    for name, kind in KINDS.items()
}


def form_of(text: str, kind: str) -> PartForm:
    """The form of an endpoint more. NotFound for a kind that there is not, Invalid for a text that is none."""
    if kind not in KINDS:
        raise NotFound(f"there is no kind of endpoint '{kind[:40]}'", hint="kinds: " + ", ".join(KINDS))
    names = [str(one.get("name")) for one in _endpoints(text) if isinstance(one, Mapping)]
    choices = {"endpoints": names, "types": PARAMETER_TYPES}
    return PartForm("endpoint", WHOLE, -1, f"One more endpoint: {kind}", Typed(), of=kind, choices=choices)


def add(text: str, kind: str, typed: Typed) -> Changed:
    """The text with an endpoint more, or what is wrong by field."""
    if kind not in KINDS:
        raise NotFound(f"there is no kind of endpoint '{kind[:40]}'", hint="kinds: " + ", ".join(KINDS))
    had = _endpoints(text)
    said = {
        "name": typed.given("name"),
        "description": typed.given("description"),
        **dict(_MADE[kind](typed)),
    }
    said = {name: value for name, value in said.items() if value not in ("", None, [], {})}
    problems = {name: "it is needed" for name in ("name", *NEEDED[kind]) if name not in said}
    if any(isinstance(one, Mapping) and one.get("name") == said.get("name") for one in had):
        problems["name"] = "another endpoint has that name"
    problems |= dict(_wrong_lines(kind, typed))
    problems |= told_by_field(said, _SCHEMAS[kind], problems)
    if problems:
        return Changed(problems=problems)
    made = {"name": said.pop("name"), "type": kind, **said}
    whole = load_document(text, name="the file").value
    return Changed(amend(text, (), {**whole, "endpoints": [*had, made]}))


def _lookup(typed: Typed) -> Iterator[tuple[str, Any]]:
    yield "product", typed.given("product")
    yield "data_set", typed.given("data_set")
    key = typed.rows("key", 2)
    if any(sent for _, sent in key):
        yield "key", {sent or column: column for column, sent in key}
    else:
        yield "key", key[0][0] if len(key) == 1 else [column for column, _ in key]


def _query(typed: Typed) -> Iterator[tuple[str, Any]]:
    yield "sql", typed.given("sql")
    yield "parameters", _parameters(typed, "parameters")


def _function(typed: Typed) -> Iterator[tuple[str, Any]]:
    yield "file", typed.given("file")
    yield "function", typed.given("function")


def _model(typed: Typed) -> Iterator[tuple[str, Any]]:
    yield "model", typed.given("model")


def _compose(typed: Typed) -> Iterator[tuple[str, Any]]:
    yield "input", _parameters(typed, "input")
    steps: list[Mapping[str, Any]] = []
    for name, call, sent in typed.rows("steps", 3):
        step: dict[str, Any] = {"name": name, "call": call}
        if sent:
            step["with"] = _sent(sent)
        steps.append(step)
    yield "steps", steps
    yield "output", value_of(typed.given("output"))


def _sent(text: str) -> Any:
    return value_of(text if text.startswith("{") else "{" + text + "}")


def _is_sent(text: str) -> bool:
    said = _sent(text)
    return isinstance(said, Mapping) and None not in said.values()


def _parameters(typed: Typed, name: str) -> Mapping[str, Any]:
    return {one: {"type": type_} if type_ else {} for one, type_ in typed.rows(name, 2)}


_MADE: Mapping[str, Callable[[Typed], Iterator[tuple[str, Any]]]] = {
    "predict": _model,
    "forecast": _model,
    "lookup": _lookup,
    "query": _query,
    "function": _function,
    "compose": _compose,
}


def _wrong_lines(kind: str, typed: Typed) -> Iterator[tuple[str, str]]:
    """Lines of which a part that is needed is missing, and names that are given twice."""
    for name in {"lookup": ("key",), "query": ("parameters",), "compose": ("input", "steps")}.get(kind, ()):
        rows = typed.rows(name, 3)
        firsts = [row[0] for row in rows]
        if "" in firsts:
            yield name, "a line has no name"
        elif twice := next((one for one in firsts if firsts.count(one) > 1), None):
            yield name, f"'{twice}' is given twice"
        elif name == "steps" and any(not row[1] for row in rows):
            yield name, "a step calls no endpoint"
        elif name == "steps" and any(row[2] and not _is_sent(row[2]) for row in rows):
            yield name, "what a step sends is written as `id: $input.id, other: $row.column`"


def _endpoints(text: str) -> list[Any]:
    found = load_document(text, name="the file").at(("endpoints",))
    if not isinstance(found, list) or not found:
        raise Invalid("'endpoints' is no list with an endpoint in the text", hint="mend it there")
    return found


# ── descriptions ─────────────────────────────────────────────────────────────────────────────────────────


def description_form(text: str, endpoint: int) -> PartForm:
    """The form of what is said of an endpoint, or with `WHOLE` of the service. NotFound."""
    whole = _described(text, endpoint)
    title = (
        f"Description of {whole.get('name', endpoint)}" if endpoint != WHOLE else "Description of the service"
    )
    typed = Typed({"description": str(whole.get("description", ""))})
    return PartForm("description", endpoint, -1, title, typed, digest_of(whole.get("description", "")))


def describe(text: str, endpoint: int, typed: Typed, digest: str) -> Changed:
    """The text with another description; an empty one is none. Conflict when it was changed meanwhile."""
    whole = _described(text, endpoint)
    demand_same(whole.get("description", ""), digest)
    rest = {name: value for name, value in whole.items() if name != "description"}
    said = typed.given("description")
    wanted = {**whole, "description": said} if said else rest
    path = () if endpoint == WHOLE else ("endpoints", endpoint)
    return Changed(amend(text, path, wanted, order=("service", "name", "type", "description")))


def _described(text: str, endpoint: int) -> Mapping[str, Any]:
    document = load_document(text, name="the file")
    whole = (
        document.value
        if endpoint == WHOLE
        else document.at(("endpoints", endpoint))
        if endpoint >= 0
        else None
    )
    if not isinstance(whole, Mapping):
        raise NotFound("there is no such endpoint in the text any more", hint="open it again")
    return whole
