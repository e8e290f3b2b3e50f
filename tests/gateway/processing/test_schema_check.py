"""Schema validation through the real Envoy: by an OpenAPI document, requests and answers."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.gateway.conftest import check_error
from tests.gateway.processing.conftest import Processed

from tulle.errors import Broken, Invalid
from tulle.gateway.policies.entry import Policy
from tulle.gateway.processing.openapi_checks import Operations

pytestmark = pytest.mark.system

PET = {
    "type": "object",
    "required": ["name"],
    "additionalProperties": False,
    "properties": {
        "name": {"type": "string", "pattern": "^[a-z]+$"},
        "age": {"type": ["integer", "null"], "maximum": 99},
    },
}
DOCUMENT: dict[str, Any] = {
    "openapi": "3.1.0",
    "info": {"title": "pets", "version": "1"},
    "paths": {
        "/pets/echo": {
            "parameters": [{"$ref": "#/components/parameters/Trace"}],
            "post": {
                "parameters": [
                    {"name": "limit", "in": "query", "schema": {"type": "integer", "minimum": 1}},
                    {
                        "name": "tag",
                        "in": "query",
                        "schema": {"type": "array", "items": {"type": "string"}, "maxItems": 2},
                    },
                    {
                        "name": "ids",
                        "in": "query",
                        "explode": False,
                        "schema": {"type": "array", "items": {"type": "integer"}},
                    },
                    {"name": "mode", "in": "cookie", "schema": {"enum": ["a", "b"]}},
                ],
                "requestBody": {
                    "required": True,
                    "content": {
                        "application/json": {"schema": {"$ref": "#/components/schemas/Pet"}},
                        "text/*": {"schema": {"type": "string"}},
                    },
                },
                "responses": {
                    "200": {
                        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Pet"}}}
                    },
                    "4XX": {"description": "none"},
                },
            },
        },
        "/pets/{id}/said": {
            "get": {
                "parameters": [
                    {"name": "id", "in": "path", "required": True, "schema": {"type": "integer"}},
                    {"name": "must", "in": "query", "required": True, "schema": {"type": "boolean"}},
                ],
                "responses": {"200": {"description": "fine"}},
            }
        },
    },
    "components": {
        "schemas": {"Pet": PET},
        "parameters": {
            "Trace": {"name": "X-Trace", "in": "header", "schema": {"type": "string", "maxLength": 4}}
        },
    },
}


def checking(**settings: Any) -> Policy:
    return Policy("schema-validation", {"document": DOCUMENT, **settings})


@pytest.mark.parametrize(
    ("path", "body", "headers"),
    [
        ("/pets/echo", b'{"name": "ann", "age": 3}', {}),
        ("/pets/echo?limit=3&tag=a&tag=b&ids=1,2", b'{"name": "ann", "age": null}', {"x_trace": "abcd"}),
        ("/pets/echo?unknown=1", b'{"name": "ann"}', {"content_type": "application/json; charset=utf-8"}),
        ("/pets/echo", b"anything", {"content_type": "text/plain"}),
        ("/pets/echo", b'{"name": "ann"}', {"cookie": "x=1; mode=a"}),
    ],
)
def test_what_the_document_asks_for_passes(
    processed: Processed, path: str, body: bytes, headers: dict[str, str]
) -> None:
    processed.put(checking())
    reply = processed.ask(path, body, **headers)
    assert (reply.status, reply.body) == (200, body)


@pytest.mark.parametrize(
    ("path", "body", "headers", "told"),
    [
        ("/pets/echo", b'{"age": 3}', {}, "body: 'name' is missing"),
        ("/pets/echo", b'{"name": "Ann!"}', {}, "body: name: expected text of the form"),
        ("/pets/echo", b'{"name": "ann", "age": 100}', {}, "body: age: expected at most 99"),
        (
            "/pets/echo",
            b'{"name": "ann", "more": 1}',
            {},
            "body: it has a member that the document does not have",
        ),
        ("/pets/echo", b"", {}, "the body is missing"),
        ("/pets/echo?limit=0", b'{"name": "ann"}', {}, "query parameter 'limit'"),
        ("/pets/echo?limit=x", b'{"name": "ann"}', {}, "query parameter 'limit'"),
        ("/pets/echo?limit=1&limit=2", b'{"name": "ann"}', {}, "is there 2 times"),
        ("/pets/echo?tag=a&tag=b&tag=c", b'{"name": "ann"}', {}, "query parameter 'tag'"),
        ("/pets/echo?ids=1,x", b'{"name": "ann"}', {}, "query parameter 'ids'"),
        ("/pets/echo", b'{"name": "ann"}', {"x_trace": "abcde"}, "header parameter 'x-trace'"),
        ("/pets/echo", b'{"name": "ann"}', {"cookie": "mode=c"}, "cookie parameter 'mode'"),
        ("/pets/echo", b'{"name": "ann", "age": 999, "age": 1}', {}, "has the name 'age' twice"),
        ("/pets/echo", b'{"name": "ann", "age": 999, "\\u0061ge": 1}', {}, "has the name 'age' twice"),
    ],
)
def test_what_does_not_fit_is_400_and_tells_where(
    processed: Processed, path: str, body: bytes, headers: dict[str, str], told: str
) -> None:
    processed.put(checking())
    said = check_error(processed.ask(path, body, **headers), 400, "SchemaViolation")
    assert told in said["detailedMessage"]
    assert "Ann!" not in said["detailedMessage"]


def test_paths_methods_and_types_that_are_not_in_the_document(processed: Processed) -> None:
    processed.put(checking())
    check_error(processed.ask("/pets/other", b"{}"), 404, "UnknownOperation")
    check_error(processed.ask("/pets/echo/more", b"{}"), 404, "UnknownOperation")
    check_error(processed.ask("/pets/echo", b"{}", method="PUT"), 405, "UnknownOperation")
    check_error(
        processed.ask("/pets/echo", b"<a/>", content_type="application/xml"), 415, "UnsupportedContent"
    )
    check_error(processed.ask("/pets/echo", b"{", content_type="application/json"), 400, "InvalidRequest")
    check_error(processed.ask("/pets/echo", b"{}", content_encoding="gzip"), 415, "UnsupportedEncoding")


@pytest.mark.parametrize(
    "said",
    [
        "application/json; charset=utf-7",
        'application/json;charset="UTF-16"',
        "application/json; charset=utf-8; charset=utf-7",
        "text/plain, application/json",
    ],
)
def test_a_body_that_others_may_read_as_another_one_is_415(processed: Processed, said: str) -> None:
    processed.put(checking())
    check_error(processed.ask("/pets/echo", b'{"name": "ann"}', content_type=said), 415, "UnsupportedContent")


def test_an_operation_of_get_is_one_of_head(processed: Processed) -> None:
    processed.put(checking(answers=True))
    assert processed.ask("/pets/7/said?must=true", method="HEAD").status == 200
    assert processed.ask("/pets/x/said?must=true", method="HEAD").status == 400
    assert processed.ask("/pets/echo", method="HEAD").status == 405


def test_parameters_of_paths_and_those_that_must_be_there(processed: Processed) -> None:
    processed.put(checking())
    assert processed.ask("/pets/7/said?must=true", method="GET").status == 200
    for path in (
        "/pets/x/said?must=true",
        "/pets/7/said",
        "/pets/7/said?must=yes",
        "/pets/1.5/said?must=true",
    ):
        check_error(processed.ask(path, method="GET"), 400, "SchemaViolation")


def test_unknown_parameters_where_that_is_strict(processed: Processed) -> None:
    processed.put(checking(strict_parameters=True))
    said = check_error(processed.ask("/pets/echo?more=1", b'{"name": "ann"}'), 400, "SchemaViolation")
    assert "'more' is not known" in said["detailedMessage"]


def test_what_is_only_reported_passes_and_is_told_in_the_log(processed: Processed) -> None:
    processed.put(checking(on_violation="report"))
    assert processed.ask("/pets/echo", b'{"age": 1}').body == b'{"age": 1}'
    assert processed.ask("/pets/other/said", b"{}").status == 200
    assert "SchemaViolation: body: 'name' is missing" in processed.log()


def test_answers_are_checked_where_that_is_wanted(processed: Processed) -> None:
    processed.put(checking(answers=True))
    assert processed.ask("/pets/echo", b'{"name": "ann"}').status == 200
    for answer in ({"status": "201 Made"}, {"content-type": "text/html"}):
        reply = processed.ask("/pets/echo", b'{"name": "ann"}', x_answer=json.dumps(answer))
        check_error(reply, 502, "AnswerViolatesSchema")
    reply = processed.ask("/pets/echo", b"no json", content_type="text/plain")
    check_error(reply, 502, "AnswerViolatesSchema")
    for twice, answer in (
        (b'{"name": "Ann!", "name": "ann"}', "{}"),
        (b'{"name": "ann"}', '{"content-type": "application/json; charset=utf-7"}'),
    ):
        reply = processed.ask("/pets/echo", twice, content_type="text/plain", x_answer=answer)
        check_error(reply, 502, "AnswerViolatesSchema")
    reply = processed.ask("/pets/echo", b'{"age": 1}', content_type="text/plain")
    assert "'name' is missing" in check_error(reply, 502, "AnswerViolatesSchema")["detailedMessage"]
    assert processed.ask("/pets/echo", b'{"name": "x"}', x_answer='{"status": "404 No"}').status == 404


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"openapi": "2.0"}, "version '2.0'"),
        ({"paths": {"/a": {"$ref": "http://127.0.0.1:1/x"}}}, "outside of it"),
        ({"paths": {"/a": {"$ref": "#/paths/~1a"}}}, "in a circle"),
        ({"paths": {"/a": {"get": {"requestBody": {"$ref": "#/components/nothing"}}}}}, "not in it"),
        ({"paths": {"/a": 7}}, "something else"),
    ],
)
def test_a_document_that_cannot_be_used_is_refused_when_it_is_published(
    processed: Processed, change: dict[str, Any], told: str
) -> None:
    with pytest.raises(Broken, match=told):
        processed.put(Policy("schema-validation", {"document": {**DOCUMENT, **change}}))


def body_of(schema: Any, version: str = "3.1.0") -> Operations:
    body = {"content": {"application/json": {"schema": schema}}}
    return Operations({"openapi": version, "paths": {"/a": {"post": {"requestBody": body}}}})


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "http://127.0.0.1:1/x"},
        {"$ref": "file:///etc/passwd"},
        {"$ref": "other.json#/a"},
        {"type": "nonsense"},
        {"pattern": "(?=a)b"},
        {"$ref": "#/components/schemas/Missing"},
    ],
)
def test_schemas_fetch_nothing_and_have_no_costly_patterns(schema: Any) -> None:
    with pytest.raises(Invalid, match="cannot be used"):
        body_of(schema)


def test_a_document_that_is_nested_too_deeply_is_refused() -> None:
    deep: Any = {}
    for _ in range(200):
        deep = {"not": deep}
    with pytest.raises(Invalid, match="levels"):
        body_of(deep)


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        ({"type": "string", "nullable": True}, [None, "a"], [1]),
        ({"type": "string", "nullable": True, "enum": ["a"]}, [None, "a"], ["b"]),
        ({"nullable": True, "allOf": [{"type": "integer"}]}, [None, 1], ["a"]),
        ({"type": "number", "minimum": 1, "exclusiveMinimum": True}, [2], [1]),
        ({"type": "number", "minimum": 1, "exclusiveMinimum": False}, [1], [0]),
        ({"type": "number", "maximum": 1, "exclusiveMaximum": True}, [0], [1]),
    ],
)
def test_documents_of_version_3_0_are_read_in_their_own_dialect(
    schema: Any, good: list[Any], bad: list[Any]
) -> None:
    found = body_of(schema, "3.0.3").find("POST", "/a")
    assert found is not None
    assert found[0].body is not None
    check = found[0].body.checks["application/json"]
    assert check is not None
    assert [check.problems(one) for one in good] == [[]] * len(good)
    assert all(check.problems(one) for one in bad)


def test_a_plain_path_comes_before_one_with_parameters() -> None:
    get = {"responses": {}}
    operations = Operations({"openapi": "3.1.0", "paths": {"/a/{x}": {"get": get}, "/a/mine": {"get": get}}})
    assert operations.find("GET", "/a/mine") is not None
    assert operations.find("GET", "/a/mine")[0].name == "GET /a/mine"  # type: ignore[index]
    assert operations.find("GET", "/a/7")[1] == ("7",)  # type: ignore[index]
    assert operations.find("GET", "/a/7/8") is None
    assert operations.knows("/a/7")
