"""The page of a product's quality: every check over time, drawn, in each environment it was judged in."""

from __future__ import annotations

import re

import pytest
from tests.catalog.conftest import Browser, World

from tulle.catalog.quality import HEIGHT, WIDTH, chart, quality_page
from tulle.errors import NotFound
from tulle.pipeline import run as runs
from tulle.pipeline.execute import execute
from tulle.quality.history import Outcome, record
from tulle.quality.verdict import CheckResult
from tulle.spec.mesh import load_mesh

PAGE = "/products/sales/quality"


def outcome(value: float, *, passed: bool = True) -> Outcome:
    return Outcome(
        "p", "main", "d", "c", "range", "error", passed, int(value), 9, value, "", "<b>said", "r", 1.0
    )


def keep(world: World, run: str, *results: CheckResult, environment: str = "main") -> None:
    with world.database.write() as cx:
        record(cx, "sales", environment, run, results)


def test_every_check_is_drawn_with_its_results(world: World, browser: Browser) -> None:
    for n in range(6):
        found = CheckResult(
            "odd <ones>", "range", "sales", "error", n < 5, n, 3 + n, "some <i>rows</i>", value=float(n)
        )
        keep(world, f"r{n}", found)
    html = browser.get(PAGE)
    assert "<ones>" not in html
    assert "<i>rows" not in html
    assert "odd &lt;ones&gt;" in html
    assert "6 results, 1 not passed" in html
    assert len(re.findall(r'<circle class="failed"', html)) >= 1
    assert 'aria-label="rows of sales: the last 6 results, from 3 to 8"' in html
    assert "id is the key" in html
    page = quality_page(world.database, "sales")
    sales = next(d for d in page.data_sets if d.name == "sales")
    assert sales.checks[0].name == "odd <ones>"  # what fails comes first
    assert page.count("failed") == 1


def test_the_page_keeps_to_the_rules_and_is_linked(browser: Browser) -> None:
    html = browser.get(PAGE)
    ids = re.findall(r'\sid="([^"]+)"', html)
    assert len(ids) == len(set(ids))
    assert "@x.org" not in html
    assert not re.search(r"\sstyle=", html.split("<main")[1])
    assert f'href="{PAGE}"' in browser.get("/products/sales")


def test_environments_are_apart(world: World, browser: Browser) -> None:
    keep(world, "r1", CheckResult("there", "range", "sales", "warn", False, 1, 3, "said"), environment="dev")
    assert 'href="?environment=dev"' in browser.get(PAGE)
    assert ">there<" not in browser.get(PAGE)
    assert "only warns" in browser.get(f"{PAGE}?environment=dev")
    with pytest.raises(NotFound) as caught:
        quality_page(world.database, "sales", "devv")
    assert caught.value.hint == "did you mean 'dev'?"


def test_nothing_judged_says_what_to_do(applied: World) -> None:
    html = Browser(applied).get(PAGE)
    assert "tulle check sales" in html
    assert Browser(applied).client.get("/products/nobody/quality").status_code == 404


@pytest.mark.parametrize(
    ("values", "low"),
    [([1.0], 1.0), ([0.0, 0.0], 0.0), ([5.0, 100.0], 5.0), ([99.0, 100.0], 99.0), ([-3.0, 9.0], -3.0)],
)
def test_a_chart_stays_in_its_box(values: list[float], low: float) -> None:
    made = chart(values, [outcome(value) for value in values])
    assert made.low == low
    assert all(0 <= dot.x <= WIDTH and 0 <= dot.y <= HEIGHT for dot in made.dots)
    assert len(made.line.split()) == len(values)
    heights = [dot.y for dot in made.dots]
    assert heights == sorted(heights, reverse=True) or values == sorted(values, reverse=True)


def test_looking_again_is_told_here_and_not_on_the_products_page(world: World) -> None:
    before = world.reader().product("sales").findings
    run_id = runs.request(world.database, "sales", options={"only": "checks"})
    found = execute(world.database, world.lake, load_mesh(world.settings.folder), run_id)
    assert found.status == "unchanged", found.error
    assert {check.last.run for check in world.reader().quality("sales").checks} == {run_id}
    assert world.reader().product("sales").findings == before
