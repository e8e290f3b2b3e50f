"""What a product promises about its own changes, and which version keeps the promise."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tulle.errors import Place
from tulle.spec.compare import compare
from tulle.spec.compatibility import major, next_major, refusal
from tulle.spec.product import Column, Component, DataProduct, DataSet

PLACE = Place("products/sales/purchases/product.yaml", 7, 5)


def product(version: str = "1.2.0", *, mode: str = "", columns: tuple[Column, ...] = ()) -> DataProduct:
    properties = {"compatibility": mode} if mode else {}
    return DataProduct(
        "purchases",
        "Purchases",
        "sales",
        "",
        version=version,
        data_sets=(DataSet("sold", "sold", "", columns=columns or (Column("id", "string"),)),),
        components=(Component("Purchases", "data-product", properties, "data-product"),),
        place=PLACE,
    )


OTHER_TYPE = (Column("id", "integer"),)
ONE_MORE = (Column("id", "string"), Column("day", "date"))
ONE_MORE_NEEDED = (Column("id", "string"), Column("day", "date", required=True))


def judged(old: DataProduct, new: DataProduct) -> str:
    problem = refusal(old, new, compare(old, new))
    return str(problem) if problem else ""


@pytest.mark.parametrize(
    ("old", "new", "refused"),
    [
        (product(), product(columns=OTHER_TYPE), True),
        (product(), product("1.3.0", columns=OTHER_TYPE), True),
        (product(), product("2.0.0", columns=OTHER_TYPE), False),
        (product(), product("1.0.0", columns=OTHER_TYPE), True),  # backwards is not onwards
        (product("0.3.1"), product("0.3.2", columns=OTHER_TYPE), True),
        (product("0.3.1"), product("0.4.0", columns=OTHER_TYPE), False),
        (product(""), product("", columns=OTHER_TYPE), True),
        (product(""), product("1.0.0", columns=OTHER_TYPE), False),
        (product(), product(columns=ONE_MORE_NEEDED), False),
        (product(mode="full"), product(mode="full", columns=ONE_MORE), False),
        (product(mode="full"), product(mode="full", columns=ONE_MORE_NEEDED), True),
        (product(mode="full"), product("2.0", mode="full", columns=ONE_MORE_NEEDED), False),
        (product(mode="none"), product(mode="none", columns=OTHER_TYPE), False),
        (product(), product(mode="none", columns=OTHER_TYPE), False),  # nobody had written the promise
        (product(mode="backward"), product(mode="none", columns=OTHER_TYPE), True),
    ],
)
def test_what_breaks_a_promise_needs_a_new_major_version(
    old: DataProduct, new: DataProduct, refused: bool
) -> None:
    assert bool(judged(old, new)) is refused


def test_a_refusal_says_what_why_where_and_the_way_out() -> None:
    problem = refusal(product(), product(columns=OTHER_TYPE), compare(product(), product(columns=OTHER_TYPE)))
    assert problem is not None
    assert problem.place == PLACE
    assert "promises backward compatibility" in problem.message
    assert "column id: the type is 'integer' (was 'string')" in problem.message
    assert "its version stays 1.2.0" in problem.message
    assert "`version: 2.0.0`" in str(problem.hint)


def test_many_breaks_are_counted() -> None:
    many = replace(product(), data_sets=())
    wide = product(columns=tuple(Column(f"c{n}", "string") for n in range(9)))
    other = product(columns=tuple(Column(f"c{n}", "date") for n in range(9)))
    assert "and 6 more" in judged(wide, other)
    assert "data-set 'sold' is removed" in judged(wide, many)


@pytest.mark.parametrize(
    ("version", "expected", "following"),
    [
        ("1.2.3", (1, 0), "2.0.0"),
        ("v4", (4, 0), "5.0.0"),
        ("0.7.1-rc.1", (0, 7), "0.8.0"),
        ("", (-1, 0), "1.0.0"),
        ("spring edition", (-1, 0), "1.0.0"),
    ],
)
def test_versions(version: str, expected: tuple[int, int], following: str) -> None:
    assert major(version) == expected
    assert next_major(version) == following
    assert major(next_major(version)) > major(version)
