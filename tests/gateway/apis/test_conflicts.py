"""What APIs of a mesh cannot have all at once."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.gateway.apis.conftest import read

from tulle.errors import Place
from tulle.gateway.apis.conflicts import Known, conflicts
from tulle.gateway.apis.load import Loaded

KNOWN = Known({"orders": "sales", "prices": "pricing"}, ("dev", "test", "prod"), "prod")


def api(name: str, product: str, *versions: str) -> Loaded:
    own = "service: orders, " if product == "sales" else ""
    lines = "".join(f"- {{version: v{n}, {own}{said}}}\n" for n, said in enumerate(versions, 1))
    return read(f"api: {name}\nversions:\n{lines}", product)


def told(*apis: Loaded) -> list[str]:
    return [str(problem) for problem in conflicts(apis, KNOWN)]


def test_an_api_alone_has_no_conflict() -> None:
    assert told(api("orders", "sales", "", "path: /o/2", "path: /o, environments: {test: }")) == []


@pytest.mark.parametrize(
    ("apis", "expected"),
    [
        (
            [api("one", "sales", ""), api("one", "people", "path: /two")],
            "people.yaml:1:6: the API 'one' is also declared by product 'sales'",
        ),
        ([api("prices", "sales", "")], "the API 'prices' is called as a service of product 'pricing'"),
        (
            [api("one", "sales", "path: /a"), api("two", "people", "path: /a")],
            "'two' v1 of product 'people' and 'one' v1 of product 'sales' would both be at '/a'",
        ),
        (
            [api("one", "sales", "path: /a", "path: /b, environments: {test: {path: /a}}, hosts: [h]")],
            "",
        ),
        (
            [
                api(
                    "one",
                    "sales",
                    "path: /a, environments: {test: }",
                    "path: /b, environments: {test: {path: /a}}",
                )
            ],
            "'one' v2 of product 'sales' and 'one' v1 of product 'sales' would both be at '/a'",
        ),
        ([api("one", "sales", "path: /a, hosts: [x]", "path: /a, hosts: [y]")], ""),
        (
            [api("one", "sales", "path: /a, hosts: [x, y]"), api("two", "sales", "path: /a, hosts: [y]")],
            "would both be at '/a'",
        ),
        ([api("one", "sales", "path: /a"), api("two", "sales", "path: /a/b")], ""),
        (
            [api("one", "sales", "path: /a"), api("two", "people", "path: /a/b/c")],
            "'two' v1 of product 'people' would be at '/a/b/c', below 'one' v1 of product 'sales'",
        ),
        (
            [api("one", "sales", "path: /public/api/v1/orders")],
            "begins with 'public', which is the gateway's own",
        ),
        ([api("one", "sales", "path: /isAlive")], "begins with 'isAlive'"),
        ([api("one", "sales", "path: /test/x")], "begins with 'test', which is that of an environment"),
        ([api("one", "sales", "environments: {test: {path: /dev}}")], "begins with 'dev'"),
        ([api("one", "sales", "path: /a/../b")], "is no plain one"),
        (
            [api("one", "sales", "environments: {tst: }")],
            "there is no environment 'tst' (did you mean 'test'?)",
        ),
        (
            [api("one", "sales", "policies: [{policy: compression, environments: [tst]}]")],
            "there is no environment 'tst' (did you mean 'test'?)",
        ),
        (
            [api("one", "sales", "environments: {test: {service: order}}")],
            "there is no service 'order' (did you mean 'orders'?)",
        ),
        (
            [api("shop", "people", "service: prices")],
            "service 'prices' is product 'pricing's (leave it out; who may change both products binds it: `tulle api bind",
        ),
        (
            [api("one", "sales", "environments: {test: {service: prices}}")],
            "service 'prices' is product 'pricing's",
        ),
    ],
)
def test_conflicts_are_told_at_their_place(apis: list[Loaded], expected: str) -> None:
    found = told(*apis)
    if not expected:
        assert found == []
    else:
        assert len(found) == 1
        assert expected in found[0]


def later(apis: list[Loaded], *in_force: Loaded, looked_at: tuple[str, ...] = ()) -> list[str]:
    places = {"prices": Place("prices.yaml", 1)}
    known = replace(KNOWN, in_force=[one.api for one in in_force], places=places, looked_at=looked_at)
    return [str(problem) for problem in conflicts(apis, known)]


def test_what_two_want_is_told_to_who_came_later() -> None:
    first, sales = api("aaa", "people", "path: /a"), api("orders", "sales", "path: /a")
    assert later([first, sales])[0].startswith("sales.yaml:")
    assert later([first, sales], sales)[0].startswith("people.yaml:")  # whose name comes first
    assert later([first, sales], looked_at=("people",))[0].startswith("people.yaml:")
    moved = api("orders", "sales", "path: /b")
    assert later([first, sales], moved)[0].startswith("sales.yaml:")  # it had another address
    (unread,) = later([first], sales)  # its file cannot be read
    assert unread.startswith("people.yaml:")
    above, below = api("aaa", "people", "path: /a"), api("orders", "sales", "path: /a/b")
    assert later([above, below])[0].startswith("sales.yaml:")
    assert later([above, below], below)[0].startswith("people.yaml:")


def test_a_name_stays_with_who_has_it() -> None:
    mine, theirs = api("one", "people", ""), api("one", "sales", "")
    assert later([mine, theirs], theirs)[0].startswith("people.yaml:")
    assert later([mine], theirs)[0].startswith("people.yaml:")
    (told,) = later([api("prices", "sales", "")], api("prices", "sales", ""))
    assert told.startswith(
        "prices.yaml:1: service 'prices' of product 'pricing' is called as an API of product"
    )
