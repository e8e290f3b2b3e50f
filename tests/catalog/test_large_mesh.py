"""A mesh of hundreds of products: pages stay small, and ask as often as for a few; what changed is seen at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
from sqlalchemy import event, update
from tests.catalog.conftest import Browser, World

from tulle.catalog import flow
from tulle.catalog.history import newest
from tulle.catalog.known import KnownProducts
from tulle.catalog.page_values import CARDS_A_DOMAIN
from tulle.catalog.pictures import PICTURED
from tulle.catalog.portal import PRODUCTS_A_PAGE, RUNS_A_PAGE
from tulle.pipeline import run as runs
from tulle.pipeline import run_end
from tulle.spec.product import DataProduct, DataSet, InputPort
from tulle.state import products
from tulle.state.tables import runs as run_table

COUNT = 2 * PICTURED + 10


def product(number: int) -> DataProduct:
    """Every tenth product begins a chain of ten; even and odd tens are different domains."""
    ports = (InputPort("up", "up", "", "up", product=f"p-{number - 1:03d}"),) if number % 10 else ()
    name, domain = f"p-{number:03d}", f"domain-{number // 10 % 2}"
    return DataProduct(
        name, name, domain, "<b>bold</b>", input_ports=ports, data_sets=(DataSet("rows", "", ""),)
    )


@pytest.fixture
def large(empty: World) -> World:
    with empty.database.write() as cx:
        for number in range(COUNT):
            one = replace(product(number), folder=empty.settings.folder / f"p{number}", digest=str(number))
            products.save(cx, one, code_digest="c")
            runs.request_in(cx, one.name)
        cx.execute(update(run_table).values(status=runs.SUCCEEDED, finished_at=1.0))
    return empty


@contextmanager
def counted(world: World) -> Iterator[list[str]]:
    found: list[str] = []

    def note(*arguments: object) -> None:
        found.append(str(arguments[2]))

    event.listen(world.database.engine, "before_cursor_execute", note)
    yield found
    event.remove(world.database.engine, "before_cursor_execute", note)


def test_the_first_page_shows_some_of_each_domain_and_the_domain_all(large: World) -> None:
    with Browser(large) as browser:
        html = browser.get("/")
        assert html.count("<article") == 2 * CARDS_A_DOMAIN
        assert "All 70 products of Domain-0" in html
        assert "<b>bold" not in html
        assert html.count('class="box product') == 2 * 2  # of the domains, drawn in two layers
        first = browser.get("/domains/domain-0")
        assert first.count("<article") == PRODUCTS_A_PAGE
        assert 'href="/domains/domain-0?after=p-109"' in first
        assert browser.get("/domains/domain-0?after=p-109").count("<article") == 10
        assert "did you mean &#39;domain-1&#39;" in browser.get("/domains/domain-11", status=404)


def test_the_newest_run_of_each_product_is_told(large: World) -> None:
    last = runs.request(large.database, "p-007")
    found = newest(large.database)
    assert len(found) == COUNT
    assert found["p-007"].id == last
    assert {run.product for run in found.values()} == set(found)
    with Browser(large) as browser:
        assert "not run yet" not in browser.get("/")
        assert "not run yet" not in browser.get("/domains/domain-1")


def test_a_product_is_drawn_with_what_it_hangs_together_with(large: World) -> None:
    with Browser(large) as browser:
        html = browser.get("/products/p-055")
        assert "p-050" in html
        assert "p-059" in html
        assert "p-060" not in html
        assert "p-049" not in html


def test_pages_ask_as_often_as_for_a_few_products(large: World) -> None:
    with Browser(large) as browser:
        for path in ("/", "/products/p-055", "/releases", "/rejected", "/search?q=p-055"):
            browser.get(path)
        for path, most in {
            "/": 40,
            "/products/p-055": 90,  # ten products hang together
            "/rejected": 4,
            "/search?q=p-055": 7,  # of all services at once, what deployments say of access and of policies is one each
            "/runs": 3,
            "/schedules/calendar": 6,
        }.items():
            with counted(large) as found:
                browser.get(path)
            assert len(found) <= most, path


def test_runs_are_paged_and_chosen(large: World) -> None:
    ended = runs.request(large.database, "p-001", environment="dev")
    run_end.finish(large.database, ended, runs.STOPPED)
    with Browser(large) as browser:
        html = browser.get("/runs")
        assert html.count('<span class="run">') == RUNS_A_PAGE
        assert 'href="/runs?page=2"' in html
        last = browser.get("/runs?page=3")
        assert last.count('<span class="run">') == COUNT + 1 - 2 * RUNS_A_PAGE
        assert 'rel="next"' not in last
        assert browser.get("/runs?product=p-001").count('<span class="run">') == 2
        assert (
            browser.get("/runs?product=p-001&environment=dev&status=stopped").count(f'href="/runs/{ended}"')
            == 1
        )
        assert "No run is like that" in browser.get("/runs?status=failed&product=<script>")
        assert "<script>" not in browser.get("/runs?product=<script>")


def test_what_is_applied_again_is_read_again(large: World) -> None:
    known = KnownProducts(large.database)
    before = known.all()
    with counted(large) as found:
        assert known.all() == before
    assert len(found) == 1
    changed = replace(product(7), description="another", folder=large.settings.folder, digest="new")
    with large.database.write() as cx:
        products.save(cx, changed, code_digest="c")
        products.remove(cx, "p-009")
    after = known.all()
    assert after["p-007"].product.description == "another"
    assert list(after) == [name for name in before if name != "p-009"]


def test_services_are_read_again_when_their_files_change(applied: World) -> None:
    known = KnownProducts(applied.database)
    people = known.all()["people"].product
    assert [service.name for service in known.services(people)[0]] == ["customer-totals"]
    applied.write("products/crm/people/services/customer-totals.yaml", "service: [\n")
    found, problems = known.services(people)
    assert found == ()
    assert problems
    (people.folder / "services/customer-totals.yaml").unlink()
    assert known.services(people) == ((), ())


def test_near_follows_both_ways_but_not_round_the_corner() -> None:
    def one(name: str, *upstream: str) -> DataProduct:
        ports = tuple(InputPort(u, u, "", u, product=u) for u in upstream)
        return DataProduct(name, name, "d", "", input_ports=ports)

    mesh = [one("a"), one("b", "a", "d"), one("c", "b"), one("d", "c"), one("sister", "a")]
    assert flow.near("b", mesh, ()) == {"a", "b", "c", "d"}
    assert flow.near("c", [one("a"), one("b", "a"), one("c", "b"), one("sister", "a")], ()) == {"a", "b", "c"}
