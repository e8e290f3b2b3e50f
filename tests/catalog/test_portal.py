"""The read model: what pages are told of a mesh with real runs."""

from __future__ import annotations

import pytest
from sqlalchemy import select
from tests.catalog.conftest import World

from tulle.catalog.lake.objects import folder_page
from tulle.catalog.page_values import ProcessView
from tulle.catalog.pictures import CALLERS_DRAWN
from tulle.errors import NotFound
from tulle.gateway import applications as registered
from tulle.gateway.policy import RateLimit
from tulle.state.tables import applications


def test_home_tells_domains_products_and_runs(world: World) -> None:
    world.processes = [ProcessView("gateway", "gateway", "running", "http://127.0.0.1:8000", 0)]
    home = world.reader().home()
    assert [d.name for d in home.domains] == ["crm", "shop"]
    assert home.domains[1].owner == "Jane"
    card = home.domains[0].products[0]
    assert card.product.name == "people"
    assert card.last_run is not None
    assert card.last_run.status == "succeeded"
    assert card.services == ("customer-totals",)
    assert [run.product for run in home.runs] == ["people", "sales"]
    assert home.applications == 1
    assert home.processes[0].state == "running"
    assert home.failing == ()


def test_an_empty_mesh_is_no_error(empty: World) -> None:
    home = empty.reader().home()
    assert home.domains == ()
    assert home.picture.boxes == ()
    assert empty.reader().services.all() == ()
    assert empty.reader().repositories().repositories == ()


def test_a_product_that_never_ran_has_schemas_and_no_rows(applied: World) -> None:
    page = applied.reader().product("sales")
    (data_set,) = page.data_sets
    assert [c.name for c in data_set.columns] == ["id", "customer", "email", "amount"]
    assert data_set.sample is None
    assert page.runs == ()
    assert page.findings.checks == ()


def test_a_product_shows_rows_but_not_what_names_a_person(world: World) -> None:
    page = world.reader().product("sales")
    (data_set,) = page.data_sets
    assert data_set.sample is not None
    assert data_set.sample.row_count == 3
    assert data_set.sample.masked == {"email"}
    assert data_set.sample.rows[0] == (1, "ann", None, "10.50")
    assert data_set.key == ("id",)
    assert page.downstream == ("people",)
    assert page.levels[0].indicators[0].objective == 80
    assert [b.name for b in page.branches] == ["main"]
    assert [c.message.split()[0] for c in page.commits] == ["Run", "Repository"]  # not what runs merged
    assert "@x.org" not in repr(page)


def test_a_column_is_traced_to_what_it_is_made_of(world: World) -> None:
    sources = world.reader().product("people").findings.sources
    assert sources["totals"]["total"] == (("sold", "amount"),)


def test_a_service_is_shown_by_every_product_whose_data_it_answers_from(world: World) -> None:
    world.write(
        "products/shop/sales/services/by-sales.yaml",
        """
        service: elsewhere
        endpoints:
        - {name: total, type: lookup, product: people, data_set: totals, key: [customer]}
        """,
    )
    reader = world.reader()
    assert [s.name for s in reader.product("people").services] == ["customer-totals", "elsewhere"]
    assert [s.name for s in reader.product("sales").services] == ["elsewhere"]


def test_lineage_goes_from_file_to_service(world: World) -> None:
    picture = world.reader().product("people").picture
    assert {curve.words for curve in picture.curves} == {
        "sales.csv → sales: sales",
        "sales: sales → people: totals",
        "people: totals → customer-totals: total",
        "customer-totals → web-shop",
    }
    assert [b.box.key for b in picture.boxes if b.is_current] == ["product:people"]


def test_many_applications_are_one_box(world: World) -> None:
    for number in range(CALLERS_DRAWN):
        registered.register(world.database, f"app-{number}", services={"customer-totals": RateLimit(5, 1000)})
    picture = world.reader().product("people").picture
    named = [placed.box.title for placed in picture.boxes if placed.box.kind == "application"]
    assert named == [f"{CALLERS_DRAWN + 1} of customer-totals"]


def test_a_failing_check_is_told_with_its_rows_and_masked(world: World) -> None:
    world.write(
        "products/shop/sales/checks/sales.yaml",
        "checks:\n- {data_set: sales, type: range, column: amount, max: 5}\n",
    )
    run = world.run("sales")
    assert run.status == "failed"
    reader = world.reader()
    page = reader.run(run.id)
    assert page.branch_is_kept
    failed = [check for check in page.run.checks if not check.passed]
    assert [(c.state, c.failing_count) for c in failed] == [("failed", 1)]
    assert failed[0].masked == {"email"}
    row = dict(zip(failed[0].columns, failed[0].rows[0], strict=True))
    assert row["amount"] == "10.50"
    assert row["email"] is None
    assert "@x.org" not in repr(page)
    assert [c.name for _, c in reader.home().failing] == [failed[0].name]
    assert reader.product("sales").findings.checks[0].state == "failed"


def test_verdicts_survive_a_run_that_changed_nothing(world: World) -> None:
    reader = world.reader()
    before = [check.name for check in reader.product("sales").findings.checks]
    assert world.run("sales").status == "unchanged"
    assert [check.name for check in reader.product("sales").findings.checks] == before
    assert before


def test_a_damaged_data_set_is_told_and_takes_nothing_down(world: World) -> None:
    repository = world.lake.repository("sales")
    world.lake.repository("sales").put("main", "sales/part-9999.parquet", b"no parquet")
    repository.commit("main", "damage")
    (data_set,) = world.reader().product("sales").data_sets
    assert data_set.sample is None
    assert data_set.problem


def test_applications_never_hold_a_secret_nor_the_portals_own(world: World) -> None:
    page = world.reader().callers.page(("customer-totals",), query="", owner="", after="")
    assert [a.name for a in page.applications] == ["web-shop"]
    assert page.services == ("customer-totals",)
    with world.database.read() as connection:
        rows = connection.execute(select(applications.c.secret_hash, applications.c.name)).all()
    assert len(rows) == 2
    assert not [row.name for row in rows if row.secret_hash in repr(page)]


def test_repositories_are_listed_by_name_and_found_by_a_part_of_it(world: World) -> None:
    reader = world.reader()
    assert [card.name for card in reader.repositories().repositories] == ["people", "sales"]
    assert [card.name for card in reader.repositories(query="ale").repositories] == ["sales"]
    assert [card.name for card in reader.repositories(after="people").repositories] == ["sales"]


@pytest.mark.parametrize(
    ("query", "kind", "title"),
    [
        ("sales", "product", "sales"),
        ("TOTALS", "data set", "totals"),
        ("number of the sale", "column", "id"),
        ("what a customer spent", "service", "customer-totals"),
        ("till export", "port", "till"),
    ],
)
def test_search_finds_names_columns_and_descriptions(world: World, query: str, kind: str, title: str) -> None:
    hits = world.reader().search(query).hits
    assert (hits[0].kind, hits[0].title) == (kind, title)


def test_a_word_in_the_name_of_a_product_does_not_find_all_its_columns(world: World) -> None:
    hits = world.reader().search("people").hits
    # the endpoint answers from a data set of that product
    assert [(hit.kind, hit.title) for hit in hits] == [("product", "people"), ("endpoint", "total")]
    columns = [
        hit for hit in world.reader().search("people spent customer column").hits if hit.kind == "column"
    ]
    assert columns == []
    found = world.reader().search("sales number").hits
    assert ("column", "id", "sales of sales") in [(hit.kind, hit.title, hit.where) for hit in found]


@pytest.mark.parametrize("query", ["", "   ", "nothing like this", "sales zebra"])
def test_search_finds_nothing_where_there_is_nothing(world: World, query: str) -> None:
    assert world.reader().search(query).hits == ()


@pytest.mark.parametrize(
    "ask",
    [
        lambda r: r.product("salez"),
        lambda r: r.run("nope"),
        lambda r: r.services.page("customer-total"),
        lambda r: r.browser.open("salez"),
        lambda r: folder_page(r.browser.open("sales"), ref="gone", prefix="", after=""),
    ],
)
def test_what_is_not_there_is_not_found_with_a_hint(world: World, ask) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(NotFound):
        ask(world.reader())
