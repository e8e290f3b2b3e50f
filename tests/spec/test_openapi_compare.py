"""What differs between two OpenAPI documents, and what of it breaks callers."""

from __future__ import annotations

from typing import Any

import pytest

from tulle.spec.openapi_compare import compare_openapi

ITEM = {
    "type": "object",
    "required": ["id"],
    "properties": {
        "id": {"type": "integer"},
        "state": {"type": "string", "enum": ["new", "sent"]},
        "parts": {"type": "array", "items": {"$ref": "#/components/schemas/Item"}},
    },
}


def document(item: Any = ITEM, **operation: Any) -> dict[str, Any]:
    """One whose GET gives items and whose POST takes one."""
    one = {"$ref": "#/components/schemas/Item"}
    content = {"content": {"application/json": {"schema": one}}}
    get = {"responses": {"200": content}, **operation.pop("get", {})}
    post = {
        "requestBody": {"required": True, **content},
        "responses": {"201": {}},
        **operation.pop("post", {}),
    }
    return {
        "paths": {"/items/{id}": {"get": get, "post": post}, **operation},
        "components": {"schemas": {"Item": item}},
    }


def told(old: Any, new: Any) -> list[tuple[str, bool]]:
    return [(change.sentence, change.breaking) for change in compare_openapi(old, new)]


def changed(**properties: Any) -> dict[str, Any]:
    known = {**ITEM["properties"], **properties}  # type: ignore[dict-item]
    return {**ITEM, "properties": {name: value for name, value in known.items() if value is not None}}


def test_equal_documents_do_not_differ_though_they_refer_to_themselves() -> None:
    assert told(document(), document()) == []


def test_names_of_path_parameters_are_no_difference() -> None:
    new = document()
    new["paths"]["/items/{number}"] = new["paths"].pop("/items/{id}")
    assert told(document(), new) == []


def test_operations_come_and_go() -> None:
    more = document(**{"/more": {"get": {"responses": {}}}})
    assert told(document(), more) == [("GET /more is added", False)]
    assert told(more, document()) == [("GET /more is removed", True)]


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        (
            changed(note={"type": "string"}),
            [
                ("GET /items/{id}: answer 200: field 'note' is given", False),
                ("POST /items/{id}: the body: field 'note' is taken", False),
            ],
        ),
        (
            changed(state=None),
            [
                ("GET /items/{id}: answer 200: field 'state' is no longer given", True),
                ("POST /items/{id}: the body: field 'state' is no longer taken", True),
            ],
        ),
        (
            {**ITEM, "required": ["id", "state"]},
            [
                ("GET /items/{id}: answer 200: field 'state' is always given", False),
                ("POST /items/{id}: the body: field 'state' is needed", True),
            ],
        ),
        (
            {**ITEM, "required": []},
            [
                ("GET /items/{id}: answer 200: field 'id' may be missing", True),
                ("POST /items/{id}: the body: field 'id' may be left out", False),
            ],
        ),
        (
            changed(id={"type": ["integer", "string"]}),
            [
                ("GET /items/{id}: answer 200: field 'id' is integer or string (was integer)", True),
                ("POST /items/{id}: the body: field 'id' is integer or string (was integer)", False),
            ],
        ),
        (
            changed(id={"type": "integer", "nullable": True}),
            [
                ("GET /items/{id}: answer 200: field 'id' is integer or null (was integer)", True),
                ("POST /items/{id}: the body: field 'id' is integer or null (was integer)", False),
            ],
        ),
        (
            changed(state={"type": "string", "enum": ["new", "gone"]}),
            [
                ("GET /items/{id}: answer 200: field 'state': 'sent' is no longer one of its values", False),
                ("GET /items/{id}: answer 200: field 'state': 'gone' is one of its values", True),
                ("POST /items/{id}: the body: field 'state': 'sent' is no longer one of its values", True),
                ("POST /items/{id}: the body: field 'state': 'gone' is one of its values", False),
            ],
        ),
        (
            {
                "allOf": [
                    ITEM,
                    {"type": "object", "required": ["by"], "properties": {"by": {"type": "string"}}},
                ]
            },
            [
                ("GET /items/{id}: answer 200: field 'by' is given", False),
                ("POST /items/{id}: the body: field 'by' is taken, and needed", True),
            ],
        ),
    ],
)
def test_what_is_given_and_taken_is_judged_apart(item: Any, expected: list[tuple[str, bool]]) -> None:
    assert told(document(), document(item)) == expected


def test_parameters_bodies_and_answers() -> None:
    parameters = [{"name": "shop", "in": "query", "schema": {"type": "string"}}]
    needed = [{"name": "shop", "in": "query", "required": True, "schema": {"type": "integer"}}]
    start = "GET /items/{id}: "
    old, new = document(get={"parameters": parameters}), document(get={"parameters": needed})
    assert told(document(), old) == [(f"{start}query parameter 'shop' is taken", False)]
    assert told(old, document()) == [(f"{start}query parameter 'shop' is no longer taken", True)]
    assert told(old, new) == [
        (f"{start}query parameter 'shop' is needed", True),
        (f"{start}query parameter 'shop' is integer (was string)", True),
    ]
    assert told(document(), document(get={"responses": {"404": {}}, "deprecated": True})) == [
        (f"{start}it is deprecated", False),
        (f"{start}it no longer answers 200", True),
        (f"{start}it answers 404 as well", False),
    ]
    bare = document(post={"requestBody": None})
    assert told(document(), bare) == [("POST /items/{id}: a body is no longer taken", True)]
    assert told(bare, document()) == [("POST /items/{id}: a body is taken, and needed", True)]
    xml = document(post={"requestBody": {"required": True, "content": {"application/xml": {}}}})
    assert told(document(), xml) == [
        ("POST /items/{id}: the body: application/json is no longer taken", True),
        ("POST /items/{id}: the body: application/xml is taken as well", False),
    ]


def test_schemas_that_refer_to_each_other_many_times_are_compared_once() -> None:
    names = [f"S{n}" for n in range(12)]

    def tangled(last: Any) -> dict[str, Any]:
        everything = {name: {"$ref": f"#/components/schemas/{name}"} for name in names}
        made = document({"type": "object", "properties": everything})
        for name in names:
            made["components"]["schemas"][name] = {"type": "object", "properties": {**everything, "x": last}}
        return made

    found = told(tangled({"type": "string"}), tangled({"type": "number"}))
    assert len(found) == len(names) * 2  # in what is given, and in what is taken
    assert all("'x' is number (was string)" in sentence for sentence, _ in found)
