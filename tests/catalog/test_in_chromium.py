"""The pages of runs, data and schedules in a real browser, full of text that wants to be markup: wide, narrow, dark."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import uvicorn
from fastapi.staticfiles import StaticFiles
from playwright.sync_api import Page, sync_playwright
from tests.catalog.conftest import Browser, World
from tests.system.conftest import free_port
from tests.system.test_portal import ARGUMENTS, CHROMIUM, CONTRAST, NAMELESS

from tulle.catalog import look
from tulle.events import CONTRACT_APPROVED, Event
from tulle.gateway.policy import GatewayPolicy
from tulle.gateway.versions import pin
from tulle.gateway.versions.recorded import Versions
from tulle.pipeline import run as runs
from tulle.pipeline import run_end, schedule, step_record
from tulle.pipeline.run import Report
from tulle.pipeline.sources.fitting import REJECTED
from tulle.quality import kept_profiles
from tulle.quality.column_profile import ColumnProfile, DataSetProfile
from tulle.quality.verdict import CheckResult
from tulle.state import log
from tulle.state.db import now

HOSTILE = '<img src=x onerror="window.hurt=1"><script>window.hurt=1</script>'
LONG = "a_rather_long_name_without_any_place_to_break_it_" * 2
HOME = "/products/sales"

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(shutil.which(CHROMIUM) is None, reason="Chromium is not installed"),
]


def filled(world: World) -> list[str]:
    """Everything a page can show, with hostile text wherever somebody else's text may be; the paths to look at."""
    columns = (("amount", "string"), (HOSTILE, "string"), (LONG, "string"))
    report = Report(
        checks=(
            CheckResult(HOSTILE, "range", "sales", "error", False, 2, 3, HOSTILE, ({"amount": HOSTILE},)),
            CheckResult(LONG, "range", "sales", "warn", False, 1, 3, LONG),
        ),
        columns=columns,
        lineage={name: [["till_rows", name]] for name, _ in columns},
        log=(HOSTILE, LONG),
    )
    for going_on in (False, True):
        run_id = runs.request(world.database, "sales")
        steps = [("sales", "sql"), (LONG, "sql"), (HOSTILE, "python")]
        step_record.begin(world.database, run_id, branch="run", base_commit="c", steps=steps)
        run = runs.get(world.database, run_id)
        step_record.step_started(world.database, run, "sales")
        step_record.step_finished(
            world.database, run, "sales", runs.FAILED, rows=7, report=report, message=HOSTILE
        )
        step_record.step_started(world.database, run, LONG)
        step_record.step_started(world.database, run, HOSTILE)
        if not going_on:
            run_end.finish(world.database, run_id, runs.FAILED)
    profile = DataSetProfile(
        9,
        9,
        (
            ColumnProfile(
                "amount",
                "double",
                2,
                7,
                min=-5.0,
                max=1e12,
                mean=3.25,
                quantiles={"0.5": 1.0},
                top=({"value": HOSTILE, "count": 3}, {"value": LONG, "count": 2}),
                histogram=tuple({"from": n, "to": n + 1, "count": n % 7} for n in range(20)),
            ),
            ColumnProfile(HOSTILE, "string", 0, hidden=True),
        ),
    )
    with world.database.write() as cx:
        kept_profiles.keep(cx, "sales", "main", "sales", profile, identity="i", commit="c")
        for number, status in enumerate(("succeeded", "failed", "skipped", "waiting")):
            schedule.add_fire(
                cx,
                product=HOSTILE if status == "failed" else "sales",
                environment="main",
                domain="shop",
                reason="cron",
                fire_at=now() - number,
                status=status,
                message=HOSTILE,
            )
    rejected = [
        (f"column '{HOSTILE}' is '', expected a date", f"{LONG}.csv:{n}", json.dumps({HOSTILE: LONG}), run_id)
        for n in range(60)
    ]
    columns_of = [*zip(*rejected, strict=True), [datetime(2026, 1, 1)] * 60]  # noqa: DTZ001  as it is kept
    arrays = [pa.array(list(c), f.type) for c, f in zip(columns_of, REJECTED, strict=True)]
    file = world.settings.folder / "rows.parquet"
    pq.write_table(pa.table(arrays, REJECTED), file)
    repository = world.lake.repository("sales")
    repository.put("main", "till_rows__rejected/part-0000.parquet", file.read_bytes())
    repository.commit("main", "rows put aside")
    with world.database.write() as cx:
        log.append(cx, Event(CONTRACT_APPROVED, HOSTILE), actor=HOSTILE)
    Versions(world.database).note(GatewayPolicy())
    pin.put(world.database, 1, [], reason=f"{HOSTILE} {LONG}", by=LONG)
    return [
        "/",
        "/gateway",
        HOME,
        f"{HOME}/data-sets/sales",
        f"{HOME}/data-sets/till_rows",
        f"{HOME}/data-sets/sales/lineage",
        f"{HOME}/data-sets/sales/lineage?column=amount",
        f"{HOME}/data-sets/till_rows/rejected?page=2",
        f"{HOME}/quality",
        f"{HOME}/data-sets/nope",
        "/rejected",
        "/domains/shop",
        "/runs?product=sales",
        f"/runs/{run_id}",
        "/schedules",
        f"/schedules/calendar?day={datetime.now().astimezone().date().isoformat()}",
    ]


@pytest.fixture
def page(world: World) -> Iterator[Page]:
    """A browser on the world's pages, served on a port of their own."""
    app = Browser(world).app
    app.mount("/static", StaticFiles(directory=Path(look.FOLDER) / "static"))
    server = uvicorn.Server(uvicorn.Config(app, port=free_port(), log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
            context = browser.new_context(base_url=f"http://127.0.0.1:{server.config.port}")
            yield context.new_page()
            browser.close()
    finally:
        server.should_exit = True
        thread.join(10)


def test_hostile_text_stays_text_and_every_page_is_sound(world: World, page: Page) -> None:
    paths = filled(world)
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    for width, scheme in ((1280, "light"), (390, "dark")):
        page.set_viewport_size({"width": width, "height": 900})
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        for path in paths:
            where = f"{path} at {width}"
            answer = page.goto(path, wait_until="domcontentloaded")
            assert answer is not None
            assert answer.status < 500, where
            page.evaluate("document.querySelectorAll('details').forEach((fold) => { fold.open = true; })")
            wide = page.evaluate(
                "document.documentElement.scrollWidth - document.documentElement.clientWidth"
            )
            assert wide <= 0, f"{where}: {wide} pixels too wide"
            assert page.evaluate("window.hurt") is None, where
            assert page.evaluate("document.querySelectorAll('main img, main script').length") == 0, where
            assert page.evaluate(CONTRAST) == [], where
            assert page.evaluate(NAMELESS) == [], where
    assert wrong == []


def test_a_run_is_drawn_as_it_goes_on_and_told_to_screen_readers(world: World, page: Page) -> None:
    run_id = runs.request(world.database, "sales")
    step_record.begin(
        world.database, run_id, branch="run", base_commit="c", steps=[("a", "sql"), ("b", "sql")]
    )
    run = runs.get(world.database, run_id)
    step_record.step_started(world.database, run, "a")
    page.goto(f"/runs/{run_id}")
    page.locator(".gantt rect.running").wait_for()
    step_record.step_finished(world.database, run, "a", runs.SUCCEEDED, rows=3)
    step_record.step_started(world.database, run, "b")
    page.locator(".gantt rect.succeeded").wait_for()
    page.locator("#said", has_text="1 of 2 steps done").wait_for(state="attached")
    run_end.finish(world.database, run_id, runs.FAILED)
    page.locator("[data-ended=yes]").wait_for(state="attached")
    assert page.locator(".gantt rect.running").count() == 0
