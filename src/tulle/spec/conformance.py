"""The conformance kit of component types: what a capability owes to those who write, plan and run with it.

Every check looks at the capability from outside, as a product team meets it, and tells what it saw. Hooks act on the
world, so they are called only when asked for: each twice, as a plan that is resumed after a crash calls them.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tulle.errors import Invalid, Problem
from tulle.spec.capability import HOOKS, Capability, Registry
from tulle.spec.document import Document
from tulle.spec.load import load_document
from tulle.spec.oam import read_parts
from tulle.spec.product import Component, DataProduct
from tulle.spec.rules import broken_rules
from tulle.spec.validate import Schema, validate

NONSENSE = "there_is_no_such_property"
_HEAD = """\
apiVersion: core.oam.dev/v1beta1
kind: DataProduct
spec:
  components:
"""
# What stands around a component of a type that a product needs anyway.
_AROUND = {
    "domain": "  - {name: conformance, type: domain}\n",
    "data-product": "  - {name: conformance kit, type: data-product, properties: {definition: A trial}}\n",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    check: str
    passed: bool
    told: str = ""  # what was seen, and what to do about it
    problems: tuple[Problem, ...] = ()


def examine(registry: Registry, name: str, *, hooks: bool = False) -> tuple[Finding, ...]:
    """Everything the kit looks at, in order. Raises NotFound with the nearest name."""
    capability = registry.get(name)
    texts = [_text(registry, capability, what) for what in ("skeleton", "example")]
    findings = [*_documented(capability), *_schema(registry, capability), *texts]
    findings += _refusals(registry, capability)
    findings += _hooks(registry, capability, call=hooks)
    return tuple(findings)


# ── texts and schema ────────────────────────────────────────


def _documented(capability: Capability) -> Iterator[Finding]:
    missing = [
        w for w in ("title", "description", "skeleton", "example") if not getattr(capability, w).strip()
    ]
    yield Finding("has title, description, skeleton and example", not missing, _missing(missing))
    silent = [path for path, inner in _properties(capability.schema) if not inner.get("description")]
    yield Finding("every property is described", not silent, _missing(silent, "a description for "))


def _missing(names: list[str], what: str = "") -> str:
    return f"add {what}{', '.join(names[:12])}" if names else ""


def _properties(schema: Any, path: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    if not isinstance(schema, Mapping):
        return
    properties = schema.get("properties")
    for name, inner in properties.items() if isinstance(properties, Mapping) else ():
        if isinstance(inner, Mapping):
            yield f"{path}{name}", inner
            yield from _properties(inner, f"{path}{name}.")
            yield from _properties(inner.get("items"), f"{path}{name}[].")


def _schema(registry: Registry, capability: Capability) -> Iterator[Finding]:
    schema = registry.schema(capability.name).definition
    yield Finding("the schema is of a mapping", schema.get("type") == "object", "set type: object")
    wrong = []
    for path, inner in _properties(schema):
        if "default" in inner:
            try:
                fits = Schema(inner).validator.is_valid(inner["default"])
            except ValueError as error:
                fits = False
                wrong.append(f"{path}: {str(error)[:200]}")
            if not fits:
                wrong.append(f"the default of {path} is not allowed by its own schema")
    yield Finding("defaults are allowed by their own schemas", not wrong, "; ".join(dict.fromkeys(wrong)))


# ── as a product team meets it ────────────────────────────────────────


def _trial(
    registry: Registry, capability: Capability, component: str
) -> tuple[Document, list[Problem], list[Any]]:
    around = "".join(t for kind, t in _AROUND.items() if registry.base(capability.name) != kind)
    text = _HEAD + around + textwrap.indent(component.strip("\n") + "\n", "  ")
    return read_parts(load_document(text, name=f"{capability.name}.yaml"), registry)


def _problems(
    registry: Registry, capability: Capability, component: str, *, parts: bool = False
) -> tuple[list[Problem], list[Any]]:
    """What schemas and the component's own rules find; what it refers to need not be there.

    With the components of its type; with `parts` those that it stands for, too.
    """
    try:
        document, problems, found = _trial(registry, capability, component)
    except Invalid as error:
        return list(error.problems) or [Problem(error.message, hint=error.hint)], []
    mine = [part for part in found if part.type == capability.name]
    at = [document.place(part.path).line for part in mine]
    rules = [
        problem
        for problem in broken_rules(document, found)
        if problem.place and at and problem.place.line >= min(at) and not _dangles(problem)
    ]
    if parts and mine:
        kinds = {part["type"] for part in capability.compose}
        mine += [part for part in found if part.type in kinds and document.place(part.path).line >= min(at)]
    return problems + rules, mine


def _dangles(problem: Problem) -> bool:
    words = ("which is no data set of this product", "which is no service level here", "is no data set here")
    return any(word in problem.message for word in words)


def _text(registry: Registry, capability: Capability, what: str) -> Finding:
    check = f"the {what} is a valid component"
    text = getattr(capability, what)
    if not text.strip():
        return Finding(check, False, f"there is no {what}")
    problems, mine = _problems(registry, capability, text)
    if not mine and not problems:
        return Finding(check, False, f"it has no component of type {capability.name}")
    return Finding(check, not problems, problems[0].message if problems else "", tuple(problems))


def _refusals(registry: Registry, capability: Capability) -> Iterator[Finding]:
    schema = registry.schema(capability.name)
    document = load_document(f"{{{NONSENSE}: 1}}", name=capability.name)
    told = any(NONSENSE in problem.message for problem in validate(document, schema))
    yield Finding(
        "an unknown property is refused",
        told,
        "" if told else "set additionalProperties: false, so that a slip of the pen is told",
    )
    required = list(schema.definition.get("required", ()))
    known = schema.definition.get("properties", {})
    unknown = [name for name in required if name not in known]
    yield Finding("what is required is a property", not unknown, _missing(unknown, "to properties: "))


# ── hooks ────────────────────────────────────────


def _hooks(registry: Registry, capability: Capability, *, call: bool) -> Iterator[Finding]:
    types = [capability.name, *dict.fromkeys(part["type"] for part in capability.compose)]
    actions = {(name, event): registry.action(name, event) for name in types for event in HOOKS}
    paired = all(actions[n, "provision"] is None or actions[n, "destroy"] is not None for n in types)
    yield Finding(
        "what is provisioned can be taken away",
        paired,
        "" if paired else "register the hook destroy: without it, what a retired product had stays for ever",
    )
    if not call or not any(actions.values()):
        return
    _, mine = _problems(registry, capability, capability.example, parts=True)
    if not mine:
        yield Finding("the hooks answer", False, "they are called with the example, which is not valid")
        return
    components = tuple(Component(part.name, part.type, part.properties, part.base) for part in mine)
    product = DataProduct(
        "conformance-kit", "conformance kit", "conformance", "A trial", components=components
    )
    for component in components:
        for event in ("plan", "provision", "observe", "plan", "destroy"):
            if action := registry.action(component.type, event):
                yield _answers(event, action, component, product)


def _answers(event: str, action: Callable[..., Any], component: Component, product: DataProduct) -> Finding:
    """Call a hook twice: the second time changes nothing, so it must not fail and a plan says the same."""
    check = f"the hook {event} answers twice alike"
    arguments = (component, product, None) if event == "plan" else (component, product)
    try:
        first, second = _plain(action(*arguments)), _plain(action(*arguments))
    except Exception as error:  # noqa: BLE001  a third party's code may fail in any way; the kit tells how
        return Finding(check, False, f"it failed: {type(error).__name__}: {str(error)[:300]}")
    if event == "plan" and not (isinstance(first, list) and all(isinstance(line, str) for line in first)):
        return Finding(check, False, "a plan is a list of sentences")
    if event == "plan" and first != second:
        return Finding(check, False, "the two plans differ; a plan may depend on nothing but its arguments")
    return Finding(check, True)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
