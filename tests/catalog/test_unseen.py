"""What a reader does not find: whose people they are is decided for products that a page has texts of, and no others."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from tests.control.bazaar import Bazaar

from tulle.catalog.known import KnownProducts
from tulle.catalog.unseen import Unseen
from tulle.gateway.apis.sight import Sight
from tulle.lake.access import Access
from tulle.state import products


@pytest.fixture(scope="module")
def bazaar(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bazaar]:
    made = Bazaar(tmp_path_factory.mktemp("bazaar") / "mesh")
    sales = products.applied_product(made.workspace.database, "sales").product
    with made.workspace.database.write() as cx:
        for number in range(50):
            one = replace(sales, name=f"more-{number}", digest=str(number), input_ports=())
            products.save(cx, one, code_digest="c", services={})
    yield made
    made.close()


def unseen(bazaar: Bazaar, known: KnownProducts | None = None) -> Unseen:
    database = bazaar.workspace.database
    return Unseen(database, Sight(database, bazaar.access), known or KnownProducts(database))


def test_a_text_is_shown_to_people_of_its_product(bazaar: Bazaar) -> None:
    asked = unseen(bazaar)
    for user, seen in (("vic", True), ("kim", False), ("", False), ("nobody-there", False)):
        hidden = asked.of(user)
        assert hidden.are_in("payroll is late", "sales") != seen
        assert (hidden.masked("payroll is late", "sales") == "payroll is late") == seen
        assert hidden.are_in("API 'gone-long-ago' is removed", "sales") != seen
        assert hidden.are_in("API 'gone-long-ago' is removed", "no-product")
        assert hidden.are_in("API 'gone-long-ago' is removed")
        assert not hidden.are_in("orders are late", "sales")


def test_of_many_products_those_are_looked_at_that_are_asked_about(
    bazaar: Bazaar, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, decided = unseen(bazaar), list[str]()
    decide = Access.decide

    def noting(self: Access, user: str, action: str, *resources: str, client: str = "") -> object:
        decided.extend(resources)
        return decide(self, user, action, *resources, client=client)

    monkeypatch.setattr(Access, "decide", noting)
    hidden = asked.of("kim")
    assert decided == ["arn:lakefs:fs:::repository/sales/branch/main"]  # of the one API that is not public
    decided.clear()
    for _ in range(3):
        assert hidden.are_in("payroll is late", "more-7")
        assert not hidden.are_in("orders are late", "more-8")  # which names nothing that is hidden
    assert decided == ["arn:lakefs:fs:::repository/more-7/branch/main"]
