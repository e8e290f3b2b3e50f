"""Finding APIs and products together: the nearest first, and by what they are."""

from __future__ import annotations

from typing import Any

import pytest

from tulle.catalog import exchange_search
from tulle.catalog.exchange_search import Entry, Wanted, find


def entry(name: str, kind: Any = "API", **more: Any) -> Entry:
    known = {"title": name, "summary": "", "product": "sales", "domain": "shop", **more}
    return Entry(kind, name, href=f"/{name}", **known)


SHELF = (
    entry(
        "orders", summary="what was ordered", tags=("logistics",), statuses=("published",), ways=("contract",)
    ),
    entry("order-archive", statuses=("deprecated",), domain="finance"),
    entry("parcels", detail="get /orders/{id} listorders tracking number", statuses=("published",)),
    entry("sales", "product", owner="Ann Orders", tags=("logistics",)),
    entry("weather"),
)


def names(query: str = "", **chosen: str) -> list[str]:
    return [one.name for one in find(SHELF, Wanted(query, chosen)).entries]


def test_the_nearest_comes_first() -> None:
    assert names("orders") == ["orders", "sales", "parcels"]
    assert names("order")[:2] == ["order-archive", "orders"]
    assert names("ORDERS logistics") == ["orders", "sales"]
    assert names("tracking orders") == ["parcels"]
    assert names("orders zebra") == []


def test_without_words_all_are_there_by_name() -> None:
    assert names() == ["order-archive", "orders", "parcels", "sales", "weather"]


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        ({"kind": "product"}, ["sales"]),
        ({"domain": "finance"}, ["order-archive"]),
        ({"tag": "logistics"}, ["orders", "sales"]),
        ({"status": "published", "way": "contract"}, ["orders"]),
        ({"status": "published", "domain": "finance"}, []),
        ({"kind": "nonesuch"}, []),
    ],
)
def test_it_is_chosen_by_what_it_is(chosen: dict[str, str], expected: list[str]) -> None:
    assert names(**chosen) == expected


def test_choices_tell_how_many_there_would_be() -> None:
    found = find(SHELF, Wanted("", {"tag": "logistics"}))
    assert found.choices["kind"] == (("API", 1), ("product", 1))
    assert found.choices["tag"] == (("logistics", 2),)
    assert find(SHELF, Wanted("orders")).choices["status"] == (("published", 2),)


def test_much_is_shown_a_page_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange_search, "PAGE", 2)
    first, last = find(SHELF, Wanted()), find(SHELF, Wanted(page=3))
    assert ([one.name for one in first.entries], first.count, first.has_more) == (
        ["order-archive", "orders"],
        5,
        True,
    )
    assert ([one.name for one in last.entries], last.has_more) == (["weather"], False)
