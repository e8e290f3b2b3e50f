"""Warehouses: the bounds within which runs compute, and how mesh.yaml says them.

Knows nothing of what keeps runs within them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tulle.config.reading import expect, known_items, setting
from tulle.errors import Invalid

_WAREHOUSE = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+){0,15}")
_SIZE = re.compile(r"[1-9][0-9]{0,8}(?:\.[0-9]{1,3})?\s?(?:[KMGT]i?B|[kKmMgGtT]B)")
_MOST = 1_000_000  # of any bound


@dataclass(frozen=True, slots=True)
class Warehouse:
    """The bounds within which runs compute: those of a domain, or of the products that name it."""

    threads: int = setting(2, "threads of the SQL engine in one run")
    memory: str = setting("2GB", "memory of the SQL engine in one run; beyond it the engine spills to disk")
    temp_disk: str = setting("10GB", "disk the engine may use for spilling in one run")
    concurrent_runs: int = setting(2, "runs that may compute in it at the same time; further ones wait")
    queue: int = setting(
        100, "runs asked for by people that may wait for their turn; a further one is refused"
    )
    run_timeout_seconds: int = setting(3600, "a run that takes longer is stopped and fails")


def warehouse(name: str, value: Any) -> Warehouse:
    """One as mesh.yaml has it. Invalid."""
    if not isinstance(value, Mapping):
        raise Invalid(f"mesh.yaml: '{name}' must be a mapping of bounds")
    for key, item, default in known_items(name, value, Warehouse):
        expect(f"{name}.{key}", item, type(default))
        if isinstance(item, int) and not 1 <= item <= _MOST:
            raise Invalid(f"mesh.yaml: '{name}.{key}' is {item}, expected 1 to {_MOST:,}")
        if key in {"memory", "temp_disk"} and not _SIZE.fullmatch(item):
            raise Invalid(f"mesh.yaml: '{name}.{key}' is '{item}', expected a size such as 512MB or 2GB")
    return Warehouse(**value)


def warehouses(name: str, value: Any) -> dict[str, Warehouse]:
    """Those that mesh.yaml names. Invalid."""
    if not isinstance(value, Mapping):
        raise Invalid(f"mesh.yaml: '{name}' must map a domain to its bounds")
    for key in value:
        if not isinstance(key, str) or not _WAREHOUSE.fullmatch(key):
            raise Invalid(
                f"mesh.yaml: '{name}.{key}' is no name of a warehouse",
                hint="that of a domain, or lower-case letters, digits and single hyphens, such as night-shift",
            )
    return {domain: warehouse(f"{name}.{domain}", bounds) for domain, bounds in value.items()}
