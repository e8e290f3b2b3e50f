"""The jobs of a run over time: bars where the jobs were, in the picture and on the page while it goes on."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st
from tests.catalog.conftest import Browser, World

from tulle.catalog.gantt import LABEL, WIDTH, gantt
from tulle.catalog.history import RunView, StepView
from tulle.catalog.output import MOST_BYTES
from tulle.pipeline import run as runs
from tulle.pipeline import step_record
from tulle.pipeline.worker import log_file


def step(name: str, start: float | None, end: float | None, status: str = "succeeded") -> StepView:
    return StepView(name, "sql", status, start, end, "", None, "", (), (), {}, {}, (), ())


def run(*steps: StepView) -> RunView:
    return RunView("r", "p", "main", "succeeded", 0.0, 0.0, None, "", "", "", None, steps)


def test_bars_lie_where_the_jobs_were() -> None:
    drawn = gantt(run(step("a", 10, 20), step("b", 15, 30), step("later", None, None, "waiting")))
    assert drawn is not None
    a, b = drawn.bars
    assert a.x == LABEL
    assert b.x == round(a.x + a.width / 2, 1)
    assert b.x + b.width <= WIDTH
    assert b.words == "b: succeeded, from 5.0 s on, for 15.0 s"
    assert drawn.words == "2 of 3 steps over 20.0 s; the longest, b, took 15.0 s"
    assert gantt(run(step("a", None, None, "waiting"))) is None


@given(st.lists(st.tuples(st.floats(0, 1e9), st.floats(0, 1e6)), min_size=1, max_size=30))
def test_everything_stays_inside(times: list[tuple[float, float]]) -> None:
    drawn = gantt(run(*(step(f"s{n}", start, start + length) for n, (start, length) in enumerate(times))))
    assert drawn is not None
    for bar in drawn.bars:
        assert LABEL <= bar.x <= bar.x + bar.width <= WIDTH
        assert bar.y + bar.height <= drawn.height
    assert 1 <= len(drawn.ticks) <= 7
    assert all(tick.x <= WIDTH for tick in drawn.ticks)


def test_a_run_that_goes_on_is_drawn_up_to_now(world: World, browser: Browser) -> None:
    run_id = runs.request(world.database, "sales")
    assert 'class="gantt"' not in browser.get(f"/runs/{run_id}")  # nothing has begun
    step_record.begin(
        world.database, run_id, branch="run", base_commit="c", steps=[("a<b>", "sql"), ("z", "sql")]
    )
    step_record.step_started(world.database, runs.get(world.database, run_id), "a<b>")
    html = browser.get(f"/runs/{run_id}/progress")
    assert 'class="gantt"' in html
    assert '<rect class="running"' in html
    assert "<b>" not in html
    assert re.search(r'data-said="queued, 0 of 2 steps done"', html)


def test_what_the_process_wrote_is_shown_where_nobody_is_named(world: World, browser: Browser) -> None:
    wrote = {}
    for product in ("people", "sales"):  # sales has a column that names people
        wrote[product] = runs.request(world.database, product)
        file = log_file(world.settings, wrote[product])
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(b"x" * MOST_BYTES + b"<b>the end</b> \xff of " + product.encode())
    shown = browser.get(f"/runs/{wrote['people']}")
    assert "&lt;b&gt;the end&lt;/b&gt; \ufffd of people" in shown
    assert "the end of it" in shown
    hidden = browser.get(f"/runs/{wrote['sales']}/progress")
    assert "the end&lt;/b&gt;" not in hidden
    assert f"tulle logs run-{wrote['sales']}" in hidden
