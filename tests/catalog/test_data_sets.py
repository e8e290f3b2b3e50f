"""The pages of one data set: what it is, how its rows grew, and each column from its source to its consumers."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from tests.catalog.conftest import Browser, World

from tulle.catalog.column_lineage import MOST_COLUMNS, around, box_of, column_flow
from tulle.catalog.data_sets import row_counts
from tulle.catalog.history import Findings, StepView
from tulle.catalog.lineage import Graph, draw
from tulle.catalog.product import End, endings
from tulle.pipeline import run as runs
from tulle.pipeline import run_end, step_record
from tulle.pipeline.run import Report
from tulle.quality import kept_profiles
from tulle.quality.column_profile import ColumnProfile, DataSetProfile
from tulle.spec.product import DataProduct, DataSet, OutputPort

DAY = "/products/sales/data-sets/sales"
PAGES = [DAY, f"{DAY}/lineage", f"{DAY}/lineage?column=amount", "/products/people/data-sets/totals/lineage"]


def words(graph: Graph) -> set[str]:
    return {curve.words for curve in draw(graph).curves}


def made(name: str, kind: str = "sql", **columns: tuple[tuple[str, str], ...]) -> StepView:
    told = tuple((column, "string") for column in columns)
    return StepView(name, kind, "succeeded", 1, 2, "", 1, "", (), (), {}, columns, (), (), told)


@pytest.mark.parametrize("path", PAGES)
def test_the_pages_keep_to_the_rules(browser: Browser, path: str) -> None:
    html = browser.get(path)
    ids = re.findall(r'\sid="([^"]+)"', html)
    assert len(ids) == len(set(ids))
    assert len(re.findall(r"<h1[ >]", html)) == 1
    assert "@x.org" not in html
    assert not re.search(r"\sstyle=", html.split("<main")[1].replace("svg style", "svg"))
    for link in set(re.findall(r'href="(/products[^"]*)"', html)):
        assert browser.client.get(link.replace("&amp;", "&")).status_code == 200, link


def test_a_column_is_followed_from_its_file_to_the_service(browser: Browser) -> None:
    html = browser.get("/products/people/data-sets/totals/lineage?column=total")
    for step in (
        "sales.csv: amount → till_rows: amount",
        "till_rows: amount → sales: amount",
        "sales: amount → totals: total",
        "totals: total → total",
        "total → web-shop",
    ):
        assert step in html
    assert "customer →" not in html
    assert f'href="{DAY}/lineage?column=amount"' in html


def test_a_data_set_tells_how_its_rows_grew(world: World, browser: Browser) -> None:
    assert "the last 1 run<" in browser.get(DAY)
    file = world.settings.folder / "products/shop/sales/data/sales.csv"
    file.write_text(file.read_text() + "4,cyd,c@x.org,9\n")
    run = world.run("sales")
    assert [(one.rows, one.message) for one in row_counts(world.database, "sales", "sales")] == [
        (3, "3 rows"),
        (4, "4 rows, +1"),
    ]
    html = browser.get(DAY)
    assert 'aria-label="rows of sales: the last 2 results, from 3 to 4"' in html
    assert f"/runs/{run.id}" in html
    assert row_counts(world.database, "sales", "sales", "dev") == ()


@pytest.mark.parametrize("path", ["/products/sales", "/products/sales/data-sets/sales"])
def test_the_end_of_a_port_is_told_where_its_rows_are(browser: Browser, path: str) -> None:
    html = browser.get(path)
    assert "<strong>The output port old sales files ends on 2027-06-30.</strong>" in html
    assert 'Read <a href="/products/sales/data-sets/sales">sales files</a> instead.' in html


def test_how_long_before_an_end_readers_are_told_is_part_of_the_agreement(browser: Browser) -> None:
    assert "Whoever reads it is told 60 days before it ends." in browser.get("/products/sales")


def test_what_is_deprecated_without_a_day_says_so() -> None:
    sales = DataSet("sales", "sales", "", deprecated=True, replaced_by="the ledger")
    product = DataProduct(
        "shop", "shop", "trade", "", data_sets=(sales,), output_ports=(OutputPort("all", "All", "", "sales"),)
    )
    assert endings(product, sales) == (End("This data set", "", "the ledger"),)


def test_what_lies_between_is_told_but_no_value_of_it(browser: Browser) -> None:
    html = browser.get("/products/sales/data-sets/till_rows")
    assert "not declared" in html
    assert "decimal(10,2)" in html
    assert "10.50" not in html


def test_what_a_step_told_is_text_and_never_markup(world: World, browser: Browser) -> None:
    run_id = runs.request(world.database, "sales")
    step_record.begin(world.database, run_id, branch="run", base_commit="c", steps=[("sales", "sql")])
    odd = '<script>alert("x")</script>&'
    report = Report(columns=((odd, "string"),), lineage={odd: [["till_rows", odd]]})
    run = runs.get(world.database, run_id)
    step_record.step_started(world.database, run, "sales")
    step_record.step_finished(world.database, run, "sales", runs.SUCCEEDED, rows=1, report=report)
    run_end.finish(world.database, run_id, runs.SUCCEEDED)
    html = browser.get(f"{DAY}/lineage")
    assert "<script>alert" not in html
    assert "&lt;script&gt;alert" in html


def test_a_view_is_called_so_and_not_unpublished_or_without_rows(world: World, browser: Browser) -> None:
    model = world.settings.folder / "products/shop/sales/transform/some.sql"
    model.write_text("-- kind: view\nSELECT id FROM sales\n")
    assert world.run("sales").status == "succeeded"
    html = browser.get("/products/sales/data-sets/some")
    assert '<span class="badge">view</span>' in html
    assert "A view keeps no rows: it is computed where a model reads it." in html
    assert "Nothing of it is published" not in html
    assert "0 rows" not in html
    assert row_counts(world.database, "sales", "some") == ()


def test_an_environment_that_has_nothing_says_what_to_do(world: World, browser: Browser) -> None:
    world.lake.repository("people").create_branch("dev", "main")
    html = browser.get("/products/people/data-sets/totals?environment=dev")
    assert "tulle run people -e dev" in html
    assert 'href="/products/people/data-sets/totals?environment=dev" aria-current="page"' in html
    assert "did you mean &#39;dev&#39;" in browser.get(
        "/products/people/data-sets/totals?environment=den", status=404
    )


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("/products/sales/data-sets/salez", "did you mean &#39;sales&#39;"),
        (f"{DAY}/lineage?column=amonut", "did you mean &#39;amount&#39;"),
        ("/products/salez/data-sets/sales", "did you mean &#39;sales&#39;"),
    ],
)
def test_what_is_not_there_has_a_hint(browser: Browser, path: str, hint: str) -> None:
    assert hint in browser.get(path, status=404)


def test_before_a_run_nothing_is_known_and_the_page_says_how_to_know(applied: World) -> None:
    with Browser(applied) as browser:
        assert "tulle run sales" in browser.get(f"{DAY}/lineage")
        assert "tulle run people" in browser.get("/products/people/data-sets/totals")


# ── what is made from what ───────────────────────────────────────────────────────────────────────────────


def product(name: str) -> DataProduct:
    return DataProduct(name, name, "d", "")


def test_a_program_takes_all_of_what_it_reads() -> None:
    steps = {"b": made("b", x=(("a", "p"),)), "c": made("c", "python", y=(("b", ""),))}
    flow = column_flow([product("one")], {"one": Findings((), steps)}, ())
    assert words(around(flow, box_of("one", "c"), "y").graph) == {"b → c: y", "a → b"}
    assert words(around(flow, box_of("one", "a"), "p").graph) == {"a: p → b: x", "b: x → c: y"}


def test_answers_come_from_the_endpoint_too() -> None:
    said = {"of-it/known": {"service": "of-it", "package": "v1 0123"}}
    step = replace(made("b", "score", x=(("a", "x"),), y=(("a", "x"),)), inputs=said)
    flow = column_flow([product("one")], {"one": Findings((), {"b": step})}, ())
    assert words(around(flow, box_of("one", "b"), "x").graph) == {"a: x → b: x"}
    assert words(around(flow, box_of("one", "b"), "y").graph) == {"a: x → b: y", "known → b: y"}


def test_circles_end_and_a_picture_stays_small() -> None:
    count = MOST_COLUMNS + 50
    chain = {f"s{n}": made(f"s{n}", x=((f"s{(n - 1) % count}", "x"),)) for n in range(count)}
    flow = column_flow([product("one")], {"one": Findings((), chain)}, ())
    found = around(flow, box_of("one", "s0"), "x")
    assert found.is_cut
    assert len(found.graph.boxes) == MOST_COLUMNS


# ── profiles ─────────────────────────────────────────────────────────────────────────────────────────────


def kept(world: World, commit: str, *columns: ColumnProfile, rows: int = 10) -> None:
    with world.database.write() as cx:
        found = DataSetProfile(rows, rows, columns)
        kept_profiles.keep(cx, "sales", "main", "sales", found, identity=commit, commit=commit, run="r")


def test_a_profile_shows_what_values_look_like(world: World, browser: Browser) -> None:
    assert "tulle profile sales sales" in browser.get(DAY)
    odd = "<script>alert(1)</script>"
    kept(world, "c1", ColumnProfile("amount", "double", 1, min=0.0, max=4.0))
    kept(
        world,
        "c2",
        ColumnProfile(
            "amount",
            "double",
            3,
            distinct=7,
            min=0.5,
            max=4.0,
            mean=2.25,
            quantiles={"0.5": 2.0},
            histogram=({"from": 0.5, "to": 2.0, "count": 4}, {"from": 2.0, "to": 4.0, "count": 2}),
        ),
        ColumnProfile("customer", "string", 0, 2, distinct_exact=True, top=({"value": odd, "count": 6},)),
        ColumnProfile("email", "string", 0, min="who@x.org", top=({"value": "who@x.org", "count": 1},)),
        ColumnProfile("undeclared", "string", 0, min="who@x.org"),
    )
    html = browser.get(DAY)
    assert "30 %" in html
    assert "was 10 %" in html
    assert "≈ 7" in html
    assert 'aria-label="amount: from 0.5 to 4"' in html
    assert "<title>4 from 0.5 to 2</title>" in html
    assert "60 %" in html
    assert "<script>alert" not in html
    assert "who@x.org" not in html  # kept when nothing was said of it: what the product says now counts


def test_a_profile_of_nothing(world: World, browser: Browser) -> None:
    kept(
        world,
        "c1",
        ColumnProfile("amount", "double", 0, histogram=({"from": 0, "to": 1, "count": 0},)),
        rows=0,
    )
    assert "0 %" in browser.get(DAY)
