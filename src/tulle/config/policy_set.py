"""Sets of policies: for which services they are, and how mesh.yaml says them.

What kinds of policy there are is the gateway's matter; here a list is one of mappings.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tulle.config.reading import demand_name, expect, known_items, setting, texts
from tulle.errors import Invalid


@dataclass(frozen=True, slots=True)
class PolicySet:
    """Policies of the gateway for many services; what is not named is not asked."""

    policies: tuple[Mapping[str, Any], ...] = setting((), "what the gateway does, as in a services file")
    domains: tuple[str, ...] = setting((), "for services of products of these domains; default: of all")
    tags: tuple[str, ...] = setting((), "for services of products with one of these tags; default: of all")
    services: tuple[str, ...] = setting((), "for these services; default: for all")
    environments: tuple[str, ...] = setting((), "in these environments; default: in all")
    mandatory: bool = setting(False, "whether no service may do without them")


def policy_sets(name: str, value: Any) -> dict[str, PolicySet]:
    """Those that mesh.yaml names. Invalid."""
    if not isinstance(value, Mapping):
        raise Invalid(f"mesh.yaml: '{name}' must map names to sets of policies")
    return {str(key): _policy_set(f"{name}.{key}", key, item) for key, item in value.items()}


def _policy_set(path: str, name: Any, value: Any) -> PolicySet:
    demand_name(path, name, "a set")
    if not isinstance(value, Mapping):
        raise Invalid(f"mesh.yaml: '{path}' must be a mapping with policies")
    given: dict[str, Any] = {}
    for key, item, _ in known_items(path, value, PolicySet):
        if key == "mandatory":
            expect(f"{path}.{key}", item, bool)
            given[key] = item
        elif key == "policies":
            if not isinstance(item, list) or not all(isinstance(one, Mapping) for one in item) or not item:
                raise Invalid(f"mesh.yaml: '{path}.policies' must be a list of policies")
            given[key] = tuple(item)
        else:
            given[key] = texts(f"{path}.{key}", item)
    if "policies" not in given:
        raise Invalid(f"mesh.yaml: '{path}' has no policies", hint="name them under 'policies'")
    return PolicySet(**given)
