"""What the page of a service says that each kind of endpoint answers from, before there is a package and after."""

from __future__ import annotations

import msgspec

from tulle.catalog.service import Source, _raw, _sources
from tulle.serving.query import QueryEntry
from tulle.serving.service import load_service

TEXT = """
service: offers
endpoints:
- {name: price, type: function, file: prices.py}
- name: cohort
  type: query
  sql: SELECT * FROM mine JOIN theirs USING (id)
  data_sets: {theirs: {product: sales, data_set: sold}}
- {name: offer, type: compose, steps: [{name: a, call: price}, {name: b, parallel: [{name: c, call: cohort}]}], output: $a}
"""


def test_each_kind_says_what_it_answers_from() -> None:
    function, query, compose = load_service(TEXT, name="s.yaml").endpoints
    assert list(_sources(_raw(function), "shop")) == [Source("calls", "prices.py: price", "/products/shop")]
    asked = [
        Source("asks", "shop / mine", "/products/shop#data-set-mine"),
        Source("asks", "sales / sold", "/products/sales#data-set-sold"),
    ]
    assert list(_sources(_raw(query), "shop")) == asked
    assert list(_sources(_raw(compose), "shop")) == [
        Source("calls", "price", "#endpoint-price"),
        Source("calls", "cohort", "#endpoint-cohort"),
    ]
    files = {"mine": ("data/shop/mine/00000.parquet",), "theirs": ("data/sales/sold/00000.parquet",) * 2}
    packaged = QueryEntry("cohort", "SELECT 1", (), files, (), 10, {})
    assert list(_sources(msgspec.to_builtins(packaged), "shop")) == asked
