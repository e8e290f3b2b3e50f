"""The registry, its hooks, and capabilities of third parties in Python and YAML."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from tests.spec.conftest import HEAD

from tulle.config import Settings
from tulle.errors import AlreadyExists, Invalid, NotFound, Place
from tulle.spec import capability as module
from tulle.spec.capability import GROUP, Capability, Registry, builtin_registry, load_registry
from tulle.spec.load import load_document
from tulle.spec.oam import read_product
from tulle.spec.product import DataProduct


def a_capability(name: str = "dashboard", **more: object) -> Capability:
    schema = {"type": "object", "properties": {"tool": {"type": "string", "description": "what draws it"}}}
    return Capability(name, "Dashboard", "A picture", schema, "", "", **more)  # type: ignore[arg-type]


def test_a_third_partys_function_registers_like_ours(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    entry = EntryPoint("acme", "tests.spec.acme_capabilities:register", GROUP)
    monkeypatch.setattr(module, "entry_points", lambda group: [entry] if group == GROUP else [])
    registry = load_registry(Settings(folder=tmp_path))
    built_in = builtin_registry().names()
    assert registry.names()[: len(built_in)] == built_in
    assert registry.get("acme-dashboard").origin == "acme"
    text = "  - {name: Sales board, type: acme-dashboard, properties: {tool: {value: acme}}}\n"
    product = read_product(load_document(HEAD + text), registry)
    assert product.components[-1].properties == {"tool": "acme"}
    assert product.components[-1].base == "acme-dashboard"


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("tests.spec.acme_capabilities:fails", "no licence"),
        ("tests.spec.acme_capabilities:missing", "missing"),
        ("no.such.module:register", "no.such.module|No module"),
    ],
)
def test_a_third_partys_failure_names_it(
    value: str, reason: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(module, "entry_points", lambda group: [EntryPoint("acme", value, GROUP)])
    with pytest.raises(Invalid, match=rf"'acme' \({value}\) cannot be loaded: .*({reason})"):
        load_registry(Settings(folder=tmp_path))


def test_the_registry_refuses_what_it_cannot_use() -> None:
    registry = builtin_registry()
    registry.add(a_capability(origin="acme"))
    with pytest.raises(AlreadyExists, match="'dashboard' of other is already registered by acme"):
        registry.add(a_capability(origin="other"))
    with pytest.raises(Invalid, match="'A b' is no name"):
        registry.add(a_capability("A b"))
    with pytest.raises(Invalid, match="extends 'output-prt', which does not exist") as caught:
        registry.add(a_capability("x", extends="output-prt"))
    assert caught.value.hint == "did you mean 'output-port'?"
    broken = Capability("y", "", "", {"type": "no-type"}, "", "")
    with pytest.raises(Invalid, match="the schema of capability 'y' is not usable"):
        registry.add(broken)
    assert "y" not in registry
    with pytest.raises(NotFound, match="no component type 'dashbord'") as missing:
        registry.get("dashbord")
    assert missing.value.hint == "did you mean 'dashboard'?"


def test_hooks_are_found_along_what_a_capability_extends() -> None:
    registry = builtin_registry()
    registry.add(a_capability("jdbc-port", extends="output-port"))
    registry.add(a_capability("oracle-port", extends="jdbc-port"))

    def plan_port() -> str:
        return "port"

    def plan_jdbc() -> str:
        return "jdbc"

    registry.hook("output-port", "plan", plan_port)
    assert registry.action("oracle-port", "plan") is plan_port
    registry.hook("jdbc-port", "plan", plan_jdbc)
    assert registry.action("oracle-port", "plan") is plan_jdbc
    assert registry.action("output-port", "plan") is plan_port
    assert registry.action("oracle-port", "observe") is None
    assert registry.base("oracle-port") == "output-port"
    with pytest.raises(AlreadyExists):
        registry.hook("jdbc-port", "plan", plan_port)
    with pytest.raises(Invalid, match="'plann' is no hook"):
        registry.hook("jdbc-port", "plann", plan_port)
    with pytest.raises(NotFound):
        registry.hook("jdbc", "plan", plan_port)


JDBC = """\
capability: jdbc-output-port
description: An output port read with JDBC
extends: output-port
properties:
  warehouse: {type: string, minLength: 1, description: which warehouse answers}
required: [warehouse, url]
defaults: {protocol: sql}
"""
ORACLE = "capability: a-port\nextends: jdbc-output-port\ndescription: x\ndefaults: {warehouse: small}\n"

WriteCapability = Callable[[str], Registry]


@pytest.fixture
def registry_with(tmp_path: Path) -> Callable[..., Registry]:
    def load(**files: str) -> Registry:
        folder = tmp_path / "capabilities"
        folder.mkdir(exist_ok=True)
        for name, text in files.items():
            (folder / f"{name}.yaml").write_text(text)
        return load_registry(Settings(folder=tmp_path))

    return load


def product_with(registry: Registry, component: str) -> DataProduct:
    text = HEAD + "  - {name: d, type: data-set, properties: {description: x}}\n  - " + component + "\n"
    return read_product(load_document(text, name="f"), registry)


def test_a_capability_in_yaml_is_a_special_case_of_another(registry_with: Callable[..., Registry]) -> None:
    registry = registry_with(jdbc=JDBC, a=ORACLE)  # `a` comes first by name and waits for what it extends
    found = registry.get("jdbc-output-port")
    assert (found.extends, found.origin, found.title) == (
        "output-port",
        "capabilities/jdbc.yaml",
        "Jdbc output port",
    )
    assert found.schema["required"] == ["description", "warehouse", "url"]
    assert "type: jdbc-output-port" in found.example
    product = product_with(registry, "{name: p, type: a-port, properties: {description: x, url: 'jdbc:x'}}")
    (port,) = product.output_ports
    assert (port.title, port.protocol, port.data_set) == ("p", "sql", "d")
    assert product.components[-1].properties == {
        "description": "x",
        "url": "jdbc:x",
        "warehouse": "small",
        "protocol": "sql",
    }
    with pytest.raises(Invalid) as caught:
        product_with(
            registry, "{name: p, type: jdbc-output-port, properties: {description: x, url: u, warehose: s}}"
        )
    assert [p.message for p in caught.value.problems] == [
        "unknown property 'warehose' in jdbc-output-port 'p'"
    ]


@pytest.mark.parametrize(
    ("text", "line", "message", "hint"),
    [
        (
            JDBC.replace("extends: output-port", "extends: output-prt"),
            3,
            "extends 'output-prt', which does not exist",
            "'output-port'",
        ),
        (
            JDBC.replace("  warehouse:", "  url:"),
            5,
            "the property 'url' is already one of 'output-port'",
            "defaults",
        ),
        (
            JDBC.replace("[warehouse, url]", "[warehose]"),
            6,
            "unknown property 'warehose' in 'required'",
            "'warehouse'",
        ),
        (
            JDBC.replace("{protocol:", "{protocl:"),
            7,
            "unknown property 'protocl' in 'defaults'",
            "'protocol'",
        ),
        (
            JDBC.replace("jdbc-output-port", "output-port"),
            1,
            "already registered by built-in",
            "name of its own",
        ),
        (JDBC.replace("jdbc-output-port", "A b"), 1, "expected a name in kebab-case", None),
        (
            JDBC.replace("type: string", "type: strng"),
            5,
            "is described by no JSON Schema: 'type' is 'strng'",
            None,
        ),
        (JDBC.replace("type: string", "$ref: 'file:///etc/passwd'"), 5, "outside this schema", None),
        (JDBC.replace("extends: output-port", "extends: jdbc-output-port"), 3, "extends itself", None),
        ("capability: x\n", 1, "'description' is missing", None),
        ("- a\n", 1, "expected a mapping", None),
        ("a: b: c\n", 1, "a ':' is not expected here", None),
    ],
)
def test_what_is_wrong_in_a_yaml_capability(
    text: str, line: int, message: str, hint: str | None, registry_with: Callable[..., Registry]
) -> None:
    with pytest.raises(Invalid) as caught:
        registry_with(c=text)
    problem = next(p for p in caught.value.problems if message in p.message)
    assert problem.place
    assert (problem.place.file, problem.place.line) == ("capabilities/c.yaml", line)
    assert (hint or "") in (problem.hint or "")


def test_problems_of_all_files_at_once(registry_with: Callable[..., Registry]) -> None:
    with pytest.raises(Invalid) as caught:
        registry_with(a="x: [", b="y: 1", c=JDBC)
    places = {p.place.file for p in caught.value.problems if isinstance(p.place, Place)}
    assert places == {"capabilities/a.yaml", "capabilities/b.yaml"}
