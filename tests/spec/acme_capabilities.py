"""A third party's package, as an entry point would name it."""

from __future__ import annotations

from tulle.spec.capability import Capability, Registry

SCHEMA = {
    "type": "object",
    "properties": {"tool": {"type": "string", "description": "what draws it"}},
    "additionalProperties": False,
}


def register(registry: Registry) -> None:
    """Add one component type."""
    registry.add(Capability("acme-dashboard", "Dashboard", "A picture", SCHEMA, "", "", origin="acme"))


def fails(registry: Registry) -> None:
    """Fail the way other people's code fails."""
    raise RuntimeError(f"no licence for {len(registry)} types")
