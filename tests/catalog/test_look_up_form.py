"""Look-ups as forms: the fields of what is written, and what is filled in as a person would write it."""

from __future__ import annotations

import pytest

from tulle.catalog.look_up_fields import DESCENDING, Filled
from tulle.catalog.look_up_form import NEW, change, form_of, take_out
from tulle.errors import Conflict, Invalid, NotFound
from tulle.serving.service import load_service

TEXT = """\
service: insights
endpoints:
  - name: will-return
    type: predict
    model: will_return
    enrich:
      - data_set: customer_features   # made every night
        key: {customer: customer_id}
        columns:
          recency: days_since_last
          # what they spent, with tax
          spent: amount
        defaults: {recency: 365, town: '01', known: true, note: null}
        no_match: default
        event_time: computed_at
        max_age: 7 days
      - {product: shops, data_set: shop_features, key: shop_id}
  - name: orders
    type: lookup
    description: |
      What somebody has ordered.
      The newest first.
    source: {connection: cache, keys: 'o:{customer}', types: {customer: string, total: double}, timeout: 0.5}
    data_set: orders
    key: [customer]
    several: all
    order_by: [-ordered_at, id]
    most_rows: 20
    test_queries:
      - {name: one, data: {customer: C-01}}
"""


def filled(text: str, endpoint: int, number: int = 0, **said: object) -> tuple[Filled, str]:
    """What the form begins with, with other fields, and its digest."""
    form = form_of(text, endpoint, number)
    texts = {**form.filled.texts, **{k: v for k, v in said.items() if isinstance(v, str)}}
    pairs = {**form.filled.pairs, **{k: v for k, v in said.items() if isinstance(v, list)}}
    return Filled(texts, pairs), form.digest


def made(text: str, endpoint: int, number: int = 0, **said: object) -> str:
    given, digest = filled(text, endpoint, number, **said)
    found = change(text, endpoint, number, given, digest)
    assert found.problems == {}
    assert load_service(found.text, name="x").endpoints
    return found.text


def wrong(text: str, endpoint: int, number: int = 0, **said: object) -> dict[str, str]:
    given, digest = filled(text, endpoint, number, **said)
    found = change(text, endpoint, number, given, digest)
    assert found.text == ""
    return dict(found.problems)


def test_the_fields_are_what_is_written_and_nothing_filled_in_changes_nothing() -> None:
    form = form_of(TEXT, 0, 0)
    assert form.title == "Look-up of will-return"
    assert form.filled.pairs["key"] == [("customer_id", "customer")]
    assert form.filled.pairs["defaults"] == [
        ("recency", "365"),
        ("town", "'01'"),
        ("known", "true"),
        ("note", "null"),
    ]
    assert form.filled.texts["several"] == ""
    assert "all" not in form.choices["several"]
    rows = form_of(TEXT, 1, 0)
    assert rows.filled.texts["source"] == "connection"
    assert rows.filled.texts["timeout"] == "0.5"
    assert rows.filled.pairs["order_by"] == [("ordered_at", DESCENDING), ("id", "")]
    assert rows.filled.pairs["types"] == [("customer", "string"), ("total", "double")]
    for endpoint, number in ((0, 0), (0, 1), (1, 0)):
        assert made(TEXT, endpoint, number) == TEXT


def test_what_is_filled_in_is_written_as_people_write_it() -> None:
    text = made(TEXT, 0, columns=[("days_since_last", "recency"), ("amount", "spent"), ("visits", "")])
    assert text == TEXT.replace("spent: amount\n", "spent: amount\n          visits: visits\n")
    text = made(TEXT, 0, 1, source="latest", key=[("shop_id", "shop"), ("town", "")], no_match="ignore")
    assert (
        "- {product: shops, data_set: shop_features, source: latest, key: {shop: shop_id, town: town}, no_match: ignore}"
        in text
    )
    text = made(TEXT, 0, no_match="", max_age="", version="1.2")
    assert "no_match" not in text
    assert "        version: '1.2'\n" in text
    text = made(
        TEXT,
        1,
        source="connection",
        keys="",
        types=[],
        table="shop.orders",
        unavailable="default",
        name="rows",
    )
    assert "source: {connection: cache, table: shop.orders, unavailable: default, timeout: 0.5}" in text
    assert "  - name: rows\n    type: lookup\n    description: |\n      What somebody" in text
    text = made(TEXT, 1, source="")
    assert text == TEXT.replace(
        "    source: {connection: cache, keys: 'o:{customer}', types: {customer: string, total: double}, timeout: 0.5}\n",
        "",
    )


def test_one_more_and_one_less() -> None:
    more = {"data_set": "third", "key": [("id", "")], "defaults": [("town", "Rome"), ("n", "007")]}
    text = made(TEXT, 0, NEW, **more)
    assert (
        "key: shop_id}\n      - data_set: third\n        key: id\n        defaults: {town: Rome, n: '007'}\n  - name: orders"
        in text
    )
    assert take_out(text, 0, 2, form_of(text, 0, 2).digest) == TEXT
    bare = "service: abc\nendpoints:\n- name: a\n  type: predict\n  model: m\n  threshold: 0.5\n"
    text = made(bare, 0, NEW, **more)
    assert "  model: m\n  enrich:\n    - data_set: third\n" in text
    assert text.endswith("  threshold: 0.5\n")
    assert take_out(text, 0, 0, form_of(text, 0, 0).digest) == bare


def test_what_is_wrong_is_told_by_field() -> None:
    told = wrong(
        TEXT,
        0,
        data_set="Big Data",
        key=[("", "x")],
        columns=[("a", "b"), ("c", "b")],
        several="all",
        event_time="",
        max_age="soon",
    )
    assert set(told) == {"data_set", "key", "columns", "several", "max_age"}
    assert "snake_case" in told["data_set"]
    assert "given twice" in told["columns"]
    assert "without the event time" in told["max_age"]
    told = wrong(TEXT, 0, NEW)
    assert set(told) == {"data_set", "key"}
    told = wrong(
        TEXT, 1, most_rows="many", source="connection", connection="", types=[("customer", "varchar")]
    )
    assert set(told) == {"most_rows", "connection", "types"}
    assert "a whole number" in told["most_rows"]
    assert set(wrong(TEXT, 1, keys="", types=[], name="")) == {"table", "name"}
    assert set(wrong(TEXT, 0, source="elsewhere")) == {"source"}
    assert set(wrong(TEXT, 1, timeout="0")) == {"timeout"}


def test_what_was_changed_meanwhile_is_not_changed() -> None:
    given, digest = filled(TEXT, 0)
    with pytest.raises(Conflict, match="changed in the text meanwhile"):
        change(TEXT.replace("7 days", "8 days"), 0, 0, given, digest)
    for endpoint, number in ((0, 2), (0, -2), (2, 0), (-1, 0)):
        with pytest.raises(NotFound):
            form_of(TEXT, endpoint, number)
    with pytest.raises(Invalid, match="one look-up"):
        take_out(TEXT, 1, 0, form_of(TEXT, 1, 0).digest)
    with pytest.raises(Invalid):
        form_of("a: [", 0, 0)


@pytest.mark.parametrize(
    "endpoint",
    [
        "{type: predict, enrich: 3}",
        "{type: predict, enrich: [1]}",
        "{type: predict, name: [1], enrich: [{source: {types: 4}, defaults: [1], order_by: 5, columns: 7, key: {a: {b: c}}}]}",
        "{type: lookup, key: {a: {b: c}}, source: {connection: [1]}, defaults: 3, data_set: {x: y}, name: {a: 1}}",
    ],
)
def test_a_text_that_is_not_valid_does_no_harm(endpoint: str) -> None:
    text = f"service: abc\nendpoints: [{endpoint}]\n"
    given = Filled(
        {"data_set": "a\nb", "source": "connection", "timeout": "1e999", "evil": "x"}, {"evil": [("a", "b")]}
    )
    for number in (NEW, 0):
        try:
            form = form_of(text, 0, number)
            assert form_of(text, 0, number).filled.pairs["order_by"] == []
            assert change(text, 0, number, given, form.digest).problems
            assert take_out(text, 0, number, form.digest) != text
        except (Invalid, NotFound):
            continue


JOINED = """\
service: insights
endpoints:
  - name: profile
    type: lookup
    lookups:
      - {data_set: customers, key: customer_id}   # who they are
      - data_set: orders
        key: {customer_id: customer}
        columns: [amount]
        several: all
"""


def test_a_lookup_in_several_data_sets_has_a_form_for_each() -> None:
    form = form_of(JOINED, 0, 1)
    assert (form.title, form.is_endpoint, form.is_of_lookup) == ("Look-up of profile", False, True)
    assert form.filled.texts["data_set"] == "orders"
    assert "all" in form.choices["several"]
    assert made(JOINED, 0, 1) == JOINED
    changed = made(JOINED, 0, 1, missing_key="default", most_rows="5")
    assert "        missing_key: default\n        several: all\n        most_rows: 5\n" in changed
    assert "# who they are" in changed
    assert wrong(JOINED, 0, 1, most_rows="5000")["most_rows"]
    more = made(JOINED, 0, NEW, data_set="shops", key=[("shop_id", "")], columns=[("town", "")])
    assert "      - data_set: shops\n" in more
    without = take_out(more, 0, 0, form_of(more, 0, 0).digest)
    assert "customers" not in without
    last = take_out(without, 0, 0, form_of(without, 0, 0).digest)
    with pytest.raises(Invalid, match="has one look-up"):
        take_out(last, 0, 0, form_of(last, 0, 0).digest)
