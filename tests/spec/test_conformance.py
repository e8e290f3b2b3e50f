"""The conformance kit passes what is fit for product teams, and tells what is not."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.spec import acme_capabilities

from tulle.cli.main import cli
from tulle.spec.capability import Capability, Registry, add_file, builtin_registry
from tulle.spec.conformance import examine
from tulle.spec.product import Component, DataProduct

GOOD = """\
capability: oracle-port
extends: output-port
description: A port into the Oracle warehouse
properties:
  service: {type: string, minLength: 1, description: the service name}
required: [service]
skeleton: |
  - name: Oracle port
    type: oracle-port
    properties: {description: How to connect, service: DWH}
example: |
  - name: Oracle port
    type: oracle-port
    properties: {description: How to connect, service: DWH}
"""


def _failed(registry: Registry, name: str, *, hooks: bool = False) -> dict[str, str]:
    return {f.check: f.told for f in examine(registry, name, hooks=hooks) if not f.passed}


@pytest.mark.parametrize("name", builtin_registry().names())
def test_the_built_in_types_conform(name: str) -> None:
    assert _failed(builtin_registry(), name) == {}


def test_a_file_of_ones_own_conforms(tmp_path: Path) -> None:
    registry = builtin_registry()
    file = tmp_path / "oracle.yaml"
    file.write_text(GOOD)
    assert _failed(registry, add_file(registry, file)) == {}


def test_texts_inherited_from_the_base_do_not_satisfy_what_is_required_in_addition(tmp_path: Path) -> None:
    registry = builtin_registry()
    file = tmp_path / "oracle.yaml"
    file.write_text(GOOD[: GOOD.index("skeleton")])
    failed = _failed(registry, add_file(registry, file))
    assert set(failed) == {"the skeleton is a valid component", "the example is a valid component"}
    assert "'service' is missing" in failed["the example is a valid component"]


def test_what_is_missing_is_told() -> None:
    registry = builtin_registry()
    acme_capabilities.register(registry)
    schema = {"type": "object", "properties": {"a": {"type": "integer", "default": "x"}}, "required": ["b"]}
    registry.add(Capability("sloppy", "", "", schema, "- {name: x, type: sloppy}\n", "["))
    failed = _failed(registry, "sloppy")
    assert failed["has title, description, skeleton and example"] == "add title, description"
    assert failed["every property is described"] == "add a description for a"
    assert "the default of a is not allowed" in failed["defaults are allowed by their own schemas"]
    assert "additionalProperties: false" in failed["an unknown property is refused"]
    assert "the skeleton is a valid component" in failed
    assert "the example is a valid component" in failed
    assert failed["what is required is a property"] == "add to properties: b"
    assert "there is no skeleton" in _failed(registry, "acme-dashboard").values()


class Topics:
    """Hooks that keep what they provided; the second provisioning fails, if wanted."""

    def __init__(self, registry: Registry, *, forgetful: bool) -> None:
        self.there: list[str] = []
        self.forgetful = forgetful
        example = "- {name: news, type: topic, properties: {description: what happened}}\n"
        schema = {
            "type": "object",
            "properties": {"description": {"type": "string", "description": "what it is"}},
            "additionalProperties": False,
        }
        registry.add(Capability("topic", "Topic", "A topic", schema, example, example))
        registry.hook("topic", "plan", self.plan)
        registry.hook("topic", "provision", self.provision)

    def plan(self, component: Component, product: DataProduct, before: Component | None) -> list[str]:
        """Say what provisioning would do."""
        return [f"make topic {component.name} of {product.name}{' again' if before else ''}"]

    def provision(self, component: Component, _product: DataProduct) -> None:
        """Make it; a forgetful one does not look whether it is there."""
        if component.name in self.there and self.forgetful:
            raise RuntimeError("topic exists")
        self.there.append(component.name)

    def destroy(self, component: Component, _product: DataProduct) -> None:
        """Take it away; again is no harm."""
        self.there = [name for name in self.there if name != component.name]


def test_hooks_are_called_twice() -> None:
    registry = builtin_registry()
    topics = Topics(registry, forgetful=False)
    assert "register the hook destroy" in _failed(registry, "topic")["what is provisioned can be taken away"]
    assert topics.there == []  # hooks act on the world: not unless asked
    registry.hook("topic", "destroy", topics.destroy)
    assert _failed(registry, "topic", hooks=True) == {}
    assert topics.there == []


def test_a_hook_that_cannot_be_repeated_is_told() -> None:
    registry = builtin_registry()
    topics = Topics(registry, forgetful=True)
    registry.hook("topic", "destroy", topics.destroy)
    failed = _failed(registry, "topic", hooks=True)
    assert failed == {"the hook provision answers twice alike": "it failed: RuntimeError: topic exists"}


def test_the_command_tells_and_fails(tmp_path: Path) -> None:
    (tmp_path / "mesh.yaml").write_text("name: test\n")
    file = tmp_path / "capabilities" / "oracle.yaml"
    file.parent.mkdir()
    file.write_text(GOOD)
    for name in ("oracle-port", str(file)):
        result = CliRunner().invoke(cli, ["--mesh", str(tmp_path), "capability", "test", name])
        assert result.exit_code == 0, (result.output, result.exception)
        assert "the example is a valid component" in result.output
    outside = tmp_path / "other.yaml"
    outside.write_text(GOOD[: GOOD.index("skeleton")].replace("oracle-port", "other-port"))
    result = CliRunner().invoke(cli, ["--mesh", str(tmp_path), "capability", "test", str(outside)])
    assert "does not conform: 2 of" in str(result.exception)
