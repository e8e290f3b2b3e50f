"""Registering, asking, deciding and rotating on the portal's pages, in a real browser, each with a key of their own."""

from __future__ import annotations

import re
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
import uvicorn
from playwright.sync_api import Page, expect, sync_playwright
from tests.control.test_access_requests import OFFER
from tests.control.test_apply import PRICES
from tests.control.test_approvals import Office
from tests.pipeline.conftest import Mesh
from tests.system.conftest import free_port
from tests.system.test_portal import ARGUMENTS, CHROMIUM, CONTRAST, NAMELESS

from tulle.control.apply import apply_plan
from tulle.control.workspace import Workspace
from tulle.gateway import applications, contract_record
from tulle.lake.access.people import AccessKey
from tulle.server.app import application
from tulle.server.lake_doors import lake_access

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(shutil.which(CHROMIUM) is None, reason="Chromium is not installed"),
]


@dataclass
class Desk:
    """A page of the portal, and two people: `olga` may change the product, `tom` may not."""

    workspace: Workspace
    page: Page
    people: dict[str, AccessKey]
    wrong: list[str] = field(default_factory=list)

    def sign_in(self, name: str, form: str) -> None:
        there = self.page.get_by_role("form", name=form)
        there.get_by_label("Access key id").fill(self.people[name].id)
        there.get_by_label("Secret access key").fill(self.people[name].secret)


@pytest.fixture
def desk(mesh: Mesh, workspace: Workspace) -> Iterator[Desk]:
    mesh.sales("services/sold.yaml", PRICES + OFFER)
    apply_plan(workspace)
    access = lake_access(workspace.settings, workspace.database)
    people = {"olga": Office.user(access, "olga", "Developers"), "tom": Office.user(access, "tom", "Viewers")}
    server = uvicorn.Server(
        uvicorn.Config(application(workspace.settings), port=free_port(), log_level="error")
    )
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
            page = browser.new_context(base_url=f"http://127.0.0.1:{server.config.port}").new_page()
            made = Desk(workspace, page, people)
            page.on("pageerror", lambda error: made.wrong.append(str(error)))
            yield made
            browser.close()
    finally:
        server.should_exit = True
        thread.join(10)
    assert made.wrong == []


def test_the_way_from_the_registration_to_the_contract(desk: Desk) -> None:
    page, database = desk.page, desk.workspace.database
    page.goto("/applications")
    desk.sign_in("tom", "Register an application")
    register = page.get_by_role("form", name="Register an application")
    register.get_by_label("Name").fill("till")
    register.get_by_role("button", name="Register").click()
    expect(register.get_by_role("status")).to_contain_text("Shown once: till-")
    assert applications.get(database, "till").about.owners == ("tom",)

    page.goto("/applications/till")
    ask = page.get_by_role("form", name="Ask for access")
    ask.get_by_label("Tier").fill("gold")
    ask.get_by_label("What it is for").fill("the tills of our shops")
    ask.get_by_role("button", name="Ask").click()
    expect(ask.get_by_role("alert")).to_contain_text("they were not accepted")
    ask.get_by_label("Version of the terms").fill("1.0")
    ask.get_by_role("button", name="Ask").click()
    expect(page.get_by_role("group", name="Contracts")).to_contain_text("pending")
    rotate = page.get_by_role("form", name="Rotate the secret")
    rotate.get_by_role("button", name="Make a new secret").click()
    expect(rotate.get_by_role("status")).to_contain_text(re.compile(r"Shown once: till-.*~"))
    assert len(applications.get(database, "till").secrets) == 2

    page.goto("/access/requests")
    page.get_by_text("Decide", exact=True).click()
    decide = page.get_by_role("form", name="Decide on till for sold")
    decide.get_by_role("button", name="Approve").click()
    expect(decide.get_by_role("alert")).to_contain_text("user 'tom' may not approve")
    decide.get_by_role("button", name="Sign out").click()
    desk.sign_in("olga", "Decide on till for sold")
    decide.get_by_label("Tier", exact=True).select_option("partner")
    decide.get_by_role("button", name="Approve").click()
    expect(page.get_by_text("Nothing waits.")).to_be_visible()
    (record,) = contract_record.records(database, application="till")
    assert (record.state, record.tier, record.decided_by) == ("approved", "partner", "olga")
    expect(page.get_by_role("group", name="Decided requests")).to_contain_text("500/1s")
    page.goto("/access")
    expect(page.get_by_role("group", name="Who may use what")).to_contain_text("the tills of our shops")
    for address in ("/applications", "/applications/till", "/access/requests", "/access"):
        page.goto(address)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), address
        assert page.evaluate(NAMELESS) == []
        assert page.evaluate(CONTRAST) == []
