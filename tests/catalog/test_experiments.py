"""The page of experiments: chosen by hand, compared side by side, drawn over each other."""

from __future__ import annotations

import re

from tests.catalog.conftest import Browser, World
from tests.catalog.test_models import CURVES, DOCUMENT, put_model

from tulle.catalog.curves_compared import overlaid, side_by_side
from tulle.pipeline import experiment

HOME = "/products/people/experiments"


def put_experiment(world: World, name: str, **said: object) -> None:
    document = {**DOCUMENT, "data_commit": "c" * 64, "asked": {"seed": 0}, "run": name, **said}
    with world.database.write() as cx:
        experiment.record(cx, name, "people", "main", "d" * 64, document)


def words_of(page: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", page))


def test_some_are_chosen_and_compared(browser: Browser) -> None:
    assert "None yet" in browser.get(HOME)
    put_model(browser.world)
    assert "There is one so far" in browser.get(HOME)
    assert "Compare those chosen" not in browser.get("/products/people/models/spends")
    put_experiment(
        browser.world,
        "20261122-120000001-beef",
        metrics={"roc_auc": 0.95},
        asked={"seed": 3, "features": ["<b>x</b>", "y"]},
        leaderboard=[{"kind": "rf", "score": 0.9, "tried": 1, "parameters": {"max_features": 0.5236}}],
    )
    put_experiment(browser.world, "20261122-120000002-beef", curves={}, importance=[])
    page = browser.get("/products/people/models/spends")
    ids = re.findall(r'name="id" value="([^"]+)" aria-label="[^"]+"( checked)?', page)
    assert ids == [
        ("20261122-120000002-beef", " checked"),
        ("20261122-120000001-beef", " checked"),
        ("0123456789abcdef", ""),
    ]
    assert ">20261122-120000001-beef</a>" in page  # a part of it would be that of all runs of a day
    page = browser.get(f"{HOME}?id=0123456789abcdef&id=20261122-120000001-beef&id=20261122-120000002-beef")
    words = words_of(page)
    assert "3 experiments compared" in words
    assert "roc_auc 0.91 0.95 best 0.91" in words
    assert "seed – 3 0" in words
    assert "features – &lt;b&gt;x&lt;/b&gt;, y –" in words
    assert "max_features – 0.5236 –" in words
    assert page.count('class="card plot over-each-other"') == 3
    assert page.count('<polyline class="of-1"') == 3
    assert '<polyline class="of-2"' not in page
    assert f'title="commit {"c" * 64}"' in page
    assert "did not learn from the same rows" in words
    assert words_of(browser.get(f"{HOME}?id=0123456789abcdef")).count("it takes two to compare") == 1


def test_what_cannot_be_compared_is_told(browser: Browser) -> None:
    put_model(browser.world)
    assert "has no experiment" in browser.get(f"{HOME}?id=0123456789abcdef&id=%3Cb%3E", 404)
    browser.get("/products/peoples/experiments", 404)
    for number in range(9):
        put_experiment(browser.world, f"e{number}")
    chosen = "&".join(f"id=e{number}" for number in range(9))
    assert "choose from 2 to 8" in browser.get(f"{HOME}?{chosen}", 422)


def test_curves_share_their_axes() -> None:
    one = {
        "residuals": {"edges": [-2.0, 0.0, 2.0], "counts": [3, 1]},
        "predicted": {"x": [0, 10], "y": [1, 9]},
    }
    curves = {
        name: [CURVES.get(name), None, one.get(name)] for name in (*CURVES, *one) if name != "confusion"
    }
    charts = overlaid(curves)
    assert [chart.title for chart in charts] == ["ROC", "Precision and recall", "Calibration", "Residuals"]
    assert [[number for number, _ in chart.lines] for chart in charts] == [[0], [0], [0], [2]]
    assert charts[3].words == "Residuals of C: share of rows over true less predicted"
    for chart in charts:
        for number, line in chart.lines:
            for x, y in (map(float, point.split(",")) for point in line.split()):
                assert 34 <= x <= 300, (chart.title, number)
                assert 0 <= y <= 196, (chart.title, number)
    shared = {"predicted": [{"x": [0, 10], "y": [1, 9]}, {"x": [0, 100], "y": [0, 100]}]}
    (_, small), (_, large) = side_by_side(shared)
    assert small.ticks_across == large.ticks_across
    assert overlaid({}) == ()
    assert side_by_side({}) == ()
