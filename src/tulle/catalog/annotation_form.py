"""Annotations of a service's API as fields of a form: what each changes in the document, and back in the text.

The text is an OpenAPI Overlay. Summary, description and tags have fields of their own; what else an annotation says are
lines of a name and a value. Pure: texts and plain values in and out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jsonpath_rfc9535 as jsonpath

from tulle.catalog.part_fields import Changed, PartForm, Typed, demand_same, digest_of, value_of
from tulle.errors import Invalid, NotFound, Problem
from tulle.spec.amend import amend
from tulle.spec.load import load_document
from tulle.spec.write import inline

NEW = -1
MOST_TARGETS = 200
_TEXTS = ("title", "summary", "description")
_BEGIN = "overlay: 1.0.0\ninfo: {{title: Annotations of {service}, version: 1.0.0}}\nactions:\n"


@dataclass(frozen=True, slots=True)
class AnnotationView:
    """One annotation: what it is of, whether that is taken away, and what is laid over it, in words."""

    target: str
    removes: bool
    said: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class AnnotationsView:
    """Annotations as they were read, or what is wrong with their text."""

    annotations: tuple[AnnotationView, ...]
    problems: tuple[Problem, ...] = ()


def read_annotations(text: str, path: str) -> AnnotationsView:
    """What a text says; what is wrong with it is told, not raised."""
    if not text.strip():
        return AnnotationsView(())
    try:
        actions = _actions(text, path)
    except Invalid as exc:
        return AnnotationsView((), tuple(exc.problems) or (Problem(exc.message, None, exc.hint),))
    return AnnotationsView(tuple(_view(one) for one in actions if isinstance(one, Mapping)))


def _view(action: Mapping[str, Any]) -> AnnotationView:
    update = action.get("update")
    if isinstance(update, Mapping):
        said = tuple(
            (str(name), value if isinstance(value, str) else inline(value)) for name, value in update.items()
        )
    else:
        said = () if update is None else (("", inline(update)),)
    return AnnotationView(str(action.get("target", "")), bool(action.get("remove")), said)


def targets_of(document: Mapping[str, Any]) -> tuple[str, ...]:
    """What annotations may be of, in an OpenAPI document: the API, its operations, its schemas."""
    found = ["$.info"]
    for path, item in document.get("paths", {}).items():
        found += [
            f"$.paths['{path}'].{method}" for method in item if method in {"get", "post", "put", "delete"}
        ]
    found += [f"$.components.schemas['{name}']" for name in document.get("components", {}).get("schemas", {})]
    return tuple(found[:MOST_TARGETS])


def form_of(text: str, number: int, targets: Sequence[str] = ()) -> PartForm:
    """The form of an annotation in a text; with `NEW` of one more. NotFound, Invalid."""
    raw = _found(text, number)
    update = raw.get("update", {})
    if not isinstance(update, Mapping):
        raise Invalid("what it says is no mapping", hint="change it in the text")
    tags = update.get("tags")
    plain = [name for name in _TEXTS if isinstance(update.get(name), str)]
    has_tags = isinstance(tags, list) and all(isinstance(one, str) and "," not in one for one in tags)
    texts = {name: str(update[name]) for name in plain}
    texts |= {"tags": ", ".join(tags)} if has_tags and isinstance(tags, list) else {}
    texts |= {"target": str(raw.get("target", "")), "what": "remove" if raw.get("remove") else ""}
    own = {*plain, *(["tags"] if has_tags else [])}
    more = [(str(name), inline(value)) for name, value in update.items() if name not in own]
    title = f"Annotation {number + 1}" if raw else "One more annotation"
    typed = Typed({**dict.fromkeys((*_TEXTS, "tags"), ""), **texts}, {"more": more})
    digest = digest_of(raw) if raw else ""
    return PartForm("annotation", -1, number, title, typed, digest, choices={"targets": targets})


def change(text: str, number: int, typed: Typed, digest: str, service: str) -> Changed:
    """The text with an annotation as it was filled in. Conflict when it is not the one that was looked at."""
    raw = _found(text, number)
    if raw:
        demand_same(raw, digest)
    removes = typed.given("what") == "remove"
    update, problems = _update(typed)
    problems |= _wrong_target(typed.given("target"))
    if not removes and not update and not problems:
        problems["description"] = "it says nothing: fill in something, or take away what it is of"
    if problems:
        return Changed(problems=problems)
    kept = {name: value for name, value in raw.items() if name not in {"target", "update", "remove"}}
    what = {"remove": True} if removes else {"update": update}
    made = {"target": typed.given("target"), **kept, **what}
    order = ("target", "update", "remove")
    if not text.strip():
        begun = _BEGIN.format(service=service) + "  - target: $\n    update: {}\n"
        return Changed(amend(begun, ("actions", 0), made, order=order))
    if raw:
        return Changed(amend(text, ("actions", number), made, order=order))
    whole = load_document(text).value
    return Changed(amend(text, (), {**whole, "actions": [*_actions(text, "the text"), made]}))


def _update(typed: Typed) -> tuple[dict[str, Any], dict[str, str]]:
    """What is laid over, and what is wrong with it by field."""
    update: dict[str, Any] = {name: typed.given(name) for name in _TEXTS if typed.given(name)}
    if tags := [one.strip() for one in typed.given("tags").split(",") if one.strip()]:
        update["tags"] = tags
    problems: dict[str, str] = {}
    for name, value in typed.rows("more", 2):
        if not name:
            problems["more"] = "a value has no name"
        elif name in update:
            problems["more"] = f"'{name}' is given twice"
        else:
            update[name] = value_of(value) if value else None
    return update, problems


def _wrong_target(target: str) -> dict[str, str]:
    if not target:
        return {"target": "it is needed: what the annotation is of"}
    try:
        jsonpath.compile(target)
    except (jsonpath.JSONPathError, RecursionError) as exc:
        return {"target": f"this is no JSONPath: {exc}"}
    return {}


def take_out(text: str, number: int, digest: str) -> str:
    """The text without an annotation; empty without the last one."""
    raw = _found(text, number)
    if not raw:
        raise _gone()
    demand_same(raw, digest)
    actions = _actions(text, "the text")
    if len(actions) == 1:
        return ""
    whole = load_document(text).value
    return amend(
        text, (), {**whole, "actions": [one for place, one in enumerate(actions) if place != number]}
    )


def _found(text: str, number: int) -> Mapping[str, Any]:
    if number == NEW:
        return {}
    actions = _actions(text, "the text") if text.strip() else []
    raw = actions[number] if 0 <= number < len(actions) else None
    if not isinstance(raw, Mapping) or not raw:
        raise _gone()
    return raw


def _actions(text: str, path: str) -> Sequence[Any]:
    found = load_document(text, name=path).at(("actions",))
    if not isinstance(found, list):
        raise Invalid(f"{path} has no list of actions", hint="mend it in the text")
    return found


def _gone() -> NotFound:
    return NotFound("there is no such annotation in the text any more", hint="open it again")
