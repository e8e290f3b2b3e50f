"""One rule for the places of a product, and every collision told with both places."""

from __future__ import annotations

import re
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from tulle.errors import Place
from tulle.spec.product import PRODUCT_NAME, DataProduct, DataSet, InputPort
from tulle.spec.source import Source
from tulle.spec.tenancy import collisions, schema_name, tenancy_of


def product(name: str, domain: str = "sales", *, title: str = "") -> DataProduct:
    place = Place(f"products/{domain}/{name}/product.yaml", 5, 11)
    return DataProduct(name, name, domain, "", domain_title=title or domain, place=place)


def test_the_places_of_a_product() -> None:
    assert tenancy_of(product("big-orders")).as_dict() == {
        "repository": "big-orders",
        "schema": "big_orders",
        "metrics": "tulle_sales_big_orders",
        "community": "sales/big-orders",
        "roles": ["big-orders-owner", "big-orders-developer", "big-orders-consumer"],
        "warehouse": "sales",
    }


@given(st.from_regex(PRODUCT_NAME, fullmatch=True))
def test_a_schema_needs_no_quotes(name: str) -> None:
    if re.search("[a-z0-9]", name):
        assert re.fullmatch(r"[a-z][a-z0-9_]{0,62}", schema_name(name))


def test_products_that_keep_apart_collide_nowhere() -> None:
    assert collisions([product("orders"), product("sold-orders"), product("people", "crm")]) == ()


def test_names_that_meet_after_they_are_made_plain_are_told_with_both_places() -> None:
    (problem,) = collisions([product("p-2x-y"), product("2x-y")])
    assert str(problem.place) == "products/sales/2x-y/product.yaml:5:11"
    assert "would both be the SQL schema 'p_2x_y'" in problem.message
    assert "products/sales/p-2x-y/product.yaml:5:11" in problem.message
    (problem,) = collisions([product("b-c", "a"), product("cab", "x"), product("c", "a-b")])
    assert "metric namespace 'tulle_a_b_c'" in problem.message


def test_a_product_may_not_take_a_schema_of_the_engine() -> None:
    (problem,) = collisions([product("information-schema")])
    assert "which the engine keeps for itself" in problem.message


def test_domains_that_become_one_name_are_told() -> None:
    one, other = product("orders", title="Sales"), product("people", title="Sälés")
    (problem,) = collisions([one, other])
    assert "'Sälés' of product 'people' and 'Sales' of product 'orders'" in problem.message
    assert collisions([one, replace(other, domain_title=" SALES!")]) == ()


def test_rejected_rows_need_a_table_of_their_own() -> None:
    port = InputPort(
        "till", "till", "", data_set="sold", source=Source("x.csv", "csv", on_bad_rows="quarantine")
    )
    data_set = DataSet("sold__rejected", "x", "", place=Place("p.yaml", 9, 3))
    (problem,) = collisions([replace(product("orders"), input_ports=(port,), data_sets=(data_set,))])
    assert "the rejected rows of input port 'till'" in problem.message
    assert "data set 'sold__rejected'" in problem.message


def test_services_and_foreign_repositories_collide_too() -> None:
    places = {"orders": [("prices", Place("a.yaml", 1, 10))], "people": [("prices", Place("b.yaml", 1, 10))]}
    (problem,) = collisions([product("orders"), product("people")], services=places)
    assert problem.place == Place("b.yaml", 1, 10)
    assert "a.yaml:1:10" in problem.message
    (problem,) = collisions([product("orders")], foreign_repositories=["orders", "other"])
    assert "belongs to no product" in problem.message
