"""Variables of the server's environment in the properties of hooks, and keeping their values out of outputs.

Only names with a prefix meant for it can be asked for. Knows nothing of what properties mean.
"""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote, quote_plus

from tulle.errors import Denied, NotFound

PREFIXES = ("LAKEFSACTION_", "TULLE_ACTION_")
_VARIABLE = re.compile(r"\{\{\s*ENV\.([A-Za-z_][A-Za-z0-9_]*)\s*\}\}")


def filled(value: Any, environment: Mapping[str, str] = os.environ) -> tuple[Any, tuple[str, ...]]:
    """Properties with `{{ ENV.NAME }}` replaced, and the values that were put in.

    Denied for a name without one of the prefixes, NotFound for one that is not set.
    """
    secrets: list[str] = []

    def one(match: re.Match[str]) -> str:
        name = match[1]
        if not name.startswith(PREFIXES):
            raise Denied(
                f"a hook may not have the variable '{name}'",
                hint=f"it must begin with {' or '.join(PREFIXES)}",
            )
        if name not in environment:
            raise NotFound(f"the variable '{name}' is not set where the server runs")
        secrets.append(environment[name])
        return environment[name]

    def walk(item: Any) -> Any:
        if isinstance(item, str):
            return _VARIABLE.sub(one, item)
        if isinstance(item, Mapping):
            return {key: walk(inner) for key, inner in item.items()}
        if isinstance(item, list | tuple):
            return [walk(inner) for inner in item]
        return item

    return walk(value), tuple(secrets)


def hidden(text: str, secrets: Iterable[str]) -> str:
    """A text without secrets, in whatever form they are usually written."""
    forms: set[str] = set()
    for secret in filter(None, secrets):
        forms |= {secret, quote(secret), quote(secret, safe=""), quote_plus(secret), repr(secret)[1:-1]}
        forms |= {json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1]}
        forms |= {
            base64.b64encode(secret.encode()).decode(),
            base64.urlsafe_b64encode(secret.encode()).decode(),
        }
    if not forms:
        return text
    # The longest first: one secret may hold another.
    pattern = "|".join(re.escape(form) for form in sorted(forms, key=len, reverse=True))
    return re.sub(pattern, "***", text)
