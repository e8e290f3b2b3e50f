"""What the properties of each type of hook look like: JSON Schemas, and durations as Go writes them.

Knows nothing of what the types do.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from tulle.errors import Invalid

_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|µs|ms|s|m|h)")

_TEXT = {"type": "string", "minLength": 1}
TIMEOUT = {
    "type": "string",
    "pattern": r"^(([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|ms|s|m|h))+$",
    "description": "a duration such as 90s, 1m30s or 1h",
}
_TEXTS = {"type": "array", "items": {"type": "string"}, "maxItems": 1000}
_VALUE = {"type": ["string", "number", "boolean"]}


def _object(required: tuple[str, ...], **properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {**properties, "timeout": TIMEOUT},
        "required": list(required),
        "additionalProperties": False,
    }


WEBHOOK = _object(
    ("url",),
    url=_TEXT,
    query_params={
        "type": ["object", "null"],
        "additionalProperties": {"anyOf": [_VALUE, {"type": "array", "items": _VALUE}]},
    },
    headers={"type": ["object", "null"], "additionalProperties": _VALUE},
)
AIRFLOW = _object(
    ("url", "dag_id", "username", "password"),
    url=_TEXT,
    dag_id=_TEXT,
    username=_TEXT,
    password=_TEXT,
    dag_conf={"type": ["object", "null"]},
    wait_for_dag={"type": "boolean"},
)
_SANDBOXED = {
    "paths": {**_TEXTS, "description": "files, and folders ending in a slash, of the commit to look at"},
    "env": {"type": ["object", "null"], "additionalProperties": _VALUE},
    "memory_mb": {"type": "integer", "minimum": 64, "maximum": 65536},
    "environment": {**_TEXT, "description": "a Python environment the mesh has for hooks, by its name there"},
}
COMMAND = _object(("command",), command={**_TEXTS, "minItems": 1}, **_SANDBOXED)
CHECK = _object(
    (),
    data_sets={
        "type": "object",
        "additionalProperties": _TEXT,
        "description": "names of data sets and where they are; a name not listed is the folder of that name",
    },
    checks={"type": "array", "minItems": 1, "items": {"type": "object"}},
    file={**_TEXT, "description": "a file of checks in the repository"},
    suite={**_TEXT, "description": "a Python file in the repository, run in a sandbox"},
    **_SANDBOXED,
)

BUILT_IN: Mapping[str, Mapping[str, Any]] = {
    "webhook": WEBHOOK,
    "airflow": AIRFLOW,
    "command": COMMAND,
    "check": CHECK,
}

# Types of hooks that lakeFS has and we do not, with the reason.
REASONS: Mapping[str, str] = {
    "lua": "hooks of type 'lua' cannot be run: there is no Lua here; write a 'command', 'check' or 'webhook' hook"
}


def seconds_of(duration: str) -> float:
    """A duration as Go writes it (`1m30s`) in seconds. Invalid."""
    total, at = 0.0, 0
    while at < len(duration):
        match = _PART.match(duration, at)
        if match is None:
            break
        total += float(match[1]) * _UNITS[match[2]]
        at = match.end()
    if not duration or at < len(duration):
        raise Invalid(f"'{duration}' is no duration", hint="write 90s, 1m30s or 1h")
    return total
