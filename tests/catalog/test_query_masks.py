"""Saved requests on pages without sign-in: what names people is masked, in bodies, snippets and examples."""

from __future__ import annotations

import pytest
from tests.catalog.conftest import PEOPLE, Browser, World

from tulle.catalog.query_masks import masked_body, masked_document
from tulle.serving.log_rows import MASK, Shown

RULE = Shown(masked=frozenset({"email"}), left_out=frozenset({"salary"}))


def test_names_are_masked_wherever_they_are() -> None:
    body = {"items": [{"data": {"email": "a@x.org", "n": 1, "salary": {"of": 5}}}, {"data": {"email": None}}]}
    assert masked_body("lookup", RULE, "mine", body) == {
        "items": [{"data": {"email": MASK, "n": 1, "salary": MASK}}, {"data": {"email": None}}]
    }


@pytest.mark.parametrize(
    ("kind", "query", "hidden"),
    [
        ("lookup", "by hand", True),
        ("function", "by hand", False),
        ("function", "customers 12", True),
        ("query", "customers 1", True),
    ],
)
def test_where_nothing_is_known_what_was_made_from_data_is_hidden(
    kind: str, query: str, hidden: bool
) -> None:
    for rule in (None, Shown(closed=True)):
        shown = masked_body(kind, rule, query, {"a": ["x", {"b": 2}]})
        assert shown == ({"a": [MASK, {"b": MASK}]} if hidden else {"a": ["x", {"b": 2}]})


def test_examples_of_a_document_are_masked_and_nothing_else() -> None:
    operation = {
        "description": "email",
        "requestBody": {"content": {"j": {"examples": {"x": {"value": {"email": 1}}}}}},
    }
    document = {
        "info": {},
        "paths": {"/a/lookup": {"post": operation, "summary": "email"}, "/b/run": {"post": operation}},
    }
    found = masked_document(document, {"a": RULE}, {"a": "lookup"})
    examples = found["paths"]["/a/lookup"]["post"]["requestBody"]["content"]["j"]["examples"]
    assert examples == {"x": {"value": {"email": MASK}}}
    assert found["paths"]["/a/lookup"]["summary"] == "email"
    assert found["paths"]["/b/run"] == document["paths"]["/b/run"]


def test_the_page_of_a_service_names_nobody(world: World, browser: Browser) -> None:
    assert "ann" in browser.get("/services/customer-totals")
    declared = PEOPLE.replace(
        "name: customer, type: string, key: true", "name: customer, type: string, key: true, pii: direct"
    )
    world.write("products/crm/people/product.yaml", declared)
    world.apply()
    page = browser.get("/services/customer-totals")
    assert "&#34;customer&#34;: &#34;•••&#34;" in page
    assert "&#34;ann&#34;" not in page
    assert '"ann"' not in page
    document = browser.client.get("/services/customer-totals/openapi.json").text
    assert '"customer":"•••"' in document
    assert '"customer":"ann"' not in document
