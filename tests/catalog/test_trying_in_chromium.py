"""Trying a service in its page, in a real browser: where it goes, and what the answer tells of itself."""

from __future__ import annotations

import json
import shutil
import threading

import pytest
import uvicorn
import yaml
from fastapi.staticfiles import StaticFiles
from playwright.sync_api import expect, sync_playwright
from tests.catalog.conftest import Browser, World
from tests.system.conftest import free_port
from tests.system.test_portal import ARGUMENTS, CHROMIUM, CONTRAST, NAMELESS

from tulle.catalog import look
from tulle.catalog.trial import How, TryAnswer

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(shutil.which(CHROMIUM) is None, reason="Chromium is not installed"),
]
ANSWER = {
    "result": {"prediction": 1, "explanations": {"recency": -0.25, "<b>spend</b>": 0.5}},
    "timing": {"preProcessing": 12, "prediction": 30},
    "steps": [
        {"step": "profile", "status": 200, "microseconds": 40, "tries": 1},
        {"step": "price", "item": 2, "status": 503, "microseconds": 900, "tries": 3},
    ],
}


def test_it_goes_to_the_generation_and_the_answers_parts_are_drawn(world: World, browser: Browser) -> None:
    world.answer = TryAnswer(200, {"x-tulle-generation": "v1"}, json.dumps(ANSWER), 2.5)
    browser.app.mount("/static", StaticFiles(directory=look.FOLDER / "static"))
    server = uvicorn.Server(uvicorn.Config(browser.app, port=free_port(), log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        with sync_playwright() as playwright:
            opened = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
            for width, scheme in ((1280, "light"), (380, "dark")):
                page = opened.new_context(
                    base_url=f"http://127.0.0.1:{server.config.port}",
                    viewport={"width": width, "height": 800},
                    color_scheme=scheme,  # type: ignore[arg-type]
                ).new_page()
                page.goto("/services/customer-totals")
                page.locator("summary", has_text="Where it goes").click()
                page.get_by_label("Generation", exact=True).select_option("v1")
                page.get_by_label("Dispatch key").fill("user-7")
                page.get_by_label("Tell of each step").check()
                page.get_by_role("button", name="Send request").click()
                features = page.get_by_role("group", name="What each feature added")
                expect(features.get_by_role("row")).to_contain_text(["recency", "<b>spend</b>"])
                expect(features).to_contain_text("+0.5")
                expect(page.get_by_role("group", name="What it took")).to_contain_text("30 µs")
                expect(page.get_by_role("group", name="Steps")).to_contain_text("price [2]")
                expect(page.locator("[data-part=time]")).to_contain_text("by v1")
                page.locator("summary", has_text="As a test query").click()
                query = yaml.safe_load(page.locator("[data-part=query]").inner_text())
                assert query == [{"name": "a call that was tried", "data": {"customer": "ann"}}]
                page.locator("#try-body").fill('{"data": {"customer": 12345678901234567890}}')
                page.get_by_label("Action", exact=True).select_option("lookup-multi")
                expect(page.locator("#try-body")).to_have_value(
                    '{"data": {"customer": 12345678901234567890}}'
                )
                page.get_by_label("Action", exact=True).select_option("lookup")
                page.locator("#try-body").press("Control+Enter")
                expect(page.locator("[data-part=query]")).to_contain_text("12345678901234567890")
                assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
                assert page.evaluate(NAMELESS) == []
                assert page.evaluate(CONTRAST) == []
            opened.close()
    finally:
        server.should_exit = True
        thread.join(10)
    assert world.hows == [How("", "v1", "user-7", steps=True)] * 4
    assert world.called[-1][3] == b'{"data": {"customer": 12345678901234567890}}'
