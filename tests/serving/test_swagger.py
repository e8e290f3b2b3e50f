"""Swagger 2.0 of every kind of endpoint: valid by the standard's own schema, and saying what OpenAPI says."""

from __future__ import annotations

import json
from typing import Any

import pytest
from openapi_spec_validator import OpenAPIV2SpecValidator
from tests.serving.conftest import LOOKUPS, PREDICTOR, Mesh
from tests.serving.test_compose import CODE, composed
from tests.serving.test_explain import EXPLAINED
from tests.serving.test_function import Product
from tests.serving.test_query import SERVICE as QUERY

from tulle.serving.loaded import load
from tulle.serving.swagger import swagger

COMPOSED = composed("input: {x: {description: what}}\nsteps: [{name: a, value: $input.x}]\noutput: $a")


def described(mesh: Mesh, text: str, tmp_path: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    folder = tmp_path / "product"
    (folder / "functions").mkdir(parents=True)
    (folder / "functions/work.py").write_text(CODE)
    built = mesh.build(text, product=Product(folder))
    openapi = json.loads(load(mesh.unpacked(built)).openapi)
    return openapi, swagger(openapi)


@pytest.mark.parametrize("text", [PREDICTOR, EXPLAINED, LOOKUPS, QUERY, COMPOSED])
def test_it_is_valid_and_has_every_operation(mesh: Mesh, text: str, tmp_path: Any) -> None:
    openapi, old = described(mesh, text, tmp_path)
    OpenAPIV2SpecValidator(old).validate()
    assert {path: list(item) for path, item in old["paths"].items()} == {
        path: list(item) for path, item in openapi["paths"].items()
    }
    assert old["basePath"] == openapi["servers"][0]["url"]
    assert set(old["securityDefinitions"]) == set(openapi["components"]["securitySchemes"])
    assert "#/components" not in json.dumps(old)


def test_what_it_has_no_word_for_is_near() -> None:
    openapi = {
        "openapi": "3.1.0",
        "info": {"title": "t", "version": "1"},
        "paths": {
            "/a": {
                "post": {
                    "operationId": "a",
                    "requestBody": {
                        "required": True,
                        "content": {
                            "application/json": {
                                "schema": {
                                    "type": "object",
                                    "properties": {
                                        "n": {"type": ["integer", "null"], "format": "int64"},
                                        "c": {"const": True},
                                        "b": {"type": "string", "contentEncoding": "base64"},
                                        "e": {"enum": ["x", None]},
                                        "o": {"anyOf": [{"type": "string"}, {"type": "integer"}]},
                                        "l": {"type": "array", "prefixItems": [{"type": "string"}]},
                                        "f": {"type": "string", "examples": ["first", "second"]},
                                    },
                                },
                                "examples": {"one": {"value": {"n": 1}}},
                            }
                        },
                    },
                    "responses": {
                        "200": {"description": "fine"},
                        "400": {"$ref": "#/components/responses/E"},
                    },
                }
            }
        },
        "components": {"responses": {"E": {"description": "bad"}}},
    }
    old = swagger(openapi)
    OpenAPIV2SpecValidator(old).validate()
    operation = old["paths"]["/a"]["post"]
    (body,) = operation["parameters"]
    assert body["schema"]["properties"] == {
        "n": {"type": "integer", "format": "int64", "x-nullable": True},
        "c": {"enum": [True]},
        "b": {"type": "string", "format": "byte"},
        "e": {"enum": ["x"], "x-nullable": True},
        "o": {"type": "object"},
        "l": {"type": "array", "items": {}},
        "f": {"type": "string", "example": "first"},
    }
    assert body["x-examples"] == {"one": {"n": 1}}
    assert operation["responses"]["400"] == {"$ref": "#/responses/E"}
