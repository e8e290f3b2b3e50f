"""The page of plans: steps with their outcome, whom they hit, what drifted; hostile words stay words."""

from __future__ import annotations

from tests.catalog.conftest import Browser, World

from tulle.spec.roles import role_name
from tulle.state import drift, plans
from tulle.state.drift import Finding

STEP = {
    "sentence": "update product 'sales'",
    "details": [
        {"sentence": "column '<b>day' is removed", "breaking": True, "hits": ["product 'people' reads it"]}
    ],
}


def record(world: World) -> plans.PlanRecord:
    made = plans.begin(
        world.database, "d" * 64, {"steps": [STEP]}, [("update", "sales")], actor="ann <script>"
    )
    plans.step_failed(world.database, made.id, 1, "no broker & no luck")
    return made


def test_a_plan_is_shown_with_what_it_changed_and_how_it_ended(world: World, browser: Browser) -> None:
    made = record(world)
    for path in ("/plans", "/products/sales/plans"):
        html = browser.get(path)
        assert f'id="plan-{made.id}"' in html
        assert "dddddddddddd" in html
        assert "update product &#39;sales&#39;" in html
        assert "column &#39;&lt;b&gt;day&#39; is removed" in html
        assert "→ product &#39;people&#39; reads it" in html
        assert "no broker &amp; no luck" in html
        assert "<script>" not in html.split("</head>")[1]
        assert len([part for part in html.split("<h1") if part]) == 2
    assert made.id not in browser.get("/products/people/plans")


def test_where_a_product_lives_is_told(browser: Browser) -> None:
    html = browser.get("/products/sales/plans")
    assert "tulle_" in html
    assert role_name("sales", "consumer") in html.replace("<wbr>", "")
    browser.get("/products/nothing/plans", 404)


def test_drift_is_on_the_product_s_page(world: World, browser: Browser) -> None:
    drift.save(
        world.database, {"sales": [Finding("file", "x", "'<i>x' lies in the repository", "remove it")]}
    )
    for path in ("/products/sales", "/products/sales/plans"):
        assert "&#39;&lt;i&gt;x&#39; lies in the repository" in browser.get(path)
    assert "lies in the repository" not in browser.get("/products/people")
