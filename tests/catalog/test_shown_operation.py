"""What a page shows of an operation can be pasted and called: everything that is required is in it."""

from __future__ import annotations

import json
import shlex

import pytest

from tulle.catalog.openapi import read_api
from tulle.catalog.shown_operation import Shown, shown
from tulle.serving.access import Access, Keys, Public
from tulle.serving.ways_in import ways_of

ITEM = {
    "type": "object",
    "properties": {"n": {"type": "integer", "minimum": 3}, "on": {"type": "string", "format": "date"}},
}
DOCUMENT = {
    "paths": {
        "/items/{id}/{kind}/{on}": {
            "get": {
                "parameters": [
                    {"name": "id", "in": "path", "schema": {"type": "string"}},
                    {"name": "kind", "in": "path", "schema": {"$ref": "#/components/schemas/Kind"}},
                    {"name": "on", "in": "path", "schema": {"type": "string", "format": "date"}},
                    {"name": "q&", "in": "query", "required": True, "example": "a b&c"},
                    {"name": "many", "in": "query", "required": True, "examples": {"some": {"value": 7}}},
                    {"name": "flag", "in": "query", "required": True, "schema": {"type": "boolean"}},
                    {"name": "left", "in": "query", "schema": {"type": "integer"}},
                    {"name": "page[no]", "in": "query", "required": True, "schema": {"type": "string"}},
                    {
                        "name": "tags",
                        "in": "query",
                        "required": True,
                        "schema": {"type": "array", "items": {"enum": ["new", "old"]}},
                    },
                    {"name": "x-tenant", "in": "header", "required": True, "example": "it's acme"},
                    {"name": "x-other", "in": "header", "example": "no"},
                ]
            }
        },
        "/items": {
            "post": {
                "requestBody": {
                    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Item"}}}
                }
            },
            "patch": {
                "requestBody": {
                    "content": {
                        "application/x-www-form-urlencoded": {"schema": {"$ref": "#/components/schemas/Item"}}
                    }
                }
            },
            "put": {"requestBody": {"content": {"text/csv": {"schema": {"type": "string"}}}}},
            "delete": {},
        },
    },
    "components": {"schemas": {"Item": ITEM, "Kind": {"enum": ["big", "small"]}}},
}
OPERATIONS = {one.method: one for one in read_api(DOCUMENT).operations}
NOBODY = ways_of(Access(contracts=False, public=Public("1/1s")))


def of(method: str, access: Access | None = None, url: str = "https://shop.example/items/v1/") -> Shown:
    return shown(DOCUMENT, OPERATIONS[method], url, ways_of(access) if access is not None else NOBODY)


def test_all_that_is_required_is_in_the_address() -> None:
    words = shlex.split(of("get").curl)
    assert words[4] == (
        "https://shop.example/items/v1/items/ID/big/2026-01-31?q%26=a%20b%26c&many=7&flag=true"
        "&page%5Bno%5D=PAGE%5BNO%5D&tags=new"
    )
    assert words[-2:] == ["-H", "x-tenant: it's acme"]
    python, javascript = (one.text for one in of("get").snippets if one.language != "curl")
    for text in (python, javascript):
        assert '"x-tenant": "it\'s acme"' in text
        assert "x-other" not in text


def test_a_form_begins_with_what_is_required() -> None:
    values = {one["name"]: one["value"] for one in of("get").form["parameters"]}
    assert values == {
        "id": "",
        "kind": "big",
        "on": "2026-01-31",
        "q&": "a b&c",
        "many": "7",
        "flag": "true",
        "left": "",
        "page[no]": "",
        "tags": "new",
        "x-tenant": "it's acme",
        "x-other": "",
    }


def test_a_body_that_nobody_wrote_is_made_of_its_schema() -> None:
    assert json.loads(of("post").form["body"]) == {"n": 3, "on": "2026-01-31"}
    words = shlex.split(of("post").curl)
    assert json.loads(words[words.index("-d") + 1]) == {"n": 3, "on": "2026-01-31"}
    words = shlex.split(of("patch").curl)
    assert (words[words.index("-d") + 1], "content-type: application/x-www-form-urlencoded" in words) == (
        "n=3&on=2026-01-31",
        True,
    )
    assert of("put").form["body"] == ""  # of another type nobody knows
    assert (of("delete").form["body"], of("delete").form["takes"]) == ("", False)


@pytest.mark.parametrize(
    ("access", "variables"),
    [
        (Access(), ("CLIENT_ID", "CLIENT_SECRET")),
        (Access(api_keys=Keys()), ("API_KEY",)),
        (Access(public=Public("1/1s")), ()),
    ],
)
def test_what_a_program_reads_from_the_environment_is_told(
    access: Access, variables: tuple[str, ...]
) -> None:
    one = of("get", access)
    assert one.variables == variables
    assert all(f"${name}" in one.curl for name in variables)


def test_what_is_nowhere_is_not_called() -> None:
    assert (of("get", url="").snippets, of("get", url="").curl, of("get", url="").variables) == ((), "", ())
