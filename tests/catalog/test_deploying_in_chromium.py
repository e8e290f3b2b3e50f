"""Sharing a service's traffic in its page, in a real browser, with people's own access keys."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import uvicorn
from playwright.sync_api import Browser, Page, expect, sync_playwright
from tests.catalog.conftest import MESH, World, open_world
from tests.catalog.test_service_deployments import HOME, NAME, again
from tests.control.test_approvals import Office
from tests.system.conftest import free_port
from tests.system.test_portal import ARGUMENTS, CHROMIUM, CONTRAST, NAMELESS

from tulle.lake.access.people import AccessKey
from tulle.server.app import application
from tulle.server.lake_doors import lake_access
from tulle.serving import generation
from tulle.serving.traffic import single, split

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(shutil.which(CHROMIUM) is None, reason="Chromium is not installed"),
]
CAREFUL = "environments:\n  test: {fallback: prod, approvers: [ann, bob], approvals: 1}\n  prod: {deployers: [ann]}\n"


@dataclass
class Desk:
    """A mesh with two versions of a service, whose pages a browser can open, each at a tab of its own."""

    world: World
    browser: Browser
    address: str
    keys: dict[str, AccessKey]

    def tab(self, path: str = HOME, **how: object) -> Page:
        context = self.browser.new_context(base_url=self.address, **how)  # type: ignore[arg-type]
        context.set_default_timeout(30_000)
        page = context.new_page()
        page.on("dialog", lambda dialog: dialog.accept())
        page.goto(path)
        return page

    def sign_in(self, page: Page, form: str, name: str) -> None:
        key = self.keys[name]
        asked = page.get_by_role("form", name=form) if form != "traffic" else page.locator("form.traffic")
        asked.get_by_label("Access key id").fill(key.id)
        asked.get_by_label("Secret access key").fill(key.secret)


@pytest.fixture
def desk(built_mesh: Path, tmp_path: Path) -> Iterator[Desk]:
    folder = tmp_path / "mesh"
    shutil.copytree(built_mesh, folder)
    (folder / "mesh.yaml").write_text(MESH + CAREFUL)
    world = open_world(folder)
    world.apply()
    again(world)
    access = lake_access(world.settings, world.database)
    keys = {name: Office.user(access, name, "Developers") for name in ("ann", "bob", "zoe")}
    app = application(world.settings)
    server = uvicorn.Server(uvicorn.Config(app, port=free_port(), log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
            yield Desk(world, browser, f"http://127.0.0.1:{server.config.port}", keys)
            browser.close()
    finally:
        server.should_exit = True
        thread.join(10)
        app.state.close()
        world.database.close()


def test_traffic_is_shared_with_the_keyboard_and_the_page_follows(desk: Desk) -> None:
    database = desk.world.database
    page = desk.tab()
    desk.sign_in(page, "traffic", "ann")
    slide = page.get_by_role("slider", name="Share of v2")
    slide.focus()
    for _ in range(10):
        page.keyboard.press("ArrowRight")
    expect(page.get_by_label("v1", exact=True)).to_have_value("90")
    expect(page.locator("[data-part=sum]")).to_contain_text("make 100 %")
    page.get_by_label("Sticky").check()
    page.get_by_label("Test queries that fail then").select_option("go back to what answers now")
    page.get_by_role("button", name="Put it in force").press("Enter")
    expect(page.locator("[data-part=done]")).to_contain_text("It is asked for")
    wanted = split({"v1": 0.9, "v2": 0.1}, sticky=True)
    assert generation.deployment(database, NAME).desired == wanted
    assert generation.deployment(database, NAME).test_queries == "rollback"
    expect(page.locator("#state")).to_contain_text("starting")
    generation.activate(database, NAME, wanted)
    expect(page.locator("#state")).to_contain_text("split by a key")
    generation.request(database, NAME, "v2")
    generation.fail(database, NAME, "v2", "it would not start")
    expect(page.get_by_role("alert").first).to_contain_text("it would not start")


def test_what_somebody_else_changed_is_not_written_over(desk: Desk) -> None:
    database = desk.world.database
    page = desk.tab()
    desk.sign_in(page, "traffic", "ann")
    page.get_by_label("v2", exact=True).fill("100")
    page.get_by_label("v2", exact=True).press("Tab")
    expect(page.get_by_label("v1", exact=True)).to_have_value("0")
    generation.request(database, NAME, split({"v1": 0.5, "v2": 0.5}))
    expect(page.get_by_text("Something else is wanted by now")).to_be_visible()
    page.get_by_role("button", name="Put it in force").click()
    expect(page.locator("form.traffic [data-part=said]")).to_contain_text("by now, not by 'v1'")
    assert generation.deployment(database, NAME).desired == split({"v1": 0.5, "v2": 0.5})


def test_a_way_back_that_is_not_the_one_shown_is_not_taken(desk: Desk) -> None:
    database = desk.world.database
    generation.request(database, NAME, "v2")
    generation.activate(database, NAME, "v2")
    page = desk.tab()
    page.route("**/deployments/state*", lambda route: route.abort())  # it is not told in time
    generation.request(database, NAME, split({"v1": 0.5, "v2": 0.5}))
    desk.sign_in(page, "Switch", "ann")
    page.get_by_role("button", name="Go back to v1").click()
    expect(page.get_by_role("form", name="Switch").get_by_role("alert")).to_contain_text("look at it again")
    assert generation.deployment(database, NAME).desired == split({"v1": 0.5, "v2": 0.5})
    page.reload()
    with page.expect_navigation():
        page.get_by_role("button", name="Go back to v2").click()
    assert generation.deployment(database, NAME).desired == single("v2")  # what was asked for is taken back


def test_a_page_that_is_not_followed_any_more_says_so(desk: Desk) -> None:
    page = desk.tab()
    expect(page.locator("#state")).to_contain_text("one answers")
    page.route("**/deployments/state*", lambda route: route.abort())
    told = page.get_by_text("The mesh does not answer: what is shown here is of")
    expect(told).to_be_visible(timeout=30_000)  # three times, a little slower each time
    page.unroute("**/deployments/state*")
    expect(told).to_have_count(0, timeout=30_000)


def test_who_may_not_is_refused_and_the_rest_is_done(desk: Desk) -> None:
    database = desk.world.database
    page = desk.tab()
    desk.sign_in(page, "Switch", "zoe")
    page.get_by_role("button", name="Disable").click()
    expect(page.get_by_role("form", name="Switch").get_by_role("alert")).to_contain_text(
        "'zoe' may not deploy services to 'prod'"
    )
    page = desk.tab()
    desk.sign_in(page, "Switch", "ann")
    with page.expect_navigation():
        page.get_by_role("button", name="Preload v2").click()
    assert generation.deployment(database, NAME).desired.preloaded == ("v2",)
    with page.expect_navigation():
        page.get_by_role("button", name="Disable").click()
    expect(page.locator("#state")).to_contain_text("It is disabled")
    page.get_by_label("at least").fill("2")
    with page.expect_navigation():
        page.get_by_role("button", name="Set").click()
    assert generation.deployment(database, NAME).bounds.floor == 2
    page.get_by_label("on", exact=True).fill("2999-12-31")
    with page.expect_navigation():
        page.get_by_role("button", name="Tell its callers").click()
    expect(page.locator("#state")).to_contain_text("It ends at 2999-12-31")
    with page.expect_navigation():
        page.get_by_role("button", name="It does not end after all").click()
    assert generation.deployment(database, NAME).ending is None


def test_what_waits_is_approved_by_somebody_else(desk: Desk) -> None:
    page = desk.tab(f"{HOME}?environment=test")
    desk.sign_in(page, "traffic", "ann")
    with page.expect_navigation():
        page.get_by_role("button", name="Ask for it").click()
    expect(page.locator("#waiting")).to_contain_text("asked for by ann")
    assert generation.find(desk.world.database, NAME, "test") is None
    page = desk.tab(f"{HOME}?environment=test")
    page.locator("summary", has_text="Approve or refuse").click()
    desk.sign_in(page, "Decide on v2", "bob")
    with page.expect_navigation():
        page.get_by_role("button", name="Approve", exact=True).click()
    assert generation.deployment(desk.world.database, NAME, "test").desired == single("v2")
    expect(page.locator("#history")).to_contain_text("approved by bob")


@pytest.mark.parametrize(
    "how",
    [
        {"viewport": {"width": 1280, "height": 900}},
        {"viewport": {"width": 380, "height": 800}, "color_scheme": "dark"},
    ],
)
def test_the_page_is_readable_and_named_wide_and_narrow(desk: Desk, how: dict[str, object]) -> None:
    wrong: list[str] = []
    page = desk.tab(**how)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.reload()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.evaluate(NAMELESS) == []
    assert page.evaluate(CONTRAST) == []
    assert wrong == []
