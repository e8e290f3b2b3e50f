"""The Exchange in a real browser, with an API tried through the real gateway: wide, narrow, dark, by keyboard."""

from __future__ import annotations

import json
import shutil
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import uvicorn
from playwright.sync_api import Page, expect, sync_playwright
from tests.control.bazaar import Bazaar
from tests.gateway.conftest import PLENTY, SECRETS
from tests.gateway.conftest import Mesh as RunningGateway
from tests.system.test_portal import ARGUMENTS, CHROMIUM, CONTRAST, NAMELESS

from tulle.gateway import service_keys
from tulle.gateway.apis import records, remarks
from tulle.gateway.apis.instance import instances, managed_instances
from tulle.gateway.envoy import Gateway
from tulle.gateway.policy import Client, Contract, GatewayPolicy
from tulle.gateway.secret import hash_secret

HOSTILE = '<img src=x onerror="window.hurt=1"><script>window.hurt=1</script>' + "x" * 90
API = "/exchange/apis/orders?version=v1"
ODD = f"{HOSTILE} שלום \u202e 😀 {'y' * 400}"
ODD_DOCUMENT = {
    "openapi": "3.1.0",
    "info": {"title": "odd", "version": "1", "description": f"{ODD}\n\n```\n{ODD}\n```\n"},
    "paths": {
        "/" + "y" * 200 + "/{" + "p" * 80 + "}": {
            "get": {
                "summary": ODD,
                "description": ODD,
                "parameters": [{"name": "p" * 80, "in": "path", "required": True, "description": ODD}],
                "responses": {"200": {"description": ODD, "content": {"text/plain": {"example": ODD}}}},
            }
        },
    },
}
ODD_API = {
    "api": "odd",
    "title": ODD[:100],
    "summary": ODD[:500],
    "contact": {"name": ODD[:100], "url": "https://example.com/" + "u" * 150},
    "terms": {"version": "1", "text": ODD},
    "tiers": [{"name": "free", "limits": ["10/1s"], "description": ODD[:300]}],
    "versions": [{"version": "v1", "openapi": "odd.openapi.yaml", "mock": True, "publish": True}],
}
KEYED_API = {
    "api": "keyed",
    "versions": [
        {
            "version": "v1",
            "openapi": "keyed.openapi.yaml",
            "mock": True,
            "publish": True,
            "policies": [
                {"policy": "api-key", "header": "x-shop-key", "query": "shop_key"},
                {"policy": "client-id", "query": True, "operations": [{"method": "GET", "path": "/file"}]},
            ],
        }
    ],
}
PICTURE = {"200": {"description": "a picture", "content": {"image/png": {"example": "a picture"}}}}
KEYED_DOCUMENT = {
    "openapi": "3.1.0",
    "info": {"title": "keyed", "version": "1"},
    "paths": {
        "/plain": {"get": {"responses": {"200": {"description": "x"}}}},
        "/file": {"get": {"responses": PICTURE}},
    },
}
FILES = {
    name: json.dumps(text, ensure_ascii=False)
    for name, text in (
        ("odd.yaml", ODD_API),
        ("odd.openapi.yaml", ODD_DOCUMENT),
        ("keyed.yaml", KEYED_API),
        ("keyed.openapi.yaml", KEYED_DOCUMENT),
    )
}
# Parts of a page that are told apart by their names and have the same one.
ALIKE = """() => { const names = [...document.querySelectorAll("section, form[role=search], nav, [role=region]")]
  .filter((e) => e.checkVisibility()).map((e) => [e.tagName === "NAV" ? "nav" : e.getAttribute("role") || "region",
    e.getAttribute("aria-label") || document.getElementById(e.getAttribute("aria-labelledby"))?.textContent])
  .filter(([, name]) => name).map(String);
  return names.filter((name, n) => names.indexOf(name) !== n); }"""

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(shutil.which(CHROMIUM) is None, reason="Chromium is not installed"),
]


@dataclass
class Shown:
    """The mesh, its pages at an address, and a browser."""

    bazaar: Bazaar
    url: str
    page: Page


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shown]:
    ports = []
    for _ in range(2):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            ports.append(probe.getsockname()[1])
    bazaar = Bazaar(tmp_path_factory.mktemp("bazaar") / "mesh", f"gateway_port: {ports[0]}\n", FILES)
    settings, database = bazaar.workspace.settings, bazaar.workspace.database
    remarks.rate(database, "orders", "kim", 4, HOSTILE)
    remarks.ask(database, "orders", "kim", HOSTILE)
    gateway = RunningGateway(settings, Gateway(settings))
    found = list(instances(records.recorded(database), {"prod": "", "test": "test"}))
    gateway.gateway.publish(
        GatewayPolicy.of(
            services=managed_instances(found, {}, {}, largest_request=10_000, usual_limit="9/1s"),
            clients=[Client("app-a", hash_secret(SECRETS["app-a"]))],
            contracts=[Contract("app-a", "orders", PLENTY), Contract("app-a", "keyed", PLENTY, "always")],
        )
    )
    gateway.start()
    server = uvicorn.Server(uvicorn.Config(bazaar.app, host="127.0.0.1", port=ports[1], log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{ports[1]}"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        page = browser.new_page()
        yield Shown(bazaar, url, page)
        browser.close()
    server.should_exit = True
    thread.join(10)
    gateway.stop()
    bazaar.close()


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (400, "dark"), (390, "light")])
def test_pages_are_read_on_every_screen_and_hostile_text_stays_text(
    shown: Shown, width: int, scheme: str
) -> None:
    page = shown.page
    page.set_viewport_size({"width": width, "height": 900})
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    compared = "/exchange/apis/orders/changes?before=v1&after=v2"
    for path in (
        "/exchange",
        API,
        API.replace("v1", "v3"),
        "/exchange/apis/odd",
        compared,
        "/exchange/sign-in",
    ):
        page.goto(shown.url + path)
        assert page.evaluate(ALIKE) == [], path
        page.evaluate("document.querySelectorAll('main details').forEach((one) => { one.open = true; })")
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path
        assert page.evaluate("window.hurt") is None, path
        assert page.evaluate(CONTRAST) == [], path
        assert page.evaluate(NAMELESS) == [], path


def test_a_sign_that_turns_the_direction_turns_nothing_beside_its_text(shown: Shown) -> None:
    page = shown.page
    page.set_viewport_size({"width": 1280, "height": 900})
    page.goto(shown.url + "/exchange/apis/orders")
    page.evaluate("""() => { document.querySelector("main").insertAdjacentHTML("afterbegin",
      '<p id="turned"><span>\u202e to be turned </span><b id="one">one</b> <b id="two">two</b></p>'); }""")
    left = [page.locator(f"#{name}").bounding_box() for name in ("one", "two")]
    assert left[0] is not None
    assert left[1] is not None
    assert left[0]["x"] < left[1]["x"]


def test_a_number_in_a_filter_is_not_broken_over_lines(shown: Shown) -> None:
    page = shown.page
    page.set_viewport_size({"width": 1280, "height": 900})
    page.goto(shown.url + "/exchange")
    counts = page.locator(".facets a > .soft")
    counts.evaluate_all("(all) => all.forEach((one) => { one.textContent = '1055'; })")
    heights = counts.evaluate_all("(all) => all.map((one) => one.offsetHeight)")
    assert len(heights) > 5
    assert max(heights) < 30


def test_an_api_is_tried_with_ones_own_credentials(shown: Shown) -> None:
    page = shown.page
    page.set_viewport_size({"width": 1280, "height": 900})
    page.goto(shown.url + API)
    page.fill("#try-credential-0", "app-a")
    page.fill("#try-credential-1", SECRETS["app-a"])
    page.press("#try-credential-1", "Enter")
    expect(page.locator("[data-part=status]")).to_have_text("200, an example")
    expect(page.locator("[data-part=answer]")).to_contain_text('"sku": "abc-1"')
    page.locator("summary", has_text="What is preferred").click()
    page.fill("#try-prefer", "example=none")
    page.get_by_role("button", name="Send request").click()
    expect(page.locator("[data-part=answer]")).to_have_text("[]")
    page.select_option("#try-operation", "GET /items/{id}")
    page.fill("#try-prefer", "")
    page.fill("#try-parameter-0", "../../x")
    page.get_by_role("button", name="Send request").click()
    expect(page.locator("[data-part=status]")).to_have_text("400")
    expect(page.locator("[data-part=note]")).to_contain_text("sent encoded, which the gateway refuses")
    page.fill("#try-parameter-0", "7")
    page.fill("#try-credential-1", "wrong")  # what was typed is kept from operation to operation
    page.get_by_role("button", name="Send request").click()
    expect(page.locator("[data-part=status]")).to_have_text("401")
    page.fill("#try-credential-1", "")
    page.get_by_role("button", name="Send request").click()
    expect(page.locator("[data-part=answer]")).to_contain_text("a part of the credentials is missing")


def test_an_api_is_tried_with_a_name_and_a_password_that_are_kept_nowhere(shown: Shown) -> None:
    page = shown.page
    page.goto(shown.url + API.replace("v1", "v3"))  # a draft, which nothing can be asked of
    expect(page.get_by_text("Nothing answers it here now.")).to_be_visible()
    page.goto(shown.url + API)
    expect(page.get_by_label("Client secret")).to_have_attribute("type", "password")
    page.focus("#try-way")
    page.keyboard.press("End")  # nobody
    expect(page.locator("#try-credential-0")).to_have_count(0)
    page.keyboard.press("ArrowUp")
    expect(page.locator("#try-way option:checked")).to_have_text("an application: HTTP Basic")
    page.keyboard.press("Tab")
    page.keyboard.type("app-a")  # Envoy takes an application's id and secret by HTTP Basic, too
    page.keyboard.press("Tab")
    page.keyboard.type(SECRETS["app-a"])
    page.keyboard.press("Enter")
    expect(page.locator("[data-part=status]")).to_have_text("200, an example")
    page.fill("#try-credential-1", "wrong")
    page.get_by_role("button", name="Send request").click()
    expect(page.locator("[data-part=status]")).to_have_text("401")
    page.fill("#try-credential-0", "app:a")
    page.get_by_role("button", name="Send request").click()
    expect(page.locator("[data-part=answer]")).to_contain_text("a name has no colon")
    for width in (1280, 390):
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate(NAMELESS) == []
    kept = page.evaluate("JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie])")
    assert SECRETS["app-a"] not in kept
    page.reload()
    assert page.input_value("#try-credential-0") == page.input_value("#try-credential-1") == ""


def test_credentials_are_tried_wherever_the_policies_take_them_from(shown: Shown) -> None:
    page, key = shown.page, f"app-a.{SECRETS['app-a']}"
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(shown.url + "/exchange/apis/keyed")
    ways = page.locator("#try-way option")
    expect(ways).to_have_text(
        [
            "an API key",
            "an API key, in the header x-shop-key",
            "an API key, in the query as shop_key",
            "nobody",
        ]
    )
    page.fill("#try-credential-0", key)
    send, status = page.get_by_role("button", name="Send request"), page.locator("[data-part=status]")
    for way in ("apiKeyInHeader", "apiKeyInQuery"):
        page.select_option("#try-way", "none")
        send.click()
        expect(status).to_have_text("401")
        page.select_option("#try-way", way)
        assert page.input_value("#try-credential-0") == key
        send.click()
        expect(status).to_have_text("200, an example")
    page.select_option("#try-operation", "GET /file")
    page.select_option("#try-way", "clientIdInQuery+clientSecretInQuery")
    page.fill("#try-credential-0", "app-a")
    page.fill("#try-credential-1", SECRETS["app-a"])
    send.click()
    expect(page.locator("[data-part=note]")).to_have_text("The answer is a file, image/png: 9 bytes.")
    with page.expect_download() as saved:
        page.get_by_role("link", name="Save it").click()
    assert saved.value.path().read_bytes() == b"a picture"
    assert SECRETS["app-a"] not in "".join((*asked, page.url))


def test_somebody_signs_in_finds_what_is_theirs_and_rates_it(shown: Shown) -> None:
    page, key = shown.page, shown.bazaar.keys["vic"]
    page.goto(shown.url + "/exchange?q=payroll")
    expect(page.get_by_role("status")).to_have_text("0 results for “payroll”, the nearest first")
    page.goto(shown.url + "/exchange/apis/payroll")
    page.get_by_role("main").get_by_role("link", name="sign in").click()
    page.fill("#key", "nobody")
    page.fill("#secret", "wrong")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_have_text("the access key or its secret is wrong")
    expect(page.locator("#key")).to_be_focused()  # by which the reason is read out
    expect(page.locator("#key")).to_have_accessible_description("the access key or its secret is wrong")
    page.fill("#key", key.id)
    page.fill("#secret", key.secret)
    page.keyboard.press("Enter")
    expect(page.get_by_text("You read as vic")).to_be_visible()
    page.goto(shown.url + "/exchange?q=payroll")
    page.get_by_role("link", name="Payroll").click()
    expect(page.get_by_role("heading", name="Payroll", exact=True)).to_be_visible()
    page.locator("summary", has_text="Rate it").click()
    page.fill("#rate-key", key.id)
    page.fill("#rate-secret", key.secret)
    page.fill("#stars", "3")
    page.fill("#rating-text", "It pays.")
    page.get_by_role("button", name="Rate", exact=True).click()
    expect(page.locator("#ratings")).to_contain_text("3.0 of 5, 1 rating")
    page.get_by_role("button", name="Sign out").first.click()
    expect(page.get_by_text("You see what everybody may see")).to_be_visible()
    page.goto(shown.url + "/exchange/apis/payroll")
    expect(page.get_by_text("there is no API")).to_be_visible()


def test_who_keeps_an_api_makes_and_revokes_a_key_of_it(shown: Shown) -> None:
    page, key, database = shown.page, shown.bazaar.keys["ann"], shown.bazaar.workspace.database
    service_keys.create(database, "payroll", label="other", kind="API")
    page.goto(shown.url + "/exchange/sign-in?to=/exchange/apis/payroll")
    page.evaluate("sessionStorage.clear()")  # nobody is signed in for forms
    page.fill("#key", key.id)
    page.fill("#secret", key.secret)
    page.keyboard.press("Enter")
    keys = page.locator("#keys")
    keys.locator("summary").click()
    page.fill("#keys-key", key.id)
    page.fill("#keys-secret", key.secret)
    page.fill("#key-label", HOSTILE[:95])
    keys.get_by_role("button", name="Make a key").click()
    expect(keys.get_by_role("status")).to_contain_text("Shown once: payroll-key-")
    made = next(one for one in service_keys.keys(database, "payroll") if one.label != "other")
    assert (made.label, made.created_by) == (HOSTILE[:95], "ann")
    for width, scheme in ((1280, "light"), (400, "dark"), (390, "light")):
        page.set_viewport_size({"width": width, "height": 900})
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        page.goto(shown.url + "/exchange/apis/payroll")
        keys.locator("summary").click()
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate("window.hurt") is None
        assert page.evaluate(CONTRAST) == []
        assert page.evaluate(NAMELESS) == []
    page.once("dialog", lambda dialog: dialog.accept())
    with page.expect_navigation():
        keys.get_by_role("button", name="Revoke other").click()
    expect(keys.get_by_text(made.id, exact=True)).to_be_visible()
    assert [one.label for one in service_keys.keys(database, "payroll") if one.revoked_at] == ["other"]
    page.get_by_role("button", name="Sign out").first.click()


def test_further_areas_are_reached_by_keyboard(shown: Shown) -> None:
    page = shown.page
    page.goto(shown.url + "/exchange")
    page.locator("details.more summary").focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.wait_for_url("**/schedules")
    expect(page.locator("details.more summary")).to_have_text("Schedules")
