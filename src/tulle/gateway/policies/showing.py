"""A policy as people are shown it: without the values in its settings that may be secrets.

Such are settings that the schema of a kind marks `writeOnly`, values within settings by a name that credentials have
(a header `x-api-key` that is injected), and texts that are credentials by their form. What is carried out has them;
what is shown, compared and answered does not. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from tulle.gateway.policies.entry import Policy
from tulle.gateway.policies.kind import Registry, known_kinds
from tulle.gateway.processing.secret_names import HIDDEN, without_secrets


def policy_shown(policy: Policy, registry: Registry | None = None) -> dict[str, Any]:
    """As `Policy.as_plain`, without secrets."""
    return entry_shown(policy.as_plain(), registry)


def entry_shown(entry: Mapping[str, Any], registry: Registry | None = None) -> dict[str, Any]:
    """An entry of a list as it is written, without secrets; of an unknown kind every name is held for a header's."""
    plain: dict[str, Any] = msgspec.to_builtins(dict(entry))
    known, kind = registry or known_kinds(), str(plain.get("policy", ""))
    if kind not in known:
        return {
            name: value if name == "policy" else without_secrets({name: value})[name]
            for name, value in plain.items()
        }
    said = known.get(kind).properties
    return {
        # the names at the top are the kind's own words: `key` of a quota says of whom it is
        name: HIDDEN if said.get(name, {}).get("writeOnly") else without_secrets(value)
        for name, value in plain.items()
    }


def has_hidden(value: Any) -> bool:
    """Whether a value was taken from what is shown: something in it is hidden, so it is not what was written."""
    if isinstance(value, Mapping):
        return any(has_hidden(one) for one in value.values())
    if isinstance(value, list | tuple):
        return any(has_hidden(one) for one in value)
    return bool(value == HIDDEN)
