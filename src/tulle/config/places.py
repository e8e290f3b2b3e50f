"""Places outside the mesh that it may use: folders, object stores, environments of Python.

Whether they are there is found out by who uses them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tulle.errors import Invalid

STORE_SCHEMES = (
    "local:///",
    "s3://",
    "gs://",
    "https://",
)  # of places data may be kept in  # of places data may be kept in


def folders(name: str, value: Any) -> tuple[str, ...]:
    """A list of absolute folders. Invalid."""
    if not isinstance(value, list) or not all(
        isinstance(item, str) and Path(item).is_absolute() for item in value
    ):
        raise Invalid(f"mesh.yaml: '{name}' must be a list of absolute folders")
    return tuple(value)


def stores(name: str, value: Any) -> tuple[str, ...]:
    """A list of addresses in object stores, each with a slash at its end. Invalid."""
    if not isinstance(value, list):
        raise Invalid(f"mesh.yaml: '{name}' must be a list of places")
    for item in value:
        if not isinstance(item, str) or not item.startswith(STORE_SCHEMES):
            raise Invalid(
                f"mesh.yaml: '{name}' has {item!r}, expected {', '.join(STORE_SCHEMES)}…",
                hint="local:/// is followed by an absolute folder",
            )
    # A trailing slash, so that `s3://data` does not open `s3://data-of-others`.
    return tuple(item.rstrip("/") + "/" for item in value)


def python_environments(name: str, value: Any) -> dict[str, str]:
    """Absolute folders of environments of Python, by name. Invalid."""
    if not isinstance(value, Mapping):
        raise Invalid(f"mesh.yaml: '{name}' must map names to absolute folders")
    for key, folder in value.items():
        if not isinstance(key, str) or not key or not isinstance(folder, str) or not _is_env(folder):
            raise Invalid(
                f"mesh.yaml: '{name}' has {key!r}: {folder!r}, expected a name and an absolute folder",
                hint="a virtual environment, in which bin/python is",
            )
    return {key: str(Path(folder)) for key, folder in value.items()}


def _is_env(folder: str) -> bool:
    path = Path(folder)  # not `/`, all of which its programs would see
    return path.is_absolute() and ".." not in path.parts and len(path.parts) > 1
