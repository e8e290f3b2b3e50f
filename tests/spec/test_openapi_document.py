"""OpenAPI documents of others: what is read of them, and what is refused with its place."""

from __future__ import annotations

import json

import pytest

from tulle.spec.load import load_document
from tulle.spec.openapi_document import Operation, form_of, read_openapi, resolved

GOOD = """
openapi: 3.0.3
info: {title: Orders, version: "1"}
paths:
  /items:
    parameters: [{name: shop, in: query}]
    get: {operationId: list, summary: All of them, responses: {"200": {description: fine}}}
    post:
      deprecated: true
      requestBody: {content: {application/json: {schema: {$ref: '#/components/schemas/Item'}}}}
      responses: {"201": {description: made}}
  /items/{id}.json: {delete: {responses: {}}}
  x-note: {any: thing}
components:
  schemas:
    Item: {type: object, properties: {"$ref": {type: string}}, example: {$ref: no reference}}
"""


def problems(text: str) -> list[str]:
    _, found = read_openapi(load_document(text, name="o.yaml"))
    assert found
    return [str(one) for one in found]


def test_operations_are_read_in_the_order_of_the_document() -> None:
    operations, found = read_openapi(load_document(GOOD, name="o.yaml"))
    assert found == []
    assert operations == (
        Operation("GET", "/items", "list", "All of them"),
        Operation("POST", "/items", deprecated=True),
        Operation("DELETE", "/items/{id}.json"),
    )


def test_a_document_within_a_file_is_read_with_its_places_there() -> None:
    inner = "".join(f"  {line}\n" for line in GOOD.splitlines())
    document = load_document(f"one:\n{inner}", name="a.yaml")
    assert len(read_openapi(document, ("one",))[0]) == 3
    document = load_document("one: {openapi: 2.0.0}", name="a.yaml")
    assert str(read_openapi(document, ("one",))[1][0]).startswith("a.yaml:1:")


def test_json_is_read_as_well() -> None:
    document = load_document(json.dumps(load_document(GOOD).value, indent=1), name="o.json")
    assert len(read_openapi(document)[0]) == 3


@pytest.mark.parametrize(
    ("was", "becomes", "told"),
    [
        ("3.0.3", "2.0", "expected an OpenAPI version of 3.0 or 3.1"),
        ("3.0.3", "3.2.0", "expected an OpenAPI version of 3.0 or 3.1"),
        ('info: {title: Orders, version: "1"}\n', "", "'info' is missing"),
        ("/items:", "items:", "a path, which begins with /"),
        ("/items:", "/items?a=b:", "'/items?a=b' is no path"),
        ("/items:", "/items/{id:", "'/items/{id' is no path"),
        ("/items:", "/../../public/api/v1/victim/x:", "leads to another path"),
        ("/items:", "/items/%2E./x:", "leads to another path"),
        ("/items:", "/items/..;a=b/x:", "leads to another path"),
        ("/items:", "/items//x:", "leads to another path"),
        ("/items:", "/items%2fx:", "leads to another path"),
        ("/items:", "'/items\\\\x':", "leads to another path"),
        ("/items:", "/items/.:", "leads to another path"),
        ("/items:", "/items/{other}.json:", "are the same one"),
        ("deprecated: true", "operationId: list", "'list' is also the operationId of GET /items"),
        ("'#/components/schemas/Item'", "'#/components/schemas/Thing'", "refers to nothing"),
        ("'#/components/schemas/Item'", "'https://elsewhere.example/x'", "is outside of it"),
        ("{name: shop, in: query}", "{name: shop, in: quarry}", "quarry"),
        ("{name: shop, in: query}", "{in: query}", "'name' is missing"),
        ("/items:\n", "/items:\n    $ref: '#/paths/x'\n", "must be written out"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(was: str, becomes: str, told: str) -> None:
    assert was in GOOD
    found = problems(GOOD.replace(was, becomes, 1))
    assert any(told in one and one.startswith("o.yaml:") for one in found), found


def test_a_document_without_operations_is_none() -> None:
    assert "it has no operations" in problems("openapi: 3.1.0\ninfo: {title: a, version: b}\npaths: {}\n")[0]


def test_too_many_operations_are_refused() -> None:
    paths = {f"/{n}": {"get": {"responses": {}}} for n in range(2001)}
    text = json.dumps({"openapi": "3.1.0", "info": {"title": "a", "version": "b"}, "paths": paths})
    assert "it has 2001 operations, at most 2000 are taken" in problems(text)[0]


def test_names_of_parameters_do_not_tell_paths_apart() -> None:
    assert form_of("/a/{b}/c/{d}") == form_of("/a/{x}/c/{y}") != form_of("/a/b/c/{d}")


def test_references_in_a_circle_end() -> None:
    document = {"a": {"$ref": "#/b"}, "b": {"$ref": "#/a"}}
    assert resolved(document, document["a"]) == {}
    assert resolved({"a/b": [{"c": 1}]}, {"$ref": "#/a~1b/0"}) == {"c": 1}
