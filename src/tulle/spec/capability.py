"""What component types there are: each a capability with its schema, texts and hooks, kept in a registry.

The one extension point of the product document. A capability comes from Python (an entry point in the group
`tulle.capabilities` that names a function taking the Registry) or from a YAML file in the mesh folder
(`capabilities/*.yaml`: a special case of an existing capability, or composed of several). The built-in
component types come in the first way like anybody's. What a capability *does* is registered from above by
name (`Registry.hook`): this module knows nothing of planning, provisioning or observing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from tulle.config import Settings
from tulle.errors import AlreadyExists, Invalid, NotFound, Problem, did_you_mean
from tulle.spec.compose import part_problems
from tulle.spec.document import Document, refuse
from tulle.spec.envelope import json_schema
from tulle.spec.load import load_document
from tulle.spec.validate import Schema, validate

__all__ = ["Capability", "Registry", "builtin_registry", "json_schema", "load_registry"]

GROUP = "tulle.capabilities"
BUILT_IN = tuple(
    EntryPoint("built-in", f"tulle.spec.{module}:register", GROUP)
    for module in ("components", "transformation")
)
NAME = r"^[a-z][a-z0-9]*(-[a-z0-9]+)*$"

HOOKS = ("plan", "provision", "observe", "destroy")


@dataclass(frozen=True, slots=True)
class Capability:
    """One component type: what its properties are, and texts that teach its use."""

    name: str  # the `type:` of a component, kebab-case
    title: str
    description: str
    schema: Mapping[str, Any]  # JSON Schema (2020-12) of `properties`
    skeleton: str  # YAML of a component to start from
    example: str  # YAML of a complete component
    extends: str = ""  # the capability it is a special case of
    defaults: Mapping[str, Any] = field(default_factory=dict)  # properties taken when not written
    compose: tuple[Mapping[str, Any], ...] = ()  # the components it stands for, `${property}` to be filled in
    origin: str = "built-in"  # where it was registered: built-in, a package, or a file


class Registry:
    """Capabilities by name, and the hooks registered for them."""

    def __init__(self) -> None:
        self._capabilities: dict[str, Capability] = {}
        self._schemas: dict[str, Schema] = {}
        self._hooks: dict[tuple[str, str], Callable[..., Any]] = {}

    def add(self, capability: Capability) -> None:
        """Register one. Raises AlreadyExists for a taken name, Invalid for an unusable definition."""
        name = capability.name
        if known := self._capabilities.get(name):
            raise AlreadyExists(
                f"the capability '{name}' of {capability.origin} is already registered by {known.origin}",
                hint="give it a name of its own",
            )
        if not re.fullmatch(NAME, name):
            raise Invalid(
                f"'{name}' is no name for a capability", hint="use kebab-case, for example jdbc-port"
            )
        if capability.extends and capability.extends not in self._capabilities:
            raise Invalid(
                f"capability '{name}' extends '{capability.extends}', which does not exist",
                hint=did_you_mean(capability.extends, self._capabilities),
            )
        try:
            self._schemas[name] = Schema(capability.schema)
        except ValueError as error:
            raise Invalid(f"the schema of capability '{name}' is not usable: {str(error)[:300]}") from error
        self._capabilities[name] = capability

    def get(self, name: str) -> Capability:
        """The capability of that name. Raises NotFound with the nearest name."""
        if name not in self._capabilities:
            raise NotFound(
                f"there is no component type '{name}'", hint=did_you_mean(name, self._capabilities)
            )
        return self._capabilities[name]

    def schema(self, name: str) -> Schema:
        """The compiled schema of a capability's properties. Raises NotFound."""
        self.get(name)
        return self._schemas[name]

    def base(self, name: str) -> str:
        """The capability at the root of what `name` extends: `output-port` for a kind of output port."""
        return [c.name for c in self.lineage(name)][-1]

    def lineage(self, name: str) -> Iterator[Capability]:
        """The capability and what it extends, nearest first. Raises NotFound."""
        while name:
            capability = self.get(name)
            yield capability
            name = capability.extends

    def hook(self, name: str, event: str, action: Callable[..., Any]) -> None:
        """Register what happens at `event` (one of HOOKS) for `name` and for what extends it.

        `plan(component, product, before)` gives sentences on what provisioning will do (`before` is the component
        as it was applied last, or None); `provision(component, product)` and `destroy(component, product)` do it.
        They may be called again for what they did already: a crash leaves nobody to tell how far it came.
        """
        self.get(name)
        if event not in HOOKS:
            raise Invalid(f"'{event}' is no hook of capabilities", hint=did_you_mean(event, HOOKS))
        if (name, event) in self._hooks:
            raise AlreadyExists(f"the hook '{event}' of capability '{name}' is already registered")
        self._hooks[name, event] = action

    def action(self, name: str, event: str) -> Callable[..., Any] | None:
        """The nearest action registered for `event`: the capability's own, else that of what it extends."""
        for capability in self.lineage(name):
            if found := self._hooks.get((capability.name, event)):
                return found
        return None

    def names(self) -> tuple[str, ...]:
        """All names, in order of registration."""
        return tuple(self._capabilities)

    def all(self) -> tuple[Capability, ...]:
        """All capabilities, in order of registration."""
        return tuple(self._capabilities.values())

    def __iter__(self) -> Iterator[Capability]:
        return iter(self.all())

    def __contains__(self, name: object) -> bool:
        return name in self._capabilities

    def __len__(self) -> int:
        return len(self._capabilities)


def builtin_registry() -> Registry:
    """A registry with the component types of the product document, and nothing else."""
    registry = Registry()
    for entry in BUILT_IN:
        _register(registry, entry)
    return registry


def load_registry(settings: Settings) -> Registry:
    """The built-in capabilities, those of installed packages, and those in the mesh's `capabilities/`.

    Raises Invalid naming the package or the file (with all problems) that does not load.
    """
    registry = builtin_registry()
    for entry in sorted(entry_points(group=GROUP), key=lambda e: e.name):
        _register(registry, entry)
    _add_files(registry, settings.folder)
    return registry


def _register(registry: Registry, entry: EntryPoint) -> None:
    source = f"package entry '{entry.name}' ({entry.value})"
    try:
        entry.load()(registry)
    except (AlreadyExists, Invalid):
        raise
    except Exception as error:  # a third party's code may fail in any way; the mesh names whose it is
        raise Invalid(f"the capabilities of {source} cannot be loaded: {error!r}") from error


# ── capabilities written in YAML ────────────────────────────────────────

_TEXT = {"type": "string", "minLength": 1}
DEFINITION = Schema(
    {
        "type": "object",
        "required": ["capability", "description"],
        "additionalProperties": False,
        "properties": {
            "capability": {
                **_TEXT,
                "pattern": NAME,
                "x-expected": "a name in kebab-case, such as jdbc-output-port",
                "description": "the component type it adds",
            },
            "extends": {**_TEXT, "description": "the capability it is a special case of"},
            "compose": {
                "type": "array",
                "minItems": 1,
                "maxItems": 50,
                "description": "the components it stands for; `${name}` and `${property}` are filled in",
                "items": {
                    "type": "object",
                    "required": ["name", "type"],
                    "additionalProperties": False,
                    "properties": {
                        "name": {**_TEXT, "description": "the part's name, such as `${name} files`"},
                        "type": {**_TEXT, "description": "the part's component type"},
                        "when": {**_TEXT, "description": "the part is there where this property is written"},
                        "properties": {"type": "object", "description": "the part's properties"},
                    },
                },
            },
            "title": {**_TEXT, "description": "its name for readers"},
            "description": {**_TEXT, "description": "one or two sentences on what it is for"},
            "properties": {
                "type": "object",
                "description": "extra properties: the JSON Schema of each, by name",
                "additionalProperties": {"type": "object"},
            },
            "required": {
                "type": "array",
                "items": _TEXT,
                "description": "properties that components must have, its own or inherited ones",
            },
            "defaults": {"type": "object", "description": "values taken for properties that are not written"},
            "skeleton": {**_TEXT, "description": "YAML of a component to start from"},
            "example": {**_TEXT, "description": "YAML of a complete component"},
        },
    }
)


def _add_files(registry: Registry, mesh: Path) -> None:
    """Register capabilities/*.yaml, each after what it extends."""
    problems: list[Problem] = []
    waiting: list[Document] = []
    for path in sorted((mesh / "capabilities").glob("*.yaml")):
        try:
            document = load_document(path, name=str(path.relative_to(mesh)))
        except Invalid as error:
            problems.extend(error.problems or [Problem(error.message)])
            continue
        found = validate(document, DEFINITION) or _kind_problems(document)
        problems.extend(found)
        if not found:
            waiting.append(document)
    while waiting:
        ready = [d for d in waiting if not _missing(registry, d)]
        if not ready:
            names = [*registry.names(), *(d.value["capability"] for d in waiting)]
            problems.extend(problem for d in waiting for problem in _dangling(registry, d, names))
            break
        for document in ready:
            problems.extend(_add_document(registry, document))
            waiting.remove(document)
    refuse("capabilities", problems)


def add_file(registry: Registry, path: Path) -> str:
    """Register the capability of one YAML file; its name. Invalid, with every problem, when it is not usable."""
    document = load_document(path)
    refuse(document.name, validate(document, DEFINITION) or _kind_problems(document))
    if _missing(registry, document):
        refuse(document.name, _dangling(registry, document, registry.names()))
    refuse(document.name, _add_document(registry, document))
    return str(document.value["capability"])


def _kind_problems(document: Document) -> list[Problem]:
    """A definition says of what it is a special case, or of what it is composed; the second shows an example."""
    value = document.value
    if "extends" in value and "compose" in value:
        told = "a capability either extends another one or is composed of several"
        return [document.problem(told, ("compose",), key=True, hint="keep one of extends: and compose:")]
    if "extends" not in value and "compose" not in value:
        hint = "extends: names the one capability it is a special case of, compose: lists its parts"
        return [document.problem("it says neither 'extends' nor 'compose'", ("capability",), hint=hint)]
    if "compose" in value and "example" not in value:
        hint = "add example: with the YAML of a complete component, which `tulle capability test` tries"
        return [document.problem("a composed capability has no 'example'", ("capability",), hint=hint)]
    return []


def _missing(registry: Registry, document: Document) -> bool:
    """Whether it waits for a capability that is not registered yet."""
    value = document.value
    wanted = [part["type"] for part in value["compose"]] if "compose" in value else [value["extends"]]
    return any(name not in registry for name in wanted)


def _dangling(registry: Registry, document: Document, names: Iterable[str]) -> list[Problem]:
    names = list(names)
    if "compose" in document.value:
        return part_problems(document, registry, names)
    extends = document.value["extends"]
    message = f"capability '{document.value['capability']}' extends '{extends}', which does not exist"
    hint = did_you_mean(extends, names)
    if extends in names:
        message = f"capability '{document.value['capability']}' extends itself by way of '{extends}'"
        hint = "name a type that is there without it, such as output-port"
    return [document.problem(message, ("extends",), hint=hint)]


def _add_document(registry: Registry, document: Document) -> list[Problem]:
    value = document.value
    if "compose" in value:
        problems = part_problems(document, registry, registry.names()) + _unknown_properties(document, {})
    else:
        problems = _definition_problems(registry, document)
    if problems:
        return problems
    try:
        if "compose" in value:
            registry.add(composed_of_parts(value, origin=document.name))
        else:
            registry.add(composed(registry.get(value["extends"]), value, origin=document.name))
    except (AlreadyExists, Invalid) as error:
        return [document.problem(error.message, ("capability",), hint=error.hint)]
    return []


def _definition_problems(registry: Registry, document: Document) -> list[Problem]:
    value, base = document.value, registry.get(document.value["extends"])
    inherited = base.schema.get("properties", {})
    own = value.get("properties", {})
    problems = [
        document.problem(
            f"the property '{name}' is already one of '{base.name}'",
            ("properties", name),
            key=True,
            hint="choose another name, or set it under defaults:",
        )
        for name in own
        if name in inherited
    ]
    return [*problems, *_undescribed(document, own), *_unknown_properties(document, inherited)]


def _undescribed(document: Document, own: Mapping[str, Any]) -> Iterator[Problem]:
    """Properties whose description is no JSON Schema."""
    for name, described in own.items():
        try:
            Schema({"properties": {name: described}})
        except ValueError as error:
            path = [str(step) for step in getattr(error, "instance_path", ())][2:]
            found = getattr(error, "instance", None)
            said = f"'{'.'.join(path)}' is {found!r}" if path else str(error).splitlines()[0]
            message = f"the property '{name}' is described by no JSON Schema: {said}"
            yield document.problem(message, ("properties", name))


def _unknown_properties(document: Document, inherited: Mapping[str, Any]) -> list[Problem]:
    value = document.value
    own = value.get("properties", {})
    problems = []
    for section in ("required", "defaults"):
        for position, name in enumerate(value.get(section, ())):
            if name not in inherited and name not in own:
                path = (section, name) if section == "defaults" else (section, position)
                hint = did_you_mean(name, [*own, *inherited])
                problems.append(
                    document.problem(f"unknown property '{name}' in '{section}'", path, key=True, hint=hint)
                )
    return problems


def composed(base: Capability, definition: Mapping[str, Any], *, origin: str) -> Capability:
    """The capability that a YAML definition makes of the one it extends."""
    own, defaults = definition.get("properties", {}), definition.get("defaults", {})
    properties = {**base.schema.get("properties", {}), **own}
    for name, value in defaults.items():
        properties[name] = {**properties[name], "default": value}
    required = [*base.schema.get("required", ()), *definition.get("required", ())]
    name = definition["capability"]
    return Capability(
        name=name,
        title=definition.get("title", name.replace("-", " ").capitalize()),
        description=definition["description"],
        schema={**base.schema, "properties": properties, "required": list(dict.fromkeys(required))},
        skeleton=definition.get("skeleton", base.skeleton.replace(f"type: {base.name}", f"type: {name}")),
        example=definition.get("example", base.example.replace(f"type: {base.name}", f"type: {name}")),
        extends=base.name,
        defaults={**base.defaults, **defaults},
        origin=origin,
    )


def composed_of_parts(definition: Mapping[str, Any], *, origin: str) -> Capability:
    """The capability that a YAML definition composes of several."""
    defaults = definition.get("defaults", {})
    properties = dict(definition.get("properties", {}))
    for key, value in defaults.items():
        properties[key] = {**properties[key], "default": value}
    name, required = definition["capability"], list(dict.fromkeys(definition.get("required", ())))
    schema: dict[str, Any] = {"type": "object", "additionalProperties": False, "properties": properties}
    return Capability(
        name=name,
        title=definition.get("title", name.replace("-", " ").capitalize()),
        description=definition["description"],
        schema={**schema, "required": required} if required else schema,
        skeleton=definition.get("skeleton", definition["example"]),
        example=definition["example"],
        defaults=defaults,
        compose=tuple(definition["compose"]),
        origin=origin,
    )
