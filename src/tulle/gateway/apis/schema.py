"""The JSON Schema of `apis/<name>.yaml`, for editors and for reading. Data alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from tulle.gateway.policy import ENVIRONMENT_NAME, SERVICE_NAME
from tulle.serving.access import ACCESS_SCHEMA
from tulle.spec.source import CONNECTION_NAME
from tulle.spec.tier import TERMS_SCHEMA, TIERS_SCHEMA

VERSION_NAME: Final = "^[a-z0-9][a-z0-9.-]{0,30}$"
MOST_VERSIONS: Final = 50
_PATH = r"^(/[A-Za-z0-9._~-]{1,64}){1,8}$|^/$"
_SECONDS = {"type": "number", "exclusiveMinimum": 0}


def _object(properties: Mapping[str, Any], description: str, **more: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": properties,
        "description": description,
        **more,
    }


_FILE = {
    "type": "string",
    "pattern": r"^[A-Za-z0-9_][A-Za-z0-9_. /-]{0,200}$",
    "x-expected": "the name of a file below `apis/`",
}
_TEXT = {"type": "string", "maxLength": 2000}
_URL = {"type": "string", "maxLength": 500}
_HOSTS = {
    "type": "array",
    "uniqueItems": True,
    "maxItems": 20,
    "items": {
        "type": "string",
        "pattern": r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$",
        "maxLength": 253,
        "x-expected": "the name of a host in small letters, without a port",
    },
    "description": "the hosts it is called by; without it, by any",
}
_PATH_OF = {
    "type": "string",
    "pattern": _PATH,
    "maxLength": 200,
    "x-expected": "a path such as /orders/v1",
    "description": "its address at the gateway; without it /<api>/<version>",
}
_SERVICE = {
    "type": "string",
    "pattern": f"^{SERVICE_NAME.pattern}$",
    "x-expected": "the name of a service",
    "description": "the service that answers",
}
_GENERATION = {"type": "string", "maxLength": 63, "description": "only this generation of the service"}
_UPSTREAM = {
    "description": "the external service that answers: its URL, or an object",
    "type": ["string", "object"],
    "additionalProperties": False,
    "minProperties": 1,
    "properties": {
        "urls": {
            "type": "array",
            "minItems": 1,
            "maxItems": 20,
            "description": "its addresses: URLs, or {url, weight}",
            "items": {
                "type": ["string", "object"],
                "additionalProperties": False,
                "required": ["url"],
                "properties": {
                    "url": {**_URL, "description": "https://host[:port][/base]"},
                    "weight": {
                        "type": "integer",
                        "minimum": 1,
                        "maximum": 1000,
                        "description": "its share of the requests (1)",
                    },
                },
            },
        },
        "connection": {
            "type": "string",
            "pattern": f"^{CONNECTION_NAME}$",
            "x-expected": "the name of a connection, such as shop-api",
            "description": "the connection (kind http) that has its address and signs in there, in place of `urls`",
        },
        "ca_file": {**_FILE, "description": "certificates (PEM) that its own is checked with"},
        "connect_timeout": {**_SECONDS, "maximum": 60, "description": "seconds to connect (2)"},
        "timeout": {**_SECONDS, "maximum": 3600, "description": "seconds for a whole answer (30)"},
        "idle_timeout": {**_SECONDS, "maximum": 3600, "description": "seconds a connection is kept (60)"},
        "health": _object(
            {
                "path": {
                    "type": "string",
                    "pattern": r"^/[\x21-\x7e]{0,200}$",
                    "description": "must answer 200",
                },
                "interval": {
                    "type": "number",
                    "minimum": 0.5,
                    "maximum": 3600,
                    "description": "seconds (10)",
                },
            },
            "what is asked to see whether it answers",
            required=["path"],
        ),
    },
}
_MOCK = {
    "type": "boolean",
    "description": "the gateway answers by the examples of the OpenAPI document (false)",
}
_ENVIRONMENTS = {
    "type": "object",
    "maxProperties": 50,
    "propertyNames": {"pattern": f"^{ENVIRONMENT_NAME.pattern}$"},
    "description": "the environments it is in beside that of consumers, with what is otherwise there",
    "additionalProperties": _object(
        {
            "service": _SERVICE,
            "generation": _GENERATION,
            "upstream": _UPSTREAM,
            "mock": _MOCK,
            "path": _PATH_OF,
            "hosts": _HOSTS,
        },
        "what is otherwise in one environment",
        type=["object", "null"],
    ),
}
VERSION_SCHEMA: Final = _object(
    {
        "version": {
            "type": "string",
            "pattern": VERSION_NAME,
            "x-expected": "small letters, digits, dots and hyphens, such as v1",
            "description": "its name",
        },
        "service": _SERVICE,
        "generation": _GENERATION,
        "openapi": {
            "type": ["string", "object"],
            "description": "the OpenAPI document of an external service: a file below `apis/`, or itself",
        },
        "upstream": _UPSTREAM,
        "mock": _MOCK,
        "undeclared": {
            "enum": ["refuse", "allow"],
            "description": "what becomes of operations that the OpenAPI document does not have (refuse)",
        },
        "path": _PATH_OF,
        "hosts": _HOSTS,
        "access": ACCESS_SCHEMA,
        "policies": {
            "type": "array",
            "description": "what the gateway does with its requests, in this order; docs/reference/policies.md",
        },
        "publish": {"type": "boolean", "description": "whether it is published as it is applied first"},
        "environments": _ENVIRONMENTS,
    },
    "one version of the API",
    required=["version"],
)
_NAMES = {"type": "array", "minItems": 1, "maxItems": 50, "items": {"type": "string", "maxLength": 128}}
_VISIBILITY = {
    "description": "who finds it: public, private (its product's people), or {domains: […], roles: […]}",
    "type": ["string", "object"],
    "additionalProperties": False,
    "minProperties": 1,
    "properties": {
        "domains": {**_NAMES, "description": "people of products of these domains"},
        "roles": {**_NAMES, "description": "people of these groups"},
    },
    "if": {"type": "string"},
    "then": {"enum": ["public", "private"]},
}
_TERMS = {
    **TERMS_SCHEMA,
    "required": ["version"],
    "oneOf": [{"required": ["text"]}, {"required": ["file"]}],
    "x-expected": "a version, with a text or the name of a file",
    "properties": {
        **TERMS_SCHEMA["properties"],
        "file": {**_FILE, "description": "a Markdown file with the text"},
    },
}
_LATENCY = {"type": "number", "exclusiveMinimum": 0, "maximum": 3_600_000}
_OBJECTIVES = _object(
    {
        "availability": {
            "type": "number",
            "exclusiveMinimum": 0,
            "maximum": 100,
            "description": "percent of the requests of 30 days that do not fail",
        },
        "p50": {**_LATENCY, "description": "milliseconds that half of the requests take at most"},
        "p95": {**_LATENCY, "description": "milliseconds that 95 % of the requests take at most"},
        "p99": {**_LATENCY, "description": "milliseconds that 99 % of the requests take at most"},
    },
    "what it promises of the last 30 days",
    minProperties=1,
)
API_SCHEMA: Final[Mapping[str, Any]] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    **_object(
        {
            "api": {
                "type": "string",
                "pattern": "^[a-z0-9][a-z0-9-]{1,62}$",
                "x-expected": "2 to 63 small letters, digits and hyphens",
                "description": "the name that contracts are for",
            },
            "title": {"type": "string", "maxLength": 200, "description": "its name for people"},
            "summary": {**_TEXT, "description": "a sentence or two"},
            "docs": {"type": "array", "maxItems": 20, "items": _FILE, "description": "pages, Markdown files"},
            "contact": _object(
                {
                    "name": {"type": "string", "maxLength": 200},
                    "email": {"type": "string", "maxLength": 200},
                    "url": _URL,
                },
                "whom to ask",
                minProperties=1,
            ),
            "visibility": _VISIBILITY,
            "objectives": _OBJECTIVES,
            "tiers": TIERS_SCHEMA,
            "terms": _TERMS,
            "tags": {
                "type": "array",
                "uniqueItems": True,
                "maxItems": 30,
                "items": {"type": "string", "pattern": r"^[\w .:/-]{1,63}$", "x-expected": "a word"},
            },
            "versions": {
                "type": "array",
                "minItems": 1,
                "maxItems": MOST_VERSIONS,
                "items": VERSION_SCHEMA,
                "description": "its versions, side by side",
            },
        },
        "an API of a data product",
        title="An API of a data product",
        required=["api", "versions"],
    ),
}
