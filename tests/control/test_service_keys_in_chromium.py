"""Making and revoking a key of a service on its page, in a real browser, with one's own access key."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import uvicorn
from playwright.sync_api import Page, expect, sync_playwright
from tests.control.test_apply import PRICES
from tests.control.test_approvals import Office
from tests.pipeline.conftest import Mesh
from tests.system.conftest import free_port
from tests.system.test_portal import ARGUMENTS, CHROMIUM, CONTRAST, NAMELESS

from tulle.control import service_access
from tulle.control.apply import apply_plan
from tulle.control.workspace import Workspace
from tulle.lake.access.people import AccessKey
from tulle.server.app import application
from tulle.server.lake_doors import lake_access

HOSTILE = '<img src=x onerror="document.title=1">'

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(shutil.which(CHROMIUM) is None, reason="Chromium is not installed"),
]


@dataclass
class Desk:
    """A page of a service that takes keys, and two people: one may write to its product."""

    workspace: Workspace
    page: Page
    people: dict[str, AccessKey]

    def sign_in(self, name: str) -> None:
        self.page.locator("details summary", has_text="Make or revoke a key").click()
        self.page.get_by_label("Access key id").fill(self.people[name].id)
        self.page.get_by_label("Secret access key").fill(self.people[name].secret)


@pytest.fixture
def desk(mesh: Mesh, workspace: Workspace) -> Iterator[Desk]:
    mesh.sales("services/sold.yaml", PRICES)
    apply_plan(workspace)
    service_access.set_access(workspace, "sold", "api_keys: true")
    access = lake_access(workspace.settings, workspace.database)
    people = {name: Office.user(access, name, f"{name}s".capitalize()) for name in ("developer", "viewer")}
    server = uvicorn.Server(
        uvicorn.Config(application(workspace.settings), port=free_port(), log_level="error")
    )
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
            page = browser.new_context(base_url=f"http://127.0.0.1:{server.config.port}").new_page()
            page.goto("/services/sold")
            yield Desk(workspace, page, people)
            browser.close()
    finally:
        server.should_exit = True
        thread.join(10)


def test_a_key_is_made_shown_once_and_revoked(desk: Desk) -> None:
    page = desk.page
    desk.sign_in("viewer")
    page.get_by_label("Label").fill("x")
    page.get_by_role("button", name="Make a key").click()
    expect(page.get_by_role("alert")).to_contain_text("fs:CreateCommit")
    page.get_by_role("button", name="Sign out").click()
    page.get_by_label("Access key id").fill(desk.people["developer"].id)
    page.get_by_label("Secret access key").fill(desk.people["developer"].secret)
    page.get_by_label("Label").fill(HOSTILE)
    page.get_by_label("Ends (").fill("30d")
    page.get_by_role("button", name="Make a key").click()
    shown = page.get_by_role("status")
    expect(shown).to_contain_text("Shown once: sold-key-")
    (key,) = service_access.keys(desk.workspace, "sold")
    assert (key.label, key.created_by) == (HOSTILE, "developer")
    assert key.expires_at is not None
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.evaluate(NAMELESS) == []
    assert page.evaluate(CONTRAST) == []
    page.reload()
    expect(page.get_by_text(key.id, exact=True)).to_have_count(1)
    expect(shown).to_be_hidden()
    page.locator("details summary", has_text="Make or revoke a key").click()  # signed in still
    page.once("dialog", lambda dialog: dialog.dismiss())
    page.get_by_role("button", name="Revoke").click()
    asked: list[str] = []
    page.once("dialog", lambda dialog: (asked.append(dialog.message), dialog.accept()))
    with page.expect_navigation():
        page.get_by_role("button", name="Revoke").click()
    assert f"({key.id}) is refused from now on, for good" in asked[0]
    page.wait_for_load_state()
    expect(page.get_by_text(key.id, exact=True)).to_have_count(0)
    assert [one.revoked_at is not None for one in service_access.keys(desk.workspace, "sold")] == [True]
    assert page.title() != "1"
