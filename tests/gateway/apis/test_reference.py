"""The page about APIs: its example is read, and it tells every property, status and command."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from tests.gateway.apis.conftest import Folder

from tulle.cli.api import api as commands
from tulle.gateway.apis.schema import API_SCHEMA, VERSION_SCHEMA
from tulle.gateway.envoy_errors import _REASONS

PAGE = (Path(__file__).parents[3] / "docs/reference/apis.md").read_text()
FIRST = re.findall(r"^\| (.*?) \|", PAGE, re.MULTILINE)
TOLD = set(re.findall(r"`(\w+)`", "".join(FIRST)))


def inner(schema: Any) -> set[str]:
    """The names of all properties in a schema."""
    found: set[str] = set()
    if isinstance(schema, dict):
        found |= set(schema.get("properties", ()))
        for value in schema.values():
            found |= inner(value)
    if isinstance(schema, list):
        for value in schema:
            found |= inner(value)
    return found


def test_the_example_is_read(folder: Folder) -> None:
    (example,) = re.findall(r"^```yaml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    folder.write("orders.yaml", example)
    (loaded,) = folder.load()
    assert [one.version for one in loaded.api.versions] == ["v1", "v2"]


def test_every_property_is_told() -> None:
    assert set(API_SCHEMA["properties"]) <= TOLD
    assert set(VERSION_SCHEMA["properties"]) <= TOLD
    words = set(re.findall(r"`(\w+)`", PAGE)) | set(re.findall(r"\b(domains|roles)\b", PAGE))
    rest = {key: value for key, value in VERSION_SCHEMA["properties"].items() if key != "access"}
    assert inner(rest) | inner(API_SCHEMA["properties"]["contact"]) <= words
    assert inner(API_SCHEMA["properties"]["visibility"]) <= words


def test_every_error_of_an_api_is_told() -> None:
    for reason in ("unbound", "operation", "method", "api_retired"):
        status, error_type, _ = _REASONS[reason]
        assert re.search(rf"^\| [\d, ]*{status}[\d, ]* \| .*`{error_type}`", PAGE, re.MULTILINE), reason


def test_every_command_is_told() -> None:
    for name in commands.commands:
        assert re.search(rf"`(tulle api )?{name}\b", PAGE), name
