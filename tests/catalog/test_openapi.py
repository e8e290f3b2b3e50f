"""OpenAPI documents as values: references followed, circles cut, hostile documents survived."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tulle.catalog.openapi import Field, read_api
from tulle.spec.openapi_document import METHODS

DOCUMENT: dict[str, Any] = {
    "openapi": "3.1.0",
    "info": {"title": "shop", "version": "v2", "description": "What the shop knows"},
    "paths": {
        "/profile/lookup": {
            "post": {
                "operationId": "profile-lookup",
                "summary": "A profile",
                "parameters": [
                    {
                        "name": "trace",
                        "in": "query",
                        "required": True,
                        "description": "why",
                        "schema": {"type": "string"},
                    }
                ],
                "requestBody": {
                    "content": {
                        "application/json": {
                            "schema": {"$ref": "#/components/schemas/Ask"},
                            "examples": {"one": {"summary": "a known one", "value": {"data": {"id": "é"}}}},
                        }
                    }
                },
                "responses": {
                    "200": {
                        "description": "The answer",
                        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Tree"}}},
                    },
                    "404": {"$ref": "#/components/responses/NotFound"},
                },
            },
            "get": {"summary": "the same by address"},
        }
    },
    "components": {
        "responses": {"NotFound": {"description": "Nothing is known"}},
        "schemas": {
            "Ask": {
                "type": "object",
                "required": ["data"],
                "properties": {
                    "data": {
                        "type": "object",
                        "description": "the key",
                        "properties": {
                            "id": {"type": ["string", "null"]},
                            "on": {"type": "string", "format": "date"},
                            "number": {"type": "integer", "format": "int64"},
                            "level": {"enum": ["low", "high"]},
                        },
                    }
                },
            },
            "Tree": {
                "type": "object",
                "properties": {
                    "leaves": {"type": "array", "items": {"$ref": "#/components/schemas/Tree"}},
                    "either": {
                        "anyOf": [{"type": "number"}, {"type": "object", "properties": {"a": {"const": 1}}}]
                    },
                },
            },
        },
    },
}


def test_operations_with_their_endpoint_and_action() -> None:
    api = read_api(DOCUMENT)
    assert (api.title, api.version, api.description) == ("shop", "v2", "What the shop knows")
    assert [(o.method, o.endpoint, o.action) for o in api.of("profile")] == [
        ("get", "profile", "lookup"),
        ("post", "profile", "lookup"),
    ]
    assert api.actions() == {"profile": ("lookup",)}


def test_the_fields_of_a_body_with_depth_type_and_need() -> None:
    (post,) = (o for o in read_api(DOCUMENT).operations if o.method == "post")
    assert post.fields == (
        Field("data", 0, "object", required=True, description="the key"),
        Field("id", 1, "string or null", required=False, description=""),
        Field("on", 1, "string (date)", required=False, description=""),
        Field("number", 1, "integer", required=False, description=""),
        Field("level", 1, '"low" | "high"', required=False, description=""),
    )
    assert post.note == "the key"


def test_parameters_examples_and_answers() -> None:
    (post,) = (o for o in read_api(DOCUMENT).operations if o.method == "post")
    (parameter,) = post.parameters
    assert (parameter.name, parameter.place, parameter.type, parameter.required) == (
        "trace",
        "query",
        "string",
        True,
    )
    (example,) = post.examples
    assert example.name == "a known one"
    assert json.loads(example.text) == {"data": {"id": "é"}}
    assert "é" in example.text
    assert [(a.status, a.description) for a in post.answers] == [
        ("200", "The answer"),
        ("404", "Nothing is known"),
    ]


def test_a_schema_that_refers_to_itself_is_cut() -> None:
    (post,) = (o for o in read_api(DOCUMENT).operations if o.method == "post")
    names = [field.name for field in post.answers[0].fields]
    assert names[:2] == ["leaves", "leaves"]
    assert max(field.depth for field in post.answers[0].fields) <= 8
    assert "number or object" in {field.type for field in post.answers[0].fields}


def test_a_schema_without_end_is_cut() -> None:
    wide = {f"f{i}": {"type": "string"} for i in range(1000)}
    schema = {"type": "object", "properties": wide}
    body = {"content": {"application/json": {"schema": schema}}}
    (operation,) = read_api({"paths": {"/a/b": {"post": {"requestBody": body}}}}).operations
    assert len(operation.fields) == 301
    assert operation.fields[-1].name == "…"


@pytest.mark.parametrize(
    "reference",
    ["#/components/schemas/Gone", "#/info/title", "other.yaml#/a", "#/components/schemas/Loop", 7],
)
def test_a_reference_that_leads_nowhere_is_no_failure(reference: object) -> None:
    document = {
        "info": {"title": "x"},
        "components": {"schemas": {"Loop": {"$ref": "#/components/schemas/Loop"}}},
        "paths": {
            "/a/b": {
                "post": {"requestBody": {"content": {"application/json": {"schema": {"$ref": reference}}}}}
            }
        },
    }
    assert read_api(document).operations[0].fields == ()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
words = st.sampled_from(
    [
        "properties",
        "type",
        "items",
        "anyOf",
        "required",
        "enum",
        "const",
        "$ref",
        "content",
        "description",
        "format",
    ]
)
schemas = st.recursive(
    json_values,
    lambda inner: st.dictionaries(words, inner, max_size=4) | st.lists(inner, max_size=2),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(schemas, schemas, schemas)
def test_whatever_the_document_is_it_is_read(body: object, parameters: object, responses: object) -> None:
    operation = {"requestBody": {"content": {"application/json": {"schema": body}}}, "parameters": parameters}
    document = {"paths": {"/a/b": {"post": {**operation, "responses": responses}}}}
    assert len(read_api(document).operations) == 1
    assert read_api({"info": body, "paths": parameters, "components": responses}).title == ""


def test_parameters_of_a_path_are_those_of_its_operations() -> None:
    document = {
        "paths": {
            "/shops/{shop}/items/{id}": {
                "parameters": [
                    {"name": "id", "in": "path", "required": True, "schema": {"type": "string"}},
                    {"name": "page", "in": "query", "description": "of all"},
                ],
                "post": {
                    "parameters": [{"name": "page", "in": "query", "description": "of its own"}],
                    "requestBody": {"content": {"text/csv": {"example": "a,b"}}},
                },
            }
        }
    }
    (operation,) = read_api(document).operations
    assert [(one.place, one.name, one.description, one.required) for one in operation.parameters] == [
        ("path", "id", "", True),
        ("query", "page", "of its own", False),
        ("path", "shop", "", True),
    ]
    assert (operation.media, operation.examples[0].text) == ("text/csv", "a,b")


def test_every_method_that_a_document_may_have_is_shown() -> None:
    paths = {"/x": {method: {"responses": {}} for method in METHODS}}
    assert {one.method.lower() for one in read_api({"paths": paths}).operations} == set(METHODS)
