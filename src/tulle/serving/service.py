"""The services a product declares: `services/<service>.yaml` read into values, every problem told with its place.

Knows the form of the file and of every kind of endpoint, not the kinds of policies; whether models and data sets exist
is found when the service is packaged.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Protocol

from tulle.errors import Invalid, Place, Problem, did_you_mean
from tulle.serving.access import ACCESS_SCHEMA, Access, read_access
from tulle.serving.kinds import KINDS, Kind, Spec
from tulle.serving.log_declared import ENDPOINT_LOG_SCHEMA, LOG_SCHEMA, ServiceLog, parse_log
from tulle.serving.overlay import SUFFIX, Overlay, load_overlay, misplaced
from tulle.spec.document import Document
from tulle.spec.load import Schema, load_document, validate
from tulle.spec.tier import TERMS_SCHEMA, TIERS_SCHEMA, Offer, read_offer

SERVICE_NAME = "^[a-z0-9][a-z0-9-]{2,62}$"
SERVICE_FORM = re.compile(SERVICE_NAME)
ENDPOINT_NAME = "^[a-z0-9][a-z0-9-]{0,62}$"


@dataclass(frozen=True, slots=True)
class Service:
    """A service as its product declares it; the unit that is packaged, deployed and managed."""

    name: str
    endpoints: tuple[Spec, ...]
    description: str = ""
    access: Access = Access()
    policies: tuple[Mapping[str, Any], ...] = ()  # as written; whoever has the gateway knows their kinds
    log: ServiceLog = ServiceLog()
    overlay: Overlay = Overlay()  # of its OpenAPI document
    uses: tuple[str, ...] = ()  # other services that its compositions call
    offer: Offer = Offer()  # to those who would call it
    file: Path = field(default=Path(), compare=False)
    place: Place | None = field(default=None, compare=False, repr=False)


class HasFolder(Protocol):
    """A product, as far as its services are concerned."""

    @property
    def name(self) -> str:
        """The product's name."""

    @property
    def folder(self) -> Path:
        """The folder that holds product.yaml and services/."""

    @property
    def place(self) -> Place | None:
        """Where product.yaml was read, as people know it."""


def service_schema() -> Mapping[str, Any]:
    """The JSON Schema of a services file, for editors."""
    by_kind = [
        {"if": {"properties": {"type": {"const": name}}}, "then": {"$ref": f"#/$defs/{name}"}}
        for name in KINDS
    ]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A service of a data product",
        **_whole({"allOf": by_kind}),
        "$defs": {kind.name: _endpoint_schema(kind) for kind in KINDS.values()},
    }


_POLICIES_SCHEMA: Mapping[str, Any] = {
    "type": "array",
    "maxItems": 50,
    "description": "what the gateway does with requests beside letting callers in, in this order",
    "items": {
        "type": "object",
        "required": ["policy"],
        "properties": {"policy": {"type": "string", "description": "the kind of policy"}},
    },
}


def _whole(items: Mapping[str, Any]) -> Mapping[str, Any]:
    """The file but for what depends on the kind of an endpoint."""
    return {
        "type": "object",
        "additionalProperties": False,
        "required": ["service", "endpoints"],
        "properties": {
            "service": {
                "type": "string",
                "pattern": SERVICE_NAME,
                "x-expected": "3 to 63 lower-case letters, digits and hyphens",
                "description": "the service's name, its part of the address",
            },
            "description": {"type": "string"},
            "uses": {
                "type": "array",
                "items": {"type": "string", "pattern": SERVICE_NAME, "x-expected": "the name of a service"},
                "uniqueItems": True,
                "description": "other services that its compositions call, under an identity of this service",
            },
            "access": ACCESS_SCHEMA,
            "policies": _POLICIES_SCHEMA,
            "tiers": TIERS_SCHEMA,
            "terms": TERMS_SCHEMA,
            "log": LOG_SCHEMA,
            "endpoints": {
                "type": "array",
                "minItems": 1,
                "description": "what the service answers",
                "items": {
                    "type": "object",
                    "required": ["name", "type"],
                    "properties": {"type": {"enum": list(KINDS), "description": "the kind of endpoint"}},
                    **items,
                },
            },
        },
    }


def _endpoint_schema(kind: Kind) -> Mapping[str, Any]:
    return {
        "type": "object",
        "additionalProperties": False,
        "required": ["name", "type", *kind.schema.get("required", ())],
        "dependentRequired": kind.schema.get("dependentRequired", {}),
        **{word: kind.schema[word] for word in ("if", "then", "else") if word in kind.schema},
        "properties": {
            "name": {
                "type": "string",
                "pattern": ENDPOINT_NAME,
                "x-expected": "lower-case letters, digits and hyphens",
                "description": "the endpoint's part of the address",
            },
            "type": {"const": kind.name},
            "description": {"type": "string"},
            "log": ENDPOINT_LOG_SCHEMA,
            **kind.schema["properties"],
        },
    }


_WHOLE = Schema(_whole({}))
_QUERIES = {
    kind.name: Schema(kind.schema["properties"]["test_queries"])
    for kind in KINDS.values()
    if "test_queries" in kind.schema["properties"]
}


@cache
def _endpoint_form(kind: str) -> Schema:
    """Compiled when one is met: that of compositions, with steps within steps, is large."""
    return Schema(_endpoint_schema(KINDS[kind]))


def load_services(product: HasFolder) -> tuple[Service, ...]:
    """Every service in the product's `services/` folder, by name.

    Raises Invalid with the problems of all files at once.
    """
    problems: list[Problem] = []
    services: dict[str, Service] = {}
    folder = product.folder / "services"
    label = str(Path(product.place.file).parent / "services") if product.place else str(folder)
    for path in sorted(folder.glob("*.yaml")) + sorted(folder.glob("*.yml")):
        if path.name.endswith(SUFFIX):
            continue
        try:
            service = load_service(path, name=f"{label}/{path.name}")
        except Invalid as exc:
            problems += exc.problems or [Problem(exc.message, Place(str(path)), exc.hint)]
            continue
        if service.name in services:
            other = services[service.name].file
            problems.append(
                Problem(f"service '{service.name}' is also declared in {other.name}", service.place)
            )
        services[service.name] = service
    problems += _lonely(folder, label, services)
    if problems:
        count = f"{len(problems)} problem{'s' if len(problems) > 1 else ''}"
        raise Invalid(f"the services of product '{product.name}' are not valid: {count}", problems=problems)
    return tuple(services[name] for name in sorted(services))


def _lonely(folder: Path, label: str, services: Mapping[str, Service]) -> Iterator[Problem]:
    """Overlays that belong to no service, most likely misspelt; said where all files could be read."""
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        name = path.name.removesuffix(SUFFIX)
        if name not in services and len(services) == len(_files(folder)):
            hint = did_you_mean(name, services) or f"it is called <service>{SUFFIX}"
            yield Problem(f"there is no service '{name}'", Place(f"{label}/{path.name}", 1, 1), hint)


def file_of(product: HasFolder, name: str) -> Path | None:
    """The file that says it declares a service, whatever else is wrong with it; else the one that is called so."""
    called = None
    for path in sorted(_files(product.folder / "services")):
        try:
            raw = load_document(path).value
        except Invalid:
            raw = None
        if isinstance(raw, dict) and raw.get("service") == name:
            return path
        if path.stem == name and not isinstance(raw, dict):
            called = path
    return called


def _files(folder: Path) -> list[Path]:
    return [p for p in (*folder.glob("*.yaml"), *folder.glob("*.yml")) if not p.name.endswith(SUFFIX)]


def load_service(source: Path | str, *, name: str = "") -> Service:
    """One services file (a Path, or its text); Invalid with every problem and its place."""
    document = load_document(source, name=name)
    problems = validate(document, _WHOLE)
    access, offer = Access(), Offer()
    if not problems:
        offer, problems = read_offer(document)
    if not problems and "access" in document.value:
        folder = source.parent if isinstance(source, Path) else None
        access, problems = read_access(document, ("access",), folder)
    raw = document.value if isinstance(document.value, dict) else {}
    endpoints = raw.get("endpoints") if isinstance(raw.get("endpoints"), list) else []
    for i, endpoint in enumerate(endpoints or ()):
        kind = endpoint.get("type") if isinstance(endpoint, dict) else None
        if isinstance(kind, str) and kind in KINDS:
            label = f"endpoint '{endpoint.get('name', i)}'"
            problems += validate(document, _endpoint_form(kind), ("endpoints", i), where=label)
    problems += _repeated(document, endpoints or ())
    drawn, wrong = drawn_queries(source, document, raw) if isinstance(source, Path) else ({}, [])
    problems += wrong
    overlay, wrong = _overlay(source, document, raw) if isinstance(source, Path) else (Overlay(), [])
    problems += wrong
    if problems:
        unique = list(dict.fromkeys(problems))
        count = f"{len(unique)} problem{'s' if len(unique) > 1 else ''}"
        raise Invalid(f"{document.name} is not valid: {count}", problems=unique)
    return Service(
        name=raw["service"],
        endpoints=tuple(_endpoint(document, i, one, drawn) for i, one in enumerate(raw["endpoints"])),
        description=raw.get("description", ""),
        overlay=overlay,
        uses=tuple(raw.get("uses", ())),
        access=access,
        policies=tuple(raw.get("policies", ())),
        offer=offer,
        log=parse_log(raw),
        file=source if isinstance(source, Path) else Path(document.name),
        place=document.place(("service",)),
    )


def _overlay(source: Path, document: Document, raw: Mapping[str, Any]) -> tuple[Overlay, list[Problem]]:
    """The overlay beside a services file, and what is wrong with it as far as that can be known before a package."""
    file = source.parent / f"{raw.get('service')}{SUFFIX}"
    if not SERVICE_FORM.fullmatch(str(raw.get("service"))) or not file.is_file():
        return Overlay(), []
    return _overlay_in(file, str(Path(document.name).parent / file.name), raw)


def annotation_problems(source: Path, file: Path, name: str) -> Sequence[Problem]:
    """What is wrong with a file of annotations for a service, as far as that can be known before a package."""
    raw = load_document(source).value
    return _overlay_in(file, name, raw if isinstance(raw, dict) else {})[1]


def _overlay_in(file: Path, name: str, raw: Mapping[str, Any]) -> tuple[Overlay, list[Problem]]:
    try:
        found = load_overlay(file, name)
    except Invalid as exc:
        return Overlay(), list(exc.problems) or [Problem(exc.message, Place(name), exc.hint)]
    paths = [f"/{name}/{action}" for name, kind in _kinds(raw).items() for action in KINDS[kind].actions]
    return found, list(misplaced(found, paths))


def _kinds(raw: Mapping[str, Any]) -> Mapping[str, str]:
    """The kinds of the endpoints by name, of those that have both, in a text that need not be valid."""
    endpoints = raw.get("endpoints")
    pairs = [
        (one.get("name"), one.get("type"))
        for one in (endpoints if isinstance(endpoints, list) else ())
        if isinstance(one, dict)
    ]
    return {
        name: kind
        for name, kind in pairs
        if isinstance(name, str) and isinstance(kind, str) and kind in KINDS
    }


def queries_file(services: Path, service: str, endpoint: str) -> Path:
    """Where the test queries are kept that were made from data, below the folder of services files."""
    return services / "queries" / service / f"{endpoint}.yaml"


def drawn_queries(
    source: Path, document: Document, raw: Mapping[str, Any]
) -> tuple[Mapping[str, Sequence[Mapping[str, Any]]], list[Problem]]:
    """The test queries beside a services file, by endpoint, and what is wrong with them."""
    found: dict[str, Sequence[Mapping[str, Any]]] = {}
    problems: list[Problem] = []
    kinds = _kinds(raw)
    home = queries_file(source.parent, str(raw.get("service", "")), "x").parent
    label = str(Path(document.name).parent / "queries" / home.name)
    for file in sorted(home.glob("*.yaml")) if SERVICE_FORM.fullmatch(home.name) else ():
        name = f"{label}/{file.name}"
        if file.stem not in kinds:
            hint = did_you_mean(file.stem, kinds) or "rename or remove it"
            problems.append(Problem(f"there is no endpoint '{file.stem}'", Place(name, 1, 1), hint))
            continue
        try:
            read = load_document(file, name=name)
        except Invalid as exc:
            problems += exc.problems or [Problem(exc.message, Place(name), exc.hint)]
            continue
        wrong = validate(read, _QUERIES[kinds[file.stem]])
        problems += wrong
        if not wrong:
            found[file.stem] = read.value
    return found, problems


def _endpoint(
    document: Document,
    number: int,
    raw: Mapping[str, Any],
    drawn: Mapping[str, Sequence[Mapping[str, Any]]],
) -> Spec:
    if raw["name"] in drawn:
        raw = {**raw, "test_queries": [*raw.get("test_queries", ()), *drawn[raw["name"]]]}
    return KINDS[raw["type"]].parse(raw, lambda path: document.place(("endpoints", number, *path)))


def _repeated(document: Document, endpoints: Any) -> list[Problem]:
    seen: set[str] = set()
    problems = []
    for i, endpoint in enumerate(endpoints):
        name = endpoint.get("name") if isinstance(endpoint, dict) else None
        if isinstance(name, str) and name in seen:
            problems.append(
                document.problem(f"endpoint '{name}' is declared twice", ("endpoints", i, "name"))
            )
        seen.add(str(name))
    return problems
