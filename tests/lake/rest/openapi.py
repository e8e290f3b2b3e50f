"""lakeFS's own OpenAPI document, and checks of answers against it."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import jsonschema_rs
import yaml

DOCUMENT = Path(__file__).parent / "lakefs-openapi.yml"


@functools.cache
def document() -> dict[str, Any]:
    """The OpenAPI document of lakeFS."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return yaml.load(DOCUMENT.read_text(), Loader=loader)  # a safe loader


@functools.cache
def operations() -> dict[str, tuple[str, str, dict[str, Any]]]:
    """Of every operationId: method, path, description."""
    return {
        operation["operationId"]: (method.upper(), path, operation)
        for path, item in document()["paths"].items()
        for method, operation in item.items()
        if method != "parameters"
    }


@functools.cache
def validator(operation: str, status: int) -> Any:
    """A check of the JSON an operation answers with a status, or None where the document states none."""
    responses = operations()[operation][2]["responses"]
    response = responses.get(status) or responses.get(str(status)) or responses.get("default", {})
    while "$ref" in response:
        response = document()["components"]["responses"][response["$ref"].rpartition("/")[2]]
    schema = response.get("content", {}).get("application/json", {}).get("schema")
    if schema is None:
        return None
    return jsonschema_rs.validator_for({**schema, "components": document()["components"]})
